"""Depthwise convolution with a fast backward pass on a CPU.

Shapes: B photos, C channels, H W pixels, k taps on a side.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def has_fast_backward(image_BCHW: Tensor, weight_C1kk: Tensor, groups: int, dilation: int) -> bool:
    """Whether `DepthwiseConv2d` pays: depthwise on a CPU, trained, and a form that torch's backward handles badly."""
    channels, _, height, width = weight_C1kk.shape
    return (
        image_BCHW.device.type == "cpu"
        and groups == channels == image_BCHW.shape[1]
        and height == width
        and (height > 3 or dilation > 1)
        and torch.is_grad_enabled()
        and weight_C1kk.requires_grad
        and _has_numba()
    )


@cache
def _has_numba() -> bool:
    """Whether numba can be imported; torch's own backward pass serves without it."""
    try:
        import numba  # noqa: F401
    except Exception:  # a numba that does not fit its numpy or llvmlite raises errors of every kind
        return False
    return True


class DepthwiseConv2d(torch.autograd.Function):
    """A depthwise convolution; the same as F.conv2d with groups = channels, up to rounding."""

    @staticmethod
    def forward(
        ctx: Any, image_BCHW: Tensor, weight_C1kk: Tensor, bias_C: Tensor, stride: int, padding: int, dilation: int
    ) -> Tensor:
        """Convolve with zero padding on all sides."""
        ctx.save_for_backward(image_BCHW, weight_C1kk)
        ctx.stride, ctx.padding, ctx.dilation = stride, padding, dilation
        return F.conv2d(image_BCHW, weight_C1kk, bias_C, stride, padding, dilation, groups=len(weight_C1kk))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_BCHW: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of image, weight and bias."""
        from tagseg.backbones.depthwise_cpu import weight_gradient

        image_BCHW, weight_C1kk = ctx.saved_tensors
        stride, padding, dilation = ctx.stride, ctx.padding, ctx.dilation
        size, channels = weight_C1kk.shape[2], len(weight_C1kk)
        image_gradient = weight_gradient_C1kk = bias_gradient = None
        if ctx.needs_input_grad[0]:
            image_gradient = _image_gradient(gradient_BCHW, image_BCHW, weight_C1kk, stride, padding, dilation)
        if ctx.needs_input_grad[1]:
            weight_kkC = weight_gradient(
                _channels_last(image_BCHW), _channels_last(gradient_BCHW), size, stride, padding, dilation,
                torch.get_num_threads(),
            )  # fmt: skip
            weight_gradient_C1kk = torch.from_numpy(weight_kkC).permute(2, 0, 1).reshape(channels, 1, size, size)
            weight_gradient_C1kk = weight_gradient_C1kk.to(weight_C1kk.dtype)
        if ctx.needs_input_grad[2]:
            bias_gradient = gradient_BCHW.sum((0, 2, 3), dtype=torch.float32).to(weight_C1kk.dtype)
        return image_gradient, weight_gradient_C1kk, bias_gradient, None, None, None


def _image_gradient(
    gradient_BCHW: Tensor, image_BCHW: Tensor, weight_C1kk: Tensor, stride: int, padding: int, dilation: int
) -> Tensor:
    size, channels = weight_C1kk.shape[2], len(weight_C1kk)
    weight_C1kk = weight_C1kk.to(gradient_BCHW.dtype)
    opposite = dilation * (size - 1) - padding
    if stride == 1 and opposite >= 0:
        # A stride of one makes it a forward convolution with the kernel turned round, which torch does fast.
        turned = weight_C1kk.flip(2, 3)
        result = F.conv2d(gradient_BCHW, turned, None, 1, opposite, dilation, groups=channels)
    else:
        result = torch.ops.aten.convolution_backward(
            gradient_BCHW, image_BCHW.to(gradient_BCHW.dtype), weight_C1kk, None, [stride] * 2, [padding] * 2,
            [dilation] * 2, False, [0, 0], channels, [True, False, False],
        )[0]  # fmt: skip
    return result.to(image_BCHW.dtype)


def _channels_last(image_BCHW: Tensor) -> Any:
    return image_BCHW.detach().float().permute(0, 2, 3, 1).contiguous().numpy()
