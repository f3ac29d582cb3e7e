from typing import Any

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from tagseg.methods import METHODS
from tagseg.methods.supervised import Supervised
from tagseg.prediction.settings import PredictSettings
from tagseg.resize import size_of, upsample
from tagseg.segmenter import Segmenter
from tests.decoders.pooling_backbone import PoolingBackbone
from tests.methods.small import CLASSES, TWO, batch


def build(**settings: Any) -> Supervised:
    torch.manual_seed(0)
    values = {"name": "supervised", "hidden": 8, "dilation": 1} | settings
    method = Supervised(PoolingBackbone(), CLASSES, METHODS["supervised"].Settings.model_validate(values))  # type: ignore[arg-type]
    return method.eval()


def total(method: Supervised, **options: Any) -> float:
    return float(sum(term.detach() for term in method(batch(TWO, **options), 0).values()))


def test_the_loss_is_the_mean_over_labeled_pixels_only() -> None:
    method, given = build(), batch(TWO)
    assert given.mask_BHW is not None
    given.mask_BHW[0] = 255
    with torch.no_grad():
        loss = method(given, 0)["student labels"]
        logit = F.interpolate(method.heads["student"](method.backbone.stages(given.image())), (64, 64), mode="bilinear")
        expected = F.cross_entropy(logit[1:], given.mask_BHW[1:].long())
    torch.testing.assert_close(loss, expected)
    assert total(method, masks="ignored") == 0


def test_each_scale_has_a_loss_on_its_own_grid_and_so_has_the_maximum() -> None:
    method, given = build(decoder="deeplab_v2", multi_scale=[0.5]), batch(TWO)
    assert given.mask_BHW is not None
    with torch.no_grad():
        terms = method(given, 0)
        assert list(terms) == ["student labels, scale 1", "student labels, scale 0.5", "student labels, maximum"]
        head, image = method.heads["student"], given.image()
        large = head(method.backbone.stages(image))
        small = head(method.backbone.stages(F.interpolate(image, (32, 32), mode="bilinear")))
        label = {
            side: F.interpolate(given.mask_BHW[:, None].float(), (side, side), mode="nearest-exact")[:, 0].long()
            for side in (1, 2)
        }
        largest = torch.maximum(large, F.interpolate(small, large.shape[-2:], mode="bilinear"))
        for term, logit in zip(terms.values(), (large, small, largest), strict=True):
            torch.testing.assert_close(term, F.cross_entropy(logit, label[logit.shape[-1]], ignore_index=255))
        expected = F.interpolate(largest, (64, 64), mode="bilinear").softmax(1)
        torch.testing.assert_close(method.segment(image), expected)


def test_the_auxiliary_head_is_pspnets_and_weighted() -> None:
    method, double = build(decoder="pspnet"), build(decoder="pspnet", aux_weight=0.8)
    double.load_state_dict(method.state_dict())
    with torch.no_grad():
        once, twice = method(batch(TWO), 0), double(batch(TWO), 0)
    torch.testing.assert_close(2 * once["aux labels"], twice["aux labels"])
    torch.testing.assert_close(once["student labels"], twice["student labels"])
    assert list(build(decoder="pspnet", aux_weight=0)(batch(TWO), 0)) == ["student labels"]


@pytest.mark.parametrize("name", ["deeplab_resnet38", "pspnet", "segformer"])
def test_photos_of_any_size_are_segmented(name: str) -> None:
    with torch.inference_mode():
        probability = build(decoder=name).segment(torch.rand(1, 3, 33, 65))
    assert probability.shape == (1, 4, 33, 65)
    torch.testing.assert_close(probability.sum(1), torch.ones(1, 33, 65))


def test_foreground_and_background_share_the_loss_as_asked() -> None:
    background, foreground = (total(build(foreground_share=share)) for share in (0.0, 1.0))
    assert background > 0
    assert foreground > 0
    assert total(build(foreground_share=0.75)) == pytest.approx(0.25 * background + 0.75 * foreground, rel=1e-5)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"decoder": "magic"}, "no decoder 'magic': there are conv, deeplab_v2"),
        ({"multi_scale": [1.0]}, "1 is always read"),
        ({"multi_scale": [5.0]}, "between 0.1 and 4"),
    ],
)
def test_wrong_settings_are_refused_by_name(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        build(**settings)


def test_batch_norms_follow_the_momentum_asked_for() -> None:
    norms = [
        m
        for m in build(decoder="deeplab_resnet38", norm_momentum=3e-4).modules()
        if isinstance(m, torch.nn.BatchNorm2d)
    ]
    assert norms
    assert {norm.momentum for norm in norms} == {3e-4}


def test_with_the_tags_loss_the_classifier_has_a_say_where_tags_are_not_given() -> None:
    method, plain = build(tag_weight=0.5), build()
    assert list(plain(batch(TWO), 0)) == ["student labels"], "off by default, and then no classifier is built"
    given, image = batch(TWO), torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        tag_logit = method.heads["class"](method.backbone.stages(given.image())[-1])
        expected = 0.5 * F.multilabel_soft_margin_loss(tag_logit, given.tag_BC)
        torch.testing.assert_close(method(given, 0)["class"], expected)
        feature = method.backbone.stages(image)[-1]
        agrees = method.heads["class"](feature).sigmoid() ** 2
        ungated = upsample(method.grid_logits(image)[0], size_of(image)).softmax(1)
        weighed = torch.cat([ungated[:, :1], ungated[:, 1:] * agrees[:, :, None, None]], 1)
        torch.testing.assert_close(method.segment(image), weighed / weighed.sum(1, keepdim=True))
        tag_BC = torch.tensor([[1.0] + [0.0] * (len(CLASSES) - 1)] * 2)
        seen = method.segment_tagged(image, tag_BC)
        torch.testing.assert_close(seen[:, 1] / seen[:, 0], ungated[:, 1] / ungated[:, 0])
        assert (seen[:, 2:] == 0).all()


def test_a_given_tag_is_not_denied_however_views_are_merged() -> None:
    method = build(tag_weight=1.0)
    torch.nn.init.constant_(method.heads["class"].classifier.weight, -1e3)  # no class, whatever the photo
    photo = torch.randint(0, 256, (64, 64, 3), dtype=torch.uint8).numpy()
    seen = {}
    for merge in ("mean", "max_logits"):
        model = Segmenter(method, PredictSettings(crf=None, merge=merge))
        assert model.predict(photo).probabilities[1:].max() < 1e-6
        seen[merge] = torch.from_numpy(model.predict(photo, tags=["cat"]).probabilities)
    assert seen["mean"][1].max() > 0.1
    torch.testing.assert_close(seen["max_logits"], seen["mean"])
