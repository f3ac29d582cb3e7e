# mypy: allow-untyped-decorators, allow-untyped-defs
"""Pixel-adaptive refinement as Triton kernels: all 48 neighbors, all photos and all maps in one launch.

One launch makes the weights, one more each iteration. Photos of several sizes lie in one padded batch; each is clamped
at its own border.

Shapes: B photos, K maps, J = 48 neighbors, H W pixels of the largest photo.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from tagseg.refine import pixel_adaptive as formula

PIXELS = 256  # of one program
MAPS = 8  # of one program, at most


def refine(image_B3HW: Tensor, map_BKHW: Tensor, kind: str, iterations: int, size_B2: Tensor | None = None) -> Tensor:
    """Refined maps (B, K, H, W); size_B2: int32 rows and columns of each photo, where they differ.

    What lies beyond a photo's own size comes back as whatever it was.
    """
    kernel_BJHW = weights(image_B3HW, kind, size_B2)
    batch, maps, height, width = map_BKHW.shape
    if map_BKHW.numel() == 0 or iterations == 0:
        return map_BKHW
    now = map_BKHW.contiguous()
    together = min(triton.next_power_of_2(maps), MAPS)
    grid = (triton.cdiv(height * width, PIXELS), triton.cdiv(maps, together), batch)
    offset_J2, _ = _tables(now.device)
    spare = [torch.empty_like(now) for _ in range(min(iterations, 2))]
    for i in range(iterations):
        after = spare[i % 2]
        _propagate[grid](
            now, kernel_BJHW, offset_J2, after, now if size_B2 is None else size_B2,
            maps, height, width, size_B2 is not None, together, PIXELS,
        )  # fmt: skip
        now = after
    return now


def weights(image_B3HW: Tensor, kind: str, size_B2: Tensor | None = None) -> Tensor:
    """The neighbors' weights (B, 48, H, W) float32."""
    image_B3HW = image_B3HW.float().contiguous()
    batch, channels, height, width = image_B3HW.shape
    assert channels == 3, "PAR and VARM are made for RGB"
    kernel_BJHW = image_B3HW.new_empty(batch, len(formula.OFFSETS), height, width)
    offset_J2, position_J = _tables(image_B3HW.device)
    varm = kind == "varm"
    steepness = formula.VARM_SHARPNESS if varm else 1 / formula.PAR_WIDTH
    _weights[(triton.cdiv(height * width, PIXELS), batch)](
        image_B3HW, offset_J2, position_J, kernel_BJHW, image_B3HW if size_B2 is None else size_B2,
        height, width, steepness, formula.EPS, formula.VARM_VARIATION, size_B2 is not None, varm, PIXELS,
    )  # fmt: skip
    return kernel_BJHW


@lru_cache(maxsize=8)
def _tables(device: torch.device) -> tuple[Tensor, Tensor]:
    """The neighbors' offsets (48, 2) int32 and PAR's weights by distance (48,)."""
    offset_J2 = torch.tensor(formula.OFFSETS, dtype=torch.int32)
    position_J = torch.tensor(formula.position_weights())
    return offset_J2.to(device), position_J.to(device)


@triton.jit
def _propagate(
    now, kernel, offset, after, size, maps, height, width,
    RAGGED: tl.constexpr, MAPS: tl.constexpr, PIXELS: tl.constexpr,
):  # fmt: skip
    photo = tl.program_id(2)
    p = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    k = tl.program_id(1) * MAPS + tl.arange(0, MAPS)
    y, x = p // width, p % width
    rows, columns = height, width
    if RAGGED:
        rows, columns = tl.load(size + 2 * photo), tl.load(size + 2 * photo + 1)
    inside = (y < rows) & (x < columns)
    both = (k < maps)[:, None] & inside[None, :]
    area = tl.cast(height * width, tl.int64)
    first = (photo * maps + k).to(tl.int64) * area
    weight = kernel + photo.to(tl.int64) * 48 * area + p
    total = tl.zeros([MAPS, PIXELS], tl.float32)
    for j in range(48):
        there_y = tl.minimum(tl.maximum(y + tl.load(offset + 2 * j), 0), rows - 1)
        there_x = tl.minimum(tl.maximum(x + tl.load(offset + 2 * j + 1), 0), columns - 1)
        share = tl.load(weight + j * area, mask=inside, other=0.0)
        value = tl.load(now + first[:, None] + (there_y * width + there_x)[None, :], mask=both, other=0.0)
        total += share[None, :] * value
    tl.store(after + first[:, None] + p[None, :], total, mask=both)


@triton.jit
def _difference(image, here, there, inside):
    """The square of the difference of two places, over the three colors."""
    change = tl.load(image + there, mask=inside, other=0.0) - tl.load(image + here, mask=inside, other=0.0)
    return change * change


