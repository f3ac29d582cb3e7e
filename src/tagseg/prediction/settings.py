"""The `predict` block of a recipe."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from tagseg.precision import Precision
from tagseg.refine.settings import CRFSettings
from tagseg.settings import Scales, Settings

NO_LOGITS = "predict.merge is max_logits, and {} combines probabilities: choose max or mean"


class PredictSettings(Settings):
    """How a trained model reads a photo: the defaults are RRM's and ASDT's, one pass at the photo's own size.

    AFA, TSCD and BMP test with long_side 512, scales 1, 0.5 and 0.75, flip and merge "max_logits".
    """

    LATER: ClassVar[tuple[str, ...]] = ("short_side", "largest")

    crf: CRFSettings | None = Field(CRFSettings(), description="the dense CRF after the network; none: without")
    scales: Scales = Field((1.0,), min_length=1, description="sizes at which a photo is read")
    flip: bool = Field(False, description="read it mirrored as well; the mean of both counts")
    merge: Literal["mean", "max", "max_logits"] = Field(
        "mean",
        description="over scales: the mean of probabilities, their elementwise maximum, or that of logits (AFA, TSCD, BMP)",
    )
    long_side: int | None = Field(
        None, ge=16, le=32_768, description="longer side at scale 1 in pixels; none: as the photo is"
    )
    short_side: int | None = Field(
        None, ge=16, le=32_768, description="shorter side at scale 1 in pixels, in place of long_side"
    )
    largest: int | None = Field(
        None,
        ge=256,
        le=1_000_000_000,
        description="pixels that a photo is read with at most, larger ones as many of, where no side is given: much larger "
        "than in training the network knows nothing; none: as the photo is",
    )
    tagged_background: float = Field(
        1.0,
        gt=0,
        le=1,
        description="where a photo's tags are given, background's probability counts this much: the doubt whether a "
        "class is there at all, which the model gives to background, has gone",
    )
    precision: Precision = Field(
        "fp32",
        description="bf16: the network in bfloat16 where the processor has it: faster, masks alike; else float32",
    )

    @model_validator(mode="after")
    def _one_side(self) -> PredictSettings:
        if self.long_side is not None and self.short_side is not None:
            raise ValueError("give long_side or short_side, not both")
        return self

    @property
    def single_scale(self) -> bool:
        """Whether the network reads a photo once, as it is unless too large, in float32: the protocol of this project's tables."""
        return self.scales == (1.0,) and not self.flip and not self.resizes and self.precision == "fp32"

    @property
    def resizes(self) -> bool:
        """Whether every photo has another size than its own at scale 1."""
        return self.long_side is not None or self.short_side is not None

    def working_size(self, height: int, width: int) -> tuple[int, int]:
        """The size (H, W) of a photo at scale 1."""
        if self.long_side is not None:
            ratio = self.long_side / max(height, width)
        elif self.short_side is not None:
            ratio = self.short_side / min(height, width)
        elif self.largest is not None and height * width > self.largest:
            ratio = (self.largest / (height * width)) ** 0.5
        else:
            return height, width
        return max(round(height * ratio), 1), max(round(width * ratio), 1)
