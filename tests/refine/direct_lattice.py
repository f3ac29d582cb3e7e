"""A slow permutohedral filter in float64 with a dictionary for a lattice: the yardstick of the fast ones."""

from collections import defaultdict

import numpy as np


def direct_filter(feature_ND: np.ndarray, value_NS: np.ndarray) -> np.ndarray:
    """Splat, blur along the D + 1 axes, slice (Adams, Baek, Davis 2010), one pixel at a time."""
    d = feature_ND.shape[1]
    corners = [_simplex(feature.astype(np.float64)) for feature in feature_ND]
    grid = defaultdict(lambda: np.zeros(value_NS.shape[1]))
    for simplex, value in zip(corners, value_NS, strict=True):
        for key, weight in simplex:
            grid[key] += weight * value
    nothing = np.zeros(value_NS.shape[1])
    for axis in range(d + 1):
        step = np.full(d + 1, -1)
        step[axis] = d
        step = tuple(step)
        blurred = {}
        for key, value in grid.items():
            up = tuple(k + s for k, s in zip(key, step, strict=True))
            down = tuple(k - s for k, s in zip(key, step, strict=True))
            blurred[key] = value + 0.5 * (dict.get(grid, up, nothing) + dict.get(grid, down, nothing))
        grid = blurred
    out = np.array([sum(weight * grid[key] for key, weight in simplex) for simplex in corners])
    return out / (1 + 2.0**-d)


def _simplex(feature: np.ndarray) -> list[tuple[tuple[int, ...], float]]:
    """Corners and barycentric weights of the simplex around a point."""
    d = len(feature)
    scaled = [f * np.sqrt(2 / 3) * (d + 1) / np.sqrt((i + 1) * (i + 2)) for i, f in enumerate(feature)]
    elevated = [sum(scaled)] + [sum(scaled[j:]) - j * scaled[j - 1] for j in range(1, d + 1)]
    base = [int(np.rint(e / (d + 1))) * (d + 1) for e in elevated]
    rest = [e - b for e, b in zip(elevated, base, strict=True)]
    order = sorted(range(d + 1), key=lambda j: (-rest[j], j))  # of equal rests the earlier counts as larger
    shift = sum(base) // (d + 1)
    rank = [order.index(j) + shift for j in range(d + 1)]
    for j in range(d + 1):
        wrap = (rank[j] < 0) - (rank[j] > d)
        rank[j] += wrap * (d + 1)
        base[j] += wrap * (d + 1)
    weight = [0.0] * (d + 2)
    for j in range(d + 1):
        v = (elevated[j] - base[j]) / (d + 1)
        weight[d - rank[j]] += v
        weight[d - rank[j] + 1] -= v
    weight[0] += 1 + weight[d + 1]
    keys = [tuple(base[j] + (k if rank[j] <= d - k else k - d - 1) for j in range(d + 1)) for k in range(d + 1)]
    return list(zip(keys, weight[: d + 1], strict=True))
