"""Training steps of the published recipes on a GPU: time, launches, waits and memory, as rows of a Markdown table.

Weights and photos are random: they change no time. A step is that of `tagseg train`, its batch in pinned memory ahead.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from torch._C._autograd import DeviceType

from counting import as_on_a_device, counting
from tagseg.backbones.compiled import compile_for_training
from tagseg.data.batch import Batch
from tagseg.engine.optim import build_optimizer
from tagseg.engine.settings import TrainSettings
from tagseg.engine.step import train_step
from tagseg.recipe import load_recipe
from tagseg.segmenter import build_method

RECIPES = (
    "bmp-voc12-mit_b1", "rrm-voc12", "asdt-voc12", "tscd-voc12-mit_b1", "supervised-voc12-deeplab_v2",
    "classifier-voc12", "supervised-voc12-pspnet", "supervised-voc12-segformer-mit_b1",
)  # fmt: skip
CLASSES = tuple(f"class {i}" for i in range(20))
LATE = 15_050  # every part is on, and the seg-teacher teaches
Step = Callable[[Batch, TrainSettings], object]
HEAD = (
    "| recipe | crop, batch | precision | ms | GPU busy ms | ms / busy | launches | waits | copies | GiB |\n"
    "|---|---|---|---:|---:|---:|---:|---:|---:|---:|"
)


@dataclass
class Profile:
    """A step as the profiler saw it."""

    busy_ms: float
    launches: int
    waits: int
    copies: int


def random_batch(size: int, count: int, seed: int) -> Batch:
    """Photo-like pictures with one to three tags; every second one fills only a part of its crop."""
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, size // 16 + 1, size // 16 + 1, generator=generator)
    image = torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic")
    image = (255 * image + 3 * torch.randn(image.shape, generator=generator)).clamp(0, 255)
    valid = torch.ones(count, size, size, dtype=torch.bool)
    valid[1::2, size - size // 8 :] = False
    tag = torch.zeros(count, len(CLASSES))
    for row in tag:
        row[rng.choice(len(CLASSES), int(rng.integers(1, 4)), replace=False)] = 1
    mask = torch.randint(0, len(CLASSES) + 1, (count, size // 16 + 1, size // 16 + 1), generator=generator)
    mask = torch.nn.functional.interpolate(mask[:, None].float(), (size, size), mode="nearest")[:, 0].to(torch.uint8)
    names = tuple(f"{seed}-{i}" for i in range(count))
    return Batch(image.to(torch.uint8), valid, tag, mask, torch.arange(count) + 1000 * seed, names)


def set_up(name: str, overrides: list[str], device: torch.device) -> tuple[TrainSettings, Step]:
    """The settings of a recipe, and what takes a step with a batch under such settings."""
    # random weights stand no published learning rate
    recipe = load_recipe(name, ["model.start=null", "train.lr=1e-8", *overrides])
    torch.manual_seed(0)
    method = build_method(recipe.method, recipe.model, CLASSES, weights="none").train().to(device)
    if recipe.train.compile:
        compile_for_training(method.backbone)
    optimizer = build_optimizer(method, recipe.train)
    accelerator = Accelerator(cpu=device.type == "cpu")
    return recipe.train, lambda batch, train: train_step(method, optimizer, batch, LATE, train, accelerator)


def profiled(work: Callable[[], object]) -> Profile:
    """One run under torch's profiler."""
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profiler:
        work()
        torch.cuda.synchronize()
    busy = launches = waits = copies = 0
    for event in profiler.events():
        name = event.name
        if getattr(event, "is_user_annotation", False) or name.startswith(("Optimizer.", "ProfilerStep")):
            continue  # spans around kernels that are counted themselves
        if event.device_type == DeviceType.CUDA:
            busy += event.time_range.elapsed_us()
        elif "LaunchKernel" in name:
            launches += 1
        elif name in ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize"):
            waits += 1
        elif name.startswith("cudaMemcpy"):
            copies += 1
    return Profile(busy / 1000, launches, waits - 1, copies)  # one wait is this function's own


def rows(
    recipes: tuple[str, ...], precisions: tuple[str, ...], left: Callable[[], float], overrides: tuple[str, ...] = ()
) -> Iterator[str]:
    """A row for each recipe and precision, as long as there is time left."""
    device = torch.device("cuda")
    for name in recipes:
        if left() < 8:
            yield f"| {name} | | | no time left | | | | | | |"
            continue
        try:
            train, step = set_up(name, list(overrides), device)
            for precision in precisions:
                yield _row(name, train.model_copy(update={"precision": precision}), step, overrides)
        except Exception as error:  # the other rows are worth having
            yield f"| {name} | | | {type(error).__name__}: {str(error).splitlines()[0][:90]} | | | | | | |"
        step = None  # type: ignore[assignment]  # its memory goes before the next one's comes
        torch.cuda.empty_cache()


def _row(name: str, train: TrainSettings, step_of: Step, overrides: tuple[str, ...]) -> str:
    def step(batch: Batch) -> object:
        return step_of(batch, train)

    precision = train.precision
    batches = [random_batch(train.crop, train.batch_size, seed).pin_memory() for seed in range(3)]
    for batch in batches:
        step(batch)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    times = []
    for i in range(7):
        began = time.perf_counter()
        step(batches[i % 3])
        torch.cuda.synchronize()
        times.append(1000 * (time.perf_counter() - began))
    memory = torch.cuda.max_memory_allocated() / 2**30
    seen = profiled(lambda: step(batches[0]))
    ms = statistics.median(times)
    return (
        f"| {name}{' ' + ' '.join(overrides) if overrides else ''} | {train.crop}, {train.batch_size} | {precision} "
        f"| {ms:.0f} | {seen.busy_ms:.0f} | {ms / seen.busy_ms:.2f} | {seen.launches} | {seen.waits} | {seen.copies} "
        f"| {memory:.1f} |"
    )


def counted_row(name: str, crop: int = 32, count: int = 2) -> str:
    """Without a GPU: how many operations and host reads a small step has on the ways of a device."""
    train, step = set_up(name, [], torch.device("cpu"))
    with as_on_a_device(triton=False), counting() as counts:
        step(random_batch(crop, count, 0), train)
    return f"| {name} | {crop}, {count} | {counts.launches.total()} | {counts.reads.total()} |"
