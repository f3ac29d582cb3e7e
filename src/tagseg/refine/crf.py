"""Dense CRF by mean field (Kraehenbuehl and Koltun 2011): probabilities that follow the photo's edges.

Shapes: H W pixels (N = H * W), L labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Unpack, overload

import numpy as np

from tagseg.cores import cores
from tagseg.errors import UserError
from tagseg.refine.arrays import Taken
from tagseg.refine.crf_checks import (
    carried_labels,
    check_maps,
    check_settings,
    check_values,
    cost_matrix,
    per_photo,
)
from tagseg.refine.defaults import BILATERAL, GAUSSIAN, ITERATIONS
from tagseg.refine.features import Sigma, check_image
from tagseg.refine.lattice import Lattice, chosen_backend
from tagseg.refine.scratch import Scratch, borrowed
from tagseg.refine.tensors import is_tensor

if TYPE_CHECKING:
    from torch import Tensor

Array = TypeVar("Array", np.ndarray, "Tensor")
Compatibility = np.ndarray | Sequence[Sequence[float]]


@dataclass(frozen=True)
class Settings:
    """What a dense CRF computes, apart from its photo."""

    gaussian: tuple[Sigma, float] | None
    bilateral: tuple[Sigma, Sigma, float] | None
    iterations: int
    unary: str
    normalization: tuple[str, ...]  # of the Gaussian kernel, of the bilateral one
    cost: np.ndarray | None  # (L, L)
    padding: bool


@dataclass(frozen=True)
class Photo:
    """One photo's part of a call."""

    image: Any  # (H, W, channels), numpy or torch
    maps: Any  # (L, H, W), numpy or torch
    kept: list[int] | None  # labels to carry; None: all
    lattice: Lattice | None


class CRFOptions(TypedDict, total=False):
    """The keywords of `dense_crf`, for type checkers; what they mean stands there."""

    gaussian: tuple[Sigma, float] | None
    bilateral: tuple[Sigma, Sigma, float] | None
    iterations: int
    tags: Sequence[int] | Sequence[Sequence[int]] | None
    unary: str
    normalization: str | tuple[str, str]
    compatibility: Compatibility | None
    lattice: Lattice | Sequence[Lattice] | None
    threads: int | None
    padding: bool
    backend: str
    check_finite: bool


@overload
def dense_crf(image: Any, probabilities: Array, **settings: Unpack[CRFOptions]) -> Array: ...
@overload
def dense_crf(image: Sequence[Any], probabilities: Sequence[Array], **settings: Unpack[CRFOptions]) -> list[Array]: ...
def dense_crf(  # type: ignore[misc]  # the settings are spelt out below, once
    image: Any,
    probabilities: Any,
    *,
    gaussian: tuple[Sigma, float] | None = GAUSSIAN,
    bilateral: tuple[Sigma, Sigma, float] | None = BILATERAL,
    iterations: int = ITERATIONS,
    tags: Sequence[int] | Sequence[Sequence[int]] | None = None,
    unary: str = "probabilities",
    normalization: str | tuple[str, str] = "symmetric",
    compatibility: Compatibility | None = None,
    lattice: Lattice | Sequence[Lattice] | None = None,
    threads: int | None = None,
    padding: bool = False,
    backend: str = "auto",
    check_finite: bool = True,
) -> Any:
    """Marginals (L, H, W) float32 of a dense CRF after some mean-field iterations; they sum to one at every pixel.

    image: (H, W, channels) or (H, W) in the units of its sigma: uint8 RGB, gray, floats, further channels; a PIL image.
    probabilities: (L, H, W), from 0 to 1; they need not sum to one. Arrays may have any memory layout. numpy
    in, numpy out; torch in, torch out on the same device.
    Lists of both (each photo with its own size and L) give a list, spread over all cores; a photo that stands in the
    list twice has its lattice built once.
    gaussian: sigma in pixels (or one for x and one for y) and weight; None leaves the kernel out.
    bilateral: sigma in pixels, sigma of color (or one a channel), weight; None leaves the kernel out.
    tags: labels that are present, apart from label 0 (background), which always is: only these are carried, the others
    come back as 0. For lists: one such sequence a photo.
    unary: what `probabilities` holds: "probabilities" (energy -ln p with p clipped to [1e-5, 1]), "logits" (their
    negative), or "energies".
    normalization: of each kernel ("symmetric": D K D with D = 1 / sqrt(K 1); "after" or "before": 1 / (K 1) on that
    side of the filter; "none"); one for both or (gaussian's, bilateral's).
    compatibility: cost (L, L) of two labels together, times each kernel's weight; None is Potts: 0 for equal labels, 1
    otherwise.
    lattice: the photo's bilateral `Lattice`, when it is at hand; for a list on a CUDA device also that of all its photos
    together (`Lattice.of_batch`), once for each map.
    threads: cores to use at most; None: all that this process may use. padding: as in `Lattice.bilateral`.
    backend: "numba" (CPU), "torch" (any device), "triton" (CUDA), or "auto": numba on the CPU, elsewhere one of the others.
    check_finite: whether the values of maps on a device are looked through, for which the host has to wait.
    """
    single = not isinstance(image, (list, tuple))
    given = ([image], [probabilities]) if single else (list(image), list(probabilities))
    if len(given[0]) != len(given[1]):
        raise UserError(f"{len(given[0])} images came with {len(given[1])} probability maps; give one for each.")
    taken = Taken()
    images, maps = [taken(each, "image") for each in given[0]], [taken(each, str(unary)) for each in given[1]]
    sides = (normalization, normalization) if isinstance(normalization, str) else normalization
    cost = None if compatibility is None else cost_matrix(compatibility)
    settings = Settings(gaussian, bilateral, iterations, unary, sides, cost, padding)
    check_settings(settings, threads)
    chosen = chosen_backend(maps[0], backend) if maps else "numba"
    photos = []
    for picture, value, given, built in zip(
        images,
        maps,
        per_photo(tags, single, images, "tags"),
        per_photo(lattice, single, images, "lattice"),
        strict=True,
    ):
        check_image(picture)
        check_maps(picture, value, settings, built)
        if check_finite or chosen == "numba":
            check_values(value, unary)
        photos.append(Photo(picture, value, carried_labels(len(value), given), built))
    if chosen == "triton" and cost is None:  # a table of costs is rare, and left to the plain form
        from tagseg.refine.mean_field_triton import mean_field_batch

        results = mean_field_batch(photos, settings)
    elif chosen != "numba":
        from tagseg.refine.mean_field_torch import mean_field_batch

        results = mean_field_batch(photos, settings)
    else:
        results = _on_cpu(photos, settings, threads or cores())
    return results[0] if single else results


