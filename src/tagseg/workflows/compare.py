"""Compare finished runs, and masks of others, on one data set: one table, and one page with the same photos side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from tagseg.data.class_lists import listed_classes
from tagseg.data.paths import held
from tagseg.data.photo import read_mask
from tagseg.data.tagged import TaggedImages
from tagseg.devices import AUTO, choose_device
from tagseg.errors import UserError
from tagseg.files import digest_file, to_json, write_text
from tagseg.foreign import DATA_CAP, read_json, reading
from tagseg.interrupt import check
from tagseg.outputs.report import (
    Example,
    ReportData,
    ScoreRow,
    ScoreTable,
    mask_panel,
    photo_panel,
    spread,
    write_report,
)
from tagseg.places import check_output
from tagseg.prediction.load import load
from tagseg.prediction.score import AFTER
from tagseg.result_folder import ResultFolder
from tagseg.run_folder import ChainFolder, RunFolder
from tagseg.scores import Scores
from tagseg.workflows.compare_tables import NUMBERS, markdown_table, mean, terminal_table
from tagseg.workflows.label import add_mask
from tagseg.workflows.numbering import Numbering
from tagseg.workflows.opened import run_recipe, run_sources
from tagseg.workflows.report import score_note

PHOTOS = 10
PROTOCOL = "without tags"
MARKER = ".tagseg-compare"  # in the folder: which of its files are a comparison
FILES = ("compare.json", "compare.md", "compare.html")


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but their seed, and what they were started from. name: of its rows in the tables."""

    name: str
    runs: tuple[Path, ...]


@dataclass(frozen=True)
class Masks:
    """Masks that no run of tagseg made: a folder of them, or scores that `tagseg evaluate --out` wrote. miou: in percent."""

    name: str
    miou: float
    labels: str


def compare(given: Sequence[Path], out: Path, *, device: str = AUTO, places: Sequence[str] = ()) -> Table:
    """Write `compare.html`, `compare.md` and `compare.json` to `out` and return the table for the terminal.

    given: run folders; folders of masks of the photos that the first run was scored on; JSON files of `tagseg evaluate`.
    Runs of one recipe with several seeds share their rows: means, and the lowest and highest value.
    places: where the photos of all runs are, as `run_sources` takes it.
    Raises UserError for a run that isn't finished, or was scored on other photos or classes than the first; for an `out`
    that is, holds or lies inside one of the runs' files or photos, or holds files of these names that others wrote.
    """
    runs = [path for path in given if _is_run(path)]
    if not runs:
        raise UserError("Give at least one run folder to compare with: tagseg compare RUN MASKS.")
    choose_device(device)
    check_output(out, [place for run in runs for place in RunFolder.of(run).places()])
    results = {run: RunFolder.of(run).result() for run in runs}
    data = [run_sources(run, places).val for run in runs]
    for run, val in zip(runs, data, strict=True):
        if val is None:
            raise UserError(f"{run} has no scores: it was trained without true masks to measure on.")
        branches = results[run]["scores"].get(PROTOCOL, {})
        if not branches or all(name.endswith(AFTER) for name in branches):
            raise UserError(f"{RunFolder.of(run).scores} holds no scores {PROTOCOL}: give a run of `tagseg train`.")
        if not _same_photos(val, data[0]):  # type: ignore[arg-type]
            raise UserError(
                f"{run} was scored on other photos or classes than {runs[0]}: compare runs on one data set."
            )
        known = {photo.name for photo in val.photos}
        scored = branches[next(reversed(branches))].get("photos", len(known))
        if scored != len(known) or not known.issuperset(results[run]["photo_miou"]):
            raise UserError(
                f"{run} was scored on {scored} photos, and its data hold {len(known)} with true masks now, or others: put "
                "the masks back that it was scored on, or train it anew."
            )
    groups = _groups(runs)
    rows = [row for group in groups for row in _rows(group, [results[run] for run in group.runs])]
    assert data[0] is not None
    others = [_masks(path, data[0]) for path in given if path not in runs]
    rows += [
        {"run": masks.name, "branch": "masks", **dict.fromkeys(NUMBERS), "after CRF": [masks.miou]}
        | {"before CRF": [], "pseudo masks": [], "minutes": [], "memory GiB": [], "machines": []}
        | {"trained with": masks.labels}
        for masks in others
    ]
    check_output(out, [place for val in data if val is not None for place in val.places])
    folder = ResultFolder.claim(out, MARKER, "compare", [], overwrite=False, rewritten=FILES)
    names = [*(group.name for group in groups), *(masks.name for masks in others)]
    facts, text, page = (out / name for name in FILES)
    with folder.rewriting():
        _page(groups, results, rows, data[0], page, device)
        write_text(facts, to_json(rows, indent=2))
        write_text(text, markdown_table(names, rows))
    many = any(len(group.runs) > 1 for group in groups)
    return terminal_table(names, rows, f"mIoU in %, {len(data[0])} photos, no tags used", many=many)


