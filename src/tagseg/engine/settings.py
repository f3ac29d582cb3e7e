"""The `train` block of a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from tagseg.precision import Precision
from tagseg.settings import Every, Settings, Share, Steps

Side = Annotated[int, Field(ge=8, le=8192)]
Factor = Annotated[float, Field(ge=0.05, le=20)]


class TrainSettings(Settings):
    """How a system is trained: length, batch, augmentation, optimizer, precision, and what is kept on the way."""

    LATER: ClassVar[tuple[str, ...]] = (
        "balance",
        "scale_per",
        "ema_ramp",
        "compile",
        "parts",
    )
    RENAMED: ClassVar[Mapping[str, str]] = {
        "average": "ema_decay",
        "average_ramp": "ema_ramp",
        "power": "poly_power",
        "keep": "keep_checkpoints",
    }
    GONE: ClassVar[Mapping[str, object]] = {"channels_last": False}

    # May differ when a run is resumed: they change how a run is carried out, not what it is to learn. Of micro_batch the
    # numbers depend a little all the same; a run that does not fit into memory could not go on without it.
    OPERATIONAL: ClassVar[frozenset[str]] = frozenset(
        {
            "micro_batch",
            "parts",
            "checkpoint_every",
            "keep_checkpoints",
            "log_every",
            "evaluate_every",
            "workers",
            "compile",
        }
    )

    steps: Every = Field(2000, description="optimizer steps")
    batch_size: int = Field(8, ge=1, le=65_536, description="photos per step, over all processes together")
    micro_batch: int | None = Field(
        None,
        ge=1,
        le=65_536,
        description="photos per forward pass and process; gradients are summed up to the batch; none: all at once. Means over "
        "pixels, batch norms that are trained and mixing are of a part, so that a run computes a little else",
    )
    parts: int = Field(
        1,
        ge=1,
        le=64,
        description="parts of a batch that a CPU works at at the same time, a core each, in place of all cores at one layer "
        "after the other: faster for small crops; for method classifier",
    )
    seed: int = Field(
        0, ge=0, lt=2**63, description="start weights, order of the photos, augmentation and dropout follow from it"
    )

    balance: float = Field(
        0.0,
        ge=0,
        le=1,
        description="photos of rare classes come more often, by the number of their class's photos to the power of minus "
        "this; 0: all alike",
    )

    crop: int = Field(320, ge=8, le=4096, description="side of the square crop in pixels")
    short_side: int | None = Field(
        None, ge=8, le=8192, description="resize photos to this shorter side before the random scale; none: as they are"
    )
    long_side: tuple[Side, Side] | None = Field(
        None, description="resize each photo to a random longer side in this range, in place of short_side (PSA)"
    )
    scale: tuple[Factor, Factor] = Field((0.7, 1.3), description="range of the random scale")
    scale_per: Literal["batch", "photo"] = Field(
        "batch", description="what draws one scale: the whole batch, as in RRM's and ASDT's code, or each photo"
    )
    flip: bool = Field(True, description="mirror every other photo")
    color_jitter: tuple[Share, Share, Share, Share] | None = Field(
        None, description="brightness, contrast, saturation and hue; none: colors as they are"
    )

    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = Field(7e-4, gt=0, lt=10, description="base learning rate; parameter groups scale it")
    momentum: float = Field(0.9, ge=0, lt=1, description="of sgd")
    weight_decay: float = Field(1e-5, ge=0, lt=1)
    betas: tuple[Share, Share] = Field((0.9, 0.999), description="of adamw")
    poly_power: float = Field(0.9, ge=0, le=10, description="the learning rate of step t is lr (1 - t / steps)^power")
    warmup_steps: Steps = Field(0, description="steps of linear warm-up, within `steps`")
    warmup_ratio: float = Field(1e-6, ge=0, le=1, description="part of lr that the warm-up starts from")

    ema_decay: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="scored and saved is the running mean of the weights with this decay a step; none: the last ones",
    )

    ema_ramp: int | None = Field(
        None,
        gt=1,
        le=1_000_000,
        description="of ema_decay: the decay of step t is at most (1 + t) / (ramp + t): the mean soon forgets the first weights, "
        "for methods that learn from it; none: the same decay in every step",
    )

    precision: Precision = Field("fp32", description="bf16: forward pass under autocast, weights stay float32")
    compile: bool = Field(
        False,
        description="compile the backbone for training (torch.compile): the first steps take a minute or more, then a GPU "
        "has far fewer kernels to launch; last bits and drop path differ",
    )

    checkpoint_every: Every = Field(500, description="steps between checkpoints; the last step always has one")
    keep_checkpoints: int = Field(
        2, ge=1, le=10_000, description="newest checkpoints to keep; the best one is kept besides"
    )
    log_every: Every = Field(10, description="steps between lines of metrics.jsonl")
    evaluate_every: Every | None = Field(
        None, description="steps between evaluations while training; none: the run's scores at the end alone"
    )
    workers: int | None = Field(
        None,
        ge=0,
        le=256,
        description="processes that load photos, per training process, at most two a core; none: by the machine",
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> TrainSettings:
        low, high = self.scale
        if not 0.05 <= low <= high <= 20:
            raise ValueError(
                f"scale should be two numbers between 0.05 and 20, the smaller one first, and is [{low}, {high}]"
            )
        if self.long_side is not None and not (8 <= self.long_side[0] <= self.long_side[1] and self.short_side is None):
            raise ValueError(
                "long_side should be two lengths of at least 8 pixels, the smaller first, with short_side left out"
            )
        if self.color_jitter is not None:
            *amounts, hue = self.color_jitter
            if min(self.color_jitter) < 0 or max(amounts) > 1 or hue > 0.5:
                raise ValueError(
                    "color_jitter should be brightness, contrast and saturation from 0 to 1 and hue from 0 to 0.5"
                )
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError("betas should be two numbers from 0 to below 1")
        if self.warmup_steps >= self.steps:
            raise ValueError(
                f"warmup_steps ({self.warmup_steps}) should be below steps ({self.steps}): set train.warmup_steps too, such as 0"
            )
        return self
