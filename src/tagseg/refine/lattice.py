"""The permutohedral lattice of a photo: an approximate Gaussian filter in position and color.

Shapes: H W pixels, L maps filtered alike.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from tagseg.errors import UserError
from tagseg.foreign import shown
from tagseg.refine.compiled import compiled_works
from tagseg.refine.features import Sigma, batch_features, check_image, features_torch, sigmas
from tagseg.refine.scratch import Allocate, fresh
from tagseg.refine.tensors import is_tensor

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from tagseg.refine.lattice_cpu import CpuLattice
    from tagseg.refine.lattice_torch import BatchLattice


class Lattice:
    """Filter for maps of one photo, built once and used often (Adams, Baek, Davis 2010).

    `filter` sums exp(-|f_i - f_j|^2 / 2) x_j over all pixels j, itself included, approximately and not normalized.
    """

    def __init__(self, height: int, width: int, structure: CpuLattice | BatchLattice) -> None:
        self.height, self.width, self.structure = height, width, structure

    @classmethod
    def bilateral(
        cls,
        image: np.ndarray | Tensor,
        sxy: Sigma,
        srgb: Sigma,
        *,
        padding: bool = False,
        backend: str = "auto",
        allocate: Allocate = fresh,
    ) -> Lattice:
        """Lattice of position and color.

        image: (H, W, channels) or (H, W), any number type; torch tensors off the CPU give a lattice on their device.
        sxy: sigma in pixels, or (x, y). srgb: sigma in the image's units, or one a channel.
        `padding` touches the vertices around the origin when H * W is no multiple of 4, as pydensecrf does.
        backend: "numba" (CPU), "torch" (any device), "triton" (CUDA), or "auto": numba on the CPU, elsewhere one of the others.
        allocate: for numba, where its arrays lie; a lattice in a `Scratch` lasts until the next one there.
        """
        check_image(image)
        image = image if image.ndim == 3 else image[..., None]
        height, width = image.shape[:2]
        pixels = height * width
        touch = padding and pixels % 4 != 0
        chosen = chosen_backend(image, backend)
        if chosen == "triton":
            import torch

            from tagseg.refine.lattice_triton import TritonLattice

            features = batch_features([torch.as_tensor(image)], sxy, srgb, padding=padding)
            return cls(height, width, TritonLattice(features.value_ND, features.bounds, pixels=features.pixels))
        if chosen == "torch":
            import torch

            feature = features_torch(height, width, torch.as_tensor(image), sxy, srgb)
            if touch:
                feature = torch.cat([feature, torch.zeros_like(feature[:1])])
            from tagseg.refine.lattice_torch import TorchLattice

            return cls(height, width, TorchLattice(feature, pixels=pixels))
        from tagseg.refine.lattice_cpu import CpuLattice

        return cls(height, width, CpuLattice(np.asarray(image), sxy, srgb, touch_origin=touch, allocate=allocate))

    @classmethod
    def of_batch(cls, photo_BCHW: Tensor, sxy: Sigma, srgb: Sigma) -> Lattice | None:
        """One lattice of all photos on a CUDA device, begun without waiting for it; None where photos have their own."""
        if chosen_backend(photo_BCHW, "auto") != "triton":
            return None
        from tagseg.refine.lattice_triton import TritonLattice

        features = batch_features(list(photo_BCHW.permute(0, 2, 3, 1)), sxy, srgb)
        structure = TritonLattice(features.value_ND, features.bounds, features.photo_N, len(photo_BCHW))
        return cls(photo_BCHW.shape[2], photo_BCHW.shape[3], structure)

    @classmethod
    def gaussian(
        cls, height: int, width: int, sxy: Sigma, *, device: torch.device | None = None, backend: str = "auto"
    ) -> Lattice:
        """Lattice of position alone; the last ones are kept, for photos of the same size share it."""
        if height < 1 or width < 1:
            raise UserError(f"an image must have at least one pixel, not {height} x {width}.")
        sigma = sigmas(sxy, 2, "sxy")
        off_cpu = device is not None and device.type != "cpu"
        torch_path = backend == "torch" or off_cpu or (backend == "auto" and not compiled_works())
        return _gaussian(height, width, sigma, device if torch_path else None, torch_path)

    def on_cpu(self) -> CpuLattice:
        """The structure, for kernels on the CPU."""
        from tagseg.refine.lattice_cpu import CpuLattice

        if not isinstance(self.structure, CpuLattice):
            raise UserError("the lattice was built for torch; build it with backend='numba' for the CPU's kernels.")
        return self.structure

    def filter(self, maps: np.ndarray | Tensor) -> np.ndarray | Tensor:
        """Maps (L, H, W) -> filtered maps (L, H, W) float32, of the kind that came in."""
        if maps.ndim != 3 or tuple(maps.shape[1:]) != (self.height, self.width):
            raise UserError(f"maps must have the shape (L, {self.height}, {self.width}), not {tuple(maps.shape)}.")
        from tagseg.refine.lattice_cpu import CpuLattice

        if not isinstance(self.structure, CpuLattice):
            import torch

            there = torch.as_tensor(maps).to(self.structure.weight_NE.device)
            filtered = self.structure.filter(there.reshape(len(maps), -1).T).T.reshape(maps.shape)
            return filtered if is_tensor(maps) else filtered.numpy()
        value = maps.detach().numpy() if is_tensor(maps) else maps
        value_LN = np.ascontiguousarray(np.asarray(value, np.float32).reshape(len(maps), -1))
        out = self.structure.filter(value_LN).reshape(maps.shape)
        if not is_tensor(maps):
            return out
        import torch

        return torch.from_numpy(out)


def chosen_backend(image: np.ndarray | Tensor, backend: str) -> str:
    """Which form serves this image: numba, torch or triton."""
    if not isinstance(backend, str) or backend not in ("auto", "numba", "torch", "triton"):
        raise UserError(f"backend must be auto, numba, torch or triton, not {shown(backend)}.")
    if not is_tensor(image):  # asked first, so that arrays alone never wait for torch
        if backend == "auto":
            return "numba" if compiled_works() else "torch"
        if backend != "triton":
            return backend
    import torch

    from tagseg.refine import fused

    device = image.device if is_tensor(image) else torch.device("cpu")
    if backend == "numba" and device.type != "cpu":
        raise UserError(
            f"the numba backend works on the CPU, and the image lies on {image.device}; use backend='torch'."
        )
    if backend == "triton":
        fused.check(device)
    if backend == "auto":
        backend = "triton" if fused.serves(device) else "torch" if fused.batched(device) else "numba"
        if backend == "numba" and not compiled_works():
            backend = "torch"
    return backend


@lru_cache(maxsize=16)
def _gaussian(
    height: int, width: int, sxy: tuple[float, ...], device: torch.device | None, torch_path: bool
) -> Lattice:
    if torch_path:
        from tagseg.refine.lattice_torch import TorchLattice

        return Lattice(height, width, TorchLattice(features_torch(height, width, None, sxy, device=device)))
    from tagseg.refine.lattice_cpu import CpuLattice

    return Lattice(height, width, CpuLattice(np.zeros((height, width, 0), np.uint8), sxy, ()))
