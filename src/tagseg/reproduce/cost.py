"""What a recipe's network costs: parameters, multiply-adds, memory, milliseconds of a training step and of a photo.

Measured with random weights on random pictures, and where no step is named, after every part of the loss has begun.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tagseg.data.batch import Batch
from tagseg.engine.optim import build_optimizer
from tagseg.engine.step import seed_step
from tagseg.footprint import device_memory_gib, multiply_adds, peak_memory_gib
from tagseg.methods import Method
from tagseg.methods.build import build_method
from tagseg.recipe import Recipe

PHOTO = (375, 500)  # height and width of VOC's usual photo
FAST = 3.0  # seconds: steps that take less are measured more than once
SMALLEST = 97  # pixels: the crop at which a large network's step is measured


@dataclass(frozen=True)
class Cost:
    """parameters: of the network that is trained. photo_macs, step_macs: multiply-adds of convolutions and matrix products,
    of a photo (HEIGHT x WIDTH) and of a training step. step, photo: seconds, the latter without the CRF. memory: peak GiB,
    of the device where there is one, else of the process. batch, crop: what a step was measured with.
    """

    parameters: int
    photo_macs: float
    step_macs: float
    step: float
    photo: float
    memory: float
    batch: int
    crop: int


def measure(
    recipe: Recipe,
    classes: int,
    *,
    batch: int | None = None,
    crop: int | None = None,
    step: int | None = None,
    device: str = "cpu",
) -> Cost:
    """Train some steps and segment some photos. batch, crop: in place of the recipe's. step: which is trained, else the last."""
    train = recipe.train
    batch, crop = batch or train.micro_batch or train.batch_size, crop or train.crop
    method = build(recipe, classes).to(device).train()
    parts = -(-train.batch_size // batch) if train.micro_batch else 1
    optimizer = build_optimizer(method, train.model_copy(update={"lr": 1e-12}))  # random weights would diverge
    data = random_batch(batch, classes, crop, masks=method.needs_masks).to(device)
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
    clock = _Clock(device)
    step = max(train.steps - 1, 0) if step is None else step

    def one_step() -> None:
        seed_step(0, step)
        optimizer.zero_grad(set_to_none=True)
        for _ in range(parts):
            with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=train.precision == "bf16"):
                terms = method(data, step)
            torch.stack(list(terms.values())).sum().backward()
        optimizer.step()

    step_macs = multiply_adds(one_step)
    step_seconds = clock.median(one_step)
    method.eval()
    image = random_batch(1, classes, max(PHOTO), masks=False).image()[:, :, : PHOTO[0], : PHOTO[1]].to(device)

    @torch.inference_mode()
    def one_photo() -> None:
        method.segment(image)

    photo_macs = multiply_adds(one_photo)
    photo_seconds = clock.median(one_photo)
    on_device = device_memory_gib(torch.device(device))
    memory = peak_memory_gib() if on_device is None else on_device
    parameters = sum(p.numel() for p in method.parameters())
    return Cost(parameters, photo_macs, step_macs, step_seconds, photo_seconds, memory, batch * parts, crop)


def training_seconds(recipe: Recipe, classes: int, device: str) -> float:
    """About how long a recipe's steps take here. Light steps at the start are measured by themselves."""
    steps = recipe.train.steps
    light = min(recipe.method.light_steps, steps)
    like = ((0, light), (steps - 1, steps - light))  # a step, and how many are like it
    return sum(step_seconds(recipe, classes, device, step) * count for step, count in like if count)


def step_seconds(recipe: Recipe, classes: int, device: str, step: int | None = None) -> float:
    """About how long a step of a recipe takes here: measured, on a large network at a part of its crop and batch."""
    train = recipe.train
    if device.startswith("cuda"):
        return measure(recipe, classes, step=step, device=device).step
    crop = min(train.crop, max(SMALLEST, train.crop // 2))
    small = measure(recipe, classes, batch=1, crop=crop, step=step, device=device)
    whole = small.step / small.batch * train.batch_size * (train.crop / crop) ** 2
    return whole if whole > 4 * FAST else measure(recipe, classes, step=step, device=device).step


def build(recipe: Recipe, classes: int) -> Method:
    """The recipe's method with random weights."""
    model = recipe.model.model_copy(update={"weights": "none", "start": None})
    torch.manual_seed(0)
    return build_method(recipe.method, model, tuple(f"class {i}" for i in range(1, classes + 1)))


def random_batch(count: int, classes: int, crop: int, *, masks: bool) -> Batch:
    """Smooth pictures with some noise, each with two tags; masks: whether true masks belong to it."""
    generator = torch.Generator().manual_seed(0)
    side = -(-crop // 16)
    coarse = F.interpolate(torch.rand(count, 3, side, side, generator=generator), (crop, crop), mode="bicubic")
    noise = 0.01 * torch.randn(count, 3, crop, crop, generator=generator)
    photo = ((coarse + noise).clamp(0, 1) * 255).to(torch.uint8)
    tags = torch.zeros(count, classes)
    for row in range(count):
        tags[row, [row % classes, (row + 1) % classes]] = 1
    mask: Tensor | None = None
    if masks:
        blocks = torch.randint(0, classes + 1, (count, side, side), generator=generator)
        mask = F.interpolate(blocks[:, None].float(), (crop, crop))[:, 0].to(torch.uint8)
    valid = torch.ones(count, crop, crop, dtype=torch.bool)
    names = tuple(f"picture {i}" for i in range(count))
    return Batch(photo, valid, tags, mask, torch.arange(count), names)


class _Clock:
    """Seconds of a call: the only one of a slow call, the median of five after a warm-up of a fast one."""

    def __init__(self, device: str) -> None:
        self.wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None

    def median(self, run: Callable[[], Any]) -> float:
        first = self._one(run)
        if first > FAST:
            return first
        times = sorted(self._one(run) for _ in range(5))
        return times[2]

    def _one(self, run: Callable[[], Any]) -> float:
        self.wait()
        began = time.perf_counter()
        run()
        self.wait()
        return time.perf_counter() - began


def predict_seconds(recipe: Recipe, photo: float) -> float:
    """About how long a photo takes as the recipe's `predict` reads it, from the seconds of one pass at its own size."""
    predict = recipe.predict
    side = (predict.long_side / max(PHOTO)) if predict.long_side else 1.0
    passes = sum((scale * side) ** 2 for scale in predict.scales) * (2 if predict.flip else 1)
    crf = 0.0 if predict.crf is None else 0.6
    return math.fsum((photo * passes, crf))
