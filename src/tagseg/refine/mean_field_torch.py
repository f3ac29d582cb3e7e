"""Mean field as plain torch ops, for a batch of photos of any sizes on any device.

Shapes: H W pixels of a photo, N pixels of all photos together, L labels of the photo with the most.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from tagseg.refine.features import features_torch
from tagseg.refine.lattice_torch import TorchLattice

if TYPE_CHECKING:
    from tagseg.refine.crf import Photo, Settings


def mean_field_batch(photos: list[Photo], settings: Settings) -> list[Any]:
    """Marginals of every photo; all photos share every op."""
    first = photos[0].maps
    device = first.device if isinstance(first, Tensor) else torch.device("cpu")
    kept = [
        torch.as_tensor(photo.maps).detach().to(device)[slice(None) if photo.kept is None else photo.kept].float()
        for photo in photos
    ]
    labels = max(len(value) for value in kept)
    log_NL = torch.cat([_logits(value, labels, settings.unary) for value in kept])
    photo_N = _photo_of_pixel(kept)
    kernels = _kernels(photos, kept, photo_N, settings) if settings.iterations else []
    cost_BLL = _costs(photos, kept, labels, settings)
    q_NL = log_NL.softmax(1)
    for _ in range(settings.iterations):
        energy_NL = log_NL.clone()
        for lattice, weight, before_N1, after_N1 in kernels:
            message_NL = lattice.filter(q_NL * before_N1) * after_N1
            if cost_BLL is not None:
                message_NL = -torch.einsum("nlm,nm->nl", cost_BLL[photo_N], message_NL)
            energy_NL += weight * message_NL
        q_NL = energy_NL.softmax(1)
    results = []
    start = 0
    for value, photo in zip(kept, photos, strict=True):
        pixels = value[0].numel()
        marginal = q_NL[start : start + pixels, : len(value)].T.reshape(value.shape).contiguous()
        start += pixels
        if photo.kept is not None:
            full = marginal.new_zeros(tuple(photo.maps.shape))
            full[photo.kept] = marginal
            marginal = full
        results.append(marginal if isinstance(photo.maps, Tensor) else marginal.cpu().numpy())
    return results


def _logits(value_LHW: Tensor, labels: int, unary: str) -> Tensor:
    """Logits (H * W, labels); labels that the photo lacks are at -inf."""
    flat_NL = log_probability(value_LHW.reshape(len(value_LHW), -1).T, unary)
    return torch.nn.functional.pad(flat_NL, (0, labels - len(value_LHW)), value=-torch.inf)


def log_probability(value: Tensor, unary: str) -> Tensor:
    """Logits of what a user calls the unary term."""
    if unary == "probabilities":
        return value.clamp(1e-5, 1).log()
    return -value if unary == "energies" else value


def _photo_of_pixel(kept: list[Tensor]) -> Tensor:
    sizes = torch.tensor([value[0].numel() for value in kept], device=kept[0].device)
    return torch.repeat_interleave(torch.arange(len(kept), device=sizes.device), sizes)


Kernel = tuple[TorchLattice, float, Tensor, Tensor]


def _kernels(photos: list[Photo], kept: list[Tensor], photo_N: Tensor, settings: Settings) -> list[Kernel]:
    """Lattice, weight and the factors before and after the filter of each kernel."""
    parts = []
    if settings.gaussian is not None:
        sxy, weight = settings.gaussian
        sizes = [(value.shape[1], value.shape[2]) for value in kept]
        feature = torch.cat([features_torch(*size, None, sxy, device=photo_N.device) for size in sizes])
        parts.append((TorchLattice(feature, photo_N), weight, settings.normalization[0]))
    if settings.bilateral is not None:
        parts.append((_bilateral(photos, photo_N, settings), settings.bilateral[2], settings.normalization[1]))
    return [(lattice, weight, *_sides(lattice, len(photo_N), photo_N.device, how)) for lattice, weight, how in parts]


def _bilateral(photos: list[Photo], photo_N: Tensor, settings: Settings) -> TorchLattice:
    assert settings.bilateral is not None
    if len(photos) == 1 and photos[0].lattice is not None and isinstance(photos[0].lattice.structure, TorchLattice):
        return photos[0].lattice.structure
    sxy, srgb, _ = settings.bilateral
    parts, touching = [], []
    for i, photo in enumerate(photos):
        image_HWC = torch.as_tensor(photo.image).to(photo_N.device)
        image_HWC = image_HWC if image_HWC.ndim == 3 else image_HWC[..., None]
        parts.append(features_torch(image_HWC.shape[0], image_HWC.shape[1], image_HWC, sxy, srgb))
        if settings.padding and len(parts[-1]) % 4:
            touching.append(i)
    feature_ND = torch.cat(parts)
    pixels = len(feature_ND)
    feature_ND = torch.cat([feature_ND, feature_ND.new_zeros(len(touching), feature_ND.shape[1])])
    photo_N = torch.cat([photo_N, torch.tensor(touching, dtype=torch.long, device=photo_N.device)])
    return TorchLattice(feature_ND, photo_N, pixels=pixels)


def _sides(lattice: TorchLattice, pixels: int, device: torch.device, normalization: str) -> tuple[Tensor, Tensor]:
    """Factors (N, 1) before and after the filter."""
    ones = torch.ones(pixels, 1, device=device)
    if normalization == "none":
        return ones, ones
    total = lattice.filter(ones) + 1e-20
    if normalization == "symmetric":
        return total.rsqrt(), total.rsqrt()
    return (1 / total, ones) if normalization == "before" else (ones, 1 / total)


def _costs(photos: list[Photo], kept: list[Tensor], labels: int, settings: Settings) -> Tensor | None:
    """Cost (photos, L, L) of two labels together; None for Potts."""
    if settings.cost is None:
        return None
    cost_BLL = torch.zeros(len(kept), labels, labels)
    for i, (value, photo) in enumerate(zip(kept, photos, strict=True)):
        index = np.arange(len(value)) if photo.kept is None else np.asarray(photo.kept)
        cost_BLL[i, : len(value), : len(value)] = torch.from_numpy(settings.cost[np.ix_(index, index)])
    return cost_BLL.to(kept[0].device)
