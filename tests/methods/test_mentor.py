import copy
from typing import Any

import pytest
import torch

from tagseg.methods.afa_network import SHARPNESS
from tagseg.methods.gate import GateSettings, gated
from tagseg.methods.mentor import Mentor
from tests.methods.attention import build_tiny
from tests.methods.small import TWO, batch
from tests.single_precision import SinglePrecision

SMALL: dict[str, Any] = {
    "hidden": 8,
    "cam_scales": [1.0, 0.5],
    "labels": {"background_from": 1, "seg_from": 2},
    "mixing": {"boxes": 0},
    "strong": None,
}


def tiny(**changes: Any) -> Mentor:
    method = build_tiny(Mentor, **{**SMALL, **changes}).train()
    assert isinstance(method, Mentor)
    return method


@pytest.mark.parametrize("step", [0, 1, 2])
def test_the_averaged_weights_label_the_plain_photo(step: int) -> None:
    method, given = tiny(), batch(TWO)
    average = copy.deepcopy(method).requires_grad_(False).eval()
    method.follow(average)
    before = method.teacher_labels(given, given.image(), step)
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(0.3)
    assert torch.equal(method.teacher_labels(given, given.image(), step), before)
    own = tiny(teacher="own")
    own.follow(average)
    own.load_state_dict(method.state_dict())
    assert not torch.equal(own.teacher_labels(given, given.image(), step), before)


def test_the_cams_labels_can_teach_to_the_end() -> None:
    method, given = tiny(labels={"background_from": None, "seg_from": None}), batch(TWO)
    first, last, later = (method.teacher_labels(given, given.image(), step) for step in (0, 1000, 1))
    assert torch.equal(first, last)
    other = tiny()
    other.load_state_dict(method.state_dict())
    assert torch.equal(other.teacher_labels(given, given.image(), 0), first)
    assert not torch.equal(other.teacher_labels(given, given.image(), 1), later)
    assert method.settings.scaled(2).labels.background_from is None


def test_the_teacher_is_no_part_of_the_weights_and_stays_as_it_is() -> None:
    method, given = tiny(mixing={"boxes": 1.0}), batch(TWO)
    names = set(method.state_dict())
    average = copy.deepcopy(method).requires_grad_(False).eval()
    method.follow(average)
    before = {name: tensor.clone() for name, tensor in average.state_dict().items()}
    torch.stack(list(method(given, 2).values())).sum().backward()
    assert set(method.state_dict()) == names
    assert all(torch.equal(before[name], tensor) for name, tensor in average.state_dict().items())
    assert all(parameter.grad is None for parameter in average.parameters())


def test_labels_hold_tagged_classes_and_background_alone_and_nothing_in_the_padding() -> None:
    method, given = tiny(), batch([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    for step in (0, 1, 2):
        label = method.teacher_labels(given, given.image(), step)
        assert set(label[0].unique().tolist()) <= {0, 1, 3, 255}
        assert set(label[1][given.valid_BHW[1]].unique().tolist()) <= ({0, 255} if step == 0 else {0})
        assert (label[~given.valid_BHW] == 255).all()


def test_a_pixel_of_an_object_counts_as_many_of_background() -> None:
    given = batch([[1.0, 1.0, 1.0]])
    terms = {weight: tiny(foreground=weight)(given, 1)["seg"].item() for weight in (1.0, 3.0, 1e6)}
    method = tiny()
    label = method.teacher_labels(given, given.image(), 1).long()
    logit = method.seg_logits(method.backbone.stages(given.image()), given.size, given.seed_B)
    loss = torch.nn.functional.cross_entropy(logit, label, ignore_index=255, reduction="none")
    for weight, term in terms.items():
        weights = torch.where(label == 0, 1.0, weight) * (label != 255)
        assert term == pytest.approx(((loss * weights).sum() / weights.sum()).item(), rel=1e-4)


def test_the_gate_rules_out_what_the_classifier_rules_out() -> None:
    method = tiny(gate={"power": 1.0, "tagged_background": 0.2})
    gate = method.settings.gate
    alike = torch.zeros(1, 4, 2, 2)
    sure = gated(alike, torch.tensor([[20.0, -20.0, -20.0]]), gate).softmax(1)
    assert sure[0, :, 0, 0].tolist() == pytest.approx([0.2 / 1.2, 1 / 1.2, 0, 0], abs=1e-6)
    none = gated(alike, torch.full((1, 3), -20.0), gate).softmax(1)
    assert none[0, :, 0, 0].tolist() == pytest.approx([1, 0, 0, 0], abs=1e-6)
    assert torch.equal(gated(alike, torch.full((1, 3), -20.0), GateSettings(power=0)), alike)
    image = torch.rand(1, 3, 48, 48)
    branches = method.eval().branches(image)
    assert list(branches)[-2:] == ["P_s", "gated"]
    assert torch.allclose(method.segment(image), branches["gated"])


def test_the_soft_maximum_needs_no_double_precision_of_a_device() -> None:
    method = tiny(pooling="soft")
    feature = torch.rand(2, 8, 3, 5, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), SinglePrecision():
        logits = method.tag_logits(feature)
    scores = method.classifier(feature).flatten(2)
    torch.testing.assert_close(logits, (scores * SHARPNESS).exp().mean(2).log() / SHARPNESS)
