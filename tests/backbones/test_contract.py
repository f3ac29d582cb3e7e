"""What every backbone promises, on small photos."""

from __future__ import annotations

import copy

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tagseg.backbones import Backbone, create_backbone
from tagseg.resize import upsample

CASES = [
    ("efficientnet_lite0", "embedded", 16),
    ("efficientnet_lite0", "embedded", 8),
    ("resnet18", "none", 32),
    ("convnext_atto", "none", 8),
    ("vit_tiny_patch16_224", "none", 16),
    ("hrnet_w18_small", "none", 32),
    ("swin_tiny_patch4_window7_224", "none", 32),
    ("wide_resnet38", "none", 8),
    ("mit_b0", "none", 16),
    ("mit_b0", "none", 32),
]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]}-os{case[2]}")
def backbone(request: pytest.FixtureRequest) -> Backbone:
    name, weights, stride = request.param
    torch.manual_seed(0)
    return create_backbone(name, weights=weights, output_stride=stride)


def photo(count: int, height: int, width: int) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("count", "height", "width"), [(2, 64, 96), (1, 49, 71)])
def test_shapes_and_strides(backbone: Backbone, count: int, height: int, width: int) -> None:
    backbone.eval()
    with torch.no_grad():
        stages = backbone.stages(photo(count, height, width))
        final = backbone(photo(count, height, width))
    assert torch.equal(final, stages[-1])
    assert final.shape[:2] == (count, backbone.channels)
    assert backbone.output_stride == backbone.stage_strides[-1]
    assert len(stages) == len(backbone.stage_channels) == len(backbone.stage_strides)
    assert list(backbone.stage_strides) == sorted(backbone.stage_strides)
    for stage, channels, stride in zip(stages, backbone.stage_channels, backbone.stage_strides, strict=True):
        assert stage.shape[1] == channels
        assert torch.isfinite(stage).all()
        for cells, pixels in zip(stage.shape[2:], (height, width), strict=True):
            assert cells * stride >= pixels  # nothing of the photo is left out
            if pixels % stride == 0 and pixels % 32 == 0:
                assert cells == pixels // stride


@pytest.mark.parametrize(("height", "width"), [(64, 96), (65, 97), (95, 98)])
def test_a_stage_laid_over_the_photo_shows_things_where_they_are(backbone: Backbone, height: int, width: int) -> None:
    backbone.eval()
    y, x = height * 3 // 4, width * 3 // 4
    plain = torch.full((1, 3, height, width), 0.5)
    marked = plain.clone()
    marked[..., y - 6 : y + 6, x - 6 : x + 6] = 1
    with torch.no_grad():
        before, after = backbone.stages(plain)[0], backbone.stages(marked)[0]
    seen = upsample((after - before).abs().sum(1, keepdim=True), (height, width))[0, 0].square()
    found_y = (seen.sum(1) * (torch.arange(height) + 0.5)).sum() / seen.sum()
    found_x = (seen.sum(0) * (torch.arange(width) + 0.5)).sum() / seen.sum()
    allowed = max(backbone.stage_strides[0] / 2, 4)  # attention also answers elsewhere
    assert found_y.item() == pytest.approx(y, abs=allowed)
    assert found_x.item() == pytest.approx(x, abs=allowed)


def test_gradients_reach_every_trained_parameter(backbone: Backbone) -> None:
    backbone.train()
    backbone.zero_grad()
    sum(stage.square().mean() for stage in backbone.stages(photo(2, 64, 64))).backward()
    silent = [
        name for name, parameter in backbone.named_parameters() if parameter.requires_grad and parameter.grad is None
    ]
    assert not [name for name in silent if "head" not in name]
    backbone.zero_grad()


def test_frozen_norm_stays_in_training(backbone: Backbone) -> None:
    backbone.train()
    norm = [module for module in backbone.modules() if isinstance(module, (nn.BatchNorm2d, nn.LayerNorm))]
    norm += [module for module in backbone.modules() if "BatchNorm" in type(module).__name__]
    assert norm
    assert not any(module.training for module in norm)
    assert not any(parameter.requires_grad for module in norm for parameter in module.parameters(recurse=False))
    before = {key: value.clone() for key, value in backbone.state_dict().items() if "running" in key}
    backbone(photo(2, 64, 64))
    assert all(torch.equal(value, backbone.state_dict()[key]) for key, value in before.items())
    trained = [parameter for parameter in backbone.parameters() if parameter.requires_grad]
    assert trained
    assert {id(p) for p in backbone.norm_parameters()} == {id(p) for m in norm for p in m.parameters(recurse=False)}


def test_saved_and_loaded_it_is_the_same(backbone: Backbone, tmp_path) -> None:
    backbone.eval()
    save_file(backbone.state_dict(), tmp_path / "weights.safetensors")
    other = copy.deepcopy(backbone)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1)
        other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
        assert torch.equal(backbone(photo(1, 64, 64)), other(photo(1, 64, 64)))


def test_normalizes_by_itself(backbone: Backbone) -> None:
    mean = torch.tensor(backbone.mean).view(1, 3, 1, 1)
    std = torch.tensor(backbone.std).view(1, 3, 1, 1)
    torch.testing.assert_close(backbone.normalize(mean.expand(1, 3, 2, 2)), torch.zeros(1, 3, 2, 2))
    torch.testing.assert_close(backbone.normalize((mean + std).expand(1, 3, 2, 2)), torch.ones(1, 3, 2, 2))


def test_other_memory_layout_same_features(backbone: Backbone) -> None:
    backbone.eval()
    image = photo(2, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(
            backbone(image.contiguous(memory_format=torch.channels_last)), backbone(image), rtol=1e-4, atol=1e-4
        )
