"""RRM and ASDT whose class-teacher takes its background from the segmentation, and whose heads read all stages."""

from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tagseg.cues.background_aware import background_and_cam, background_labels, background_odds, background_scores
from tagseg.methods.rrm import RRM
from tagseg.refine import PixelAdaptive
from tests.methods.small import TWO, batch, build

AWARE: dict[str, Any] = {"decoder": "segformer", "background_aware": {"from_step": 2}}


def rrm(name: str = "rrm", **changes: Any) -> RRM:
    method = build(name, **(AWARE | changes))
    assert isinstance(method, RRM)
    return method.train()


@pytest.mark.parametrize("name", ["rrm", "asdt"])
def test_labels_become_background_aware_at_their_step(name: str) -> None:
    wave = {"wave": "minority"} if name == "asdt" else {}
    given = batch(TWO)
    aware, never = rrm(name, **wave), rrm(name, background_aware={"from_step": None}, **wave)
    assert aware(given, 1) == never(given, 1)
    term = "seg_teacher labels" if name == "asdt" else "student labels"
    assert aware(given, 2)[term] != never(given, 2)[term]
    assert aware(given, 2)["student labels"].isfinite()


def test_labels_equal_their_formula() -> None:
    method, given = rrm(cam_scales=[1.0, 0.75]), batch(TWO)
    image = given.image()
    head = method.heads["student"].eval()
    weight = method.class_teacher.head.weight_CF

    def at(view: Tensor) -> tuple[Tensor, Tensor]:
        stages, size = method.backbone.stages(view), view.shape[-2:]
        logit = F.interpolate(head(stages), size, mode="bilinear").double()
        cam = F.interpolate(torch.einsum("cf,bfhw->bchw", weight, stages[-1]), size, mode="bilinear").double()
        probability = logit.softmax(1)[:, 0]
        return (probability / (1 - probability)).log(), cam

    background, cam = torch.zeros(2, 64, 64).double(), torch.zeros(2, 3, 64, 64).double()
    for side in (64, 48):
        view = F.interpolate(image, (side, side), mode="bilinear")
        for (odds, raw), flip in ((at(view), False), (at(view.flip(-1)), True)):
            odds = F.interpolate(odds[:, None], (64, 64), mode="bilinear")[:, 0]
            background += (odds.flip(-1) if flip else odds) / 2
            raw = F.interpolate(raw, (64, 64), mode="bilinear")
            mirrored = raw.flip(-1) if flip else raw
            plain = mirrored if not flip else torch.maximum(plain, mirrored)  # noqa: F821
        cam += plain.relu()
    expected = torch.full((2, 64, 64), 255)
    for n, tags in enumerate(given.tag_BC.bool()):
        scores = [background[n], *cam[n, tags]]
        spread = torch.stack([(s - s.min()) / (s.max() - s.min() + 1e-5) for s in scores]).float()
        small = F.interpolate(spread[None, :, :, :56], (32, 28), mode="bilinear")
        part = F.interpolate(image[n : n + 1, :, :, :56], (32, 28), mode="bilinear")
        refined = F.interpolate(PixelAdaptive("par")(part, small), (64, 56), mode="bilinear")[0]
        classes = torch.cat([torch.zeros(1, dtype=torch.long), tags.nonzero().flatten() + 1])
        expected[n, :, :56] = classes[refined.argmax(0)]
    stages = method.backbone.stages(image)
    logit = F.interpolate(head(stages), (64, 64), mode="bilinear")
    label, found_cam = method.class_teacher_labels(given, image, stages, 2, "student", logit)
    assert (label == expected).double().mean() > 0.999  # ties of rounding apart
    assert len(label.unique()) > 2
    assert (found_cam[given.tag_BC == 0] == 0).all()


def test_background_is_what_a_softmax_says_whatever_is_added_to_its_logits() -> None:
    logit = torch.randn(1, 4, 3, 3, generator=torch.Generator().manual_seed(0)).double()
    probability = logit.softmax(1)[:, :1]
    torch.testing.assert_close(background_odds(logit), (probability / (1 - probability)).log())
    torch.testing.assert_close(background_odds(logit + 5), background_odds(logit))


def test_views_leave_the_heads_batch_statistics_alone() -> None:
    method, given = rrm(), batch(TWO)
    image = given.image()
    stages = method.backbone.stages(image)
    head = method.heads["student"]
    before = {name: buffer.clone() for name, buffer in head.named_buffers()}
    method.class_teacher_labels(given, image, stages, 2, "student", torch.zeros(2, 4, 64, 64))
    assert all(torch.equal(buffer, before[name]) for name, buffer in head.named_buffers())
    assert head.training


@pytest.mark.parametrize("decoder", ["conv", "segformer"])
def test_no_gradient_reaches_the_classifier_through_labels(decoder: Literal["conv", "segformer"]) -> None:
    method = rrm("asdt", decoder=decoder)
    terms = method(batch(TWO), 2)
    sum(value for name, value in terms.items() if name != "class").backward()  # type: ignore[union-attr]
    weight = method.class_teacher.head.classifier.weight
    assert weight.grad is None or not weight.grad.any()
    student = next(method.heads["student"].parameters())
    assert student.grad is not None
    assert student.grad.any()


@pytest.mark.parametrize("teaching", ["max", "mean", "seg-teacher"])
def test_every_row_knows_background_aware_labels(teaching: str) -> None:
    terms = rrm("asdt", teaching=teaching)(batch(TWO), 3)
    assert all(term.isfinite() for term in terms.values())


def test_a_photo_without_tags_is_background_and_padding_is_left_out() -> None:
    generator = torch.Generator().manual_seed(0)
    background, cam = torch.rand(2, 8, 8, generator=generator), torch.rand(2, 3, 8, 8, generator=generator)
    valid = torch.ones(2, 8, 8, dtype=torch.bool)
    valid[0, :3] = False
    valid[1] = False
    score = background_scores(torch.rand(2, 3, 8, 8), valid, background, cam, torch.zeros(2, 3), None, 1)
    label = background_labels(score, valid)
    assert (label[0, 3:] == 0).all()
    assert (label[~valid] == 255).all()
    assert (background_labels(score, valid, 2.0) == 255).all()


def test_flip_joins_the_mirrored_photo() -> None:
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    plain, mirrored = image, image.flip(-1)
    background, cam = background_and_cam(lambda view: view, plain, [1.0], True)
    assert torch.allclose(background_and_cam(lambda view: view, mirrored, [1.0], True)[0], background.flip(-1))
    once, _ = background_and_cam(lambda view: view, plain, [1.0], False)
    assert torch.allclose(once, background)  # the mirror image of a map that depends on its pixel alone is the map
    assert cam.shape == (1, 2, 16, 16)
