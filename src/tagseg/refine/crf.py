"""Dense CRF by mean field (Kraehenbuehl and Koltun 2011): probabilities that follow the photo's edges.

Shapes: H W pixels (N = H * W), L labels.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, TypeVar, overload

import numpy as np
import torch
from torch import Tensor

from tagseg.errors import UserError
from tagseg.refine.features import Sigma, check_image
from tagseg.refine.lattice import Lattice, uses_torch

Array = TypeVar("Array", np.ndarray, Tensor)
Normalization = Literal["symmetric", "after", "before", "none"]
Unary = Literal["probabilities", "logits", "energies"]
MIN_PROBABILITY = 1e-5  # pydensecrf's default clip


@dataclass(frozen=True)
class Settings:
    """What a dense CRF computes, apart from its photo."""

    gaussian: tuple[Sigma, float] | None
    bilateral: tuple[Sigma, Sigma, float] | None
    iterations: int
    unary: Unary
    normalization: tuple[Normalization, Normalization]
    cost_LL: np.ndarray | None
    padding: bool
    backend: str


@overload
def dense_crf(image: Array, probabilities: Array, **settings: object) -> Array: ...
@overload
def dense_crf(image: Sequence[Array], probabilities: Sequence[Array], **settings: object) -> list[Array]: ...
def dense_crf(  # type: ignore[misc]
    image: Array | Sequence[Array],
    probabilities: Array | Sequence[Array],
    *,
    gaussian: tuple[Sigma, float] | None = (3.0, 3.0),
    bilateral: tuple[Sigma, Sigma, float] | None = (80.0, 13.0, 10.0),
    iterations: int = 10,
    tags: Sequence[int] | Sequence[Sequence[int]] | None = None,
    unary: Unary = "probabilities",
    normalization: Normalization | tuple[Normalization, Normalization] = "symmetric",
    compatibility: np.ndarray | None = None,
    lattice: Lattice | Sequence[Lattice] | None = None,
    threads: int | None = None,
    padding: bool = False,
    backend: str = "auto",
) -> Array | list[Array]:
    """Marginals (L, H, W) float32 of a dense CRF after some mean-field iterations; they sum to one at every pixel.

    image: (H, W, channels) or (H, W) in the units of its sigma: uint8 RGB, grey, floats, further channels.
    probabilities: (L, H, W); they need not sum to one. numpy in, numpy out; torch in, torch out on the same device.
    Lists of both (each photo with its own size and L) give a list, spread over all cores; a photo that stands in the
    list twice has its lattice built once.
    gaussian: sigma in pixels (or one for x and one for y) and weight; None leaves the kernel out.
    bilateral: sigma in pixels, sigma of colour (or one a channel), weight; None leaves the kernel out.
    tags: labels that are present, apart from label 0 (background), which always is: only these are carried, the others
    come back as 0. For lists: one such sequence a photo.
    unary: what `probabilities` holds: "probabilities" (energy -ln p with p clipped to [1e-5, 1]), "logits" (their
    negative), or "energies".
    normalization: of each kernel ("symmetric": D K D with D = 1 / sqrt(K 1); "after" or "before": 1 / (K 1) on that side
    of the filter; "none"); one for both or (gaussian's, bilateral's).
    compatibility: cost (L, L) of two labels together, times each kernel's weight; None is Potts: 0 for equal labels, 1
    otherwise.
    lattice: the photo's bilateral `Lattice`, when it is at hand.
    threads: cores to use; None: all. `padding`: pydensecrf's padded pixels (see `Lattice.bilateral`).
    """
    single = not isinstance(image, (list, tuple))
    images = [image] if single else list(image)
    maps = [probabilities] if single else list(probabilities)
    if len(images) != len(maps):
        raise UserError(f"{len(images)} images came with {len(maps)} probability maps; give one for each.")
    lattices = _per_photo(lattice, single, len(images), "lattice")
    tag_lists = _per_photo(tags, single, len(images), "tags")
    for photo, value in zip(images, maps, strict=True):
        check_image(photo)
        _check_maps(photo, value, unary)
    normalizations = (normalization, normalization) if isinstance(normalization, str) else tuple(normalization)
    settings = Settings(
        gaussian, bilateral, iterations, unary, _check_normalizations(normalizations), compatibility, padding, backend
    )
    if iterations < 0:
        raise UserError(f"iterations must be 0 or more, not {iterations}.")
    carried = [_carried(len(value), given) for value, given in zip(maps, tag_lists, strict=True)]
    results = _run(images, maps, carried, lattices, settings, threads)
    return results[0] if single else results


def _run(
    images: list[Array],
    maps: list[Array],
    carried: list[list[int] | None],
    lattices: list[Lattice | None],
    settings: Settings,
    threads: int | None,
) -> list[Array]:
    if not images:
        return []
    if uses_torch(maps[0], settings.backend):
        from tagseg.refine.mean_field_torch import mean_field_batch

        return mean_field_batch(images, maps, carried, lattices, settings)
    # photos that share an image share a lattice
    groups: dict[int, list[int]] = {}
    for i, photo in enumerate(images):
        groups.setdefault(id(photo), []).append(i)

    def work(places: list[int]) -> list[tuple[int, Array]]:
        image = np.asarray(images[places[0]])
        image = image if image.ndim == 3 else image[..., None]
        built = next((lattices[i] for i in places if lattices[i] is not None), None)
        if built is None and settings.bilateral is not None:
            sxy, srgb, _ = settings.bilateral
            built = Lattice.bilateral(image, sxy, srgb, padding=settings.padding, backend="numba")
        return [(i, _one(image, maps[i], carried[i], built, settings)) for i in places]

    workers = min(threads or os.cpu_count() or 1, len(groups))
    results: list[Array] = [None] * len(images)  # type: ignore[list-item]
    if workers <= 1:
        done = map(work, groups.values())
        for part in done:
            for i, result in part:
                results[i] = result
        return results
    with ThreadPoolExecutor(workers) as pool:
        for part in pool.map(work, groups.values()):
            for i, result in part:
                results[i] = result
    return results


def _one(image, maps, carried, lattice, settings):  # type: ignore[no-untyped-def]
    from tagseg.refine.mean_field_cpu import Kernel, mean_field

    terms = []
    if settings.gaussian is not None:
        near = Lattice.gaussian(*image.shape[:2], settings.gaussian[0])
        terms.append(Kernel(near.structure, settings.gaussian[1], settings.normalization[0]))
    if settings.bilateral is not None:
        terms.append(Kernel(lattice.structure, settings.bilateral[2], settings.normalization[1]))
    value = maps.detach().numpy() if isinstance(maps, Tensor) else np.asarray(maps)
    kept = value if carried is None else value[carried]
    cost_LL = settings.cost_LL
    if cost_LL is not None and carried is not None:
        cost_LL = cost_LL[np.ix_(carried, carried)]
    marginal = mean_field(kept.reshape(len(kept), -1), terms, cost_LL, settings).reshape(kept.shape)
    if carried is not None:
        full = np.zeros(value.shape, np.float32)
        full[carried] = marginal
        marginal = full
    return torch.from_numpy(marginal) if isinstance(maps, Tensor) else marginal


def _per_photo(given, single: bool, count: int, name: str) -> list:  # type: ignore[no-untyped-def, type-arg]
    if given is None:
        return [None] * count
    if single:
        return [given]
    if len(given) != count:
        raise UserError(f"{name} of {len(given)} photos came with {count} images; give one for each.")
    return list(given)


def _carried(labels: int, tags: Sequence[int] | None) -> list[int] | None:
    """Labels to carry, ascending; None for all."""
    if tags is None:
        return None
    kept = sorted({0, *(int(tag) for tag in tags)})
    if kept[0] < 0 or kept[-1] >= labels:
        raise UserError(f"tags must lie in 1..{labels - 1}, not {list(tags)}.")
    return kept


def _check_normalizations(given: tuple[str, ...]) -> tuple[Normalization, Normalization]:
    known = ("symmetric", "after", "before", "none")
    if len(given) != 2 or any(name not in known for name in given):
        raise UserError(f"normalization must be one or two of {', '.join(known)}, not {given}.")
    return given  # type: ignore[return-value]


def _check_maps(image: Array, maps: Array, unary: str) -> None:
    if unary not in ("probabilities", "logits", "energies"):
        raise UserError(f"unary must be probabilities, logits or energies, not {unary}.")
    if maps.ndim != 3 or tuple(maps.shape[1:]) != tuple(image.shape[:2]) or len(maps) == 0:
        raise UserError(
            f"{unary} must have the shape (L, {image.shape[0]}, {image.shape[1]}) of the image, not {tuple(maps.shape)}."
        )
    finite = torch.isfinite(maps).all() if isinstance(maps, Tensor) else np.isfinite(maps).all()
    if not finite:
        raise UserError(f"the {unary} hold NaN or infinite values; replace them before the dense CRF.")
