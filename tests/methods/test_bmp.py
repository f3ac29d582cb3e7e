from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F

from tagseg.methods.bmp import BMP, BMPSettings, pixel_loss
from tagseg.refine import PixelAdaptive
from tests.methods.attention import build_tiny
from tests.methods.small import TWO, batch

SMALL: dict[str, Any] = {
    "class_steps": 1,
    "hidden": 8,
    "cam_scales": [1.0, 0.5],
    "seg_to_class": {"from_step": 2, "confidence": 0.0},
    "background_aware": {"from_step": 3},
}


def tiny(**changes: Any) -> BMP:
    method = build_tiny(BMP, **{**SMALL, **changes}).train()
    assert isinstance(method, BMP)
    return method


def reached(method: torch.nn.Module) -> set[str]:
    found = {name: p.grad for name, p in method.named_parameters() if p.grad is not None}
    return {name.split(".")[0] for name, gradient in found.items() if gradient.abs().sum() > 0}


def test_three_phases():
    method, given = tiny(), batch(TWO)
    assert list(method(given, 0)) == ["class"]
    assert list(method(given, 1)) == ["class", "affinity", "class to seg"]
    assert list(method(given, 2)) == ["class", "affinity", "class to seg", "seg to class"]
    later = method(given, 3)
    assert list(later) == ["class", "affinity", "class to seg", "seg to class"]
    assert all(term.isfinite() for term in later.values())
    assert later["class to seg"] != method(given, 2)["class to seg"]


def test_the_feedback_reaches_the_classifier_and_the_encoder_and_not_the_decoder():
    method = tiny()
    method(batch(TWO), 2)["seg to class"].backward()
    assert reached(method) == {"backbone", "heads"}


def test_the_interaction_passes_no_gradient_to_the_classifier():
    method = tiny()
    method(batch(TWO), 1)["class to seg"].backward()
    assert reached(method) == {"backbone", "decoder"}


def test_the_decoder_reads_features_weighted_by_the_largest_class_score():
    method = tiny().eval()
    image = batch(TWO).image()
    stages = method.backbone.stages(image)
    logit = F.conv2d(stages[-1], method.classifier.weight)
    score = F.interpolate(logit, (64, 64), mode="bilinear").sigmoid().amax(1, keepdim=True)
    weighted = [stage * F.interpolate(score, stage.shape[-2:], mode="bilinear") for stage in stages]
    expected = F.interpolate(method.decoder(weighted), (64, 64), mode="bilinear")
    assert torch.allclose(method.seg_logits(stages, (64, 64)), expected, atol=1e-6)
    plain = tiny(object_aware=False).eval()
    expected = F.interpolate(plain.decoder(stages), (64, 64), mode="bilinear")
    assert torch.allclose(plain.seg_logits(stages, (64, 64)), expected)


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"seg_to_class": {"weight": 0}}, "seg to class"),
        ({"class_to_seg": {"weight": 0}}, "class to seg"),
        ({"affinity_weight": 0}, "affinity"),
    ],
)
def test_each_supervision_can_be_switched_off(changes: dict[str, Any], missing: str):
    terms = tiny(**changes)(batch(TWO), 3)
    assert set(terms) == {"class", "affinity", "class to seg", "seg to class"} - {missing}


def test_background_aware_labels_can_be_switched_off():
    given = batch(TWO)
    on, off = tiny(), tiny(background_aware={"from_step": None})
    assert on(given, 2)["class to seg"] == off(given, 2)["class to seg"]
    assert on(given, 3)["class to seg"] != off(given, 3)["class to seg"]
    assert off(given, 3)["class to seg"] == off(given, 2)["class to seg"]