def _on_cpu(photos: list[Photo], settings: Settings, threads: int) -> list[Any]:
    """Photos side by side on the threads; threads that are left over share the pixels of a photo."""
    groups: dict[tuple[int, int], list[int]] = {}  # photos with the same image share its lattice
    for i, photo in enumerate(photos):
        groups.setdefault((id(photo.image), id(photo.lattice)), []).append(i)
    workers = min(threads, len(groups))

    def work(places: list[int]) -> list[Any]:
        with borrowed() as scratch:
            lattice = _bilateral([photos[i] for i in places], settings, scratch)
            return [_one(photos[i], lattice, settings, threads // workers, scratch) for i in places]

    if workers <= 1:
        parts = list(map(work, groups.values()))
    else:
        with ThreadPoolExecutor(workers) as pool:
            parts = list(pool.map(work, groups.values()))
    results: list[Any] = [None] * len(photos)
    for places, part in zip(groups.values(), parts, strict=True):
        for i, result in zip(places, part, strict=True):
            results[i] = result
    return results


def _bilateral(photos: list[Photo], settings: Settings, scratch: Scratch) -> Lattice | None:
    for photo in photos:
        if photo.lattice is not None:
            return photo.lattice
    if settings.bilateral is None or settings.iterations == 0:
        return None
    sxy, srgb, _ = settings.bilateral
    return Lattice.bilateral(photos[0].image, sxy, srgb, padding=settings.padding, backend="numba", allocate=scratch)


def _one(photo: Photo, bilateral: Lattice | None, settings: Settings, threads: int, scratch: Scratch) -> Any:
    from tagseg.refine.mean_field_cpu import Term, mean_field

    height, width = photo.image.shape[:2]
    terms = []
    if settings.gaussian is not None:
        near = Lattice.gaussian(height, width, settings.gaussian[0], backend="numba")
        terms.append(Term(near.on_cpu(), settings.gaussian[1], settings.normalization[0]))
    if settings.bilateral is not None and bilateral is not None:
        terms.append(Term(bilateral.on_cpu(), settings.bilateral[2], settings.normalization[1]))
    value = photo.maps.detach().numpy() if is_tensor(photo.maps) else np.asarray(photo.maps)
    kept = value if photo.kept is None else value[photo.kept]
    cost = (
        settings.cost if settings.cost is None or photo.kept is None else settings.cost[np.ix_(photo.kept, photo.kept)]
    )
    marginal = mean_field(
        kept.reshape(len(kept), -1), settings.unary, terms, cost, settings.iterations, threads, scratch
    )
    marginal = marginal.reshape(kept.shape)
    if photo.kept is not None:
        full = np.zeros(value.shape, np.float32)
        full[photo.kept] = marginal
        marginal = full
    if not is_tensor(photo.maps):
        return marginal
    import torch

    return torch.from_numpy(marginal)
