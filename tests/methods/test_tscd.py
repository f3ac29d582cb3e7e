import logging
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from tagseg.backbones import create_backbone
from tagseg.losses import affinity_labels, affinity_loss, equivariance_loss
from tagseg.methods.afa_network import AFANetwork
from tagseg.methods.bmp import BMP
from tagseg.methods.tscd import TSCD, TSCDSettings
from tests.methods.attention import build_tiny
from tests.methods.small import CLASSES, TWO, batch

SMALL: dict[str, Any] = {
    "class_steps": 1,
    "hidden": 8,
    "cam_scales": [1.0, 0.5],
    "correspondence": {"samples": 6},
    "labels": {"refine": "varm"},
}
TERMS = ["class", "seg", "energy", "affinity", "correspondence"]


def tiny(**changes: Any) -> TSCD:
    method = build_tiny(TSCD, **{**SMALL, **changes}).train()
    assert isinstance(method, TSCD)
    return method


def reached(method: torch.nn.Module) -> set[str]:
    return {name for name, p in method.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}


def test_classification_alone_and_then_all_terms():
    method, given = tiny(), batch(TWO)
    assert list(method(given, 0)) == ["class"]
    terms = method(given, 1)
    assert list(terms) == TERMS
    assert all(term.ndim == 0 and term.isfinite() for term in terms.values())
    assert terms["seg"] > 0
    assert terms["energy"] <= 0
    assert 0 < terms["affinity"] < 0.1


def test_weights_scale_their_terms_and_leave_out_at_zero():
    given = batch(TWO)
    terms = tiny()(given, 1)
    doubled = tiny(
        seg_weight=0.2,
        energy_weight=0.02,
        affinity_weight=0.2,
        correspondence={"samples": 6, "weight": 0.2},
    )(given, 1)
    for name in TERMS[1:]:
        assert doubled[name].item() == pytest.approx(2 * terms[name].item(), rel=1e-5)
    without = tiny(energy_weight=0, affinity_weight=0, correspondence={"weight": 0})(given, 1)
    assert list(without) == ["class", "seg"]
    assert without["seg"] == terms["seg"]


def test_foreground_has_its_share_of_the_segmentations_loss():
    given = batch(TWO)
    background, foreground = (tiny(foreground_share=share)(given, 1)["seg"].item() for share in (0.0, 1.0))
    assert background > 0
    assert foreground > 0
    assert tiny(foreground_share=0.75)(given, 1)["seg"].item() == pytest.approx(0.25 * background + 0.75 * foreground)
    assert tiny()(given, 1)["seg"].item() == pytest.approx((background + foreground) / 2)


def test_prediction_normalizes_by_what_photos_at_their_own_size_showed():
    with_small_view, without = tiny(), tiny(correspondence={"weight": 0})
    for method in (with_small_view, without):
        method(batch(TWO), 1)
    assert without.decoder.norm.running_mean.abs().max() > 0
    assert torch.equal(with_small_view.decoder.norm.running_mean, without.decoder.norm.running_mean)
    assert torch.equal(with_small_view.decoder.norm.running_var, without.decoder.norm.running_var)


def test_correspondence_reaches_decoder_and_backbone_but_not_the_classifier():
    method = tiny()
    method(batch(TWO), 1)["correspondence"].backward()
    names = reached(method)
    assert any(name.startswith("decoder.") for name in names)
    assert any(name.startswith("backbone.") for name in names)
    assert not any(name.startswith("heads.") for name in names)


def test_equivariance_has_gradient_and_every_tagged_class():
    method = tiny(equivariance_weight=0.1)
    before = method(batch(TWO), 1)["equivariance"]
    before.backward()
    names = reached(method)
    assert "heads.class.classifier.weight" in names
    assert any(name.startswith("backbone.") for name in names)
    assert not any(name.startswith("decoder.") for name in names)
    assert method.classifier.weight.grad is not None
    assert (method.classifier.weight.grad.abs().sum((1, 2, 3)) > 0).all()
    with torch.no_grad():
        method.classifier.weight[0] *= -3
    assert method(batch(TWO), 1)["equivariance"] != before


