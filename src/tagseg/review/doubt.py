"""How doubtful the mask of a photo is, why in words, and where.

Shapes: K classes with background, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    from tagseg.outputs.confidence import Sureness

SMALL, LARGE = 0.002, 0.01  # shares of the photo: less is not found, more of an untagged class is too much
GRID = 12  # blocks along the longer side in which doubt is looked for
SPOTS = 5
Spot = tuple[float, float, float, float]  # left, top, width, height as shares of the photo


@dataclass(frozen=True)
class Doubt:
    """value: 0 (sure) to 1, or above 1 where tags and mask contradict each other. reason: in words. spots: where first."""

    value: float
    reason: str
    spots: tuple[Spot, ...] = ()


def doubt_of_mask(
    mask: NDArray[np.uint8], classes: Sequence[str], tags: Sequence[str] | None, sure: Sureness | None = None
) -> Doubt:
    """Doubt from the mask alone: contradictions to the tags, else what is known of the mask's expected IoU or confidence."""
    share = np.bincount(mask.ravel(), minlength=256)[: len(classes)] / mask.size
    wrong = _contradictions(share, classes, tags)
    if sure is None:
        value, reason = 0.5, "nothing is known of the model's confidence"
    elif sure.expected_iou is not None:
        value, reason = 1 - sure.expected_iou, f"expected IoU {sure.expected_iou:.2f}"
    else:
        value = 1 - sure.confidence
        reason = f"the model is {100 * sure.confidence:.0f} % sure, on average over the pixels"
    return _contradicted(wrong, value) if wrong else Doubt(value, reason)


def doubt_of_probabilities(
    photo: NDArray[np.uint8],
    probabilities: Tensor,
    mask: NDArray[np.uint8],
    classes: Sequence[str],
    tags: Sequence[str] | None,
    untagged: NDArray[np.float32] | None = None,
) -> Doubt:
    """Doubt from a photo (H, W, 3), a model's probabilities (K, H, W) before the CRF, and the mask after it.

    The photo's doubt is one less its expected IoU; the smallest factor of a class that is tagged or found is the reason.
    untagged: probabilities without tags, which show classes that the tags lack.
    """
    from tagseg.prediction.expected import Expected

    share = np.bincount(mask.ravel(), minlength=256)[: len(classes)] / mask.size
    wrong = _contradictions(share, classes, tags)
    if untagged is not None and tags is not None:
        free = np.bincount(untagged.argmax(0).ravel(), minlength=len(classes)) / mask.size
        wrong += _not_tagged(free, classes, tags)
    expected = Expected.of(probabilities, mask, photo)
    value = 1 - float(expected.photo)
    factors: list[tuple[float, str]] = []
    for k in [k for k in range(1, len(classes)) if share[k] > 0 or classes[k] in (tags or ())] or [0]:
        iou, kept, edge = (float(of_K[k]) for of_K in (expected.iou_K, expected.kept_K, expected.edge_K))
        factors.append((iou, f"{classes[k]}: expected IoU {iou:.2f}"))
        factors.append((kept, f"{classes[k]}: the mask changed much at the photo's edges (IoU {kept:.2f})"))
        factors.append((edge, f"{classes[k]}: the mask ends where the photo shows hardly an edge"))
    spots = _spots(probabilities.numpy())
    if wrong:
        return _contradicted(wrong, value, spots)
    return Doubt(value, min(factors)[1], spots)


def _contradicted(wrong: list[str], value: float, spots: tuple[Spot, ...] = ()) -> Doubt:
    """Contradictions come before all else, the more the sooner; among equals the less sure one."""
    more = f"; {len(wrong) - 2} more" if len(wrong) > 2 else ""
    return Doubt(1 + min(len(wrong), 9) / 10 + value / 100, "; ".join(wrong[:2]) + more, spots)


def _contradictions(share: NDArray[np.floating], classes: Sequence[str], tags: Sequence[str] | None) -> list[str]:
    if tags is None:
        return []
    missing = [
        f"{name} is tagged, but {'hardly' if share[k] > 0 else 'not'} found"
        for k, name in enumerate(classes)
        if k and name in tags and share[k] < SMALL
    ]
    return missing + _not_tagged(share, classes, tags)


def _not_tagged(share: NDArray[np.floating], classes: Sequence[str], tags: Sequence[str]) -> list[str]:
    return [
        f"{name} is not tagged, but looks like {100 * share[k]:.0f} % of the photo"
        for k, name in enumerate(classes)
        if k and name not in tags and share[k] > LARGE
    ]


def _spots(probabilities: NDArray[np.float32]) -> tuple[Spot, ...]:
    """The blocks with the smallest margins between the two likeliest classes, the worst first."""
    _, height, width = probabilities.shape
    if len(probabilities) < 2:
        return ()
    step = max(-(-max(height, width) // (8 * GRID)), 1)  # a sample of the pixels will do
    two = np.partition(probabilities[:, ::step, ::step], -2, axis=0)[-2:]
    unsure = 1 - (two[1] - two[0])
    wanted = (max(round(GRID * side / max(height, width)), 1) for side in (height, width))
    rows, columns = map(min, wanted, unsure.shape)  # no block is smaller than a pixel, and so none is empty
    place = np.add.outer(
        np.arange(unsure.shape[0]) * rows // unsure.shape[0] * columns,
        np.arange(unsure.shape[1]) * columns // unsure.shape[1],
    )
    total = np.bincount(place.ravel(), unsure.ravel()) / np.bincount(place.ravel())
    found: list[Spot] = []
    for block in np.argsort(-total, kind="stable"):
        row, column = divmod(int(block), columns)
        spot = (column / columns, row / rows, 1 / columns, 1 / rows)
        if all(abs(spot[0] - x) > 1.5 / columns or abs(spot[1] - y) > 1.5 / rows for x, y, _, _ in found):
            found.append(spot)
        if len(found) == SPOTS:
            break
    return tuple(found)
