"""TensorFlow's padding, which depends on the photo's size, in whole numbers alone.

timm rounds a quotient up. torch.export cannot save that, and over a network of such convolutions takes minutes to see how
large a map is.

Shapes: B photos, C channels, H W pixels.
"""

from __future__ import annotations

import torch.nn.functional as F
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn


class SameConv2d(Conv2dSame):
    """timm's convolution with TensorFlow's padding."""

    def forward(self, x: Tensor) -> Tensor:
        """Pad and convolve (B, C, H, W)."""
        return F.conv2d(pad_same(x, self), self.weight, self.bias, self.stride, (0, 0), self.dilation, self.groups)


def pad_same(image_BCHW: Tensor, convolution: nn.Conv2d) -> Tensor:
    """The photo as the convolution wants it: it gives a cell for every `stride` pixels that have begun."""
    height, width = image_BCHW.shape[-2:]
    top, bottom = _zeros(height, convolution, 0)
    left, right = _zeros(width, convolution, 1)
    return F.pad(image_BCHW, (left, right, top, bottom))


def _zeros(side: int, convolution: nn.Conv2d, axis: int) -> tuple[int, int]:
    """Before a side as many as TensorFlow adds; after it so many that their sum does not depend on the side.

    What is too much is never read, and the result has (side - 1) // stride + 1 cells, which stays short in a graph.
    """
    reach = (convolution.kernel_size[axis] - 1) * convolution.dilation[axis]
    before = max(reach - (side - 1) % convolution.stride[axis], 0) // 2
    return before, reach - before


def use_whole_numbers(network: nn.Module) -> None:
    """Turn timm's convolutions of this kind into `SameConv2d`; their values stay the same."""
    for module in network.modules():
        if type(module) is Conv2dSame:
            module.__class__ = SameConv2d
