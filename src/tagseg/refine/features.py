"""Positions of pixels in the lattice's space, and the checks of what a user gives.

Shapes: H W pixels (N = H * W), D feature dimensions, color channels last.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tagseg.errors import UserError
from tagseg.foreign import shown
from tagseg.refine.tensors import is_tensor

if TYPE_CHECKING:
    import torch
    from torch import Tensor

LEAST, MOST = 1e-6, 1e30  # of a sigma in float32
Sigma = float | Sequence[float]


def sigmas(value: Sigma, count: int, name: str) -> tuple[float, ...]:
    """One positive sigma for each of `count` dimensions."""
    try:
        given = tuple(map(float, value)) if isinstance(value, Sequence | np.ndarray) else (float(value),) * count
    except (TypeError, ValueError):
        given = ()
    if len(given) != count or not all(math.isfinite(v) and v > 0 for v in given):
        raise UserError(f"{name} must be one positive number, or {count} of them, not {shown(value)}.")
    if not all(LEAST <= v <= MOST for v in given):
        raise UserError(f"{name} must lie between {LEAST:g} and {MOST:g}, not {shown(value)}.")
    return given


def check_image(image_HWC: np.ndarray | Tensor) -> None:
    """Refuse what is no image of one or more channels, and pixels that are not finite."""
    if image_HWC.ndim not in (2, 3) or 0 in image_HWC.shape:
        raise UserError(f"an image must have the shape (H, W) or (H, W, channels), not {tuple(image_HWC.shape)}.")
    if is_tensor(image_HWC):
        finite = not image_HWC.is_floating_point() or bool(image_HWC.isfinite().all())
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
    import torch

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


class Features(NamedTuple):
    """Features (N, D) of the pixels of several photos, and of `value_ND[pixels:]`, which belong to no pixel.

    photo_N: int32, None for a single photo. bounds: the least and the largest that each dimension may have.
    """

    value_ND: Tensor
    photo_N: Tensor | None
    bounds: list[tuple[float, ...]]
    pixels: int


def batch_features(images: Sequence[Tensor], sxy: Sigma, srgb: Sigma, *, padding: bool = False) -> Features:
    """Features of photos (H, W, channels) on one device, few launches for photos of one size.

    padding: add a row of zeros for each photo whose pixels are no multiple of 4.
    """
    import torch

    device, channels = images[0].device, images[0].shape[-1]
    sigma = [*sigmas(sxy, 2, "sxy"), *(sigmas(srgb, channels, "srgb") if channels else ())]
    sigma_D = torch.tensor(sigma, dtype=torch.float32).to(device, non_blocking=True)
    same = len({tuple(image.shape) for image in images}) == 1
    stacks = [torch.stack(list(images))] if same else [image[None] for image in images]
    parts, highest = [], [0.0, 0.0]
    for stack_BHWC in stacks:
        batch, height, width, _ = stack_BHWC.shape
        value_BHWD = torch.empty(batch, height, width, 2 + channels, device=device)
        value_BHWD[..., 0] = torch.arange(width, device=device)
        value_BHWD[..., 1] = torch.arange(height, device=device)[:, None]
        value_BHWD[..., 2:] = stack_BHWC
        # by a tensor: a GPU divides by a number through its reciprocal, which gives other last bits than a CPU
        parts.append(value_BHWD.div_(sigma_D).flatten(0, 2))
        highest = [max(highest[0], (width - 1) / sigma[0]), max(highest[1], (height - 1) / sigma[1])]
    whole = all(image.dtype == torch.uint8 for image in images)
    if channels and not whole:
        ends = torch.stack([torch.stack([part[:, 2:].amin(0), part[:, 2:].amax(0)]) for part in parts])
        least, most = torch.stack([ends[:, 0].amin(0), ends[:, 1].amax(0)]).tolist()
    else:
        least, most = [0.0] * channels, [255 / s for s in sigma[2:]]
    sizes = [image.shape[0] * image.shape[1] for image in images]
    photo_N = None
    if len(images) > 1:
        number = torch.arange(len(images), dtype=torch.int32, device=device)
        photo_N = (
            number.repeat_interleave(sizes[0])
            if same
            else torch.cat([number[i : i + 1].expand(size) for i, size in enumerate(sizes)])
        )
    touching = [i for i, size in enumerate(sizes) if padding and size % 4]
    if touching:
        parts.append(torch.zeros(len(touching), 2 + channels, device=device))
        least, most = [min(v, 0.0) for v in least], [max(v, 0.0) for v in most]
        if photo_N is not None:
            photo_N = torch.cat([photo_N, torch.tensor(touching, dtype=torch.int32).to(device)])
    value_ND = parts[0] if len(parts) == 1 else torch.cat(parts)
    return Features(value_ND, photo_N, [(0.0, 0.0, *least), (*highest, *most)], sum(sizes))
