"""Dense energy loss: neighbors of like color should agree (Tang et al. 2018; in RRM as DenseEnergyLoss).

Shapes: B photos, K classes, H W pixels, h w pixels after scaling, N = h * w.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from tagseg.cores import cores
from tagseg.errors import UserError
from tagseg.mask_values import IGNORE
from tagseg.refine.features import Sigma, batch_features, features_torch
from tagseg.refine.lattice import Lattice, chosen_backend
from tagseg.refine.lattice_torch import BatchLattice, TorchLattice


def dense_energy(
    image_B3HW: Tensor,
    probabilities_BKHW: Tensor,
    valid_BHW: Tensor,
    labels_BHW: Tensor,
    *,
    srgb: Sigma = 15.0,
    sxy: float = 100.0,
    scale: float = 0.5,
    lattices: Sequence[Lattice] | None = None,
    backend: str = "auto",
) -> Tensor:
    """Loss -(1/B) sum_i,k S_ki G_i (A S_k)_i, a scalar with a gradient for the probabilities.

    image_B3HW: RGB in 0..255. probabilities_BKHW: in [0, 1]. valid_BHW: True inside the photo, False in padding.
    labels_BHW: 255 where there is no label. srgb and sxy (pixels of the full size): sigmas of the bilateral filter A.
    scale: everything is shrunk by it first. S are the probabilities inside the photo; the gate G is 1 where there is no
    label, and 1 - max_k P_k where there is one. As in the reference the gate has no gradient, and the gradient of the
    rest is -(2/B) G (A S), an approximation of the symmetric form.
    lattices: from `energy_lattices` with the same photos and settings, where several losses share them.
    backend: as for `Lattice.bilateral`.
    """
    size = probabilities_BKHW.shape
    if len(size) != 4 or any(tuple(t.shape) != (size[0], *size[2:]) for t in (image_B3HW[:, 0], valid_BHW, labels_BHW)):
        raise UserError(
            f"image {tuple(image_B3HW.shape)}, probabilities {tuple(size)}, valid {tuple(valid_BHW.shape)} and labels "
            f"{tuple(labels_BHW.shape)} must have the same photos and pixels."
        )
    height, width = _scaled(image_B3HW, scale)
    prob_BKhw = probabilities_BKHW.float()
    if scale != 1:
        prob_BKhw = interpolate(prob_BKhw, scale_factor=scale, mode="bilinear", recompute_scale_factor=True)
    if lattices is None:
        lattices = energy_lattices(image_B3HW, srgb=srgb, sxy=sxy, scale=scale, backend=backend)
    batched = len(lattices) == 1 and isinstance(lattices[0].structure, BatchLattice)
    if (len(lattices) != size[0] and not batched) or any(
        (one.height, one.width) != (height, width) for one in lattices
    ):
        raise UserError(f"lattices must be those of energy_lattices for {size[0]} photos of {height} x {width}.")
    valid_B1hw = _nearest(valid_BHW[:, None].float(), (height, width)).to(prob_BKhw.device)
    label_B1hw = _nearest(labels_BHW[:, None].float(), (height, width)).to(prob_BKhw.device)
    peak_B1hw = prob_BKhw.detach().amax(1, keepdim=True)
    gate_B1hw = torch.where(label_B1hw == IGNORE, 1.0, (valid_B1hw - peak_B1hw).clamp(min=0))
    return _Energy.apply(prob_BKhw, valid_B1hw, gate_B1hw, lattices)


def energy_lattices(
    image_B3HW: Tensor, *, srgb: Sigma = 15.0, sxy: float = 100.0, scale: float = 0.5, backend: str = "auto"
) -> list[Lattice]:
    """The filters of `dense_energy`: one a photo on the CPU, one for the whole batch on other devices."""
    height, width = _scaled(image_B3HW, scale)
    image_Bhw3 = _nearest(image_B3HW.detach().float(), (height, width)).permute(0, 2, 3, 1)
    chosen = chosen_backend(image_B3HW, backend)
    if chosen == "triton":
        from tagseg.refine.lattice_triton import TritonLattice

        # colors of a photo lie in 0..255, which bounds the lattice without asking the device
        features = batch_features(list(image_Bhw3.to(torch.uint8)), sxy * scale, srgb)
        return [
            Lattice(height, width, TritonLattice(features.value_ND, features.bounds, features.photo_N, len(image_Bhw3)))
        ]
    if chosen == "torch":
        feature_ND = torch.cat([features_torch(height, width, image, sxy * scale, srgb) for image in image_Bhw3])
        photo_N = torch.arange(len(image_Bhw3), device=feature_ND.device).repeat_interleave(height * width)
        return [Lattice(height, width, TorchLattice(feature_ND, photo_N))]
    return _on_threads(lambda image: Lattice.bilateral(image, sxy * scale, srgb, backend=backend), list(image_Bhw3))


def _scaled(image_B3HW: Tensor, scale: float) -> tuple[int, int]:
    height, width = int(image_B3HW.shape[2] * scale), int(image_B3HW.shape[3] * scale)
    if not (0 < scale <= 1 and min(height, width) >= 1):
        raise UserError(
            f"scale must lie in (0, 1] and leave at least one pixel of {tuple(image_B3HW.shape)}, not {scale}."
        )
    return height, width


def _nearest(map_BCHW: Tensor, size: tuple[int, int]) -> Tensor:
    return map_BCHW if tuple(map_BCHW.shape[2:]) == size else interpolate(map_BCHW, size=size, mode="nearest")


def _on_threads(work: Any, *items: Sequence[Any]) -> list[Any]:
    workers = min(cores(), len(items[0]))
    if workers <= 1:
        return list(map(work, *items))
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(work, *items))


class _Energy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, prob_BKhw: Tensor, valid_B1hw: Tensor, gate_B1hw: Tensor, lattices: list[Lattice]) -> Tensor:
        inside_BKhw = (prob_BKhw * valid_B1hw).detach()
        filtered_BKhw = _filter(inside_BKhw, lattices)
        slope_BKhw = filtered_BKhw.mul_(gate_B1hw)
        ctx.save_for_backward(slope_BKhw, valid_B1hw)
        return -torch.dot(inside_BKhw.reshape(-1), slope_BKhw.reshape(-1)) / len(prob_BKhw)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None, None]:
        slope_BKhw, valid_B1hw = ctx.saved_tensors
        return slope_BKhw * (valid_B1hw * (-2 / len(slope_BKhw) * upstream[0])), None, None, None


def _filter(maps_BKhw: Tensor, lattices: list[Lattice]) -> Tensor:
    if isinstance(lattices[0].structure, BatchLattice):
        maps_NK = maps_BKhw.permute(0, 2, 3, 1).reshape(-1, maps_BKhw.shape[1])
        batch, _, height, width = maps_BKhw.shape
        return lattices[0].structure.filter(maps_NK).view(batch, height, width, -1).permute(0, 3, 1, 2)
    out_BKhw = torch.empty(maps_BKhw.shape)
    _on_threads(lambda lattice, maps, out: out.copy_(lattice.filter(maps)), lattices, list(maps_BKhw), list(out_BKhw))
    return out_BKhw
