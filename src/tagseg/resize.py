"""Maps at another size, bilinearly.

Shapes: B photos, C maps, H W pixels, h w another grid.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def resize(map_BChw: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps (B, C, H, W) of that size, in their own precision; there may be none of them."""
    if map_BChw.shape[2:] == size:
        return map_BChw
    if map_BChw.shape[1] == 0:  # a batch without any tag
        return map_BChw.new_zeros(len(map_BChw), 0, *size)
    return F.interpolate(map_BChw, size, mode="bilinear", align_corners=False)


def upsample(map_BChw: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps (B, C, H, W) of a photo's size, in float32."""
    return resize(map_BChw.float(), size)


def size_of(image_B3HW: Tensor) -> tuple[int, int]:
    """Height and width of photos or maps."""
    return image_B3HW.shape[-2], image_B3HW.shape[-1]