@pytest.mark.parametrize("refine", ["par", "none"])
def test_background_aware_labels_equal_photo_by_photo(refine: str):
    method = tiny(labels={"refine": refine, "scale": 0.5}, background_aware={"from_step": 3, "min_score": 0.4})
    given = batch(TWO)
    given.valid_BHW[1, :10] = False
    given.valid_BHW[1, :, :5] = False
    generator = torch.Generator().manual_seed(3)
    background = torch.rand(2, 64, 64, generator=generator)
    cam = torch.rand(2, 3, 64, 64, generator=generator)
    found = method.background_labels(given, given.image(), background, cam)
    boxes = [(slice(0, 64), slice(0, 56)), (slice(10, 64), slice(5, 56))]
    for n, (rows, columns) in enumerate(boxes):
        tags = given.tag_BC[n].nonzero().flatten()
        stack = torch.cat([background[n : n + 1], cam[n, tags]])[None, :, rows, columns]
        size = tuple(side // 2 for side in stack.shape[-2:]) if n == 0 else (27, round(51 / 2))
        stack_small = F.interpolate(stack, size, mode="bilinear")
        if refine == "par":
            image = F.interpolate(given.image()[n : n + 1, :, rows, columns], size, mode="bilinear")
            stack_small = PixelAdaptive("par")(image, stack_small)
        score = F.interpolate(stack_small, stack.shape[-2:], mode="bilinear")[0]
        classes = torch.cat([torch.zeros(1, dtype=torch.long), tags + 1])
        expected = torch.full((64, 64), 255)
        for y in range(score.shape[1]):
            for x in range(score.shape[2]):
                best = int(score[:, y, x].argmax())
                if score[best, y, x] >= 0.4:
                    expected[rows.start + y, columns.start + x] = classes[best]
        assert torch.equal(found[n], expected.to(torch.uint8))
        assert (found[n] != 255).any()


def slow_seg_labels(logits, valid, tags, confidence, value_of, only_tagged) -> torch.Tensor:
    label = torch.full(valid.shape, 255, dtype=torch.uint8)
    for n, y, x in valid.nonzero().tolist():
        scores = logits[n, :, y, x]
        best = int(scores.argmax())
        if best == 0 or value_of(scores)[best] < confidence or (only_tagged and tags[n, best - 1] == 0):
            continue
        label[n, y, x] = best - 1
    return label


@pytest.mark.parametrize("tagged", [False, True])
@pytest.mark.parametrize(
    ("compare", "loss", "value_of"),
    [
        ("logit", "bce", lambda scores: scores),
        ("probability", "bce", torch.sigmoid),
        ("probability", "ce", lambda scores: scores.softmax(0)),
    ],
)
def test_feedback_labels_equal_pixel_by_pixel(compare, loss, value_of, tagged):
    feedback = {"compare": compare, "confidence": 0.6, "tagged_only": tagged}
    method = tiny(seg_to_class=feedback, class_to_seg={"loss": loss})
    given = batch(TWO, size=16)
    logits = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(1)) * 1.5
    found = method.seg_labels(given, logits)
    assert torch.equal(found, slow_seg_labels(logits, given.valid_BHW, given.tag_BC, 0.6, value_of, tagged))
    assert {0, 1, 2, 255} == set(found.unique().tolist())


def test_pixel_losses_equal_their_formula_and_are_zero_without_labels():
    logits = torch.randn(1, 3, 2, 2, generator=torch.Generator().manual_seed(2))
    label = torch.tensor([[[0, 2], [255, 1]]], dtype=torch.uint8)
    bce, ce = 0.0, 0.0
    for y, x in ((0, 0), (0, 1), (1, 1)):
        z, truth = logits[0, :, y, x], int(label[0, y, x])
        p = z.sigmoid()
        bce -= sum((p[k] if k == truth else 1 - p[k]).log().item() for k in range(3)) / 3 / 3
        ce -= z.log_softmax(0)[truth].item() / 3
    assert pixel_loss(logits, label, "bce").item() == pytest.approx(bce, rel=1e-5)
    assert pixel_loss(logits, label, "ce").item() == pytest.approx(ce, rel=1e-5)
    for loss in ("bce", "ce"):
        assert pixel_loss(logits, torch.full_like(label, 255), loss) == 0  # type: ignore[arg-type]