def _same_photos(one: TaggedImages, other: TaggedImages) -> bool:
    """Whether two sets of photos with true masks are one: their classes, their names, and what the masks hold."""
    if one.classes != other.classes or [p.name for p in one.photos] != [p.name for p in other.photos]:
        return False
    for index, (mine, theirs) in enumerate(zip(one.photos, other.photos, strict=True)):
        if mine.mask is None or theirs.mask is None or mine.mask == theirs.mask:
            continue
        check()
        if digest_file(mine.mask) != digest_file(theirs.mask):
            mine_HW, theirs_HW = np.asarray(one.mask(index)), np.asarray(other.mask(index))
            if not np.array_equal(mine_HW, theirs_HW):
                return False
    return True


def _is_run(path: Path) -> bool:
    return RunFolder(path).holds_run() or ChainFolder(path).record.is_file()


def _masks(path: Path, val: TaggedImages) -> Masks:
    """The scores of masks on the photos that runs were scored on. Raises UserError where they are of others."""
    if path.is_dir():
        scores, known = Scores(val.num_classes), dict[Path, bool]()
        renumber = Numbering(listed_classes(path), val.classes)
        for index, photo in enumerate(val.photos):
            file, truth = held(path / f"{photo.name}.png", path, known), val.mask(index)
            if not file.is_file():
                raise UserError(
                    f"{path} is no run, and it holds no mask {photo.name}.png of the photos that are compared."
                )
            mask = renumber(file, read_mask(file))
            if truth is not None and mask.shape != truth.shape:
                raise UserError(f"{file} has another size than the photo's true mask: masks need the photos' size.")
            if truth is not None:
                add_mask(scores, file, mask, truth)
        return Masks(str(path), 100 * scores.miou, "not stated")
    with reading(path, "scores of `tagseg evaluate`", "give a run folder, a folder of masks, or such a file"):
        facts = read_json(path, "scores of `tagseg evaluate`", DATA_CAP)
        names, classes = set(facts["photo_miou"]), tuple(facts["classes"][1:])
        miou, labels = float(facts["miou"]), str(facts["labels_used"] or "not stated")
        count = int(facts.get("photos", len(names)))
    # a true mask of nothing but 255 has no score of its own
    if not names <= {photo.name for photo in val.photos} or count != len(val) or classes != val.classes:
        raise UserError(f"{path} holds scores of other photos or classes than the runs: evaluate on the same ones.")
    return Masks(str(path), miou, labels)


def _groups(runs: Sequence[Path]) -> list[Group]:
    """Runs of one recipe with different seeds together, in the order in which they were given."""
    found: dict[str, dict[int, Path]] = {}
    for run in runs:
        recipe = run_recipe(run)
        facts = recipe.model_dump(mode="json")
        seed = facts["train"].pop("seed")
        for block, key in (("model", "start"), ("data", "masks")):  # a run of the same seed, as a rule
            facts[block][key] = facts[block][key] is not None
        key = json.dumps(facts)
        if seed in found.get(key, {}):
            key += str(run)
        found.setdefault(key, {})[seed] = run
    groups = []
    for seeds in found.values():
        first = next(iter(seeds.values()))
        name = _name(first, runs)
        if len(seeds) > 1:
            name = f"{run_recipe(first).title or name}, seeds {', '.join(map(str, seeds))}"
        groups.append(Group(name, tuple(seeds.values())))
    names = [group.name for group in groups]
    return [
        # one title for two recipes: the folder tells which
        replace(group, name=f"{group.name} ({group.runs[0]} ...)") if names.count(group.name) > 1 else group
        for group in groups
    ]


