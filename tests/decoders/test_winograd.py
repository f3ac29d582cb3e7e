"""The convolution of prediction against the direct one."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from tagseg.decoders.winograd import WinogradConv2d


def layer(channels: int = 64, out: int = 80, dilation: int = 1, bias: bool = True) -> WinogradConv2d:
    torch.manual_seed(0)
    return WinogradConv2d(channels, out, dilation, bias).eval()


def direct(module: WinogradConv2d, image: torch.Tensor) -> torch.Tensor:
    bias = None if module.bias is None else module.bias.double()
    return F.conv2d(image.double(), module.weight.double(), bias, 1, module.padding, module.dilation)


@pytest.mark.parametrize(
    ("size", "dilation", "batch"),
    [((16, 16), 1, 1), ((24, 32), 2, 1), ((23, 33), 2, 2), ((41, 38), 3, 1), ((41, 41), 12, 1), ((12, 12), 3, 4)],
)
@pytest.mark.parametrize("bias", [True, False])
def test_it_is_the_convolution(size, dilation, batch, bias) -> None:
    module = layer(dilation=dilation, bias=bias)
    image = torch.randn(batch, 64, *size)
    with torch.inference_mode():
        found = module(image)
        last = module(image.contiguous(memory_format=torch.channels_last))
    assert module._kept is not None  # it went by tiles
    expected = direct(module, image)
    assert found.shape == expected.shape
    assert (found - expected).abs().max() < 3e-5 * expected.abs().max()
    assert (last - expected).abs().max() < 3e-5 * expected.abs().max()


def test_elsewhere_it_is_torchs_own_to_the_bit() -> None:
    module = layer()
    plain = torch.nn.Conv2d(64, 80, 3, padding=1).eval()
    plain.load_state_dict(module.state_dict())
    image = torch.randn(1, 64, 16, 16)
    assert torch.equal(module(image), plain(image))
    with torch.no_grad():
        assert torch.equal(module(image), plain(image))
    with torch.inference_mode():
        small = image[:, :, :5, :5]  # too few tiles to pay
        assert torch.equal(module(small), plain(small))
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(module(image), plain(image))
    assert module._kept is None


def test_changed_weights_are_seen() -> None:
    module = layer()
    image = torch.randn(1, 64, 16, 16)
    with torch.inference_mode():
        before = module(image)
    with torch.no_grad():
        module.weight.mul_(2)
        module.bias.mul_(2)
    with torch.inference_mode():
        torch.testing.assert_close(module(image), 2 * before, rtol=0, atol=3e-5 * float(before.abs().max()))
    module.load_state_dict(layer().state_dict())
    with torch.inference_mode():
        assert torch.equal(module(image), before)
    module.train()
    assert module._kept is None


def test_a_copy_computes_the_same() -> None:
    module = layer()
    image = torch.randn(1, 64, 16, 16)
    with torch.inference_mode():
        before = module(image)
    twin = copy.deepcopy(module)
    with torch.inference_mode():
        assert torch.equal(twin(image), before)
    assert "_kept" not in module.state_dict()
