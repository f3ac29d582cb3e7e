"""What `dense_crf` refuses, each in one sentence."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tagseg.errors import UserError
from tagseg.foreign import shown
from tagseg.refine.lattice import Lattice
from tagseg.refine.tensors import is_tensor

if TYPE_CHECKING:
    from tagseg.refine.crf import Settings

UNARIES = ("probabilities", "logits", "energies")
TOLERANCE = 1e-3  # beyond 0 and 1: what rounding and resizing leave
NORMALIZATIONS = ("symmetric", "after", "before", "none")


def check_settings(settings: Settings, threads: int | None) -> None:
    """Refuse settings that make no sense for any photo; the lattices check their sigmas."""
    for name, kernel, parts in (
        ("gaussian", settings.gaussian, ("sigma", "weight")),
        ("bilateral", settings.bilateral, ("sigma", "sigma of color", "weight")),
    ):
        if kernel is None:
            continue
        if not isinstance(kernel, (tuple, list)) or len(kernel) != len(parts):
            raise UserError(f"{name} must be ({', '.join(parts)}) or None, not {shown(kernel)}.")
        if not isinstance(kernel[-1], (int, float, np.number)) or not math.isfinite(kernel[-1]):
            raise UserError(f"the weight of {name} must be a finite number, not {shown(kernel[-1])}.")
    if not isinstance(settings.iterations, (int, np.integer)) or settings.iterations < 0:
        raise UserError(f"iterations must be 0 or more, not {shown(settings.iterations)}.")
    if not isinstance(settings.unary, str) or settings.unary not in UNARIES:
        raise UserError(f"unary must be one of {', '.join(UNARIES)}, not {shown(settings.unary)}.")
    sides: Any = settings.normalization
    if not isinstance(sides, (tuple, list)) or len(sides) != 2 or not set(map(str, sides)) <= set(NORMALIZATIONS):
        raise UserError(
            f"normalization must be one or two of {', '.join(NORMALIZATIONS)}, not {settings.normalization}."
        )
    if threads is not None and (not isinstance(threads, (int, np.integer)) or threads < 1):
        raise UserError(f"threads must be 1 or more, or None for all cores, not {shown(threads)}.")
    if settings.cost is not None and not np.isfinite(settings.cost).all():
        raise UserError("the compatibility matrix holds NaN or infinite values; give finite costs.")


def check_maps(image: Any, maps: Any, settings: Settings, lattice: Lattice | None) -> None:
    """Refuse maps, a matrix or a lattice that don't fit the image."""
    height, width = image.shape[:2]
    if maps.ndim != 3 or tuple(maps.shape[1:]) != (height, width) or len(maps) == 0:
        raise UserError(
            f"{settings.unary} must have the shape (L, {height}, {width}) of the image, not {tuple(maps.shape)}."
        )
    if settings.cost is not None and settings.cost.shape != (len(maps), len(maps)):
        raise UserError(f"compatibility must have the shape ({len(maps)}, {len(maps)}), not {settings.cost.shape}.")
    if lattice is not None and not isinstance(lattice, Lattice):
        raise UserError(f"lattice must be a Lattice, such as Lattice.bilateral(image, 80, 13), not {shown(lattice)}.")
    if lattice is not None and (lattice.height, lattice.width) != (height, width):
        raise UserError(f"the lattice is of a photo of {lattice.height} x {lattice.width}, not {height} x {width}.")


def check_values(maps: Any, unary: str, *, logits: str = 'pass logits with unary="logits"') -> None:
    """Refuse NaN and infinite values, and what cannot be probabilities: percent, bytes, logits.

    logits: what to do with those, as a clause.
    """
    low, high = (float(end) for end in (maps.aminmax() if is_tensor(maps) else (maps.min(), maps.max())))
    if not (math.isfinite(low) and math.isfinite(high)):
        raise UserError(f"the {unary} hold NaN or infinite values; replace them before the dense CRF.")
    if unary == "probabilities" and not -TOLERANCE <= low <= high <= 1 + TOLERANCE:
        fix = logits
        if low >= 0 and high <= 255:
            fix = f"divide them by {100 if high <= 100 else 255}, or {logits}"
        raise UserError(f"probabilities must lie from 0 to 1, and these reach from {low:.4g} to {high:.4g}: {fix}.")


def cost_matrix(given: Any) -> np.ndarray:
    """The costs as float32; refuse what is no matrix of numbers."""
    try:
        return np.asarray(given, np.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"compatibility must be a matrix of numbers, not {shown(given)}.") from error


def per_photo(given: Any, single: bool, images: Sequence[Any], name: str) -> list[Any]:
    """One entry for each image, from one for a single image, from a list of them, or from None."""
    if given is None:
        return [None] * len(images)
    if single:
        return [given]
    if not isinstance(given, (list, tuple)) or len(given) != len(images):
        given = given if isinstance(given, (list, tuple)) else [given]
        raise UserError(f"{name} of {len(given)} photos came with {len(images)} images; give one for each.")
    return list(given)


def carried_labels(labels: int, tags: Sequence[int] | None) -> list[int] | None:
    """Labels to carry, ascending; None for all."""
    if tags is None:
        return None
    try:
        if any(isinstance(tag, bool) for tag in tags):
            raise TypeError
        kept = sorted({0, *(operator.index(tag) for tag in tags)})
    except TypeError as error:
        raise UserError(f"tags must be numbers of labels, such as [1, 3], not {shown(tags)}.") from error
    if kept[0] < 0 or kept[-1] >= labels:
        raise UserError(f"tags must lie in 1..{labels - 1}, not {list(tags)}.")
    return kept