def _rows(group: Group, results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each branch of a group; numbers are lists, one for each run."""
    scores = [facts["scores"][PROTOCOL] for facts in results]
    branches = [branch for branch in scores[0] if not branch.endswith(AFTER)]
    pseudo = [_pseudo_masks(run) for run in group.runs]
    rows = []
    for branch in branches:
        rows.append(
            {
                "run": group.name,
                "branch": branch,
                "before CRF": [one.get(branch, {}).get("miou") for one in scores],
                "after CRF": [one.get(branch + AFTER, {}).get("miou") for one in scores],
                "pseudo masks": pseudo if branch == branches[-1] else [],
                "minutes": [facts["minutes"] for facts in results],
                "memory GiB": [facts["peak_memory_gib"] for facts in results],
                "machines": list(dict.fromkeys(str(facts["machine"]) for facts in results)),
                "trained with": results[0]["labels"],
            }
        )
    return rows


def _pseudo_masks(run: Path) -> float | None:
    """Score of the masks that `tagseg label` made of the run's training photos, tags used."""
    path = RunFolder.of(run).pseudo_scores
    if not path.is_file():
        return None
    with reading(path, "scores of pseudo masks"):
        return float(read_json(path, "scores of pseudo masks")["miou"])


def _page(
    groups: Sequence[Group],
    results: dict[Path, dict[str, Any]],
    rows: list[dict[str, Any]],
    val: TaggedImages,
    path: Path,
    device: str,
) -> None:
    """The page; its pictures are of each group's first run."""
    segmenters = {group.name: load(group.runs[0], device=device) for group in groups}
    classes = next(iter(segmenters.values())).classes
    index = {photo.name: i for i, photo in enumerate(val.photos)}
    examples = []
    measured = {name: score for name, score in next(iter(results.values()))["photo_miou"].items() if name in index}
    for name, why in spread(measured, 0, PHOTOS):
        check()
        photo, truth = val.photo(index[name]), val.mask(index[name])
        assert truth is not None
        panels = [photo_panel(photo, name)]
        seen = set(truth.ravel().tolist())
        for run, segmenter in segmenters.items():
            mask = segmenter.predict(photo).mask
            seen |= set(mask.ravel().tolist())
            panels.append(mask_panel(run, photo, mask, classes, name, note=score_note(mask, truth, len(classes))))
        panels.append(mask_panel("truth", photo, truth, classes, name))
        examples.append(Example(name, tuple(panels), why, classes=tuple(sorted(seen - {0, 255}))))
    table = ScoreTable(
        "mIoU of every branch, without tags",
        ("before CRF", "after CRF"),
        tuple(
            ScoreRow(f"{row['run']}: {row['branch']}", (mean(row["before CRF"]), mean(row["after CRF"])))
            for row in rows
        ),
    )
    facts = tuple(
        (str(run), f"{r['minutes']:.1f} minutes, {r['peak_memory_gib']:.1f} GiB, {r['labels']}")
        for run, r in results.items()
    )
    write_report(
        ReportData(
            title=" / ".join(segmenters) if len(segmenters) <= 3 else f"{len(segmenters)} side by side",
            classes=classes,
            lead=f"{len(results)} runs side by side."
            + (" Numbers are means over seeds, pictures of the first." if len(results) > len(groups) else ""),
            protocol=f"{len(val)} photos with true masks, none of their tags used, one confusion matrix over all pixels. "
            f"Photos are chosen by the scores of {groups[0].runs[0].name}.",
            tables=(table,),
            examples=tuple(examples),
            facts=facts,
        ),
        path,
    )


def _name(run: Path, runs: Sequence[Path]) -> str:
    """The folder's name, or its path where two runs share the name."""
    return run.name if [r.name for r in runs].count(run.name) == 1 else str(run)
