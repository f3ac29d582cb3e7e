# mypy: allow-untyped-decorators, allow-untyped-defs
"""Mean field as Triton kernels: reading both lattices, the softmax and writing to them again are one launch.

Photos are worked at in chunks that fill the device and bound its memory. Maps of the same photo share its lattice: they
are more columns.

Shapes: N pixels of the photos of a chunk, G maps of a photo, L labels of the map with the most, S = G * L, V vertices.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from tagseg.refine.features import batch_features, sigmas
from tagseg.refine.lattice_triton import TritonLattice
from tagseg.refine.mean_field_torch import log_probability

if TYPE_CHECKING:
    from tagseg.refine.crf import Photo, Settings

ELEMENTS = 512  # pixels times labels of one program
CHUNK = 1_700_000  # pixels worked at together: more would not make a large GPU faster


def mean_field_batch(photos: list[Photo], settings: Settings) -> list[Any]:
    """Marginals of every photo, in its order and of the kind that came in."""
    assert settings.cost is None, "a table of costs is for the torch form"
    first = photos[0].maps
    device = first.device if isinstance(first, Tensor) else torch.device("cpu")
    groups: dict[int, list[int]] = {}  # maps with the same photo
    for i, photo in enumerate(photos):
        groups.setdefault(id(photo.image), []).append(i)
    results: list[Any] = [None] * len(photos)
    chunk: list[list[int]] = []
    pixels = 0
    for places in groups.values():
        size = photos[places[0]].image.shape
        if chunk and pixels + size[0] * size[1] > CHUNK:
            _work(photos, chunk, settings, device, results)
            chunk, pixels = [], 0
        chunk.append(places)
        pixels += size[0] * size[1]
    _work(photos, chunk, settings, device, results)
    return results


def _work(
    photos: list[Photo], chunk: list[list[int]], settings: Settings, device: torch.device, results: list[Any]
) -> None:
    """The marginals of a chunk: places of the maps of one photo after another."""
    images = [torch.as_tensor(photos[places[0]].image).to(device) for places in chunk]
    images = [image if image.ndim == 3 else image[..., None] for image in images]
    terms = _terms(photos, chunk, images, settings)  # first, so that the device counts vertices while the host goes on
    kept = [
        [torch.as_tensor(photos[i].maps).detach().to(device)[_channels(photos[i], device)].float() for i in places]
        for places in chunk
    ]
    copies, labels = max(map(len, kept)), max(len(value) for values in kept for value in values)
    log_NGL = _logits(kept, copies, labels, settings)
    q_NGL = _mean_field(log_NGL, terms, settings.iterations)
    start = 0
    for places, values in zip(chunk, kept, strict=True):
        pixels = values[0][0].numel()
        for g, (i, value) in enumerate(zip(places, values, strict=True)):
            photo = photos[i]
            marginal = q_NGL[start : start + pixels, g, : len(value)].T.reshape(value.shape)
            if photo.kept is not None:
                full = marginal.new_zeros(tuple(photo.maps.shape))
                full.index_copy_(0, _channels(photo, device), marginal)
                marginal = full
            results[i] = marginal.contiguous() if isinstance(photo.maps, Tensor) else marginal.cpu().numpy()
        start += pixels


def _channels(photo: Photo, device: torch.device) -> Any:
    return slice(None) if photo.kept is None else torch.tensor(photo.kept).to(device, non_blocking=True)


def _logits(kept: list[list[Tensor]], copies: int, labels: int, settings: Settings) -> Tensor:
    """Logits (N, G, L); labels that a map lacks are at -inf, maps that a photo lacks repeat its first."""
    if len({value.shape for values in kept for value in values}) == 1 and all(len(v) == copies for v in kept):
        value_BGLN = torch.stack([torch.stack(values) for values in kept]).flatten(3)
        flat = log_probability(value_BGLN.permute(0, 3, 1, 2), settings.unary)
        return flat.reshape(-1, copies, labels).contiguous()
    parts = []
    for values in kept:
        columns = [log_probability(value.flatten(1).T, settings.unary) for value in values]
        columns = [torch.nn.functional.pad(c, (0, labels - c.shape[1]), value=-torch.inf) for c in columns]
        parts.append(torch.stack(columns + columns[:1] * (copies - len(columns)), 1))
    return torch.cat(parts).contiguous()


class Term:
    """A kernel of the CRF: its lattice, and the factors (N,) before and after its filter, its weight within them."""

    def __init__(self, lattice: TritonLattice, weight: float, normalization: str) -> None:
        self.lattice, self.weight, self.normalization = lattice, weight, normalization

    def sides(self, pixels: int) -> tuple[Tensor, Tensor]:
        """The factors before and after the filter."""
        ones = torch.ones(pixels, 1, device=self.lattice.weight_NE.device)
        gain = self.weight * self.lattice.amplitude
        if self.normalization == "none":
            return ones[:, 0], ones[:, 0] * gain
        total = self.lattice.filter(ones)[:, 0] + 1e-20
        if self.normalization == "symmetric":
            return total.rsqrt(), total.rsqrt() * gain
        return (1 / total, ones[:, 0] * gain) if self.normalization == "before" else (ones[:, 0], gain / total)


def _terms(photos: list[Photo], chunk: list[list[int]], images: list[Tensor], settings: Settings) -> list[Term]:
    """The kernels of a chunk."""
    terms: list[Term] = []
    if settings.iterations == 0:
        return terms
    if settings.gaussian is not None:
        sxy, weight = settings.gaussian
        sizes = tuple((image.shape[0], image.shape[1]) for image in images)
        near = _positions(sizes, sigmas(sxy, 2, "sxy"), images[0].device)
        terms.append(Term(near, weight, settings.normalization[0]))
    if settings.bilateral is not None:
        sxy, srgb, weight = settings.bilateral
        lattice = _given(photos, chunk, images)
        if lattice is None:
            features = batch_features(images, sxy, srgb, padding=settings.padding)
            lattice = TritonLattice(
                features.value_ND, features.bounds, features.photo_N, len(images), pixels=features.pixels
            )
        terms.append(Term(lattice, weight, settings.normalization[1]))
    return terms


@lru_cache(maxsize=4)
def _positions(sizes: tuple[tuple[int, int], ...], sxy: tuple[float, ...], device: torch.device) -> TritonLattice:
    """The lattice of positions alone, which photos of the same sizes share."""
    features = batch_features([torch.empty(*size, 0, device=device) for size in sizes], sxy, ())
    return TritonLattice(features.value_ND, features.bounds, features.photo_N, len(sizes))


def _given(photos: list[Photo], chunk: list[list[int]], images: list[Tensor]) -> TritonLattice | None:
    """The lattice that came with the photos, where it holds just those of the chunk."""
    given = {id(photos[i].lattice): photos[i].lattice for places in chunk for i in places}
    lattice = next(iter(given.values()))
    if len(given) != 1 or lattice is None or not isinstance(lattice.structure, TritonLattice):
        return None
    pixels = sum(image.shape[0] * image.shape[1] for image in images)
    return lattice.structure if len(lattice.structure.weight_NE) == pixels else None


def _mean_field(log_NGL: Tensor, terms: list[Term], iterations: int) -> Tensor:
    pixels, copies, labels = log_NGL.shape
    columns = copies * labels
    wide = triton.next_power_of_2(labels)
    block = max(ELEMENTS // wide, 1)
    grid = (triton.cdiv(pixels, block), copies)
    q_NGL = torch.empty_like(log_NGL)
    if not terms or iterations == 0:
        return log_NGL.softmax(2)
    sides = [term.sides(pixels) for term in terms]
    lattices = [term.lattice for term in terms]
    tables = [log_NGL.new_zeros(lattice.vertices + 1, columns) for lattice in lattices]
    spares = [torch.zeros_like(table) for table in tables]
    for i in range(iterations + 1):
        arguments: list[Any] = []
        for lattice, side, table, spare in zip(lattices, sides, tables, spares, strict=True):
            arguments += [table, spare, lattice.vertex_NE, lattice.weight_NE, *side]
        if len(terms) == 1:
            arguments += arguments
        corners = [lattice.corners for lattice in lattices] + [0]
        _update[grid](
            log_NGL, q_NGL, *arguments, pixels, labels, columns, i > 0, i < iterations,
            corners[0], corners[1], block, wide,
        )  # fmt: skip
        if i == iterations:
            break
        for t, lattice in enumerate(lattices):
            # the update has read `table` and added to `spare`, which was zero
            spares[t], tables[t] = lattice.blur(spares[t], tables[t])
            if i + 1 < iterations:
                spares[t].zero_()
    return q_NGL


@triton.jit
def _read(table, vertex, weight, n, live, first, s, both, columns, E: tl.constexpr):
    """What pixels read of a lattice: (PIXELS, LABELS)."""
    total = tl.zeros(both.shape, tl.float32)
    for k in tl.static_range(E):
        row = tl.load(vertex + n * E + k, mask=live, other=0).to(tl.int64)
        w = tl.load(weight + n * E + k, mask=live, other=0.0)
        total += w[:, None] * tl.load(table + row[:, None] * columns + first + s[None, :], mask=both, other=0.0)
    return total


@triton.jit
def _write(table, vertex, weight, n, live, first, s, both, columns, value, E: tl.constexpr):
    """Add to a lattice what pixels give."""
    for k in tl.static_range(E):
        row = tl.load(vertex + n * E + k, mask=live, other=0).to(tl.int64)
        w = tl.load(weight + n * E + k, mask=live, other=0.0)
        tl.atomic_add(table + row[:, None] * columns + first + s[None, :], value * w[:, None], mask=both, sem="relaxed")


@triton.jit(do_not_specialize=["count"])
def _update(
    log, q, table1, next1, vertex1, weight1, before1, after1, table2, next2, vertex2, weight2, before2, after2,
    count, labels, columns, READ: tl.constexpr, WRITE: tl.constexpr, E1: tl.constexpr, E2: tl.constexpr,
    PIXELS: tl.constexpr, LABELS: tl.constexpr,
):  # fmt: skip
    """The softmax of log and messages, either kept or spread for the next messages."""
    n = tl.program_id(0).to(tl.int64) * PIXELS + tl.arange(0, PIXELS)
    first = tl.program_id(1) * labels
    s = tl.arange(0, LABELS)
    live = n < count
    both = live[:, None] & (s < labels)[None, :]
    at = n[:, None] * columns + first + s[None, :]
    energy = tl.load(log + at, mask=both, other=-float("inf"))
    if READ:
        message = _read(table1, vertex1, weight1, n, live, first, s, both, columns, E1)
        energy += message * tl.load(after1 + n, mask=live, other=0.0)[:, None]
        if E2 > 0:
            message = _read(table2, vertex2, weight2, n, live, first, s, both, columns, E2)
            energy += message * tl.load(after2 + n, mask=live, other=0.0)[:, None]
    top = tl.max(tl.where(live[:, None], energy, 0.0), 1)
    power = tl.exp(energy - top[:, None])
    value = power / tl.sum(tl.where(live[:, None], power, 1.0), 1)[:, None]
    if WRITE:
        given = value * tl.load(before1 + n, mask=live, other=0.0)[:, None]
        _write(next1, vertex1, weight1, n, live, first, s, both, columns, given, E1)
        if E2 > 0:
            given = value * tl.load(before2 + n, mask=live, other=0.0)[:, None]
            _write(next2, vertex2, weight2, n, live, first, s, both, columns, given, E2)
    else:
        tl.store(q + at, value, mask=both)
