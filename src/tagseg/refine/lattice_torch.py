"""The permutohedral lattice as plain torch ops, for the pixels of many photos at once and on any device.

Shapes: N pixels of all photos together, D feature dimensions, E = D + 1, V vertices, S columns (labels).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor

from tagseg.errors import UserError


class BatchLattice(ABC):
    """A lattice on a device, which may hold the pixels of many photos.

    weight_NE: barycentric weights of the pixels in their simplices' corners.
    """

    weight_NE: Tensor

    @abstractmethod
    def filter(self, value_NS: Tensor, *, reverse: bool = False) -> Tensor:
        """Unnormalized filter of columns (N, S) float32."""


class TorchLattice(BatchLattice):
    """Lattice of the features (N, D) of several photos; the photos don't touch each other.

    photo_N: int64 index of the photo of every pixel. The first `pixels` rows are pixels, the rest only touch vertices.
    """

    def __init__(self, feature_ND: Tensor, photo_N: Tensor | None = None, *, pixels: int | None = None) -> None:
        d = feature_ND.shape[1]
        device = feature_ND.device
        elevated_NE = _elevate(feature_ND.float())
        down = torch.tensor(1 / (d + 1), dtype=torch.float32, device=device)
        round_NE = (elevated_NE * down).round()
        height_N1 = round_NE.sum(1, keepdim=True).long()
        base_NE = round_NE * (d + 1)
        rest_NE = elevated_NE - base_NE
        # rank: how many coordinates have a larger rest; of two equal ones the earlier counts as larger
        first, second = torch.triu_indices(d + 1, d + 1, 1, device=device)
        less = (rest_NE[:, first] < rest_NE[:, second]).long()
        rank_NE = torch.zeros_like(rest_NE, dtype=torch.long)
        rank_NE.index_add_(1, first, less).index_add_(1, second, 1 - less)
        rank_NE += height_N1
        wrap_NE = (rank_NE < 0).long() - (rank_NE > d).long()
        rank_NE += wrap_NE * (d + 1)
        base_NE += wrap_NE * (d + 1)
        v_NE = (elevated_NE - base_NE) * down
        weight_NF = torch.zeros(len(feature_ND), d + 2, device=device)
        weight_NF.scatter_add_(1, d - rank_NE, v_NE).scatter_add_(1, d - rank_NE + 1, -v_NE)
        weight_NF[:, 0] += 1 + weight_NF[:, d + 1]

        base_ND = base_NE[:, :d].long()
        low_D = base_ND.amin(0) - 2 * (d + 1)
        size_D = base_ND.amax(0) + 2 * (d + 1) - low_D + 1
        photo_N = torch.zeros(len(base_ND), dtype=torch.long, device=device) if photo_N is None else photo_N
        sizes = [*size_D.tolist(), int(photo_N.max()) + 1]
        if math.prod(sizes) >= 2**63:
            raise UserError(
                "the sigmas of the dense CRF are too small for the lattice's 64-bit keys "
                f"({' x '.join(str(size) for size in sizes)} cells); choose larger ones."
            )
        stride_D = torch.tensor([math.prod(sizes[j + 1 : d]) for j in range(d)], device=device)
        step_EE = torch.arange(d + 1, device=device)
        move_NDE = step_EE - (d + 1) * (rank_NE[:, :d, None] > d - step_EE).long()
        key_NE = ((base_ND - low_D)[:, :, None] + move_NDE).mul(stride_D[:, None]).sum(1)
        key_NE += photo_N[:, None] * math.prod(sizes[:d])
        key_V, vertex_NE = key_NE.unique(return_inverse=True)

        self.vertices = len(key_V)
        self.vertex_NE = vertex_NE[:pixels]
        self.weight_NE = weight_NF[:pixels, : d + 1].contiguous()
        self.neighbor_EV2 = torch.stack([self._neighbors(key_V, stride_D, axis, d) for axis in range(d + 1)])

    def _neighbors(self, key_V: Tensor, stride_D: Tensor, axis: int, d: int) -> Tensor:
        offset = -stride_D.sum() + (stride_D[axis] * (d + 1) if axis < d else 0)
        found = []
        for key in (key_V + offset, key_V - offset):
            place = torch.searchsorted(key_V, key).clamp(max=self.vertices - 1)
            found.append(torch.where(key_V[place] == key, place, self.vertices))
        return torch.stack(found, 1)

    def filter(self, value_NS: Tensor, *, reverse: bool = False) -> Tensor:
        """Unnormalized filter of columns (N, S) float32."""
        d = self.vertex_NE.shape[1] - 1
        value_NS = value_NS.float()
        grid_VS = value_NS.new_zeros(self.vertices + 1, value_NS.shape[1])
        for k in range(d + 1):
            grid_VS.index_add_(0, self.vertex_NE[:, k], value_NS * self.weight_NE[:, k, None])
        for neighbor_V2 in reversed(self.neighbor_EV2) if reverse else self.neighbor_EV2:
            sum_VS = grid_VS[neighbor_V2[:, 0]] + grid_VS[neighbor_V2[:, 1]]
            grid_VS = torch.cat([grid_VS[:-1] + 0.5 * sum_VS, grid_VS[-1:]])
        out_NS = torch.zeros_like(value_NS)
        for k in range(d + 1):
            out_NS.addcmul_(grid_VS[self.vertex_NE[:, k]], self.weight_NE[:, k, None])
        return out_NS / (1 + 2.0**-d)


def scales(d: int) -> list[float]:
    """Factor of each feature before it enters the hyperplane."""
    whole = float(np.float32(math.sqrt(2 / 3) * (d + 1)))  # rounded as in lattice_locate
    return [whole / math.sqrt((i + 1) * (i + 2)) for i in range(d)]


def _elevate(feature_ND: Tensor) -> Tensor:
    """Coordinates (N, D + 1) of the features in the hyperplane of the lattice."""
    d = feature_ND.shape[1]
    scaled_ND = feature_ND * torch.tensor(scales(d), dtype=torch.float32, device=feature_ND.device)
    total_N = torch.zeros_like(scaled_ND[:, 0])
    columns = []
    for j in range(d, 0, -1):
        columns.append(total_N - j * scaled_ND[:, j - 1])
        total_N = total_N + scaled_ND[:, j - 1]
    return torch.stack([total_N, *columns[::-1]], 1)
