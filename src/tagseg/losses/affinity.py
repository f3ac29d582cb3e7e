"""Affinity: which cells of a transformer's grid show the same class, learned from its attention.

Shapes: B photos, H W pixels, h w the grid, N = h w its cells in rows.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tagseg.distributed import global_sum, world_size
from tagseg.mask_values import IGNORE

RADIUS = 8  # cells up, down, left and right that a cell is compared with


@torch.no_grad()
def affinity_labels(label_BHW: Tensor, grid: tuple[int, int], radius: int = RADIUS) -> Tensor:
    """Labels of all pairs of cells (B, N, N) uint8: 1 the same class, 0 different ones, 255 left out.

    label_BHW: class indices, 255 = unknown; cells take the nearest pixel's. A pair is left out where either is unknown
    or where they are more than `radius` rows or columns apart.
    """
    cell_BN = F.interpolate(label_BHW[:, None].float(), grid, mode="nearest").flatten(1)
    same_BNN = (cell_BN[:, :, None] == cell_BN[:, None]).to(torch.uint8)
    known_BN = cell_BN != IGNORE
    used_BNN = known_BN[:, :, None] & known_BN[:, None] & _window(grid, radius, label_BHW.device)
    return torch.where(used_BNN, same_BNN, IGNORE)


def affinity_loss(affinity_BNN: Tensor, label_BNN: Tensor) -> Tensor:
    """Half the mean of 1 - a over pairs of one class plus half the mean of a over pairs of two (AFA, TSCD).

    affinity_BNN: in [0, 1]. label_BNN: of `affinity_labels`. Each count is taken one higher, so that none is 0.
    """
    affinity_BNN = affinity_BNN.float()
    same_BNN, different_BNN = label_BNN == 1, label_BNN == 0
    terms = (((1 - affinity_BNN) * same_BNN, same_BNN), (affinity_BNN * different_BNN, different_BNN))
    return sum(
        (0.5 * world_size() * loss.sum() / (global_sum(pairs.sum(dtype=torch.float32)) + 1) for loss, pairs in terms),
        start=affinity_BNN.new_zeros(()),
    )


def _window(grid: tuple[int, int], radius: int, device: torch.device) -> Tensor:
    """Whether two cells are at most `radius` rows and columns apart: (N, N) bool."""
    y, x = torch.meshgrid(torch.arange(grid[0], device=device), torch.arange(grid[1], device=device), indexing="ij")
    y, x = y.flatten(), x.flatten()
    return ((y[:, None] - y).abs() <= radius) & ((x[:, None] - x).abs() <= radius)
