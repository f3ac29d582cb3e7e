import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F

from tagseg.backbones import create_backbone
from tagseg.errors import UserError
from tagseg.segmenters import SEGMENTERS, DeepLabV2Head, HeadOptions, SmpDecoder, create_segmenter
from tagseg.segmenters.smp_decoder import smp_decoders
from tests.segmenters.pooling_backbone import PoolingBackbone

SMALL = HeadOptions(hidden=8, dilation=1)
DILATED = {"DeepLabV3": (2, 4, 8, 16, 16), "DeepLabV3Plus": (2, 4, 8, 16, 16), "PAN": (2, 4, 8, 16, 16)}


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


@pytest.mark.parametrize("name", SEGMENTERS)
def test_every_segmenter_gives_logits_and_gradients(name: str) -> None:
    backbone = PoolingBackbone()
    head = create_segmenter(name, backbone, 3, SMALL).train()
    logits = head(backbone.stages(photo()), torch.tensor([1, 2]))
    assert logits.shape[:2] == (2, 3)
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())


@pytest.mark.parametrize("name", ["deeplab_resnet38", "pspnet", "segformer"])
def test_dropout_follows_from_the_photos_seeds_alone(name: str) -> None:
    backbone = PoolingBackbone()
    head = create_segmenter(name, backbone, 3, HeadOptions(hidden=8, dilation=1, dropout=0.5)).train()
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


@pytest.mark.parametrize("name", smp_decoders())
def test_any_decoder_of_segmentation_models_reads_our_stages(name: str) -> None:
    backbone = PoolingBackbone(strides=DILATED.get(name, (2, 4, 8, 16, 32)))
    head = create_segmenter(f"smp:{name}", backbone, 3)
    assert isinstance(head, SmpDecoder)
    with torch.no_grad():
        logits = head.eval()(backbone.stages(photo(head.multiple, batch=1)))
    assert logits.shape[:2] == (1, 3)
    assert logits.shape[2] == logits.shape[3]
    assert head.multiple % logits.shape[2] == 0, "a grid of whole cells"


def test_a_decoder_computes_what_the_library_does() -> None:
    backbone = PoolingBackbone(channels=(64, 64, 128, 256, 512))
    torch.manual_seed(0)
    model = smp.Unet("resnet18", encoder_weights=None, classes=3).eval()
    head = SmpDecoder("Unet", backbone, 3).eval()
    head.decoder.load_state_dict(model.decoder.state_dict())
    head.classifier.load_state_dict(model.segmentation_head.state_dict())
    image = photo(32, batch=1)
    with torch.no_grad():
        stages = backbone.stages(image)
        torch.testing.assert_close(head(stages), model.segmentation_head(model.decoder([image, *stages])))


def test_transformers_have_no_stage_of_stride_2() -> None:
    backbone = PoolingBackbone(channels=(4, 6, 8, 8), strides=(4, 8, 16, 32))
    with torch.no_grad():
        assert SmpDecoder("Unet", backbone, 3).eval()(backbone.stages(photo())).shape == (2, 3, 64, 64)


def test_what_cannot_be_built_is_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"no segmenter 'unet'.*deeplab_v2"):
        create_segmenter("unet", PoolingBackbone(), 3)
    with pytest.raises(UserError, match=r"no decoder smp:Dpt.*smp:Unet"):
        create_segmenter("smp:Dpt", PoolingBackbone(), 3)
    with pytest.raises(UserError, match="smp:FPN can't read pooling at output stride 16"):
        create_segmenter("smp:FPN", PoolingBackbone(strides=(2, 4, 8, 16, 16)), 3)
    with pytest.raises(UserError, match=r"output stride 32.*set model.output_stride"):
        create_segmenter("smp:DeepLabV3", PoolingBackbone(), 3)
    with pytest.raises(UserError, match="needs stages of strides"):
        create_segmenter("smp:Unet", PoolingBackbone(channels=(4, 4, 4), strides=(1, 2, 8)), 3)


def test_deeplab_v2_on_resnet_101_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        backbone = create_backbone("resnet101", output_stride=8, weights="none", frozen_norm=False)
        head = create_segmenter("deeplab_v2", backbone, 21)
    assert parameters(backbone) == 42_500_160
    assert parameters(backbone) / 2**20 == pytest.approx(40.5, abs=0.05)  # ASDT counts the backbone, in binary millions
    assert parameters(head) == 4 * (2048 * 9 * 21 + 21)


def test_wide_resnet38_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        backbone = create_backbone("wide_resnet38", output_stride=8, weights="none", frozen_norm=False)
        head = create_segmenter("deeplab_resnet38", backbone, 21)
    assert parameters(backbone) == 105_070_912
    # ASDT counts it with the 1000-way layer of ImageNet, in binary millions
    assert (parameters(backbone) + 4096 * 1000) / 2**20 == pytest.approx(104.1, abs=0.05)
    assert parameters(head) == 4096 * 9 * 512 + 512 * 512 + 2 * 2 * 512 + 512 * 21 + 21
