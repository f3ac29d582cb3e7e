"""Mean field on the CPU. Shapes: H W pixels (N = H * W), L labels, S columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tagseg.refine.lattice import Lattice
from tagseg.refine.lattice_cpu import filter_columns

if TYPE_CHECKING:
    from tagseg.refine.crf import Settings


def mean_field(
    size: tuple[int, int],
    maps_LHW: np.ndarray,
    cost_LL: np.ndarray | None,
    bilateral: Lattice | None,
    settings: Settings,
) -> np.ndarray:
    """Marginals (L, H, W) of one photo."""
    labels = len(maps_LHW)
    log_NL = np.ascontiguousarray(maps_LHW.reshape(labels, -1).T, np.float32)
    if settings.unary == "probabilities":
        log_NL = np.log(np.clip(log_NL, np.float32(1e-5), np.float32(1)))
    elif settings.unary == "energies":
        log_NL = -log_NL
    kernels = []
    if settings.gaussian is not None:
        sxy, weight = settings.gaussian
        kernels.append((Lattice.gaussian(*size, sxy), weight, settings.normalization[0]))
    if settings.bilateral is not None and bilateral is not None:
        kernels.append((bilateral, settings.bilateral[2], settings.normalization[1]))
    sides = [_sides(lattice, how) for lattice, _, how in kernels]
    q_NL = _softmax(log_NL)
    for _ in range(settings.iterations):
        energy_NL = log_NL.copy()
        for (lattice, weight, _), (before, after) in zip(kernels, sides, strict=True):
            message_NL = filter_columns(lattice.structure, q_NL * before) * after
            energy_NL += np.float32(weight) * (message_NL if cost_LL is None else -message_NL @ cost_LL.T)
        q_NL = _softmax(energy_NL)
    return np.ascontiguousarray(q_NL.T).reshape(maps_LHW.shape)


def _sides(lattice: Lattice, normalization: str) -> tuple[np.ndarray, np.ndarray]:
    ones = np.ones((lattice.height * lattice.width, 1), np.float32)
    if normalization == "none":
        return ones, ones
    total = filter_columns(lattice.structure, ones) + np.float32(1e-20)
    if normalization == "symmetric":
        return total**-0.5, total**-0.5
    return (1 / total, ones) if normalization == "before" else (ones, 1 / total)


def _softmax(energy_NL: np.ndarray) -> np.ndarray:
    q_NL = np.exp(energy_NL - energy_NL.max(1, keepdims=True))
    q_NL /= q_NL.sum(1, keepdims=True)
    return q_NL
