"""Random scale, flip, color and crop, the same for a photo, its mask and its valid area.

Shapes: H W pixels of the photo, S side of the crop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from tagseg.mask_values import IGNORE

_LONGEST = 64  # crops in a resized photo's longer side, above which it is cut before it is resized


class AugmentSettings(Protocol):
    """The part of a recipe's `train` block that augmentation follows."""

    @property
    def crop(self) -> int: ...  # noqa: D102
    @property
    def short_side(self) -> int | None: ...  # noqa: D102
    @property
    def long_side(self) -> tuple[int, int] | None: ...  # noqa: D102
    @property
    def scale(self) -> tuple[float, float]: ...  # noqa: D102
    @property
    def scale_per(self) -> str: ...  # noqa: D102
    @property
    def flip(self) -> bool: ...  # noqa: D102
    @property
    def color_jitter(self) -> tuple[float, float, float, float] | None: ...  # noqa: D102


@dataclass(frozen=True)
class Augment:
    """Resize, flip, jitter and crop to a square; what a sample gets follows from its seed alone.

    crop: side S of the result in pixels.
    fill: RGB color (0..255) of the padding where the resized photo is smaller than the crop.
    short_side: photos are resized to this shorter side before the random scale; None leaves them as they are.
    scale: range of the random scale.
    scale_per: what draws one: the batch (RRM, ASDT) or each photo (most other loaders).
    flip: mirror with probability 0.5.
    long_side: photos are resized to a random longer side in this range instead, each its own (PSA).
    color_jitter: largest change of brightness, contrast, saturation and hue, as torchvision's ColorJitter takes them.
    """

    crop: int
    fill: tuple[int, int, int]
    short_side: int | None = None
    scale: tuple[float, float] = (0.7, 1.3)
    flip: bool = True
    color_jitter: tuple[float, float, float, float] | None = None
    long_side: tuple[int, int] | None = None
    scale_per: str = "batch"

    @classmethod
    def from_settings(cls, settings: AugmentSettings, *, fill: Sequence[float]) -> Augment:
        """The augmentation of a recipe; `fill` is the backbone's mean color, RGB in [0, 1]."""
        red, green, blue = (round(255 * channel) for channel in fill)
        return cls(
            settings.crop,
            (red, green, blue),
            settings.short_side,
            settings.scale,
            settings.flip,
            settings.color_jitter,
            settings.long_side,
            settings.scale_per,
        )

    def draw_scale(self, rng: np.random.Generator) -> float:
        """The scale of a batch, or of a photo."""
        return float(rng.uniform(*self.scale))

    @property
    def min_side(self) -> int | None:
        """Shorter side below which a JPEG must not be decoded: twice what is needed, so that quality is kept."""
        return None if self.short_side is None else int(2 * self.short_side * self.scale[1]) + 1

    def __call__(
        self, photo_HW3: np.ndarray, mask_HW: np.ndarray | None, *, scale: float, seed: int
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """One sample: photo uint8 (3, S, S), valid bool (S, S), mask uint8 (S, S) or None.

        Photos are resized bilinearly with antialiasing, masks by nearest neighbor; outside `valid` the photo holds
        `fill` and the mask 255. Smaller photos lie at a random place in the crop, larger ones are cut at one.
        """
        from torchvision.transforms.v2 import InterpolationMode, functional

        # All is drawn, needed or not, so that switching one thing off leaves the others as they are.
        rng = np.random.default_rng(seed)
        mirror = rng.random() < 0.5 and self.flip
        vertical, horizontal = rng.random(2)
        color = rng.uniform(-1, 1, size=4)
        order = rng.permutation(4)
        longer = rng.random()

        size = self._size(photo_HW3.shape[0], photo_HW3.shape[1], scale, longer)
        if max(size) > _LONGEST * self.crop and (self.short_side is not None or self.long_side is None):
            photo_HW3, mask_HW = _cut(photo_HW3, mask_HW, size, self.crop, vertical, horizontal)
            size = self._size(photo_HW3.shape[0], photo_HW3.shape[1], scale, longer)
        photo_3HW = torch.from_numpy(photo_HW3).permute(2, 0, 1)
        if size != photo_3HW.shape[1:]:
            photo_3HW = functional.resize(photo_3HW, list(size), antialias=True)
        rows, into_rows = _place(size[0], self.crop, vertical)
        columns, into_columns = _place(size[1], self.crop, horizontal)
        if mirror:
            photo_3HW = photo_3HW.flip(-1)
        photo_3HW = photo_3HW[:, rows, columns]
        if self.color_jitter is not None:
            photo_3HW = _jitter(photo_3HW, self.color_jitter, color, order)
        photo_3SS = torch.tensor(self.fill, dtype=torch.uint8)[:, None, None].repeat(1, self.crop, self.crop)
        photo_3SS[:, into_rows, into_columns] = photo_3HW
        valid_SS = torch.zeros(self.crop, self.crop, dtype=torch.bool)
        valid_SS[into_rows, into_columns] = True
        if mask_HW is None:
            return photo_3SS, valid_SS, None
        resized_HW = functional.resize(
            torch.from_numpy(mask_HW)[None], list(size), interpolation=InterpolationMode.NEAREST_EXACT
        )[0]
        if mirror:
            resized_HW = resized_HW.flip(-1)
        mask_SS = torch.full((self.crop, self.crop), IGNORE, dtype=torch.uint8)
        mask_SS[into_rows, into_columns] = resized_HW[rows, columns]
        return photo_3SS, valid_SS, mask_SS

    def _size(self, height: int, width: int, scale: float, longer: float) -> tuple[int, int]:
        factor = scale
        if self.short_side is not None:
            factor *= self.short_side / min(height, width)
        elif self.long_side is not None:
            low, high = self.long_side
            factor *= (low + int(longer * (high - low + 1))) / max(height, width)
        return max(1, round(height * factor)), max(1, round(width * factor))


def _cut(
    photo_HW3: np.ndarray,
    mask_HW: np.ndarray | None,
    size: tuple[int, int],
    crop: int,
    vertical: float,
    horizontal: float,
) -> tuple[np.ndarray, np.ndarray | None]:
    """The part of a strip that the crop is taken from, so that a photo of one pixel's height never fills the memory.

    The mask is as large as the photo's file, which may have been decoded at 1/2, 1/4 or 1/8 of its size.
    """
    parts, of_mask = [], []
    whole = photo_HW3.shape[:2] if mask_HW is None else mask_HW.shape
    for side, resized, at, full in zip(photo_HW3.shape, size, (vertical, horizontal), whole, strict=False):
        length = min(side, -(-side * _LONGEST * crop // (2 * resized)))
        start = int(at * (side - length + 1))
        parts.append(slice(start, start + length))
        of_mask.append(slice(start * full // side, -(-(start + length) * full // side)))
    return photo_HW3[tuple(parts)], None if mask_HW is None else mask_HW[tuple(of_mask)]


def _place(size: int, crop: int, at: float) -> tuple[slice, slice]:
    """Which part of a side is taken, and where in the crop it goes; `at` in [0, 1) chooses among the places."""
    if size >= crop:
        start = int(at * (size - crop + 1))
        return slice(start, start + crop), slice(0, crop)
    start = int(at * (crop - size + 1))
    return slice(0, size), slice(start, start + size)


def _jitter(
    photo_3HW: Tensor, largest: tuple[float, float, float, float], color: np.ndarray, order: np.ndarray
) -> Tensor:
    from torchvision.transforms.v2 import functional

    change = color * np.array(largest)
    for part in order:
        if largest[part] == 0:
            continue
        if part == 0:
            photo_3HW = functional.adjust_brightness(photo_3HW, 1 + change[0])
        elif part == 1:
            photo_3HW = functional.adjust_contrast(photo_3HW, 1 + change[1])
        elif part == 2:
            photo_3HW = functional.adjust_saturation(photo_3HW, 1 + change[2])
        else:
            photo_3HW = functional.adjust_hue(photo_3HW, change[3])
    return photo_3HW
