"""Maps gathered over scales and mirror images of a photo, as AFA, TSCD and BMP make their CAMs.

Shapes: B photos, C maps, H W pixels, h w of a map as it comes from a network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypedDict

import torch
from torch import Tensor

from tagseg.precision import Precision, computing_in
from tagseg.resize import resize, size_of, upsample

SMALLEST_VIEW = 32  # pixels: what every backbone can still read


class HowRead(TypedDict, total=False):
    """Further arguments of `map_views`."""

    size: tuple[int, int] | None
    smallest: int
    precision: Precision | None


@torch.no_grad()
def map_views(
    maps: Callable[[Tensor], Tensor],
    image_B3HW: Tensor,
    scales: Sequence[float],
    flip: bool = True,
    known_BChw: Tensor | None = None,
    *,
    size: tuple[int, int] | None = None,
    smallest: int = 1,
    precision: Precision | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """For each scale the maps of the photo and those of its mirror image, mirrored back: (B, C, H, W) each.

    maps: photos (B, 3, H, W) in [0, 1] to maps (B, C, h, w). known_BChw: those of the photo itself, where they are
    already there. size: of what is given; none: the photo's. smallest: side of a view in pixels, at least. Without `flip`
    the second of a pair is the first. precision: of the maps; their sizes are changed in float32.
    Without gradient.
    """
    size = size or size_of(image_B3HW)

    def read(view_B3HW: Tensor) -> Tensor:
        with computing_in(precision, view_B3HW.device):
            return maps(view_B3HW)

    for scale in scales:
        view_B3HW = image_B3HW
        if scale != 1:
            view_B3HW = resize(image_B3HW, scaled_size(size_of(image_B3HW), scale, smallest))
        plain = known_BChw if scale == 1 else None
        mirrored: Tensor | None = None
        if flip and plain is None:
            plain, mirrored = read(torch.cat([view_B3HW, view_B3HW.flip(-1)])).chunk(2)
        elif plain is None:
            plain = read(view_B3HW)
        elif flip:
            mirrored = read(view_B3HW.flip(-1))
        plain_BCHW = upsample(plain, size)
        yield plain_BCHW, plain_BCHW if mirrored is None else upsample(mirrored, size).flip(-1)


def scaled_size(size: tuple[int, int], scale: float, smallest: int = 1) -> tuple[int, int]:
    """Height and width times `scale`, rounded down, each at least `smallest`: a backbone needs a cell to see."""
    return max(int(scale * size[0]), smallest), max(int(scale * size[1]), smallest)


def min_max(map_BCHW: Tensor) -> Tensor:
    """Each map less its minimum, divided by its maximum + 1e-5: in [0, 1) (AFA, TSCD, BMP)."""
    map_BCHW = map_BCHW - map_BCHW.amin((-2, -1), keepdim=True)
    return map_BCHW / (map_BCHW.amax((-2, -1), keepdim=True) + 1e-5)
