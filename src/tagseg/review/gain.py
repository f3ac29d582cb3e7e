"""Which photos to correct first so that the next training gains most: doubtful, typical and diverse ones.

Shapes: N photos, D numbers that describe a photo.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CANDIDATES = 2000  # the most doubtful photos, among which is chosen; their similarities fit into 16 MB
RANDOM_EVERY = 8  # of the proposed ones is drawn at random: the only fair sample of the whole set


def propose(
    features: NDArray[np.floating], doubts: NDArray[np.floating], count: int, *, seed: int = 0
) -> list[tuple[int, bool]]:
    """Up to `count` photos in the order of expected gain, each with whether it was drawn at random.

    features: (N, D), one row a photo. doubts: (N,), not negative. Greedy maximization of a facility location: the sum
    over photos, weighted by their doubt, of the similarity to the nearest chosen one. So a photo is chosen that stands
    for many doubtful ones (typical) and that no earlier choice stands for (diverse); outliers stand for themselves alone.
    """
    number = len(doubts)
    drawn = np.random.default_rng(seed).permutation(number).tolist()
    pool = np.argsort(-doubts, kind="stable")[:CANDIDATES]
    unit = features[pool].astype(np.float32)
    unit -= unit.mean(axis=0)
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-6)
    similar = np.clip(unit @ unit.T, 0, None)  # (P, P): how well the column stands for the row
    # Ranks, not values: doubts of several kinds are not calibrated against one another.
    rank = np.linspace(1, 0.1, len(pool), dtype=np.float32)
    covered = np.zeros(len(pool), dtype=np.float32)
    chosen: list[tuple[int, bool]] = []
    taken: set[int] = set()
    while len(chosen) < min(count, number):
        if len(chosen) % RANDOM_EVERY == RANDOM_EVERY - 1 or len(taken & set(pool.tolist())) == len(pool):
            best, at_random = next(i for i in drawn if i not in taken), True
        else:
            gain = rank @ np.maximum(similar - covered[:, None], 0)
            gain[[i for i, photo in enumerate(pool.tolist()) if photo in taken]] = -1
            place = int(gain.argmax())
            covered = np.maximum(covered, similar[:, place])
            best, at_random = int(pool[place]), False
        taken.add(best)
        chosen.append((best, at_random))
    return chosen
