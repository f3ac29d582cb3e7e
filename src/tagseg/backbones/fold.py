"""Frozen batch normalization, folded into the convolution before it.

With fixed statistics BN(conv(x, w)) = conv(x, w * scale) + shift, where scale = gamma / sqrt(var + eps) per output
channel and shift = beta - mean * scale. Values and gradients stay what they are; a pass over the feature map and its
backward fall away. The modules keep their places and parameters, so a state_dict does not change. While a normalization
is in training mode, both run as they were.

Shapes: B photos, C channels, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn

from tagseg.backbones.depthwise import DepthwiseConv2d, has_fast_backward
from tagseg.backbones.same_padding import SameConv2d, pad_same

TOLERANCE = 1e-3
BFLOAT16_SIX = torch.tensor(6, dtype=torch.bfloat16).view(torch.int16).item()


class FoldedConv2d(nn.Conv2d):
    """A convolution that applies the scale and shift of the frozen normalization after it."""

    # In a tuple, so that the normalization is not registered a second time, as a part of the convolution.
    folded_norm: tuple[nn.BatchNorm2d]

    def forward(self, input: Tensor) -> Tensor:
        """Convolve and normalize (B, C, H, W)."""
        (norm,) = self.folded_norm
        if norm.training:
            return super().forward(input)
        scale_C, shift_C = self._factors(norm)
        if self.bias is not None:
            shift_C = shift_C + self.bias * scale_C
        return self._convolve(input, self.weight * scale_C.view(-1, 1, 1, 1), shift_C)

    def _factors(self, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
        """Scale and shift (C,) of a normalization; one that is not trained keeps them: five launches a layer and pass."""
        given = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
        tensors = [tensor for tensor in given if tensor is not None]
        if torch.compiler.is_compiling() or any(tensor.requires_grad or tensor.is_inference() for tensor in tensors):
            return _scale_and_shift(norm)
        state = tuple((tensor.data_ptr(), tensor._version) for tensor in tensors)
        kept = self.__dict__.get("kept_factors")
        if kept is None or kept[1] != state or any(a is not b for a, b in zip(kept[0], tensors, strict=True)):
            with torch.inference_mode(False), torch.no_grad():
                kept = tensors, state, _scale_and_shift(norm)
            self.__dict__["kept_factors"] = kept
        return kept[2]

    def _convolve(self, image_BCHW: Tensor, weight: Tensor, bias_C: Tensor) -> Tensor:
        padding = self.padding
        assert not isinstance(padding, str)
        if self._is_square(padding) and has_fast_backward(image_BCHW, weight, self.groups, self.dilation[0]):
            return DepthwiseConv2d.apply(image_BCHW, weight, bias_C, self.stride[0], padding[0], self.dilation[0])
        return F.conv2d(image_BCHW, weight, bias_C, self.stride, padding, self.dilation, self.groups)

    def _is_square(self, padding: tuple[int, ...]) -> bool:
        return all(len(set(pair)) == 1 for pair in (self.kernel_size, self.stride, padding, self.dilation))


def _scale_and_shift(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    assert norm.running_var is not None
    assert norm.running_mean is not None
    scale_C = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return scale_C, norm.bias - norm.running_mean * scale_C


class FoldedConv2dSame(FoldedConv2d):
    """The same for timm's convolution with TensorFlow's padding, which depends on the photo's size."""

    def forward(self, input: Tensor) -> Tensor:
        """Pad, convolve and normalize (B, C, H, W)."""
        return super().forward(pad_same(input, self))


class FoldedBatchNorm2d(nn.BatchNorm2d):
    """A normalization whose work the convolution before it has done."""

    def forward(self, input: Tensor) -> Tensor:
        """Pass on (B, C, H, W)."""
        return super().forward(input) if self.training else input


class FoldedBatchNormAct2d(BatchNormAct2d):
    """The same for timm's normalization with an activation after it."""

    def forward(self, x: Tensor) -> Tensor:
        """Activate (B, C, H, W)."""
        return super().forward(x) if self.training else activate(self.act, self.drop(x))


def activate(activation: nn.Module, x: Tensor) -> Tensor:
    """The activation of x, which is overwritten where that pays: ReLU6 of bfloat16 on a CPU, without a gradient.

    torch clamps bfloat16 there value by value. Read as int16, bfloat16 keeps its order from 0 on, and what is negative stays
    negative: the clamp of these integers gives the same bits ten times as fast (a NaN becomes 6).
    """
    if (
        isinstance(activation, nn.ReLU6)
        and x.dtype == torch.bfloat16
        and x.device.type == "cpu"
        and not x.requires_grad
        and not torch.is_grad_enabled()
    ):
        x.view(torch.int16).clamp_(0, BFLOAT16_SIX)
        return x
    return activation(x)  # type: ignore[no-any-return]


FOLDED: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv2d: FoldedConv2d,
    SameConv2d: FoldedConv2dSame,
    nn.BatchNorm2d: FoldedBatchNorm2d,
    BatchNormAct2d: FoldedBatchNormAct2d,
}


def fold_norms(network: nn.Module, run: Callable[[], tuple[Tensor, ...]]) -> int:
    """Fold every batch normalization that directly follows a convolution; returns how many were folded.

    run: computes the network's outputs for some photo; it shows which module follows which. A network whose outputs
    folding would change (where a convolution's output is used by something else as well) stays as it was and gives 0.
    """
    pairs = _pairs(network, run)
    norms = [norm for _, norm in pairs]
    kept = [{key: value.clone() for key, value in norm.state_dict().items()} for norm in norms]
    generator = torch.Generator().manual_seed(0)
    for norm in norms:  # fresh ones do nothing and would hide a mistake
        for key, low in (("weight", 0.5), ("bias", -0.5), ("running_mean", -0.5), ("running_var", 0.5)):
            tensor = getattr(norm, key).data
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + low)
    before = run()
    originals: list[tuple[nn.Module, type[nn.Module]]] = [(module, type(module)) for pair in pairs for module in pair]
    for convolution, norm in pairs:
        convolution.__dict__["folded_norm"] = (norm,)
    for module, original in originals:
        module.__class__ = FOLDED[original]  # the same object: names, parameters and place stay
    after = run()
    for norm, state in zip(norms, kept, strict=True):
        norm.load_state_dict(state)
    if all((a - b).abs().max() <= TOLERANCE * a.abs().max() for a, b in zip(before, after, strict=True)):
        return len(pairs)
    for module, original in originals:
        module.__class__ = original
    return 0


def _pairs(network: nn.Module, run: Callable[[], tuple[Tensor, ...]]) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Convolutions and the normalizations that take exactly their output, in the order of `run`."""
    outputs: list[tuple[Tensor, nn.Conv2d]] = []
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []

    def keep(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        outputs.append((output, module))

    def pair(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        assert isinstance(module, nn.BatchNorm2d)
        pairs.extend((convolution, module) for output, convolution in outputs if output is args[0])

    handles = []
    for module in network.modules():
        if type(module) not in FOLDED:
            continue
        if isinstance(module, nn.Conv2d) and module.padding_mode == "zeros" and not isinstance(module.padding, str):
            handles.append(module.register_forward_hook(keep))
        elif isinstance(module, nn.BatchNorm2d) and module.affine and module.track_running_stats:
            handles.append(module.register_forward_pre_hook(pair))
    run()
    for handle in handles:
        handle.remove()
    members = [id(module) for both in pairs for module in both]
    return [both for both in pairs if all(members.count(id(module)) == 1 for module in both)]
