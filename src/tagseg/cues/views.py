"""Maps gathered over scales and mirror images of a photo, as AFA, TSCD and BMP make their CAMs.

Shapes: B photos, C maps, H W pixels, h w of a map as it comes from a network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor

from tagseg.devices import computes_bfloat16

SMALLEST_VIEW = 32  # pixels: what every backbone can still read


@torch.no_grad()
def map_views(
    maps: Callable[[Tensor], Tensor],
    image_B3HW: Tensor,
    scales: Sequence[float],
    flip: bool = True,
    known_BChw: Tensor | None = None,
    smallest: int = 1,
    bf16: bool = False,
) -> Iterator[tuple[Tensor, Tensor]]:
    """For each scale the maps of the photo and those of its mirror image, mirrored back: (B, C, H, W) each.

    maps: photos (B, 3, H, W) in [0, 1] to maps (B, C, h, w). known_BChw: those of the photo itself, where they are
    already there. smallest: side of a view in pixels, at least. Without `flip` the second of a pair is the first.
    bf16: compute the maps under bfloat16 autocast; the sizes are changed in float32.
    Without gradient.
    """
    size = (image_B3HW.shape[-2], image_B3HW.shape[-1])

    def read(view_B3HW: Tensor) -> Tensor:
        with in_bfloat16(bf16, view_B3HW.device):
            return maps(view_B3HW)

    for scale in scales:
        view_B3HW = image_B3HW
        if scale != 1:
            scaled = scaled_size(size, scale, smallest)
            view_B3HW = F.interpolate(image_B3HW, scaled, mode="bilinear", align_corners=False)
        plain = known_BChw if scale == 1 else None
        mirrored: Tensor | None = None
        if flip and plain is None:
            plain, mirrored = read(torch.cat([view_B3HW, view_B3HW.flip(-1)])).chunk(2)
        elif plain is None:
            plain = read(view_B3HW)
        elif flip:
            mirrored = read(view_B3HW.flip(-1))
        plain_BCHW = F.interpolate(plain.float(), size, mode="bilinear", align_corners=False)
        if mirrored is None:
            yield plain_BCHW, plain_BCHW
        else:
            yield plain_BCHW, F.interpolate(mirrored.float(), size, mode="bilinear", align_corners=False).flip(-1)


def view_cam(
    activation: Callable[[Tensor], Tensor],
    image_B3HW: Tensor,
    scales: Sequence[float],
    flip: bool = True,
    known_BChw: Tensor | None = None,
    smallest: int = 1,
    bf16: bool = False,
) -> Tensor:
    """The sum over scales of the larger of CAM and mirrored CAM, cut off at 0: (B, C, H, W) (AFA, TSCD).

    activation: photos to the classifier's weights applied at every cell, without ReLU; known_BChw: that of the photo.
    """
    views = map_views(activation, image_B3HW, scales, flip, known_BChw, smallest, bf16)
    return torch.stack([torch.maximum(plain, mirrored).relu() for plain, mirrored in views]).sum(0)


def in_bfloat16(wanted: bool, device: torch.device) -> AbstractContextManager[object]:
    """bfloat16 autocast if wanted and faster on this device, else whatever precision training has."""
    wanted = wanted and computes_bfloat16(device.type)
    return torch.autocast(device.type, torch.bfloat16) if wanted else nullcontext()


def scaled_size(size: tuple[int, int], scale: float, smallest: int = 1) -> tuple[int, int]:
    """Height and width times `scale`, rounded down, each at least `smallest`: a backbone needs a cell to see."""
    return max(int(scale * size[0]), smallest), max(int(scale * size[1]), smallest)


def min_max(map_BCHW: Tensor) -> Tensor:
    """Each map less its minimum, divided by its maximum + 1e-5: in [0, 1) (AFA, TSCD, BMP)."""
    map_BCHW = map_BCHW - map_BCHW.amin((-2, -1), keepdim=True)
    return map_BCHW / (map_BCHW.amax((-2, -1), keepdim=True) + 1e-5)
