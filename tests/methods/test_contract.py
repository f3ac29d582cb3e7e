"""What every system must do. A new one is tested by its line in METHODS and its small settings in small.SMALL."""

from pathlib import Path

import pytest
import torch
from torch import nn

from tagseg.methods import METHODS
from tagseg.methods.method import present_classes
from tagseg.weights import load_weights, save_weights
from tests.methods.small import SMALL, TWO, batch, build

BRANCHES = {
    "classifier": ["P_ct"],
    "rrm": ["P_ct", "P_s"],
    "asdt": ["P_ct", "P_st", "P_s", "combined"],
    "asdt, background-aware": ["P_ct", "P_st", "P_s", "combined"],
    "tscd": ["CAM", "CAM+PAR", "CAM+VARM", "P_s"],
    "bmp": ["CAM", "CAM+PAR", "CAM+VARM", "BSP", "P_s"],
    "mentor": ["CAM", "CAM+PAR", "CAM+VARM", "P_s", "gated"],
    "supervised": ["P_s"],
}


@pytest.fixture(params=sorted({*METHODS, *SMALL}))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_losses_are_finite_and_reach_every_parameter_in_a_group(name: str) -> None:
    method = build(name).train()
    grouped = [p for group in method.parameter_groups() for p in group["params"]]
    trainable = [p for p in method.parameters() if p.requires_grad]
    assert len({id(p) for p in grouped}) == len(grouped)
    assert {id(p) for p in grouped} == {id(p) for p in trainable}
    reached: set[int] = set()
    for step in (0, 1):  # both teachers of a wave
        method.zero_grad()
        terms = method(batch(TWO), step)
        assert all(term.ndim == 0 and term.isfinite() for term in terms.values())
        torch.stack(list(terms.values())).sum().backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in trainable)
        reached |= {id(p) for p in trainable if p.grad is not None and p.grad.abs().sum() > 0}
    assert all(id(p) in reached for p in trainable), "a trainable parameter never gets a gradient"


@pytest.mark.parametrize("masks", ["ignored", "background", "foreground"])
@pytest.mark.parametrize("tags", [[[0.0, 0.0, 0.0]], [[1.0, 1.0, 1.0]], [[0.0, 1.0, 0.0]]])
def test_losses_are_finite_for_one_photo_whatever_its_labels(name: str, tags: list[list[float]], masks: str) -> None:
    method = build(name).train()
    for step in (0, 1):
        terms = method(batch(tags, masks=masks), step)
        total = torch.stack(list(terms.values())).sum()
        assert total.isfinite()
        total.backward()


def test_true_masks_take_the_place_of_made_labels(name: str) -> None:
    if name == "classifier":
        pytest.skip("it learns from tags alone")

    def losses(masks: str, true: list[bool] | None, step: int) -> dict[str, float]:
        given = batch(TWO, masks=masks)
        given.true_B = None if true is None else torch.tensor(true)
        return {key: value.item() for key, value in build(name).train()(given, step).items()}

    for step in (0, 1):
        background, foreground = losses("background", [True, False], step), losses("foreground", [True, False], step)
        assert background != foreground  # the mask of the first photo counts
        if not METHODS[name.partition(",")[0]].needs_masks:
            assert losses("foreground", None, step) == losses("background", None, step)
            assert losses("foreground", [False, False], step) == losses("background", None, step)
            both = losses("ignored", [True, True], step)
            taught = [value for key, value in both.items() if "label" in key or key in ("seg", "class to seg")]
            assert taught
            assert all(value == 0 for value in taught)  # nothing is taught but what the person's mask says


def test_the_same_step_has_the_same_losses(name: str) -> None:
    first = {key: value.item() for key, value in build(name).train()(batch(TWO), 1).items()}
    again = {key: value.item() for key, value in build(name).train()(batch(TWO), 1).items()}
    assert first == again


