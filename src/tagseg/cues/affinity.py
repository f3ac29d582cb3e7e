"""Affinity: which cells of a transformer's grid show the same class, learned from its attention.

Shapes: B photos, K maps, M attention maps, H W pixels, h w the grid, N = h w its cells in rows.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tagseg.distributed import global_sum, world_size

IGNORE = 255
RADIUS = 8  # cells up, down, left and right that a cell is compared with
POWER = 2
FLOOR = 0.1


class AffinityHead(nn.Module):
    """Attention logits to affinities in (0, 1) by a 1x1 convolution and a sigmoid (AFA, TSCD).

    maps: attention maps, one for each head of each block that is read.
    symmetric: add each map's transpose before the convolution, as AFA and BMP do; TSCD does not.
    """

    def __init__(self, maps: int, *, symmetric: bool) -> None:
        super().__init__()
        self.symmetric = symmetric
        self.projection = nn.Conv2d(maps, 1, 1)
        nn.init.kaiming_normal_(self.projection.weight, a=5**0.5, mode="fan_out")

    def forward(self, attention_BMNN: Tensor) -> Tensor:
        """Affinities (B, N, N) from attention logits before scaling and softmax."""
        # One map of N x N instead of M: the convolution is linear, so it may come before the transpose is added.
        logit_BNN = self.projection(attention_BMNN)[:, 0]
        if self.symmetric:
            assert self.projection.bias is not None
            logit_BNN = logit_BNN + logit_BNN.transpose(1, 2) - self.projection.bias
        return logit_BNN.sigmoid()


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


@torch.no_grad()
def propagate_affinity(map_BKhw: Tensor, affinity_BNN: Tensor, radius: int = RADIUS) -> Tensor:
    """Maps (B, K, h, w) after one step of a random walk along squared affinities (AFA).

    A cell receives from cells within `radius` rows and columns, in shares that sum to just under 1.
    """
    batch, maps, height, width = map_BKhw.shape
    weight_BNN = affinity_BNN.float() ** POWER * _window((height, width), radius, map_BKhw.device)
    weight_BNN = weight_BNN / (weight_BNN.sum(1, keepdim=True) + FLOOR)
    return (map_BKhw.float().flatten(2) @ weight_BNN).view(batch, maps, height, width)


def _window(grid: tuple[int, int], radius: int, device: torch.device) -> Tensor:
    """Whether two cells are at most `radius` rows and columns apart: (N, N) bool."""
    y, x = torch.meshgrid(torch.arange(grid[0], device=device), torch.arange(grid[1], device=device), indexing="ij")
    y, x = y.flatten(), x.flatten()
    return ((y[:, None] - y).abs() <= radius) & ((x[:, None] - x).abs() <= radius)
