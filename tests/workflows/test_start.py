"""A run that starts from PSA's file res38_cls.pth takes its classifier, whose CAM teaches from the first step."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tagseg.backbones import wide_resnet38
from tagseg.backbones.backbone import Backbone
from tagseg.data.layouts import VOC_CLASSES
from tagseg.errors import UserError
from tagseg.recipe import Recipe, load_recipe
from tagseg.workflows.train import start_method, train


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file in PSA's layout of a small network under the large one's name."""
    from tagseg.methods import build

    whole = build.create_backbone

    def small(name: str, *, output_stride: int | None, weights: str, frozen_norm: bool) -> Backbone:
        backbone = whole("resnet18", output_stride=8, weights="none", frozen_norm=frozen_norm)
        if weights != "none":
            wide_resnet38.load_tensors(
                backbone, wide_resnet38.read_weights(Path(weights)), weights, unused=(wide_resnet38.PSA_CLASSIFIER,)
            )
        return backbone

    monkeypatch.setattr(build, "create_backbone", small)
    torch.manual_seed(3)
    backbone = whole("resnet18", output_stride=8, weights="none")
    path = tmp_path / "res38_cls.pth"
    torch.save(backbone.state_dict() | {"fc8.weight": torch.randn(20, backbone.channels, 1, 1)}, path)
    return path


def recipe(file: Path, name: str = "asdt-voc12") -> Recipe:
    return load_recipe(name, [f"model.start={file}", "model.weights=none"])


@pytest.mark.parametrize("name", ["rrm-voc12", "asdt-voc12"])
def test_the_classifier_is_taken_over(file: Path, tmp_path: Path, name: str) -> None:
    method, minutes = start_method(recipe(file, name), VOC_CLASSES, tmp_path)
    stored = torch.load(file, weights_only=True)
    assert torch.equal(method.class_teacher.head.classifier.weight, stored["fc8.weight"])  # type: ignore[union-attr, arg-type]
    assert all(torch.equal(tensor, stored[key]) for key, tensor in method.backbone.state_dict().items())
    assert minutes == 0


def test_other_classes_than_vocs_are_refused(file: Path, tmp_path: Path) -> None:
    for classes in (("cat", "dog"), tuple(reversed(VOC_CLASSES))):
        with pytest.raises(UserError, match="holds a classifier of 20 classes, VOC's twenty in their order"):
            start_method(recipe(file), classes, tmp_path)


def test_a_mistake_in_the_model_is_said_before_a_start_is_trained_and_leaves_no_run(tmp_path: Path) -> None:
    wrong = load_recipe("asdt-scenes", ["model.frozen=[blokcs]"])
    with pytest.raises(
        UserError, match=r"model.frozen: no part of the backbone efficientnet_lite0 starts with 'blokcs'"
    ):
        train(wrong, tmp_path / "run")
    assert not (tmp_path / "run").exists()
