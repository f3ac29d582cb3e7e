"""A strong view of a photo: other colors, gray, blurred, in the same place, so that its labels stay true pixel by pixel.

Shapes: B photos, H W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from tagseg.seeded import generators
from tagseg.settings import Settings

PURPOSE = 11  # of these numbers, among what is drawn from a photo's seed
LUMA = (0.299, 0.587, 0.114)
BLUR_RADIUS = 3  # of the kernel, in standard deviations


class StrongViewSettings(Settings):
    """How far the view that the student sees may be from the photo that the teacher sees (FixMatch, UniMatch)."""

    RENAMED: ClassVar[Mapping[str, str]] = {"colour": "color", "grey": "gray"}

    color: float = Field(0.5, ge=0, le=1, description="largest change of brightness, contrast and saturation")
    hue: float = Field(0.1, ge=0, le=0.5, description="largest turn of the hue, in turns")
    gray: float = Field(0.2, ge=0, le=1, description="share of photos without color")
    blur: float = Field(0.5, ge=0, le=1, description="share of photos that are blurred")
    blur_sigma: float = Field(0.006, gt=0, le=0.1, description="largest sigma of the blur, against the crop's side")


def strong_view(image_B3HW: Tensor, seed_B: Tensor, settings: StrongViewSettings) -> Tensor:
    """The photos, RGB in [0, 1], in other colors and perhaps blurred; what each gets follows from its seed alone."""
    drawn_Bn = torch.stack([torch.rand(7, generator=g, dtype=torch.float64) for g in generators(seed_B, PURPOSE)])
    if settings.color > 0 or settings.hue > 0 or settings.gray > 0:
        image_B3HW = _recolored(image_B3HW, drawn_Bn, settings)
    if settings.blur > 0:
        largest = settings.blur_sigma * max(image_B3HW.shape[-2:])
        sigma_B = drawn_Bn[:, 6] * largest * (drawn_Bn[:, 5] < settings.blur)
        image_B3HW = blurred(image_B3HW, sigma_B.to(image_B3HW), math.ceil(BLUR_RADIUS * largest))
    return image_B3HW


def _recolored(image_B3HW: Tensor, drawn_Bn: Tensor, settings: StrongViewSettings) -> Tensor:
    """Brightness, contrast, saturation and hue are all linear in a pixel's color: one matrix and offset a photo."""
    change_B3 = (1 + settings.color * (2 * drawn_Bn[:, :3] - 1)).to(image_B3HW)
    brightness_B, contrast_B, saturation_B = change_B3.unbind(1)
    saturation_B = saturation_B * (drawn_Bn[:, 4] >= settings.gray).to(image_B3HW)
    matrix_B33 = _hue_matrix(settings.hue * (2 * drawn_Bn[:, 3] - 1)).to(image_B3HW)
    luma_3 = image_B3HW.new_tensor(LUMA)
    gray_33 = luma_3.expand(3, 3)
    eye_33 = torch.eye(3, device=image_B3HW.device)
    saturate_B33 = saturation_B[:, None, None] * eye_33 + (1 - saturation_B)[:, None, None] * gray_33
    matrix_B33 = (brightness_B * contrast_B)[:, None, None] * (saturate_B33 @ matrix_B33)
    mean_B = torch.einsum("bchw,c->b", image_B3HW, luma_3) / image_B3HW[0, 0].numel()
    offset_B = brightness_B * (1 - contrast_B) * mean_B
    changed = torch.einsum("bij,bjhw->bihw", matrix_B33, image_B3HW) + offset_B[:, None, None, None]
    return changed.clamp(0, 1)


def _hue_matrix(turn_B: Tensor) -> Tensor:
    """Rotations (B, 3, 3) of colors about the axis of grays, which stay as they are."""
    angle_B = 2 * math.pi * turn_B
    cosine_B11, sine_B11 = angle_B.cos()[:, None, None], angle_B.sin()[:, None, None]
    third_33 = torch.full((3, 3), 1 / 3, dtype=turn_B.dtype)
    cross_33 = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], dtype=turn_B.dtype) / math.sqrt(3)
    return cosine_B11 * torch.eye(3, dtype=turn_B.dtype) + (1 - cosine_B11) * third_33 + sine_B11 * cross_33


def blurred(image_B3HW: Tensor, sigma_B: Tensor, radius: int) -> Tensor:
    """Each photo under a Gaussian of its own sigma in pixels (0: as it is), the border repeated."""
    count, channels = image_B3HW.shape[:2]
    place_n = torch.arange(-radius, radius + 1, device=image_B3HW.device, dtype=image_B3HW.dtype)
    kernel_Bn = torch.exp(-0.5 * (place_n / sigma_B.clamp(min=1e-2)[:, None]) ** 2)
    kernel_Bn = kernel_Bn / kernel_Bn.sum(1, keepdim=True)
    weight_n = kernel_Bn.repeat_interleave(channels, 0)[:, None]
    flat = image_B3HW.reshape(1, count * channels, *image_B3HW.shape[2:])
    padded = F.pad(flat, (radius, radius, radius, radius), mode="replicate")
    across = F.conv2d(padded, weight_n[:, :, None, :], groups=count * channels)
    return F.conv2d(across, weight_n[:, :, :, None], groups=count * channels).view_as(image_B3HW)