def test_equivariance_is_the_mean_difference_of_cams():
    cam, view = torch.rand(2, 3, 9, 9), torch.rand(2, 3, 5, 5)
    small = F.interpolate(cam, (5, 5), mode="bilinear", align_corners=True)
    assert small[0, 0, 1, 2] == pytest.approx(cam[0, 0, 2, 4].item())
    assert equivariance_loss(cam, view).item() == pytest.approx((small - view).abs().mean().item())


def test_affinities_are_not_symmetrized_and_learn_from_the_cam_labels():
    method, given = tiny(), batch(TWO)
    image = given.image()
    _, affinity = method.read(image)
    assert affinity is not None
    assert not torch.allclose(affinity, affinity.transpose(1, 2))
    label = method.cam_labels(given, image, method.view_cams(image))
    expected = 0.1 * affinity_loss(affinity, affinity_labels(label, (5, 5)))
    assert method(given, 1)["affinity"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_without_attention_maps_the_affinity_term_is_off_and_the_run_says_so_once(caplog):
    settings = TSCDSettings.model_validate(SMALL)
    method = TSCD(create_backbone("efficientnet_lite0"), CLASSES, settings).train()
    with caplog.at_level(logging.WARNING):
        terms = [method(batch(TWO), step) for step in (0, 1, 2)]
    assert [message for message in caplog.messages if "affinity" in message] == [
        "efficientnet_lite0 offers no attention maps: TSCD trains without its affinity term."
    ]
    assert list(terms[1]) == [name for name in TERMS if name != "affinity"]


@pytest.mark.parametrize("kind", [TSCD, BMP])
def test_a_mix_transformer_has_every_term(kind: type[AFANetwork]):
    torch.manual_seed(0)
    backbone = create_backbone("mit_b0", weights="none", frozen_norm=False)
    settings = kind.Settings.model_validate({"class_steps": 0, "cam_scales": [1.0], "hidden": 8})
    method = kind(backbone, CLASSES, settings).train()
    terms = method(batch(TWO, size=64), 0)
    assert "affinity" in terms
    terms["affinity"].backward()
    names = reached(method)
    assert "affinity_head.projection.weight" in names
    assert any(name.startswith("backbone.") for name in names)


def test_the_second_view_has_dropout_of_its_own():
    """Photo and view draw different channels, else agreement between them would come cheap."""
    method, given = tiny(dropout=0.5), batch(TWO)
    drawn = []
    method.decoder.classifier.register_forward_pre_hook(lambda _, inputs: drawn.append(inputs[0].sum((2, 3)) == 0))
    method(given, 1)
    first, second = drawn
    assert not torch.equal(first, second)


def test_branches_are_the_cam_its_refinements_and_the_segmentation():
    method = tiny().eval()
    image = batch(TWO).image()
    with torch.inference_mode():
        branches = method.branches(image, torch.tensor(TWO))
        assert list(branches) == ["CAM", "CAM+PAR", "CAM+VARM", "P_s"]
        assert torch.equal(branches["P_s"], method.segment(image))
    assert (branches["CAM+VARM"][0, 2] == 0).all(), "the absent class"
    assert not torch.allclose(branches["CAM+PAR"], branches["CAM+VARM"], atol=1e-3)


def test_published_defaults():
    settings = TSCDSettings()
    weights = (settings.seg_weight, settings.energy_weight, settings.affinity_weight)
    assert weights == (0.1, 0.01, 0.1)
    assert (settings.correspondence.weight, settings.equivariance_weight) == (
        0.1,
        0,
    )  # the latter has no gradient there
    assert (settings.correspondence.samples, settings.correspondence.view_scale) == (40, 0.3)
    assert settings.labels.background_scores == (0.35, 0.55)
    assert (settings.labels.refine, settings.labels.iterations, settings.labels.scale) == ("varm", 10, 0.5)
    assert settings.class_steps == 2000
    assert settings.cam_scales == (1.0, 0.5, 1.5)
    assert settings.pooling == "max"
