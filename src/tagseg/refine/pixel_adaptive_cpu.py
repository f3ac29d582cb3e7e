"""Pixel-adaptive refinement on a CPU: compiled loops over rows, each row a vector.

The weights of a photo lie as (H, 48, W), so that a row's weights stay in the cache while all maps of that row are
refined. Maps are held with their border repeated to the left and right; above and below the row number is clamped.

Shapes: K maps, J = 48 neighbors, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import torch
from numba import njit

from tagseg.refine import pixel_adaptive as formula

REACH = max(formula.DILATIONS)
DIRECTIONS = len(formula.DIRECTIONS)
DILATIONS = np.array(formula.DILATIONS)
OFFSETS = np.array(formula.OFFSETS)
NEIGHBORS = len(OFFSETS)


def kernel(image_3HW: np.ndarray, *, variation: bool) -> np.ndarray:
    """The weights (H, 48, W) float32 of a photo in [0, 1]: VARM's with `variation`, PAR's without."""
    _, height, width = image_3HW.shape
    padded = _pad_sides(image_3HW)
    out_HJW = np.empty((height, NEIGHBORS, width), np.float32)
    steepness = formula.VARM_SHARPNESS if variation else 1 / formula.PAR_WIDTH
    position_J = np.array(formula.position_weights(), np.float32)
    weight = formula.VARM_VARIATION if variation else 0.0

    def rows(first: int, last: int) -> None:
        _kernel_rows(padded, position_J, np.float32(steepness), np.float32(weight), out_HJW, first, last)

    _over_rows(height, rows)
    return out_HJW


def propagate(map_KHW: np.ndarray, kernel_HJW: np.ndarray, iterations: int) -> np.ndarray:
    """Maps (K, H, W) after so many weighted means over their neighbors."""
    _, height, width = map_KHW.shape
    now = _pad_sides(map_KHW)
    after = np.empty_like(now)
    for _ in range(iterations):

        def rows(first: int, last: int, now: np.ndarray = now, after: np.ndarray = after) -> None:
            _propagate_rows(now, kernel_HJW, after, first, last)

        _over_rows(height, rows)
        now, after = after, now
    return np.ascontiguousarray(now[:, :, REACH : REACH + width])


def _pad_sides(map_KHW: np.ndarray) -> np.ndarray:
    return np.pad(map_KHW, ((0, 0), (0, 0), (REACH, REACH)), mode="edge").astype(np.float32, copy=False)


def _over_rows(height: int, work: Callable[[int, int], None]) -> None:
    """Share rows among as many threads as torch uses."""
    threads = min(torch.get_num_threads(), height)
    if threads == 1:
        work(0, height)
        return
    edges = [height * t // threads for t in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(work, first, last) for first, last in pairwise(edges)]:
            done.result()


@njit(nogil=True, cache=True, fastmath={"contract", "reassoc", "nsz"})
def _propagate_rows(now, kernel_HJW, after, first, last):  # type: ignore[no-untyped-def]
    maps, height, padded_width = now.shape
    width = padded_width - 2 * REACH
    for y in range(first, last):
        for k in range(maps):
            out = after[k, y, REACH : REACH + width]
            out[:] = 0
            for ring in range(len(DILATIONS)):
                d = DILATIONS[ring]
                # Slices that start at the neighbor: indices known to be >= 0 let the loop become vector code.
                above = now[k, max(y - d, 0), REACH - d :]
                here = now[k, y, REACH - d :]
                below = now[k, min(y + d, height - 1), REACH - d :]
                above_middle, above_right = above[d:], above[2 * d :]
                here_right = here[2 * d :]
                below_middle, below_right = below[d:], below[2 * d :]
                w = kernel_HJW[y, DIRECTIONS * ring : DIRECTIONS * ring + DIRECTIONS]
                w0, w1, w2, w3, w4, w5, w6, w7 = w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7]
                for x in range(width):
                    out[x] += (
                        w0[x] * above[x]
                        + w1[x] * above_middle[x]
                        + w2[x] * above_right[x]
                        + w3[x] * here[x]
                        + w4[x] * here_right[x]
                        + w5[x] * below[x]
                        + w6[x] * below_middle[x]
                        + w7[x] * below_right[x]
                    )
            after[k, y, :REACH] = out[0]
            after[k, y, REACH + width :] = out[width - 1]


@njit(nogil=True, cache=True, fastmath={"contract", "reassoc", "nsz"})
def _kernel_rows(image, position_J, steepness, variation_weight, out_HJW, first, last):  # type: ignore[no-untyped-def]
    channels, height, padded_width = image.shape
    width = padded_width - 2 * REACH
    mean = np.empty((channels, width), np.float32)
    scale = np.empty((channels, width), np.float32)
    logit = np.empty((NEIGHBORS, width), np.float32)
    for y in range(first, last):
        mean[:] = 0
        scale[:] = 0
        for c in range(channels):
            for j in range(NEIGHBORS):
                row = image[c, min(max(y + OFFSETS[j, 0], 0), height - 1), REACH + OFFSETS[j, 1] :]
                for x in range(width):
                    mean[c, x] += row[x]
            for x in range(width):
                mean[c, x] /= np.float32(NEIGHBORS)
            for j in range(NEIGHBORS):
                row = image[c, min(max(y + OFFSETS[j, 0], 0), height - 1), REACH + OFFSETS[j, 1] :]
                for x in range(width):
                    scale[c, x] += (row[x] - mean[c, x]) ** 2
            for x in range(width):
                scale[c, x] = steepness / (np.sqrt(scale[c, x] / np.float32(NEIGHBORS - 1)) + np.float32(formula.EPS))
        for j in range(NEIGHBORS):
            logit[j] = 0
            for c in range(channels):
                row = image[c, min(max(y + OFFSETS[j, 0], 0), height - 1), REACH + OFFSETS[j, 1] :]
                here = image[c, y, REACH:]
                for x in range(width):
                    logit[j, x] -= ((row[x] - here[x]) * scale[c, x]) ** 2 / np.float32(channels)
        _softmax(logit)
        if variation_weight == 0:
            for j in range(NEIGHBORS):
                out_HJW[y, j] = logit[j] + position_J[j]
            continue
        out_HJW[y] = logit
        for j in range(NEIGHBORS):
            logit[j] = 0
            source = min(max(y + OFFSETS[j, 0], 0), height - 1)
            # The last row's and column's difference is 0: they are repeated, whatever the photo holds beyond.
            next_source = min(max(y + 1 + OFFSETS[j, 0], 0), height - 1) if y + 1 < height else source
            for c in range(channels):
                row = image[c, source, REACH + OFFSETS[j, 1] :]
                next_row = image[c, next_source, REACH + OFFSETS[j, 1] :]
                for x in range(width):
                    logit[j, x] += (next_row[x] - row[x]) ** 2
                for x in range(width - 1):
                    logit[j, x] += (row[x + 1] - row[x]) ** 2
            for x in range(width):
                logit[j, x] /= np.float32(channels)
        _softmax(logit)
        for j in range(NEIGHBORS):
            for x in range(width):
                out_HJW[y, j, x] -= variation_weight * logit[j, x]


@njit(nogil=True, cache=True, fastmath={"contract", "reassoc", "nsz"}, inline="never")
def _softmax(value_JW):  # type: ignore[no-untyped-def]
    """Softmax over J in place, with an exponential that compiles to vector instructions (relative error about 1e-7)."""
    neighbors, width = value_JW.shape
    largest = value_JW[0].copy()
    for j in range(1, neighbors):
        for x in range(width):
            largest[x] = max(largest[x], value_JW[j, x])
    total = np.zeros(width, np.float32)
    power = np.empty(width, np.int32)
    power_of_two = power.view(np.float32)
    for j in range(neighbors):
        for x in range(width):
            value = max(value_JW[j, x] - largest[x], np.float32(-87.0))
            whole = np.floor(value * np.float32(1.44269504) + np.float32(0.5))
            # exp(v) = 2^whole * exp(rest), ln 2 in two parts, |rest| <= ln(2) / 2: a Taylor polynomial suffices.
            rest = value - whole * np.float32(0.693359375)
            rest -= whole * np.float32(-2.12194440e-4)
            p = np.float32(1 / 5040)
            p = p * rest + np.float32(1 / 720)
            p = p * rest + np.float32(1 / 120)
            p = p * rest + np.float32(1 / 24)
            p = p * rest + np.float32(1 / 6)
            p = p * rest + np.float32(1 / 2)
            p = p * rest + np.float32(1)
            value_JW[j, x] = p * rest + np.float32(1)
            power[x] = np.int32((np.int32(whole) + np.int32(127)) << np.int32(23))
        for x in range(width):
            value_JW[j, x] *= power_of_two[x]
            total[x] += value_JW[j, x]
    for j in range(neighbors):
        for x in range(width):
            value_JW[j, x] /= total[x]
