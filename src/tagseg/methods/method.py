"""What every system offers: losses to train by, probabilities to label and predict by.

Shapes: B photos, K classes with background = 0, C = K - 1 tags, H W pixels, h w feature grid.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self, TypedDict

import torch
from torch import Tensor, nn

from tagseg.backbones.backbone import Backbone
from tagseg.data.batch import Batch
from tagseg.foreign import shown
from tagseg.settings import Settings


class ParameterGroup(TypedDict):
    """Parameters that share a learning-rate factor and a weight-decay factor."""

    name: str
    params: list[nn.Parameter]
    lr_scale: float
    weight_decay_scale: float


# A step of the classifier alone against a later one: 0.4 of Mentor on defects of tiles, 0.5 on generated scenes.
LIGHT_STEP = 0.4


class MethodSettings(Settings):
    """What stands under `method` in a recipe; every system adds its own."""

    name: str

    @property
    def light_steps(self) -> int:
        """How many steps at the start train the classifier alone, and so take less time."""
        return 0

    def effort(self, steps: int) -> float:
        """About how long the first `steps` steps take, counted in steps after the light ones."""
        return steps - (1 - LIGHT_STEP) * min(steps, self.light_steps)

    def scaled(self, factor: float) -> Self:
        """The same settings for a training `factor` times as long: what counts in steps follows."""
        return self


class Method(nn.Module, ABC):
    """A weakly supervised system on a backbone, built as `METHODS[name](backbone, classes, settings)`.

    classes: the tags' names, without background.
    Settings: the class of its settings.
    needs_masks: whether training reads true masks. uses_masks: whether it learns from those of photos that have one.
    own_photos: the recipe that training on a person's own photos starts from; None: the settings' defaults.
    meanings: branches in words, by their names. drawn: the branches that a report draws; none: the last.
    step_cost: how long a step takes against one of the classifier, for estimates.
    parts_apart: whether losses of parts of a batch can be computed at the same time: nothing is kept between them, and what
        is random comes from the photos' seeds.
    cam_name: what a report calls the map of `cams`; empty: it isn't drawn.
    """

    Settings: ClassVar[type[MethodSettings]]
    settings: MethodSettings
    needs_masks: ClassVar[bool] = False
    uses_masks: ClassVar[bool] = True
    own_photos: ClassVar[str | None] = None
    meanings: ClassVar[Mapping[str, str]] = {}
    drawn: ClassVar[tuple[str, ...]] = ()
    step_cost: ClassVar[float] = 5.0
    parts_apart: ClassVar[bool] = False
    cam_name: ClassVar[str] = "CAM"

    def __init__(self, backbone: Backbone, classes: tuple[str, ...]) -> None:
        super().__init__()
        self.backbone = backbone
        self.classes = classes

    @property
    def num_classes(self) -> int:
        """K: the classes and background."""
        return len(self.classes) + 1

    @abstractmethod
    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """The weighted terms of the loss at a step; their sum is minimized."""

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Call `losses`: wrappers for several processes hook into forward."""
        return self.losses(batch, step)

    @abstractmethod
    def segment(self, image_B3HW: Tensor) -> Tensor:
        """Probabilities (B, K, H, W) of photos (float in [0, 1]), without tags and before any CRF."""

    def segment_tagged(self, image_B3HW: Tensor, tag_BC: Tensor) -> Tensor:
        """Probabilities (B, K, H, W) with the tags used: those of absent classes are 0, the rest sums to 1."""
        return present_classes(self.segment(image_B3HW), tag_BC)

    def segment_logits(self, image_B3HW: Tensor) -> Tensor | None:
        """The logits (B, K, H, W) whose softmax `segment` is; None where it is no softmax of logits."""
        return None

    def tagged_logits(self, image_B3HW: Tensor, tag_BC: Tensor) -> Tensor | None:
        """The logits (B, K, H, W) whose softmax over the tagged classes `segment_tagged` is; None where there are none."""
        return self.segment_logits(image_B3HW)

    @classmethod
    def has_logits(cls, settings: MethodSettings) -> bool:
        """Whether `segment_logits` gives logits under these settings: merging by `max_logits` needs them."""
        return cls.segment_logits is not Method.segment_logits

    def photo_logits(self, image_B3HW: Tensor) -> Tensor | None:
        """Logits (B, C) of the tags of whole photos; None where the method has no classifier."""
        return None

    @abstractmethod
    def branches(self, image_B3HW: Tensor, tag_BC: Tensor | None = None) -> dict[str, Tensor]:
        """Probabilities (B, K, H, W) of each branch by its name; the last one is what `segment` returns.

        `tag_BC` serves only branches that need tags; without it they use the classes they predict themselves.
        """

    @abstractmethod
    def cams(self, image_B3HW: Tensor) -> Tensor:
        """Class activation maps (B, C, h, w), each divided by its maximum: in [0, 1]."""

    @abstractmethod
    def parameter_groups(self) -> list[ParameterGroup]:
        """All trainable parameters, each in one group."""

    def follow(self, average: Method) -> None:
        """Take notice of the running mean of the weights that `train.ema_decay` keeps; training calls it before the first step."""

    def describe_step(self, step: int) -> dict[str, float]:
        """What is worth logging of a step besides its losses, such as the level of a wave."""
        return {}


def cam_precision_before(given: dict[str, Any], say: Callable[[str], object]) -> dict[str, Any]:
    """Settings whose switch `cam_bf16` became `cam_precision`."""
    if "cam_bf16" in given:
        wanted = given.pop("cam_bf16")
        if not isinstance(wanted, bool):  # a quoted "no" is no false
            raise ValueError(f"cam_bf16: should be true or false (given: {shown(wanted)})")
        say(f"cam_bf16 is now cam_precision: {'bf16' if wanted else 'null'}")
        given["cam_precision"] = "bf16" if wanted else None
    return given


def scaled_steps(steps: int | None, factor: float) -> int | None:
    """A number of steps in a training `factor` times as long; none stays none."""
    return None if steps is None else round(steps * factor)


def present_classes(probability_BKHW: Tensor, tag_BC: Tensor) -> Tensor:
    """Probabilities with 0 for classes without a tag; background always may occur, and the rest sums to 1."""
    allowed_BK11 = torch.cat([torch.ones_like(tag_BC[:, :1]), tag_BC], 1)[:, :, None, None]
    probability_BKHW = probability_BKHW * allowed_BK11
    return probability_BKHW / probability_BKHW.sum(1, keepdim=True).clamp(min=1e-8)