@pytest.mark.parametrize("loss", ["bce", "ce"])
def test_foreground_has_its_share_of_the_loss(loss: Literal["bce", "ce"]):
    logits = torch.randn(1, 3, 1, 4, generator=torch.Generator().manual_seed(2))
    label = torch.tensor([[[0, 0, 0, 2]]], dtype=torch.uint8)
    background, foreground = (pixel_loss(logits[..., part], label[..., part], loss) for part in (slice(3), slice(3, 4)))
    expected = 0.25 * background + 0.75 * foreground
    assert pixel_loss(logits, label, loss, 0.75).item() == pytest.approx(expected.item(), rel=1e-5)
    lonely = pixel_loss(logits[..., 3:], label[..., 3:], loss, 0.75)
    assert lonely.item() == pytest.approx(0.75 * foreground.item(), rel=1e-5)


def test_nothing_confident_gives_no_feedback_and_no_nan():
    method = tiny(seg_to_class={"from_step": 2, "confidence": 1000})
    terms = method(batch(TWO), 2)
    assert terms["seg to class"] == 0
    torch.stack(list(terms.values())).sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in method.parameters())


def test_feedback_on_the_normalized_cam_equals_its_formula():
    method = tiny(seg_to_class={"normalized": True, "below": 0.5})
    given = batch(TWO, size=16)
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(2, 3, 16, 16, generator=generator)
    label = torch.randint(0, 3, (2, 16, 16), generator=generator).to(torch.uint8)
    label[:, ::3] = 255
    share = logits.clamp(min=0) / logits.clamp(min=0).amax((2, 3), keepdim=True)
    total, count = 0.0, 0
    for n, y, x in (label != 255).nonzero().tolist():
        k = int(label[n, y, x])
        if share[n, k, y, x] >= 0.5:
            continue
        tagged = given.tag_BC[n].nonzero().flatten().tolist()
        terms = [share[n, c, y, x].clamp(1e-4, 1 - 1e-4) for c in tagged]
        total -= sum((p if c == k else 1 - p).log().item() for c, p in zip(tagged, terms, strict=True)) / len(tagged)
        count += 1
    assert method.feedback(given, logits, label).item() == pytest.approx(total / count, rel=1e-5)
    plain = tiny(seg_to_class={"below": 0.5})
    seen = share.gather(1, torch.where(label == 255, 0, label).long()[:, None])[:, 0] >= 0.5
    expected = pixel_loss(logits, label.masked_fill(seen, 255), plain.settings.seg_to_class.loss)
    assert plain.feedback(given, logits, label) == expected


def test_views_without_gradient_leave_the_batch_statistics_alone():
    method = tiny()
    before = method.decoder.norm.running_mean.clone()
    method.view_scores(batch(TWO).image())
    assert torch.equal(method.decoder.norm.running_mean, before)
    assert method.decoder.training


def test_affinities_are_symmetric():
    _, affinity = tiny().read(batch(TWO).image())
    assert affinity is not None
    assert torch.allclose(affinity, affinity.transpose(1, 2), atol=1e-6)


def test_branches():
    method = tiny().eval()
    image = batch(TWO).image()
    with torch.inference_mode():
        branches = method.branches(image, torch.tensor(TWO))
        assert list(branches) == ["CAM", "CAM+PAR", "CAM+VARM", "BSP", "P_s"]
        assert torch.allclose(branches["BSP"].sum(1), torch.ones(2, 64, 64), atol=1e-5)
        assert (branches["BSP"][0].argmax(0) != 2).all(), "the absent class"


def test_published_defaults():
    settings = BMPSettings()
    assert (settings.class_to_seg.weight, settings.seg_to_class.weight, settings.affinity_weight) == (0.7, 0.1, 0.1)
    assert (settings.class_steps, settings.seg_to_class.from_step, settings.background_aware.from_step) == (
        2000,
        2000,
        4000,
    )
    assert (settings.background_aware.min_score, settings.seg_to_class.confidence) == (0.5, 0.75)
    assert (settings.class_to_seg.loss, settings.seg_to_class.loss) == ("bce", "ce")
    assert settings.labels.refine == "par"
    assert settings.object_aware
