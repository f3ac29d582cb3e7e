"""Folded normalization and the depthwise backward against torch's own."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
import torch.nn.functional as F
from timm.layers.conv2d_same import Conv2dSame
from torch import nn

from tagseg.backbones import create_backbone
from tagseg.backbones.depthwise import DepthwiseConv2d
from tagseg.backbones.fold import activate, fold_norms
from tagseg.backbones.same_padding import use_whole_numbers


@pytest.mark.parametrize(
    ("name", "weights", "stride"),
    [("efficientnet_lite0", "embedded", 8), ("resnet18", "none", 16), ("densenet121", "none", None)],
)
def test_folding_changes_neither_values_nor_gradients(name: str, weights: str, stride: int | None) -> None:
    if not hasattr(timm.create_model(name), "forward_intermediates"):
        pytest.skip(f"timm {timm.__version__} gives no feature maps of {name}")
    folded = create_backbone(name, weights=weights, output_stride=stride).train()
    plain = create_backbone(name, weights="none", output_stride=stride, frozen_norm=False).eval()
    generator = torch.Generator().manual_seed(0)
    if weights == "none":
        for key, value in folded.state_dict().items():
            if "running_" in key:
                value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
    plain.load_state_dict(folded.state_dict())
    assert sum("Folded" in type(module).__name__ for module in folded.modules()) > 30
    image = torch.rand(2, 3, 65, 97, generator=generator)
    for mine, theirs in zip(folded.stages(image), plain.stages(image), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4 * float(theirs.detach().abs().max()))
    folded(image).square().mean().backward()
    plain(image).square().mean().backward()
    wanted = dict(plain.named_parameters())
    for key, parameter in folded.named_parameters():
        if parameter.requires_grad:
            gradient = wanted[key].grad
            torch.testing.assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-3 * float(gradient.abs().max()))


def test_what_is_kept_of_a_frozen_norm_follows_every_change_of_it() -> None:
    network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)).eval().requires_grad_(False)
    image = torch.rand(1, 2, 9, 9, generator=torch.Generator().manual_seed(0))
    assert fold_norms(network, lambda: (network(image),)) == 1

    def check(folded: nn.Module) -> None:
        convolution, norm = folded.children()
        assert isinstance(convolution, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        plain = F.conv2d(image.to(convolution.weight.dtype), convolution.weight, convolution.bias)
        assert norm.running_mean is not None
        wanted = F.batch_norm(plain, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        torch.testing.assert_close(folded(image.to(convolution.weight.dtype)), wanted)

    with torch.inference_mode():
        check(network)
    norm = network[1]
    for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        tensor.add_(0.7)
        check(network)
    state = {key: value + 0.2 for key, value in network.state_dict().items() if value.is_floating_point()}
    network.load_state_dict(state, strict=False)
    check(network)
    check(copy.deepcopy(network))
    check(network.double())
    norm.weight = nn.Parameter(norm.weight * 2)  # one that is trained is never kept
    check(network)
    network(image.double()).sum().backward()
    assert norm.weight.grad is not None


def test_norm_let_go_again_is_trained_as_before() -> None:
    backbone = create_backbone("efficientnet_lite0")
    backbone.freeze_norm(False)
    plain = create_backbone("efficientnet_lite0", frozen_norm=False)
    image = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(backbone.train()(image), plain.train()(image))
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(backbone.state_dict()[key], value)


@pytest.mark.parametrize(
    ("size", "stride", "dilation", "padding"),
    [(5, 1, 1, 2), (5, 1, 2, 4), (3, 1, 2, 2), (5, 2, 1, 0), (3, 1, 4, 4), (7, 1, 1, 3)],
)
@pytest.mark.parametrize("threads", [1, 2])
def test_depthwise_gradients(size: int, stride: int, dilation: int, padding: int, threads: int) -> None:
    channels = 37
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(2, channels, 11, 14, generator=generator)
    image = image.contiguous(memory_format=torch.channels_last).requires_grad_()
    weight = torch.randn(channels, 1, size, size, generator=generator, requires_grad=True)
    bias = torch.randn(channels, generator=generator, requires_grad=True)
    wanted = F.conv2d(image, weight, bias, stride, padding, dilation, channels)
    upstream = torch.randn(wanted.shape, generator=generator)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        result = DepthwiseConv2d.apply(image, weight, bias, stride, padding, dilation)
        mine = torch.autograd.grad(result, (image, weight, bias), upstream)
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(result, wanted)
    for gradient, expected in zip(mine, torch.autograd.grad(wanted, (image, weight, bias), upstream), strict=True):
        torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-4)


def test_bf16_autocast_trains() -> None:
    backbone = create_backbone("efficientnet_lite0").train()
    image = torch.rand(2, 3, 64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        feature = backbone(image)
    feature.float().square().mean().backward()
    half = [p.grad.clone() for p in backbone.parameters() if p.requires_grad]
    backbone.zero_grad()
    backbone(image).square().mean().backward()
    full = [p.grad for p in backbone.parameters() if p.requires_grad]
    angle = F.cosine_similarity(torch.cat([g.flatten() for g in half]), torch.cat([g.flatten() for g in full]), 0)
    assert angle > 0.95


def test_relu6_of_bfloat16_equals_torch() -> None:
    bits = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)
    value = bits.view(torch.bfloat16)
    value = value[~value.isnan()]  # every other bfloat16 there is, infinities and -0 included
    with torch.no_grad():
        mine = activate(nn.ReLU6(), value.clone())
    assert torch.equal(mine, value.clamp(0, 6))


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("dilation", [1, 2])
def test_tensorflows_padding_is_timms_at_every_size(kernel: int, stride: int, dilation: int) -> None:
    torch.manual_seed(0)
    convolution = Conv2dSame(2, 2, kernel, stride=stride, dilation=dilation)
    network = nn.Sequential(convolution, nn.BatchNorm2d(2)).eval()
    photos = [torch.rand(1, 2, height, 17 - height) for height in range(1, 13)]
    wanted = [network(photo) for photo in photos]
    use_whole_numbers(network)
    assert type(convolution) is not Conv2dSame
    assert all(torch.equal(network(photo), value) for photo, value in zip(photos, wanted, strict=True))
    assert fold_norms(network, lambda: (network(photos[5]),)) == 1
    for photo, value in zip(photos, wanted, strict=True):
        torch.testing.assert_close(network(photo), value)
