"""Who teaches the student, and with what."""

from typing import Any

import pytest
import torch

from tagseg.methods import METHODS
from tests.methods.small import TWO, batch, build

ROWS: dict[str, dict[str, Any]] = {
    "I": {"teaching": "class-teacher", "seg_teacher_weight": 0.0, "student_weight": 1.0},
    "II": {"teaching": "seg-teacher"},
    "III": {"teaching": "max"},
    "IV": {"teaching": "mean"},
    "V": {"teaching": "alternate", "wave": "paper"},
}


@pytest.mark.parametrize("row", ROWS)
def test_the_rows_of_table_4_are_settings_of_one_class(row: str) -> None:
    method = build("asdt", **ROWS[row]).train()
    terms = method(batch(TWO), 0)
    heads = {"student", "seg_teacher"} if row != "I" else {"student"}
    assert {name.split()[0] for name in terms} == heads | {"class"}
    assert all(term.isfinite() for term in terms.values())
    assert list(method.eval().branches(torch.rand(1, 3, 48, 48))) == (
        ["P_ct", "P_s"] if row == "I" else ["P_ct", "P_st", "P_s", "combined"]
    )


def test_the_wave_chooses_the_students_teacher_and_nothing_else() -> None:
    method = build("asdt", wave={"period": 2, "high": 1, "warmup": 0, "high_first": True}).train()
    high, low = method(batch(TWO), 0), method(batch(TWO), 1)
    assert method.describe_step(0) == {"wave": 1.0}
    assert method.describe_step(1) == {"wave": 0.0}
    assert high["seg_teacher labels"] == low["seg_teacher labels"]
    assert high["student labels"] != low["student labels"]


def test_the_backbone_takes_its_share_of_the_students_gradient() -> None:
    def gradient(**settings: float) -> torch.Tensor:
        method = build("asdt", class_weight=0.0, **settings).train()
        sum(method(batch(TWO), 2).values()).backward()  # type: ignore[union-attr]
        gradient = next(p for p in method.backbone.parameters() if p.requires_grad).grad
        assert isinstance(gradient, torch.Tensor)
        return gradient

    whole, alone, half = gradient(), gradient(student_weight=1e-30), gradient(student_gradient=0.5)
    torch.testing.assert_close(gradient(student_gradient=0.0), alone)
    torch.testing.assert_close(half, (whole + alone) / 2, rtol=1e-3, atol=1e-3 * float(whole.abs().max()))
    assert not torch.allclose(whole, alone)


def test_the_student_may_reach_the_backbone_in_high_phases_alone() -> None:
    wave = {"period": 2, "high": 1, "warmup": 0, "high_first": True}
    method = build("asdt", wave=wave, student_gradient=0.7, student_gradient_low=0.0)
    assert [method.student_share(step) for step in (0, 1, 2)] == [0.7, 0.0, 0.7]  # type: ignore[operator]
    assert build("asdt", wave=wave, student_gradient=0.7).student_share(1) == 0.7  # type: ignore[operator]


def test_background_that_the_class_teacher_doubts_can_be_left_open() -> None:
    seen: dict[str, torch.Tensor] = {}

    def labels(**settings: str) -> torch.Tensor:
        method = build("asdt", wave={"period": 2, "high": 0, "warmup": 0}, **settings).train()
        taught = method.taught

        def watch(
            given: object, lattices: object, head: str, logits: object, label: torch.Tensor, weight: float
        ) -> object:
            seen[head] = label
            return taught(given, lattices, head, logits, label, weight)  # type: ignore[operator]

        method.taught = watch  # type: ignore[assignment]
        method(batch(TWO), 0)
        return seen["student"]

    whole, agreed = labels(), labels(teacher_background="agreed")
    doubted = (whole == 0) & (seen["seg_teacher"] != 0)
    assert doubted.any()
    assert torch.equal(agreed, whole.masked_fill(doubted, 255))


def test_in_the_high_phase_both_heads_get_the_same_labels() -> None:
    method = build("asdt", wave={"period": 2, "high": 2, "warmup": 0, "high_first": True}).train()
    method.heads["seg_teacher"].load_state_dict(method.heads["student"].state_dict())
    terms = method(batch(TWO), 0)
    torch.testing.assert_close(terms["seg_teacher labels"], terms["student labels"])
    torch.testing.assert_close(terms["seg_teacher energy"], terms["student energy"])


def test_seg_teacher_labels_hold_only_tags_and_ignore_padding() -> None:
    method = build("asdt")
    given = batch(TWO)
    probability = torch.rand(2, 4, 64, 64, generator=torch.Generator().manual_seed(3)).softmax(1)
    label = method.seg_teacher_labels(given, probability)  # type: ignore[operator]
    assert (label[~given.valid_BHW] == 255).all()
    inside = [set(label[i][given.valid_BHW[i]].tolist()) for i in range(2)]
    assert inside[0] <= {0, 1, 3}
    assert inside[1] <= {0, 2}


def test_no_gradient_reaches_the_seg_teacher_through_its_labels() -> None:
    method = build("asdt", teaching="seg-teacher").train()
    terms = method(batch(TWO), 0)
    (terms["student labels"] + terms["student energy"]).backward()
    assert all(p.grad is None or p.grad.abs().sum() == 0 for p in method.heads["seg_teacher"].parameters())


def test_energy_and_labels_have_their_signs() -> None:
    terms = build("asdt").train()(batch(TWO), 0)
    assert terms["student energy"] <= 0
    assert terms["student labels"] >= 0
    assert terms["class"] > 0


def test_a_student_of_the_seg_teacher_needs_one() -> None:
    with pytest.raises(ValueError, match="seg_teacher_weight"):
        build("asdt", teaching="seg-teacher", seg_teacher_weight=0.0)


def test_the_combination_is_the_larger_of_both_heads() -> None:
    method = build("asdt").eval()
    with torch.inference_mode():
        branches = method.branches(torch.rand(1, 3, 48, 48))
    largest = torch.maximum(branches["P_st"], branches["P_s"])
    torch.testing.assert_close(branches["combined"], largest / largest.sum(1, keepdim=True))


def test_published_defaults() -> None:
    settings: Any = METHODS["asdt"].Settings.model_validate({"name": "asdt"})
    assert settings.cam_scales == (0.5, 1.0, 1.5, 2.0)
    assert (settings.hidden, settings.dilation) == (512, 12)
    assert (settings.energy.weight, settings.energy.srgb, settings.energy.sxy, settings.energy.scale) == (
        1e-7,
        15,
        100,
        0.5,
    )
    assert settings.teacher_crf.bilateral == (83, 5, 4)
    assert settings.labels.crf.bilateral == (80, 13, 10)
    assert (settings.labels.alpha_low, settings.labels.alpha_high) == (4, 32)
