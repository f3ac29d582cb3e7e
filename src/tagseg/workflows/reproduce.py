"""Reproduce a table of the papers: its trainings for every seed, its scores, one page and one Markdown table.

Every training lies in `seed-<n>/<stage>` with its pseudo masks beside it (`<stage>-masks`). Stages that are done from the same
inputs are passed over, an unfinished one goes on. Reads top to bottom.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import cache
from pathlib import Path
from typing import Any

import torch

from tagseg.data.palette import write_mask
from tagseg.data.photo import read_photo
from tagseg.data.voc import list_splits, listed_photos
from tagseg.devices import AUTO
from tagseg.engine.processes import create_accelerator
from tagseg.errors import UserError
from tagseg.files import digest_file, make_folder, replacing, to_json, write_text
from tagseg.foreign import read_json
from tagseg.interrupt import Interruption, check
from tagseg.prediction.load import load
from tagseg.prediction.made_by import made_by
from tagseg.progress import nothing_said, tracked
from tagseg.quoting import shell_line
from tagseg.recipe import Recipe
from tagseg.reproduce.plan import PUBLISHED, Setting, Training, missing_data, plan_lines, trainings
from tagseg.reproduce.table import PaperTable
from tagseg.result_folder import ResultFolder
from tagseg.run_folder import RunFolder
from tagseg.workflows.claim import same_but_for_places
from tagseg.workflows.digests import digest_masks, made_from
from tagseg.workflows.label import label
from tagseg.workflows.opened import open_together
from tagseg.workflows.reproduce_page import MARKDOWN, PAGE, write_results
from tagseg.workflows.run import Stages, rooted
from tagseg.workflows.stages import stages as stages_of

MARKER = ".tagseg-reproduce"  # in the folder: which of its files are a table's
RESULTS = "results.json"
TEST_PLACE = "results/VOC2012/Segmentation/comp6_test_cls"
"""The folder inside the archive that VOC's server takes; comp6: other data than VOC's were used for training."""


def reproduce(
    table: PaperTable,
    setting: Setting,
    out: Path,
    *,
    seeds: Sequence[int] = (0,),
    dry_run: bool = False,
    measured: bool = True,
    device: str = AUTO,
    say: Callable[[str], object] = print,
) -> Path | None:
    """Carry out a table in the folder `out` and return its page; the same call goes on with an unfinished one.

    The plan is said first, with hours if `measured`; dry_run: nothing else is done. Of several processes (torchrun) the first
    one alone plans, labels and has the page. Raises UserError where data are missing or `out` holds something else,
    Interrupted when asked to stop.
    """
    if not seeds or len(set(seeds)) != len(seeds):
        raise UserError("--seeds should be different numbers, separated by commas.")
    accelerator = create_accelerator(device)
    main, wait = accelerator.is_main_process, accelerator.wait_for_everyone
    if not main:
        say = nothing_said

    @cache
    def planned(seed: int) -> dict[str, Training]:
        return {training.name: training for training in trainings(table, setting, seed)}

    @cache
    def done(seed: int, name: str) -> bool:
        """Whether a training and all that it is made from are there, by the recipes that are planned now."""
        place, training = _place(out, seed), planned(seed)[name]
        run, before = RunFolder(place / name), [training.start, training.masks]
        same = run.finished and same_but_for_places(run.recipe, _located(training, place).placed())
        return same and all(done(seed, each) for each in before if each is not None)

    if main:
        kind = str(accelerator.device)
        for line in plan_lines(table, setting, seeds, kind, lambda n, each: done(n, each.name), measured=measured):
            say(line)
    if dry_run:
        return None
    lacking = missing_data(table, setting)
    if lacking:
        raise UserError(f"{lacking[0]}.")
    held: AbstractContextManager[None] = nullcontext()
    if main:
        make_folder(out)
        files = (RESULTS, MARKDOWN, PAGE)
        own = _is_own(out, table)
        folder = ResultFolder.claim(out, MARKER, "reproduce", [], overwrite=False, rewritten=files, older=own)
        held = folder.rewriting()
    with held:
        for seed in seeds:
            wait()
            with Stages.open(_place(out, seed), main, wait, say, device) as stages:
                _one_seed(table, setting, stages, seed, accelerator.device)
        if not main:
            return None
        results = [
            {row.stage: RunFolder(_place(out, seed) / row.stage).result() for row in table.rows} for seed in seeds
        ]
        write_text(out / RESULTS, to_json(_record(table, setting, seeds, results), indent=2))
        if table.test and setting.on == PUBLISHED:
            _test_masks(table, setting, out, seeds[0], device, say)
        return write_results(table, setting, out, seeds, results)


def _is_own(out: Path, table: PaperTable) -> bool:
    """Whether files of a folder without a record are this table's, of a version that kept none."""
    with suppress(UserError):
        facts = read_json(out / RESULTS, "results")
        return isinstance(facts, dict) and facts.get("table") == table.name and "runs" in facts
    return False


