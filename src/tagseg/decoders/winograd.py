"""A 3x3 convolution with a quarter of the multiplications, for prediction on a CPU (Lavin and Gray, CVPR 2016).

F(4x4, 3x3): a tile of 4x4 outputs comes from 36 products of its 6x6 inputs and the kernel, both transformed, in place of
144. A dilated convolution is one without dilation on each of dilation x dilation interleaved grids.

Shapes: B photos, F input and N output channels, h w feature grid, d dilation, T tiles of all grids and photos.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

INPUT_66 = (
    (4, 0, -5, 0, 1, 0), (0, -4, -4, 1, 1, 0), (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0), (0, 2, -1, -2, 1, 0), (0, 4, 0, -5, 0, 1),
)  # fmt: skip
KERNEL_63 = (
    (1 / 4, 0, 0), (-1 / 6, -1 / 6, -1 / 6), (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6), (1 / 24, -1 / 12, 1 / 6), (0, 0, 1),
)  # fmt: skip
OUTPUT_46 = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))
SIDE = 4  # outputs along a side of a tile
FEWEST_TILES = 16  # below, reading the transformed kernel takes longer than the convolution
FEWEST_CHANNELS = 64  # below, the transforms do


class WinogradConv2d(nn.Conv2d):
    """`nn.Conv2d(channels, out, 3, padding=dilation, dilation=dilation)`, faster in inference mode on a CPU.

    There float32 results differ from the direct ones by about 1e-5 of their size. The transformed kernel, four times the
    size of the weights, is kept until the weights change or training goes on. Anywhere else it is the plain convolution.
    """

    def __init__(self, channels: int, out_channels: int, dilation: int = 1, bias: bool = True) -> None:
        super().__init__(channels, out_channels, 3, padding=dilation, dilation=dilation, bias=bias)
        self._kept: tuple[tuple[int, int], Tensor] | None = None  # what it was made from, the transformed kernel

    def forward(self, input: Tensor) -> Tensor:
        """Convolve (B, F, h, w)."""
        return self._by_tiles(input) if self._pays(input) else super().forward(input)

    def train(self, mode: bool = True) -> WinogradConv2d:
        """Switch between training and evaluation; training frees the transformed kernel."""
        if mode:
            self._kept = None
        return super().train(mode)

    def _pays(self, feature_BFhw: Tensor) -> bool:
        if not torch.is_inference_mode_enabled() or torch.compiler.is_compiling() or feature_BFhw.device.type != "cpu":
            return False
        if self.weight.is_inference():  # such weights do not say when they change
            return False
        plain = feature_BFhw.dtype == self.weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        if not plain or min(self.in_channels, self.out_channels) < FEWEST_CHANNELS:
            return False
        rows, columns = self._tiles(feature_BFhw)
        tiles = len(feature_BFhw) * rows * columns * self.dilation[0] ** 2
        cells = len(feature_BFhw) * feature_BFhw.shape[2] * feature_BFhw.shape[3]
        return tiles >= FEWEST_TILES and 36 * tiles <= 0.75 * 9 * cells

    def _tiles(self, feature_BFhw: Tensor) -> tuple[int, int]:
        """Rows and columns of tiles on one of the interleaved grids."""
        span = SIDE * self.dilation[0]
        return -(-feature_BFhw.shape[2] // span), -(-feature_BFhw.shape[3] // span)

    def _by_tiles(self, feature_BFhw: Tensor) -> Tensor:
        batch, channels, height, width = feature_BFhw.shape
        d = self.dilation[0]
        rows, columns = self._tiles(feature_BFhw)
        below, right = (SIDE * rows + 1) * d - height, (SIDE * columns + 1) * d - width
        padded_BHWF = F.pad(feature_BFhw.permute(0, 2, 3, 1), (0, 0, d, right, d, below))
        grids = padded_BHWF.reshape(batch, SIDE * rows + 2, d, SIDE * columns + 2, d, channels)
        tile_66T = grids.unfold(1, 6, SIDE).unfold(3, 6, SIDE).permute(6, 7, 0, 1, 2, 3, 4, 5).reshape(36, -1)
        input_36TF = (_pairs(INPUT_66) @ tile_66T).view(36, -1, channels)
        product_36TN = torch.bmm(input_36TF, self._kernel_36FN())
        output_44T = (_pairs(OUTPUT_46) @ product_36TN.view(36, -1)).view(
            SIDE, SIDE, batch, rows, d, columns, d, self.out_channels
        )
        output_BHWN = output_44T.permute(2, 3, 0, 4, 5, 1, 6, 7).reshape(
            batch, SIDE * rows * d, SIDE * columns * d, self.out_channels
        )[:, :height, :width]
        if self.bias is not None:
            output_BHWN = output_BHWN + self.bias
        return output_BHWN.permute(0, 3, 1, 2)

    def _kernel_36FN(self) -> Tensor:
        made_from = (self.weight.data_ptr(), self.weight._version)
        kept = self._kept
        if kept is None or kept[0] != made_from:
            taps_9FN = self.weight.permute(2, 3, 1, 0).reshape(9, -1)
            kernel_36FN = (_pairs(KERNEL_63) @ taps_9FN).view(36, self.in_channels, self.out_channels)
            kept = self._kept = (made_from, kernel_36FN)
        return kept[1]


def _pairs(matrix: tuple[tuple[float, ...], ...]) -> Tensor:
    """What a transform of rows and of columns does to the pairs (row, column): its Kronecker square, float32."""
    square = torch.tensor(matrix, dtype=torch.float64)
    return torch.kron(square, square).float()
