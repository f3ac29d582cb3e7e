"""Mean field as plain torch ops, for a batch of photos of any sizes on any device.

Shapes: H W pixels of a photo, N pixels of all photos together, L labels of the photo with the most.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from tagseg.refine.features import features_torch
from tagseg.refine.lattice import Lattice
from tagseg.refine.lattice_torch import TorchLattice

if TYPE_CHECKING:
    from tagseg.refine.crf import Array, Settings


def mean_field_batch(
    images: list[Array],
    maps: list[Array],
    carried: list[list[int] | None],
    lattices: list[Lattice | None],
    settings: Settings,
) -> list[Array]:
    """Marginals of every photo; all photos share every op."""
    device = maps[0].device if isinstance(maps[0], Tensor) else torch.device("cpu")
    kept = [
        torch.as_tensor(value).to(device)[slice(None) if keep is None else keep].float()
        for value, keep in zip(maps, carried, strict=True)
    ]
    labels = max(len(value) for value in kept)
    log_NL = torch.cat([_log_probability(value, labels, settings.unary) for value in kept])
    kernels = _kernels(images, kept, lattices, settings, device)
    cost_BLL = _costs(kept, carried, labels, settings, device)
    photo_N = _photo_of_pixel(kept)
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
    for value, original, keep in zip(kept, maps, carried, strict=True):
        pixels = value[0].numel()
        marginal = q_NL[start : start + pixels, : len(value)].T.reshape(value.shape).contiguous()
        start += pixels
        if keep is not None:
            full = marginal.new_zeros(tuple(original.shape))
            full[keep] = marginal
            marginal = full
        results.append(marginal if isinstance(original, Tensor) else marginal.cpu().numpy())
    return results


def _log_probability(value_LHW: Tensor, labels: int, unary: str) -> Tensor:
    """Logits (H * W, labels); labels that the photo lacks are at -inf."""
    flat_NL = value_LHW.reshape(len(value_LHW), -1).T
    if unary == "probabilities":
        flat_NL = flat_NL.clamp(1e-5, 1).log()
    elif unary == "energies":
        flat_NL = -flat_NL
    return torch.nn.functional.pad(flat_NL, (0, labels - len(value_LHW)), value=-torch.inf)


def _photo_of_pixel(kept: list[Tensor]) -> Tensor:
    sizes = torch.tensor([value[0].numel() for value in kept], device=kept[0].device)
    return torch.repeat_interleave(torch.arange(len(kept), device=sizes.device), sizes)


def _kernels(
    images: list[Array], kept: list[Tensor], lattices: list[Lattice | None], settings: Settings, device: torch.device
) -> list[tuple[TorchLattice, float, Tensor, Tensor]]:
    photo_N = _photo_of_pixel(kept)
    kernels = []
    if settings.gaussian is not None:
        sxy, weight = settings.gaussian
        feature = torch.cat([features_torch(*value.shape[1:], None, sxy, device=device) for value in kept])
        kernels.append((TorchLattice(feature, photo_N), weight, settings.normalization[0]))
    if settings.bilateral is not None:
        sxy, srgb, weight = settings.bilateral
        if len(images) == 1 and lattices[0] is not None and isinstance(lattices[0].structure, TorchLattice):
            lattice = lattices[0].structure
        else:
            lattice = _bilateral(images, photo_N, settings, device)
        kernels.append((lattice, weight, settings.normalization[1]))
    return [(lattice, weight, *_sides(lattice, len(photo_N), device, how)) for lattice, weight, how in kernels]


def _bilateral(images: list[Array], photo_N: Tensor, settings: Settings, device: torch.device) -> TorchLattice:
    assert settings.bilateral is not None
    sxy, srgb, _ = settings.bilateral
    parts, touching = [], []
    for i, image in enumerate(images):
        image_HWC = torch.as_tensor(image).to(device)
        image_HWC = image_HWC if image_HWC.ndim == 3 else image_HWC[..., None]
        parts.append(features_torch(*image_HWC.shape[:2], image_HWC, sxy, srgb))
        if settings.padding and len(parts[-1]) % 4:
            touching.append(i)
    feature_ND = torch.cat(parts)
    pixels = len(feature_ND)
    feature_ND = torch.cat([feature_ND, feature_ND.new_zeros(len(touching), feature_ND.shape[1])])
    photo_N = torch.cat([photo_N, torch.tensor(touching, dtype=torch.long, device=device)])
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


def _costs(
    kept: list[Tensor], carried: list[list[int] | None], labels: int, settings: Settings, device: torch.device
) -> Tensor | None:
    """Cost (photos, L, L) of two labels together; None for Potts."""
    if settings.cost_LL is None:
        return None
    cost_BLL = torch.zeros(len(kept), labels, labels, device=device)
    for i, (value, keep) in enumerate(zip(kept, carried, strict=True)):
        index = np.arange(len(value)) if keep is None else np.asarray(keep)
        cost = np.asarray(settings.cost_LL, np.float32)[np.ix_(index, index)]
        cost_BLL[i, : len(value), : len(value)] = torch.from_numpy(cost).to(device)
    return cost_BLL
