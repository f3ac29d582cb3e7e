"""Which photos to correct first so that the next training gains most: doubtful ones that hold much of a class.

Shapes: N photos, C classes without background, D numbers that describe a photo.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RANDOM_EVERY = 8  # of the proposed ones is drawn at random: the only fair sample of the whole set
ALIKE = 0.8  # similarity to a chosen photo from which another one counts less: copies, frames of a film


def propose(
    features: NDArray[np.floating],
    doubts: NDArray[np.floating],
    areas: NDArray[np.floating],
    count: int,
    *,
    seed: int = 0,
) -> list[tuple[int, bool]]:
    """Up to `count` photos in the order of expected gain, each with whether it was drawn at random.

    features: (N, D), one row a photo. doubts: (N,), not negative, 1 at most counts. areas: (N, C), the share of each photo
    that its mask gives to each class. A photo's gain is its doubt times its part of all pixels of a class, summed over the
    classes: about what the classes' IoU loses in it. Less where it is nearly the same as a chosen one. Photos in whose
    masks no class is found come after the others, by doubt.
    """
    number = len(doubts)
    doubt = np.minimum(doubts, 1).astype(np.float64)
    whole = areas.sum(axis=0, dtype=np.float64)
    gain = doubt * (areas / np.where(whole > 0, whole, 1)).sum(axis=1) + 1e-9 * doubt
    unit = features.astype(np.float32)
    unit -= unit.mean(axis=0)
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-6)
    alike = np.zeros(number, dtype=np.float32)  # to the nearest chosen one
    drawn = np.random.default_rng(seed).permutation(number).tolist()
    chosen: list[tuple[int, bool]] = []
    taken = np.zeros(number, dtype=bool)
    while len(chosen) < min(count, number):
        at_random = len(chosen) % RANDOM_EVERY == RANDOM_EVERY - 1
        if at_random:
            best = next(i for i in drawn if not taken[i])
        else:
            best = int(np.where(taken, -1, gain * (1 - alike)).argmax())
            alike = np.maximum(alike, np.clip((unit @ unit[best] - ALIKE) / (1 - ALIKE), 0, 1))
        taken[best] = True
        chosen.append((best, at_random))
    return chosen