@pytest.mark.parametrize("size", [(64, 48), (33, 65), (32, 32)])
def test_probabilities_have_the_photos_size_and_sum_to_one(name: str, size: tuple[int, int]) -> None:
    method = build(name).eval()
    image = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        branches = method.branches(image)
        assert list(branches) == BRANCHES.get(name, list(branches))
        for probability in branches.values():
            assert probability.shape == (2, 4, *size)
            torch.testing.assert_close(probability.sum(1), torch.ones(2, *size), atol=1e-4, rtol=0)
        torch.testing.assert_close(method.segment(image), list(branches.values())[-1])


def test_tags_leave_absent_classes_out(name: str) -> None:
    method = build(name).eval()
    image = torch.rand(1, 3, 48, 48)
    with torch.inference_mode():
        probability = method.segment_tagged(image, torch.tensor([[0.0, 1.0, 0.0]]))
    assert probability[:, [1, 3]].abs().sum() == 0
    torch.testing.assert_close(probability.sum(1), torch.ones(1, 48, 48), atol=1e-4, rtol=0)


def test_cams_lie_between_0_and_1(name: str) -> None:
    method = build(name).eval()
    with torch.inference_mode():
        cam = method.cams(torch.rand(2, 3, 64, 64))
    assert cam.shape[:2] == (2, 3)
    assert 0 <= cam.min() <= cam.max() <= 1


def test_saved_weights_give_the_same_probabilities(name: str, tmp_path: Path) -> None:
    method, other = build(name).eval(), build(name, backbone="efficientnet_lite0").eval()
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(0.01)
    save_weights(tmp_path / "model.safetensors", method)
    load_weights(tmp_path / "model.safetensors", other)
    image = torch.rand(1, 3, 48, 48)
    with torch.inference_mode():
        assert torch.equal(method.segment(image), other.segment(image))


def test_a_step_leaves_the_trace_of_what_is_trained_on_alone_in_batch_norms(name: str) -> None:
    views = {} if name == "supervised" else {"cam_scales": [1.0, 0.5]}
    method = build(name, backbone="resnet18", frozen_norm=False, **views).train()
    for step in (0, 1):
        method(batch(TWO), step)
        tracked = {key: int(value) for key, value in method.named_buffers() if key.endswith("num_batches_tracked")}
        assert tracked
        assert set(tracked.values()) == {step + 1}, tracked
    assert all(module.track_running_stats for module in method.modules() if isinstance(module, nn.BatchNorm2d))


def test_other_backbones_serve_too(name: str) -> None:
    method = build(name, backbone="resnet18").train()
    terms = method(batch(TWO), 0)
    torch.stack(list(terms.values())).sum().backward()
    with torch.inference_mode():
        assert method.eval().segment(torch.rand(1, 3, 64, 64)).shape == (1, 4, 64, 64)


@pytest.mark.parametrize("tag_BC", [[[0.0, 1.0, 0.0]], [[1.0, 0.0, 1.0]]])
def test_with_tags_branches_and_logits_say_what_the_masks_are_made_from(name: str, tag_BC: list[list[float]]) -> None:
    changes = {"supervised": {"tag_weight": 1.0}, "mentor": {"labels": {"sharpness": 4.0}}}.get(name, {})
    for method in (build(name).eval(), build(name, **changes).eval()):
        image, tags = torch.rand(1, 3, 48, 48, generator=torch.Generator().manual_seed(0)), torch.tensor(tag_BC)
        with torch.inference_mode():
            expected = method.segment_tagged(image, tags)
            last = list(method.branches(image, tags).values())[-1]
            torch.testing.assert_close(present_classes(last, tags), expected)
            logits = method.tagged_logits(image, tags)
            assert (
                (method.segment_logits(image) is not None) == method.has_logits(method.settings) == (logits is not None)
            )
            if logits is not None:
                torch.testing.assert_close(present_classes(logits.softmax(1), tags), expected)