@triton.jit
def _weights(
    image, offset, position, kernel, size, height, width, steepness, eps, variation,
    RAGGED: tl.constexpr, VARM: tl.constexpr, PIXELS: tl.constexpr,
):  # fmt: skip
    photo = tl.program_id(1)
    p = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    y, x = p // width, p % width
    rows, columns = height, width
    if RAGGED:
        rows, columns = tl.load(size + 2 * photo), tl.load(size + 2 * photo + 1)
    inside = (y < rows) & (x < columns)
    area = tl.cast(height * width, tl.int64)
    red = image + photo.to(tl.int64) * 3 * area
    green, blue = red + area, red + 2 * area
    mean_r, mean_g, mean_b = (
        tl.zeros([PIXELS], tl.float32),
        tl.zeros([PIXELS], tl.float32),
        tl.zeros([PIXELS], tl.float32),
    )
    for j in range(48):
        there_y = tl.minimum(tl.maximum(y + tl.load(offset + 2 * j), 0), rows - 1)
        there_x = tl.minimum(tl.maximum(x + tl.load(offset + 2 * j + 1), 0), columns - 1)
        there = there_y * width + there_x
        mean_r += tl.load(red + there, mask=inside, other=0.0)
        mean_g += tl.load(green + there, mask=inside, other=0.0)
        mean_b += tl.load(blue + there, mask=inside, other=0.0)
    mean_r, mean_g, mean_b = mean_r / 48.0, mean_g / 48.0, mean_b / 48.0
    wide_r, wide_g, wide_b = (
        tl.zeros([PIXELS], tl.float32),
        tl.zeros([PIXELS], tl.float32),
        tl.zeros([PIXELS], tl.float32),
    )
    for j in range(48):
        there_y = tl.minimum(tl.maximum(y + tl.load(offset + 2 * j), 0), rows - 1)
        there_x = tl.minimum(tl.maximum(x + tl.load(offset + 2 * j + 1), 0), columns - 1)
        there = there_y * width + there_x
        away_r = tl.load(red + there, mask=inside, other=0.0) - mean_r
        away_g = tl.load(green + there, mask=inside, other=0.0) - mean_g
        away_b = tl.load(blue + there, mask=inside, other=0.0) - mean_b
        wide_r += away_r * away_r
        wide_g += away_g * away_g
        wide_b += away_b * away_b
    steep_r = steepness / (tl.sqrt(wide_r / 47.0) + eps)
    steep_g = steepness / (tl.sqrt(wide_g / 47.0) + eps)
    steep_b = steepness / (tl.sqrt(wide_b / 47.0) + eps)
    steep_r, steep_g, steep_b = steep_r * steep_r / 3.0, steep_g * steep_g / 3.0, steep_b * steep_b / 3.0
    # softmax over the neighbors in two walks: the largest logit and the sum so far, then the shares
    top, sum_ = tl.full([PIXELS], -float("inf"), tl.float32), tl.zeros([PIXELS], tl.float32)
    top_v, sum_v = tl.full([PIXELS], -float("inf"), tl.float32), tl.zeros([PIXELS], tl.float32)
    for j in range(48):
        there_y = tl.minimum(tl.maximum(y + tl.load(offset + 2 * j), 0), rows - 1)
        there_x = tl.minimum(tl.maximum(x + tl.load(offset + 2 * j + 1), 0), columns - 1)
        there = there_y * width + there_x
        logit = -(
            _difference(red, p, there, inside) * steep_r
            + _difference(green, p, there, inside) * steep_g
            + _difference(blue, p, there, inside) * steep_b
        )
        higher = tl.maximum(top, logit)
        sum_ = sum_ * tl.exp(top - higher) + tl.exp(logit - higher)
        top = higher
        if VARM:
            change = _variation(red, green, blue, offset, j, y, x, there, rows, columns, width, inside)
            higher = tl.maximum(top_v, change)
            sum_v = sum_v * tl.exp(top_v - higher) + tl.exp(change - higher)
            top_v = higher
    out = kernel + photo.to(tl.int64) * 48 * area + p
    for j in range(48):
        there_y = tl.minimum(tl.maximum(y + tl.load(offset + 2 * j), 0), rows - 1)
        there_x = tl.minimum(tl.maximum(x + tl.load(offset + 2 * j + 1), 0), columns - 1)
        there = there_y * width + there_x
        logit = -(
            _difference(red, p, there, inside) * steep_r
            + _difference(green, p, there, inside) * steep_g
            + _difference(blue, p, there, inside) * steep_b
        )
        share = tl.exp(logit - top) / sum_
        if VARM:
            change = _variation(red, green, blue, offset, j, y, x, there, rows, columns, width, inside)
            share -= variation * (tl.exp(change - top_v) / sum_v)
        else:
            share += tl.load(position + j)
        tl.store(out + j * area, share, mask=inside)


@triton.jit
def _variation(red, green, blue, offset, j, y, x, there, rows, columns, width, inside):
    """How much the shifted photo changes downwards and to the right; not at all at its last row and column."""
    below_y = tl.minimum(tl.maximum(y + 1 + tl.load(offset + 2 * j), 0), rows - 1)
    there_x = tl.minimum(tl.maximum(x + tl.load(offset + 2 * j + 1), 0), columns - 1)
    there_y = tl.minimum(tl.maximum(y + tl.load(offset + 2 * j), 0), rows - 1)
    right_x = tl.minimum(tl.maximum(x + 1 + tl.load(offset + 2 * j + 1), 0), columns - 1)
    below = tl.where(y + 1 < rows, below_y * width + there_x, there)
    right = tl.where(x + 1 < columns, there_y * width + right_x, there)
    return (
        _difference(red, there, below, inside) + _difference(green, there, below, inside)
        + _difference(blue, there, below, inside) + _difference(red, there, right, inside)
        + _difference(green, there, right, inside) + _difference(blue, there, right, inside)
    ) / 3.0  # fmt: skip
