import pytest
import torch
import torch.nn.functional as F

from tagseg.backbones import create_backbone
from tagseg.decoders import DECODERS, DecoderOptions, DeepLabV2Head, create_decoder
from tagseg.errors import UserError
from tests.decoders.pooling_backbone import PoolingBackbone

SMALL = DecoderOptions(hidden=8, dilation=1)


def photo(size: int = 64, batch: int = 2) -> torch.Tensor:
    return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(0))


def parameters(*modules: torch.nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def test_deeplab_v2_is_the_sum_of_four_dilated_convolutions() -> None:
    torch.manual_seed(0)
    head = DeepLabV2Head(5, 3)
    feature = torch.rand(2, 5, 30, 26)
    state = head.state_dict()
    expected = sum(
        F.conv2d(feature, state[f"branches.{i}.weight"], padding=dilation, dilation=dilation)
        for i, dilation in enumerate((6, 12, 18, 24))
    )
    torch.testing.assert_close(head([feature]), expected)
    assert state["branches.0.weight"].std() == pytest.approx(0.01, rel=0.3)


@pytest.mark.parametrize("name", DECODERS)
def test_every_decoder_gives_logits_and_gradients(name: str) -> None:
    backbone = PoolingBackbone()
    head = create_decoder(name, backbone, 3, SMALL).train()
    logits = head(backbone.stages(photo()), torch.tensor([1, 2]))
    assert logits.shape[:2] == (2, 3)
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())


@pytest.mark.parametrize("name", ["deeplab_resnet38", "pspnet", "segformer"])
def test_dropout_follows_from_the_photos_seeds_alone(name: str) -> None:
    backbone = PoolingBackbone()
    head = create_decoder(name, backbone, 3, DecoderOptions(hidden=8, dilation=1, dropout=0.5)).train()
    for module in head.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    stages = backbone.stages(photo())
    with torch.no_grad():
        both = head(stages, torch.tensor([11, 12]))
        alone = head([stage[1:] for stage in stages], torch.tensor([12]))
        other = head(stages, torch.tensor([13, 14]))
    torch.testing.assert_close(both[1:], alone)
    assert not torch.allclose(both, other)


def test_what_cannot_be_built_is_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"no decoder 'magic'.*deeplab_v2"):
        create_decoder("magic", PoolingBackbone(), 3)


def test_deeplab_v2_on_resnet_101_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        backbone = create_backbone("resnet101", output_stride=8, weights="none", frozen_norm=False)
        head = create_decoder("deeplab_v2", backbone, 21)
    assert parameters(backbone) == 42_500_160
    assert parameters(backbone) / 2**20 == pytest.approx(40.5, abs=0.05)  # ASDT counts the backbone, in binary millions
    assert parameters(head) == 4 * (2048 * 9 * 21 + 21)


def test_wide_resnet38_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        backbone = create_backbone("wide_resnet38", output_stride=8, weights="none", frozen_norm=False)
        head = create_decoder("deeplab_resnet38", backbone, 21)
    assert parameters(backbone) == 105_070_912
    # ASDT counts it with the 1000-way layer of ImageNet, in binary millions
    assert (parameters(backbone) + 4096 * 1000) / 2**20 == pytest.approx(104.1, abs=0.05)
    assert parameters(head) == 4096 * 9 * 512 + 512 * 512 + 2 * 2 * 512 + 512 * 21 + 21
