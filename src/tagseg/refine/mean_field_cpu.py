"""Mean field of one photo on the CPU.

Potts under the symmetric normalization, with messages that a float can take as powers of two, runs in the fused
kernels; everything else (other normalizations, a compatibility matrix, extreme weights) filter by filter.

Shapes: N pixels, L labels, S columns.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from tagseg.cores import crf_threads
from tagseg.refine import mean_field_kernels as kernels
from tagseg.refine.lanes import Shape
from tagseg.refine.lattice_cpu import CpuLattice, padded, to_planes
from tagseg.refine.scratch import Allocate, fresh

LOG2_E = math.log2(math.e)
LARGEST_MESSAGE = 100.0  # in powers of two
MOST_LABELS = 128  # beyond, compiling kernels for the very number of labels takes too long


class Term(NamedTuple):
    """A pairwise term: its lattice, weight and normalization."""

    lattice: CpuLattice
    weight: float
    normalization: str


def mean_field(
    maps_LN: np.ndarray,
    unary: str,
    terms: list[Term],
    cost_LL: np.ndarray | None,
    iterations: int,
    threads: int = 1,
    allocate: Allocate = fresh,
) -> np.ndarray:
    """Marginals (L, N) of one photo; the maps hold what `unary` says. allocate: where what is needed meanwhile lies."""
    maps_LN = np.ascontiguousarray(maps_LN, np.float32)
    if len(maps_LN) == 1:
        return np.ones_like(maps_LN)
    terms = [term for term in terms if term.weight != 0]
    if not terms or iterations == 0:
        return _softmax(_logits(maps_LN, unary))
    plain = cost_LL is not None or len(maps_LN) > MOST_LABELS
    plain = plain or any(term.normalization != "symmetric" or term.weight < 0 for term in terms)
    if plain or sum(term.weight * LOG2_E * term.lattice.sides.largest for term in terms) > LARGEST_MESSAGE:
        return _plain(_logits(maps_LN, unary), terms, cost_LL, iterations)
    near = terms[0] if len(terms) > 1 else None
    vertices = sum(term.lattice.vertices for term in terms)
    threads = crf_threads(maps_LN.shape[1], vertices, len(maps_LN), threads)
    return _fused(*_prior(maps_LN, unary), terms[-1], near, iterations, threads, allocate)


def _prior(maps_LN: np.ndarray, unary: str) -> tuple[np.ndarray, np.float32]:
    """Priors in (0, 1] up to a factor a pixel, and their lower bound."""
    if unary == "probabilities":
        return np.minimum(maps_LN, 1), np.float32(1e-5)
    logit_LN = _logits(maps_LN, unary)
    return np.exp(logit_LN - logit_LN.max(0)), np.float32(1e-37)


def _logits(maps_LN: np.ndarray, unary: str) -> np.ndarray:
    if unary == "probabilities":
        return np.log(np.clip(maps_LN, 1e-5, 1))
    return maps_LN if unary == "logits" else -maps_LN


def _fused(
    prior_LN: np.ndarray,
    low: np.float32,
    first: Term,
    second: Term | None,
    iterations: int,
    threads: int,
    allocate: Allocate,
) -> np.ndarray:
    lattice, pixels = first.lattice, prior_LN.shape[1]
    shape = Shape(padded(len(prior_LN)), lattice.corners)
    prior_NS = allocate("prior", (pixels + kernels.SPARE, shape.columns), np.float32)
    rows_NS = allocate("rows", (pixels, shape.columns), np.float32)
    kernels.prepare(shape, prior_LN, low, lattice.order_N, rows_NS, prior_NS)
    main = (lattice.start_T, lattice.vertex_TE, lattice.sides.weight)
    near = lattice.places_of(second.lattice) if second else None
    lattices = [lattice, second.lattice if second else lattice]
    factors = tuple(np.float32(term.weight * LOG2_E * term.lattice.amplitude) for term in (first, second or first))
    out_LN = np.empty(prior_LN.shape, np.float32)
    if threads <= 1:
        grids, near_grids = (
            tuple(_zeros(allocate, f"{kind} grid {i}", which, shape) for i in range(2))
            for kind, which in zip(("main", "near"), lattices, strict=True)
        )
        neighbors = [which.neighbor_EV2 for which in lattices]
        grid_VS, near_VS = kernels.iterate(
            shape, iterations, main, near, grids, near_grids, *neighbors, factors, prior_NS
        )
        kernels.finish(shape, 0, pixels, main, near, grid_VS, near_VS, prior_NS, lattice.order_N, rows_NS)
        to_planes(rows_NS, out_LN)
        return out_LN
    with ThreadPoolExecutor(threads) as pool:
        grid_VS, near_VS = _iterate_together(
            pool, threads, shape, iterations, main, near, lattices, factors, prior_NS, pixels
        )
        _each_part(
            pool, threads, pixels,
            lambda _, start, stop: kernels.finish(
                shape, start, stop, main, near, grid_VS, near_VS, prior_NS, lattice.order_N, rows_NS
            ),
        )  # fmt: skip
    to_planes(rows_NS, out_LN)
    return out_LN


def _iterate_together(
    pool: ThreadPoolExecutor,
    threads: int,
    shape: Shape,
    iterations: int,
    main: tuple,
    near: np.ndarray | None,
    lattices: list[CpuLattice],
    factors: tuple,
    prior_NS: np.ndarray,
    pixels: int,
) -> list[np.ndarray]:
    """All iterations of one photo on several threads, each with its share of the pixels and its own grid to add to."""
    parts = [np.zeros((threads, which.vertices + 1, shape.columns), np.float32) for which in lattices]
    sliced = [_zeros(fresh, "", which, shape) for which in lattices]

    def sweep(part: int, start: int, stop: int) -> None:
        grids, near_grids = ((old, new[part]) for old, new in zip(sliced, parts, strict=True))
        value_BS = kernels.block_buffer(shape.columns)
        kernels.sweep(shape, start, stop, main, near, grids, near_grids, prior_NS, value_BS)

    def merge(part: int, start: int, stop: int) -> None:
        kernels.merge(shape, parts[part // threads], start, stop)

    def blur(i: int) -> None:
        kernels.blur_merged(shape, lattices[i].neighbor_EV2, parts[i][0], sliced[i], factors[i])

    used = range(1 if near is None else 2)
    shares = [share for i in used for share in _shares(threads, lattices[i].vertices + 1)]
    for _ in range(iterations):
        _each_part(pool, threads, pixels, sweep)
        list(pool.map(merge, range(len(shares)), *zip(*shares, strict=True)))
        list(pool.map(blur, used))
    return sliced


def _each_part(pool: ThreadPoolExecutor, parts: int, pixels: int, work: Any) -> None:
    """work(part, first pixel, last pixel) for equal parts, at once."""
    list(pool.map(work, range(parts), *zip(*_shares(parts, pixels), strict=True)))


def _shares(parts: int, count: int) -> list[tuple[int, int]]:
    """First and last + 1 of each of equal parts."""
    edges = [count * part // parts for part in range(parts + 1)]
    return list(pairwise(edges))


def _zeros(allocate: Allocate, name: str, lattice: CpuLattice, shape: Shape) -> np.ndarray:
    grid_VS = allocate(name, (lattice.vertices + 1, shape.columns), np.float32)
    grid_VS[:] = 0
    return grid_VS


def _plain(log_LN: np.ndarray, terms: list[Term], cost_LL: np.ndarray | None, iterations: int) -> np.ndarray:
    sides = [_sides(term) for term in terms]
    q_LN = _softmax(log_LN)
    for _ in range(iterations):
        energy_LN = log_LN.copy()
        for term, (before_N, after_N) in zip(terms, sides, strict=True):
            message_LN = term.lattice.filter(q_LN * before_N) * after_N
            energy_LN += np.float32(term.weight) * (message_LN if cost_LL is None else -cost_LL @ message_LN)
        q_LN = _softmax(energy_LN)
    return q_LN


def _sides(term: Term) -> tuple[np.ndarray, np.ndarray]:
    """Factors of every pixel before and after the filter."""
    ones = np.ones((1, len(term.lattice.order_N)), np.float32)
    if term.normalization == "none":
        return ones, ones
    total = term.lattice.filter(ones) + np.float32(1e-20)
    if term.normalization == "symmetric":
        return total**-0.5, total**-0.5
    return (1 / total, ones) if term.normalization == "before" else (ones, 1 / total)


def _softmax(energy_LN: np.ndarray) -> np.ndarray:
    q_LN = np.exp(energy_LN - energy_LN.max(0))
    q_LN /= q_LN.sum(0)
    return q_LN
