"""Train a recipe: from its data to a run folder with a model, scores and a report. Reads top to bottom."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from tagseg.data.augment import Augment
from tagseg.data.batches import StepBatches, digest_listed
from tagseg.data.reviewed import Reviewed
from tagseg.data.sources import Sources, open_sources
from tagseg.data.tagged import TaggedImages
from tagseg.devices import AUTO, choose_device, is_out_of_memory, memory_sentence
from tagseg.distributed import world_size
from tagseg.engine.fit import fit
from tagseg.engine.identity import check_listed
from tagseg.engine.processes import create_accelerator
from tagseg.engine.settings import TrainSettings
from tagseg.errors import UserError
from tagseg.files import to_json, write_text
from tagseg.footprint import device_memory_gib, multiply_adds, peak_memory_gib
from tagseg.interrupt import Interrupted, Interruption
from tagseg.methods import Method, find_method
from tagseg.methods.build import build_method
from tagseg.places import check_output
from tagseg.prediction.load import is_described, load
from tagseg.prediction.maps import as_image, device_of
from tagseg.prediction.score import score_branches, summary
from tagseg.prediction.segmenter import Segmenter
from tagseg.prediction.settings import PredictSettings
from tagseg.progress import nothing_said
from tagseg.recipe import Recipe, start_recipe
from tagseg.resize import resize
from tagseg.run_folder import RunFolder
from tagseg.shipped import shipped_recipes
from tagseg.workflows.claim import claimed
from tagseg.workflows.given_command import command
from tagseg.workflows.opened import check_run_classes, open_together, recipe_places
from tagseg.workflows.stages import Stage, stages
from tagseg.workflows.start_weights import checkpoint_classes, take_classifier, take_fitting, weights_of_classes
from tagseg.workflows.watching import Evaluation, Pictures


def train(
    recipe: Recipe,
    out: Path,
    *,
    overwrite: bool = False,
    device: str = AUTO,
    say: Callable[[str], object] = print,
    stage: Stage | None = None,
    scored: bool = True,
) -> Path:
    """Train a recipe into the run folder `out` and return it; goes on with an unfinished run, leaves a finished one alone.

    device: auto (a CUDA GPU where there is one), cpu, cuda, cuda:N or mps.
    overwrite: train anew over a run that is there; it is dropped when the new one is complete, and what training did not
    write stays. stage: which training of several it is; none: the only one, or the second after its start.
    scored: whether the validation photos are scored at the end, if there are any.
    Raises Interrupted when asked to stop: everything done is in `out`, and the same call goes on.
    Raises UserError where the folder holds a run of another recipe or of other classes, where another training works in
    it, where it is, holds or lies inside what the recipe reads, and what the parts raise.
    """
    out = Path(out)
    with Interruption():
        return _train(recipe.placed(), out, overwrite, device, say, stage, scored)


def _train(
    recipe: Recipe,
    out: Path,
    overwrite: bool,
    device: str,
    say: Callable[[str], object],
    stage: Stage | None,
    scored: bool,
) -> Path:
    if recipe.model.start in shipped_recipes():
        start_recipe(recipe, recipe.model.start)  # a mistake in start_train is said before anything is written
        build_method(recipe.method, recipe.model, ("any",), weights="none")  # one in the model too
    check_output(out, recipe_places(recipe))
    # A mistake in the data too; generated scenes are written by one process alone, later.
    sources = None if recipe.data.format == "scenes" else open_sources(recipe.data, out)
    accelerator = create_accelerator(device)
    main = accelerator.is_main_process
    if not main:
        say = nothing_said
    listed = set[str]()
    if (
        overwrite and sources is not None
    ):  # what was begun may be of a method that reads masks, or its start that reads none
        listed = {digest_listed(sources.train, with_masks=with_masks) for with_masks in (False, True)}
    with claimed(recipe, out, overwrite=overwrite, main=main, wait=accelerator.wait_for_everyone, listed=listed):
        return _train_claimed(recipe, out, sources, accelerator, device, say, stage, scored)


def _train_claimed(
    recipe: Recipe,
    out: Path,
    sources: Sources | None,
    accelerator: Accelerator,
    device: str,
    say: Callable[[str], object],
    stage: Stage | None,
    scored: bool,
) -> Path:
    main, run = accelerator.is_main_process, RunFolder(out)
    accelerator.wait_for_everyone()
    if run.finished:
        if sources is not None:
            check_run_classes(run, sources.train)
        say(f"{out} is finished; --overwrite trains it anew.")
        return out
    sources = sources or open_together(recipe.data, out, main, accelerator.wait_for_everyone)
    first, own = _stages(recipe, stage)
    if sources.review is not None:
        say(f"From {recipe.data.review}: {sources.review}.")
    if recipe.data.format != "tagged":  # of own photos they are said before a recipe is chosen
        for note in dict.fromkeys((*sources.train.notes, *(sources.val.notes if sources.val else ()))):
            say(note)

    method, start_minutes = start_method(
        recipe, sources.train.classes, out, device=device, say=say, stage=first, photos=sources.train
    )
    about_classes = f"{len(sources.train)} photos, classes: {', '.join(sources.train.classes)}"
    say(f"{own}{recipe.method.name} on {about_classes}; {recipe.train.steps} steps.")
    settings = recipe.train
    if recipe.method.light_steps >= settings.steps and method.settings.name != "classifier":
        say(
            f"The first {recipe.method.light_steps} steps train the classifier alone, and there are {settings.steps}: the "
            "segmentation learns nothing. Set method.class_steps too."
        )
    batches = StepBatches(
        sources.train,
        Augment.from_settings(settings, fill=method.backbone.mean),
        batch_size=settings.batch_size,
        seed=settings.seed,
        with_masks=method.needs_masks,
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
        balance=settings.balance,
        true_masks=method.uses_masks,
    )
    val = sources.val
    watched = None if settings.evaluate_every is None else val  # the end is scored in full below
    try:
        result = fit(
            method,
            batches,
            settings,
            out,
            evaluate=None if watched is None else Evaluation(watched, recipe),
            pictures=None if watched is None else Pictures(watched),
            best=None if watched is None else "miou",
            accelerator=accelerator,
            later=own.later,
            effort=recipe.method.effort,
            listed=batches.listed,
        )
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(_too_large(settings, accelerator.device)) from error
    if result.interrupted:
        raise Interrupted

    scoring = time.monotonic()
    scores: dict[str, Any] = {}
    photo_miou: dict[str, float] = {}
    if val is not None and scored:
        say(f"Scoring {len(val)} photos without tags, before and after the CRF.")
        branches = score_branches(method, val, recipe.predict)
        scores["without tags"] = summary(branches, val.classes)
        photo_miou = list(branches.values())[-1].photos
    if main:
        on_device = device_memory_gib(accelerator.device)
        facts = {
            "title": recipe.title,
            "method": recipe.method.name,
            "labels": labels_used(recipe, method, sources.review),
            "tags_from": sources.train.tags_from,
            "photos": len(sources.train),
            "classes": list(sources.train.classes),
            "scores": scores,
            "photo_miou": photo_miou,
            "listed": batches.listed,
            "minutes": round((result.seconds + time.monotonic() - scoring) / 60 + start_minutes, 2),
            "peak_memory_gib": round(peak_memory_gib(), 2),
            "device_memory_gib": None if on_device is None else round(on_device, 2),
            "parameters": sum(parameter.numel() for parameter in method.parameters()),
            "multiply_adds": round(_multiply_adds(method, recipe.predict, sources.train)),
            "machine": machine(accelerator.device),
            "command": command(),
        }
        about = {key: value for key, value in facts.items() if key not in ("photo_miou", "listed")}
        Segmenter(method, recipe.predict).save(out, {"training": about})
        write_text(run.scores, to_json(facts, indent=2))
    accelerator.wait_for_everyone()
    return out


def _too_large(settings: TrainSettings, device: torch.device) -> str:
    part = (settings.micro_batch or settings.batch_size // world_size()) // 2
    less = f"--set train.micro_batch={part}, or " if part else ""
    what = f"A step of {settings.batch_size} photos at crop {settings.crop}"
    return memory_sentence(what, device, f"{less}a smaller train.crop with a new --out")


@torch.inference_mode()
def _multiply_adds(method: Method, predict: PredictSettings, data: TaggedImages) -> float:
    """Multiply-adds of segmenting the first photo in one pass, as large as it is read, but for a large photo a tile at most."""
    was_training = method.training
    method.eval()
    photo_HW3 = data.photo(0)
    height, width = predict.working_size(*photo_HW3.shape[:2])
    side = Segmenter(method, predict).tile
    size = min(height, side), min(width, side)
    image_13hw = resize(as_image(torch.from_numpy(photo_HW3)[None], device_of(method)), size)
    count = multiply_adds(lambda: method.segment(image_13hw))
    method.train(was_training)
    return count


def start_method(
    recipe: Recipe,
    classes: tuple[str, ...],
    out: Path,
    *,
    device: str = AUTO,
    say: Callable[[str], object] = print,
    stage: Stage | None = None,
    photos: TaggedImages | None = None,
) -> tuple[Method, float]:
    """The method with the weights it starts from, and the minutes it took to train them.

    A start that is a recipe's name is trained first, in `out`/start: same data, backbone, weights and seed, and with the
    changes of `model.start_train`. photos: those that are trained on; a start that learned from others is refused.
    """
    start, minutes = recipe.model.start, 0.0
    torch.manual_seed(recipe.train.seed)  # the heads' first weights
    if start is None:
        return build_method(recipe.method, recipe.model, classes), minutes
    file = Path(start)
    if start in shipped_recipes():
        first = start_recipe(recipe, start)
        file = RunFolder(out).start
        begun, done = RunFolder(file), f" learns the tags, {first.train.steps} steps"
        if begun.finished:
            done = " is done"
            if photos is not None:
                with_masks = find_method(first.method.name).needs_masks
                check_listed(file, begun.result().get("listed"), digest_listed(photos, with_masks=with_masks))
        say(f"{stage or 'First: '}a {first.method.name}{done}, in {file}.")
        train(first, file, device=device, say=nothing_said, stage=stage, scored=False)
    source = None
    if file.is_dir():
        run = RunFolder.of(file)
        minutes = float(run.result()["minutes"])
        source, file = load(file, device="cpu").method, run.weights
    elif is_described(file):
        source = load(file, device="cpu").method
    known = source.classes if source is not None else checkpoint_classes(file)
    if not file.is_file():
        raise UserError(f"model.start: {start!r} is neither a shipped recipe, nor a run folder, nor a file of weights.")
    torch.manual_seed(recipe.train.seed)
    if file.suffix != ".safetensors":  # a published checkpoint of the backbone, such as res38_cls.pth
        method = build_method(recipe.method, recipe.model, classes, weights=str(file))
        take_classifier(file, method)
        return method, minutes
    method = build_method(recipe.method, recipe.model, classes, weights="none")
    apart = set[str]()
    if known is None:
        say(f"model.start: {start} names no classes, so those of its weights are taken to be in this run's order.")
    elif known != classes:
        apart = weights_of_classes(recipe, method)
        say(f"model.start: {start} knows the classes {', '.join(known)}, so weights of single classes start anew.")
    take_fitting(file, method, apart=apart, source=source)
    method.backbone.license = "unknown" if source is None else source.backbone.license
    return method, minutes


def labels_used(recipe: Recipe, method: Method, review: Reviewed | None = None) -> str:
    """Which labels training used, in words; a folder of masks may hold anything, unless true masks are given beside it."""
    data = recipe.data
    if not method.uses_masks:
        return "image-level tags only" if review is None else f"image-level tags, {review.of_tags}"
    if not method.needs_masks:
        used = "image-level tags only" if review is None else "image-level tags"
    elif data.format == "tagged":
        used = "pseudo masks" if data.truth is not None else "the masks given"
    else:
        used = "true masks" if data.masks is None else "pseudo masks"
    return used if review is None else f"{used} and {review}"


def machine(device: torch.device | None = None) -> str:
    """The machine in words; device: what computes, by default what `auto` takes."""
    chosen = device or choose_device()
    name = torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else f"{os.cpu_count()} CPU cores"
    name = f"MPS, {name}" if chosen.type == "mps" else name
    return f"{name}, {platform.system()} {platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}"


def _stages(recipe: Recipe, stage: Stage | None) -> tuple[Stage | None, Stage]:
    """The stage of what is trained first, where that is so, and the recipe's own."""
    start = recipe.model.start
    if stage is not None or start not in shipped_recipes():
        return None, stage or Stage()
    first, own = stages([start_recipe(recipe, start), recipe])
    return first, own
