"""Pixel-adaptive refinement: each pixel of a map becomes a weighted mean of 48 neighbors that look like it.

PAR is AFA's kernel, VARM is TSCD's Variation-aware Refine Module.

Shapes: B photos, K maps of a photo, J = 48 neighbors, H W pixels of the photo, h w of the maps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from tagseg.refine import fused
from tagseg.refine.compiled import compiled_works

DILATIONS = (1, 2, 4, 8, 12, 24)
DIRECTIONS = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))
OFFSETS = tuple((dy * dilation, dx * dilation) for dilation in DILATIONS for dy, dx in DIRECTIONS)

EPS = 1e-8
PAR_WIDTH = 0.3  # standard deviations that count as one, for color and for distance
PAR_POSITION = 0.01  # weight of the term of distances
VARM_SHARPNESS = 4.0
VARM_VARIATION = 0.01  # weight of the term of variation, which is subtracted


class PixelAdaptive:
    """Refine maps by their photo with the kernel of AFA ("par") or TSCD ("varm").

    Neighbors lie in 8 directions at 1, 2, 4, 8, 12 and 24 pixels, the border repeated. Their weights follow from how
    far their color is from the pixel's, measured in standard deviations over the 48; PAR adds a little of their
    distance, VARM takes away a little of how much the photo varies there. A kernel sums to 1.01 (PAR) or 0.99 (VARM),
    so that maps are scaled by that much in each of the iterations.
    """

    def __init__(
        self,
        kind: Literal["par", "varm"] = "varm",
        iterations: int = 10,
        backend: Literal["auto", "torch", "triton"] = "auto",
    ) -> None:
        if kind not in ("par", "varm"):
            raise ValueError(f"kind is {kind!r}: it should be 'par' or 'varm'")
        self.kind = kind
        self.iterations = iterations
        self.backend = backend

    def __call__(self, image_B3HW: Tensor, map_BKhw: Tensor, sizes: Sequence[tuple[int, int]] | None = None) -> Tensor:
        """Maps refined at the photo's size: (B, K, H, W) float32.

        image_B3HW: RGB in [0, 1]. map_BKhw: any values; where their size is not the photo's they are resized
        bilinearly, corners aligned.
        sizes: rows and columns of each photo, where photos of several sizes lie in the top left corners of one batch; maps
        then have the batch's size, and beyond a photo nothing counts.
        Gradient reaches the maps, not the photo.
        """
        size = (image_B3HW.shape[-2], image_B3HW.shape[-1])
        map_BKHW = map_BKhw.float()
        if map_BKHW.shape[-2:] != size:
            map_BKHW = F.interpolate(map_BKHW, size, mode="bilinear", align_corners=True)
        has_gradient = torch.is_grad_enabled() and map_BKHW.requires_grad
        if not has_gradient and self._by_triton(map_BKHW.device):
            from tagseg.refine import pixel_adaptive_triton

            size_B2 = None
            if sizes is not None and any(own != size for own in sizes):
                size_B2 = torch.tensor(sizes, dtype=torch.int32).to(map_BKHW.device, non_blocking=True)
            return pixel_adaptive_triton.refine(image_B3HW, map_BKHW, self.kind, self.iterations, size_B2)
        if sizes is not None and any(own != size for own in sizes):
            refined_BKHW = map_BKHW.clone()
            for n, (rows, columns) in enumerate(sizes):
                part = self(image_B3HW[n : n + 1, :, :rows, :columns], map_BKHW[n : n + 1, :, :rows, :columns])
                refined_BKHW[n : n + 1, :, :rows, :columns] = part
            return refined_BKHW
        if map_BKHW.device.type == "cpu" and self.backend == "auto" and not has_gradient and compiled_works():
            from tagseg.refine import pixel_adaptive_cpu

            kernels = _kernel_cpu(image_B3HW, self.kind)
            refined = [
                torch.from_numpy(pixel_adaptive_cpu.propagate(map_KHW.detach().numpy(), kernel_HJW, self.iterations))
                for map_KHW, kernel_HJW in zip(map_BKHW, kernels, strict=True)
            ]
            return torch.stack(refined)
        kernel_BJHW = self.kernel(image_B3HW)
        for _ in range(self.iterations):
            total = torch.zeros_like(map_BKHW)
            for j, neighbor_BKHW in enumerate(_neighbors(map_BKHW)):
                total = total.addcmul_(kernel_BJHW[:, j : j + 1], neighbor_BKHW)
            map_BKHW = total
        return map_BKHW

    def _by_triton(self, device: torch.device) -> bool:
        if self.backend == "triton":
            fused.check(device)
            return True
        return self.backend == "auto" and fused.serves(device)

    @torch.no_grad()
    def kernel(self, image_B3HW: Tensor) -> Tensor:
        """The neighbors' weights (B, 48, H, W) float32; neighbors in the order of `OFFSETS`."""
        if image_B3HW.device.type == "cpu" and compiled_works():
            kernels = [torch.from_numpy(kernel_HJW) for kernel_HJW in _kernel_cpu(image_B3HW, self.kind)]
            return torch.stack(kernels).transpose(1, 2)
        return kernel_torch(image_B3HW.float(), self.kind)


