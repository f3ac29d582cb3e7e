"""Mean field of one photo on the CPU.

Potts under the symmetric normalisation, with messages that a float can take as powers of two, runs in the fused
kernels; everything else (other normalisations, a compatibility matrix, extreme weights) filter by filter.

Shapes: N pixels, L labels, S columns.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tagseg.refine import mean_field_kernels as kernels
from tagseg.refine.lanes import Shape
from tagseg.refine.lattice_cpu import CpuLattice, padded

if TYPE_CHECKING:
    from tagseg.refine.crf import Settings

LARGEST_MESSAGE = 60.0  # in powers of two
MOST_COLUMNS = 128  # beyond, compiling a kernel for the very number of labels takes too long


class Kernel(NamedTuple):
    """A pairwise term: its lattice, weight and normalisation."""

    lattice: CpuLattice
    weight: float
    normalization: str


def mean_field(maps_LN: np.ndarray, terms: list[Kernel], cost_LL: np.ndarray | None, settings: Settings) -> np.ndarray:
    """Marginals (L, N) of one photo; maps hold what `settings.unary` says."""
    maps_LN = np.ascontiguousarray(maps_LN, np.float32)
    if len(maps_LN) == 1:
        return np.ones_like(maps_LN)
    prior_LN, low = _prior(maps_LN, settings.unary)
    terms = [term for term in terms if term.weight != 0]
    if not terms or settings.iterations == 0:
        prior_LN = np.maximum(prior_LN, low)
        return prior_LN / prior_LN.sum(0)
    if cost_LL is None and all(term.normalization == "symmetric" and term.weight > 0 for term in terms):
        totals = [term.weight * math.log2(math.e) * float(term.lattice.sides.total_N.max()) for term in terms]
        if sum(totals) <= LARGEST_MESSAGE and len(maps_LN) <= MOST_COLUMNS:
            return _fused(prior_LN, low, terms[::-1], settings.iterations)
    return _plain(prior_LN, low, terms, cost_LL, settings.iterations)


def _prior(maps_LN: np.ndarray, unary: str) -> tuple[np.ndarray, np.float32]:
    """Priors in (0, 1] up to a factor a pixel, and their lower bound."""
    if unary == "probabilities":
        return maps_LN, np.float32(1e-5)
    logit_LN = maps_LN if unary == "logits" else -maps_LN
    return np.exp(logit_LN - logit_LN.max(0)), np.float32(1e-36)


def _columns(labels: int) -> int:
    """Columns to carry: one label less where that saves a vector; it follows from the others."""
    return labels - 1 if labels in (2, 3) or labels % 4 == 1 else padded(labels)


def _fused(prior_LN: np.ndarray, low: np.float32, terms: list[Kernel], iterations: int) -> np.ndarray:
    main, *others = terms
    lattice, sides = main.lattice, main.lattice.sides
    labels, pixels = prior_LN.shape
    columns = _columns(labels)
    shape = Shape(columns, lattice.corners, columns < labels)
    log2 = math.log2(math.e)

    prior_NS = np.zeros((pixels + kernels.SPARE, columns), np.float32)
    rest_N = np.zeros(pixels + kernels.SPARE, np.float32)
    kernels.prepare(prior_LN, low, lattice.order_N, prior_NS, rest_N)
    total_N = sides.total_N * np.float32(main.weight * log2)
    near, near_neighbour, near_factor = None, None, np.float32(0)
    if others:
        other = others[0].lattice
        packed_N8 = np.empty((pixels, 8), np.float32)
        kernels.pick(Shape(8, 1), other.packed_N8, lattice.order_N, packed_N8)
        total_N += packed_N8[:, 6] * np.float32(others[0].weight * log2)
        near = (packed_N8, _grid(other, columns), _grid(other, columns))
        near_neighbour = other.neighbour_EV2
        near_factor = np.float32(others[0].weight * log2 * other.amplitude)
    # what the derived label gets when all others have no message
    boost_N = np.exp2(total_N) if columns < labels else total_N[:0]
    structure = (lattice.start_T, lattice.vertex_TE, sides.weight_NE)
    grids = (_grid(lattice, columns), _grid(lattice, columns))
    factor = np.float32(main.weight * log2 * lattice.amplitude)
    sliced_VS, near = kernels.iterate(
        shape, iterations, factor, near_factor, (*structure, *grids), near, lattice.neighbour_EV2,
        near_neighbour, prior_NS, rest_N, boost_N,
    )  # fmt: skip
    out_LN = np.empty((labels, pixels), np.float32)
    kernels.finish(shape, 0, pixels, (*structure, sliced_VS, sliced_VS), near, prior_NS, rest_N, lattice.order_N, out_LN)
    return out_LN


def _grid(lattice: CpuLattice, columns: int) -> np.ndarray:
    return np.zeros((lattice.vertices + 1, columns), np.float32)


def _plain(
    prior_LN: np.ndarray, low: np.float32, terms: list[Kernel], cost_LL: np.ndarray | None, iterations: int
) -> np.ndarray:
    log_LN = np.log(np.clip(prior_LN, low, 1))
    sides = [_sides(term) for term in terms]
    q_LN = _softmax(log_LN)
    for _ in range(iterations):
        energy_LN = log_LN.copy()
        for term, (before_N, after_N) in zip(terms, sides, strict=True):
            message_LN = term.lattice.filter(q_LN * before_N) * after_N
            energy_LN += np.float32(term.weight) * (message_LN if cost_LL is None else -cost_LL @ message_LN)
        q_LN = _softmax(energy_LN)
    return q_LN


def _sides(term: Kernel) -> tuple[np.ndarray, np.ndarray]:
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