def _place(out: Path, seed: int) -> Path:
    return out / f"seed-{seed}"


def _masks(maker: str, place: Path) -> Path:
    return place / f"{maker}-masks"


def _located(training: Training, place: Path) -> Recipe:
    """The recipe of a training in the folder of its seed: where its pictures, its start and its masks lie there."""
    recipe = training.recipe
    data, model = rooted(recipe.data, place), recipe.model
    if training.masks is not None:
        data = data.model_copy(update={"masks": _masks(training.masks, place)})
    if training.start is not None:
        model = model.model_copy(update={"start": str(place / training.start)})
    return recipe.model_copy(update={"data": data, "model": model})


def _one_seed(table: PaperTable, setting: Setting, stages: Stages, seed: int, device: torch.device) -> None:
    """All trainings of a seed, and the pseudo masks between them."""
    place = stages.folder.path
    digests: dict[str, str] = {}
    labeled: dict[str, str] = {}
    predict: dict[str, Any] = {}
    trained: set[str] = set()
    planned = trainings(table, setting, seed)
    for training, number in zip(planned, stages_of([each.recipe for each in planned]), strict=True):
        sources = open_together(rooted(training.recipe.data, place), place, stages.main, stages.wait)
        photos = stages.known_photos(sources)
        inputs = [photos]
        if training.start is not None:
            inputs.append(digests[training.start])
        if training.masks is not None:
            maker, masks = training.masks, _masks(training.masks, place)
            if maker not in labeled:
                inputs_of_masks = [photos, digests[maker]]
                # of a folder from before, where prediction was not among the inputs
                older = [] if maker in trained else [inputs_of_masks]
                if stages.due(masks.name, [*inputs_of_masks, predict[maker]], *older):
                    stages.say(f"Pseudo masks of {len(sources.train)} photos by {maker}, their tags used, in {masks}.")
                    if stages.main:
                        model = load(place / maker, device=device)
                        label(model, sources.train, masks, overwrite=stages.anew(masks.name))
                    stages.done(masks.name)
                labeled[maker] = digest_masks(masks)
            inputs.append(labeled[maker])
        if stages.train(training.name, number, _located(training, place), *inputs):
            trained.add(training.name)
        predict[training.name] = training.recipe.predict.model_dump(mode="json")
        digests[training.name] = digest_file(RunFolder(place / training.name).weights)


def _record(
    table: PaperTable, setting: Setting, seeds: Sequence[int], results: Sequence[dict[str, dict[str, Any]]]
) -> dict[str, Any]:
    """Everything that was measured, as plain values."""
    return {
        "table": table.name,
        "on": setting.on,
        "steps": setting.steps,
        "runs": [
            {"seed": seed, "row": row.name, **{key: one[row.stage].get(key) for key in _KEPT}}
            for seed, one in zip(seeds, results, strict=True)
            for row in table.rows
        ],
    }


_KEPT = ("method", "labels", "tags_from", "photos", "scores", "minutes", "peak_memory_gib", "device_memory_gib", "parameters",
         "multiply_adds", "machine")  # fmt: skip


def _test_masks(
    table: PaperTable, setting: Setting, out: Path, seed: int, device: str, say: Callable[[str], object]
) -> None:
    """Masks of VOC's test photos by each row's model, as the archive that the server takes."""
    root = setting.root(table)
    if "test" not in list_splits(root):
        say(
            f"No masks for VOC's server: {root} has no test photos (`tagseg data prepare voc12 --root {shell_line(root)} --test`)."
        )
        return
    photos = listed_photos(root, "test")
    for stage in dict.fromkeys(row.stage for row in table.rows):
        masks = out / "test" / f"{stage}-seed-{seed}"
        archive = masks.with_name(f"{masks.name}.tar")
        pack_test_masks(_place(out, seed) / stage, photos, masks, archive, device=device)
        say(f"Masks for VOC's server: {archive}")


def pack_test_masks(run: Path, photos: dict[str, Path], masks: Path, archive: Path, *, device: str = AUTO) -> None:
    """Predict photos as the run's recipe says, and pack the palette masks as VOC's server takes them.

    Masks in the folder `masks` that this model made already are kept, others made anew. Raises UserError where a person
    has changed one, or it holds what tagseg did not write.
    """
    segmenter = load(run, device=device)
    by = made_by(segmenter, [])
    sources = {f"{name}.png": made_from([path], by) for name, path in photos.items()}
    results = ResultFolder.claim(masks, MARKER, "test", sources, overwrite=False, made_from=sources)
    with Interruption(), results.rewriting():
        for name, path in tracked(photos.items(), "Test photos", len(photos), least=20):
            check()
            file = f"{name}.png"
            if not results.has(file):
                results.begin([file])
                write_mask(masks / file, segmenter.predict(read_photo(path)).mask)
                results.wrote([file])
    with replacing(archive) as temporary, tarfile.open(temporary, "w") as tar:
        for name in photos:
            tar.add(masks / f"{name}.png", f"{TEST_PLACE}/{name}.png")