def _kernel_cpu(image_B3HW: Tensor, kind: str) -> Iterator:
    """The weights (H, 48, W) of one photo after another, as numpy arrays."""
    from tagseg.refine import pixel_adaptive_cpu

    for image_3HW in image_B3HW.detach().float():
        yield pixel_adaptive_cpu.kernel(image_3HW.numpy(), variation=kind == "varm")


def kernel_torch(image_B3HW: Tensor, kind: str) -> Tensor:
    """The weights (B, 48, H, W) by torch operations on any device; one neighbor's colors are held at a time."""
    mean_B3HW = torch.zeros_like(image_B3HW)
    for neighbor_B3HW in _neighbors(image_B3HW):
        mean_B3HW += neighbor_B3HW / len(OFFSETS)
    deviation_B3HW = torch.zeros_like(image_B3HW)
    for neighbor_B3HW in _neighbors(image_B3HW):
        deviation_B3HW += (neighbor_B3HW - mean_B3HW) ** 2
    deviation_B3HW = (deviation_B3HW / (len(OFFSETS) - 1)).sqrt() + EPS

    batch, _, height, width = image_B3HW.shape
    color_BJHW = image_B3HW.new_empty(batch, len(OFFSETS), height, width)
    steepness = VARM_SHARPNESS if kind == "varm" else 1 / PAR_WIDTH
    for j, neighbor_B3HW in enumerate(_neighbors(image_B3HW)):
        color_BJHW[:, j] = -((steepness * (neighbor_B3HW - image_B3HW).abs() / deviation_B3HW) ** 2).mean(1)
    kernel_BJHW = color_BJHW.softmax(1)
    if kind == "par":
        position_J = torch.tensor(position_weights(), device=image_B3HW.device)
        return kernel_BJHW.add_(position_J.view(1, -1, 1, 1))
    for j, neighbor_B3HW in enumerate(_neighbors(image_B3HW)):
        variation_B3HW = torch.zeros_like(image_B3HW)
        variation_B3HW[..., :-1, :] += neighbor_B3HW.diff(dim=-2) ** 2
        variation_B3HW[..., :, :-1] += neighbor_B3HW.diff(dim=-1) ** 2
        color_BJHW[:, j] = variation_B3HW.mean(1)
    return kernel_BJHW.sub_(color_BJHW.softmax(1).mul_(VARM_VARIATION))


def position_weights() -> list[float]:
    """PAR's share of a neighbor's weight by its distance alone: 48 numbers that sum to 0.01."""
    distance_J = torch.tensor(OFFSETS, dtype=torch.float64).norm(dim=1)
    logit_J = -((distance_J / (distance_J.std() + EPS) / PAR_WIDTH) ** 2)
    return (PAR_POSITION * logit_J.softmax(0)).tolist()


def _neighbors(map_BKHW: Tensor) -> Iterator[Tensor]:
    """The 48 shifted maps, one after another: views of one padded copy."""
    height, width = map_BKHW.shape[-2:]
    reach = max(DILATIONS)
    padded = F.pad(map_BKHW, (reach, reach, reach, reach), mode="replicate")
    for dy, dx in OFFSETS:
        yield padded[..., reach + dy : reach + dy + height, reach + dx : reach + dx + width]
