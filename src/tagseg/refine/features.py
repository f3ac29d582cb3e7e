"""Positions of pixels in the lattice's space, and the checks of what a user gives.

Shapes: H W pixels (N = H * W), D feature dimensions, colour channels last.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tagseg.errors import UserError
from tagseg.foreign import shown

LEAST = 1e-6
Sigma = float | Sequence[float]


def sigmas(value: Sigma, count: int, name: str) -> tuple[float, ...]:
    """One positive sigma for each of `count` dimensions."""
    try:
        given = tuple(map(float, value)) if isinstance(value, Sequence | np.ndarray) else (float(value),) * count
    except (TypeError, ValueError):
        given = ()
    if len(given) != count or not all(math.isfinite(v) and v > 0 for v in given):
        raise UserError(f"{name} must be one positive number, or {count} of them, not {shown(value)}.")
    if not all(LEAST <= v <= 1 / LEAST for v in given):
        raise UserError(f"{name} must lie between {LEAST:g} and {1 / LEAST:g}, where its kernel is of any use.")
    return given


def check_image(image_HWC: np.ndarray | Tensor) -> None:
    """Refuse what is no image of one or more channels, and pixels that are not finite."""
    if image_HWC.ndim not in (2, 3) or 0 in image_HWC.shape:
        raise UserError(f"an image must have the shape (H, W) or (H, W, channels), not {tuple(image_HWC.shape)}.")
    if isinstance(image_HWC, Tensor):
        finite = not image_HWC.is_floating_point() or bool(torch.isfinite(image_HWC).all())
    else:
        if image_HWC.dtype.kind not in "buif":
            raise UserError(f"an image must hold numbers, not {image_HWC.dtype}.")
        finite = image_HWC.dtype.kind != "f" or bool(np.isfinite(image_HWC).all())
    if not finite:
        raise UserError("the image holds NaN or infinite values; replace them before the dense CRF.")


def features_torch(
    height: int, width: int, image_HWC: Tensor | None, sxy: Sigma, srgb: Sigma = (), device: torch.device | None = None
) -> Tensor:
    """Features (N, D) float32: x / sx, y / sy, then every channel over its sigma."""
    sx, sy = sigmas(sxy, 2, "sxy")
    device = device if image_HWC is None else image_HWC.device
    columns = [
        (torch.arange(width, device=device, dtype=torch.float32) / sx).expand(height, width),
        (torch.arange(height, device=device, dtype=torch.float32) / sy)[:, None].expand(height, width),
    ]
    if image_HWC is not None:
        sigma = sigmas(srgb, image_HWC.shape[-1], "srgb")
        columns += [image_HWC[..., i].float() / s for i, s in enumerate(sigma)]
    return torch.stack(columns, -1).reshape(height * width, -1)
