"""Weights that a model starts from: those of another run, or of a published file."""

from __future__ import annotations

from pathlib import Path

import torch

from tagseg.backbones.weights import read_weights as read_published
from tagseg.backbones.wide_resnet38 import PSA_CLASSIFIER
from tagseg.data.layouts import VOC_CLASSES
from tagseg.errors import UserError
from tagseg.methods import Method
from tagseg.weights import read_weights


def take_classifier(file: Path, method: Method) -> None:
    """Take over the classifier of PSA's file res38_cls.pth, whose CAM teaches from the first step.

    Raises UserError where the run's classes are not those that it tells apart, VOC's twenty.
    """
    head = getattr(getattr(method, "class_teacher", None), "head", None)
    weight = None if head is None or file.suffix == ".params" else read_published(file).get(PSA_CLASSIFIER)
    if head is None or weight is None:
        return
    if weight.shape[0] != len(method.classes) or method.classes != VOC_CLASSES:
        raise UserError(
            f"model.start: {file} holds a classifier of {weight.shape[0]} classes, VOC's twenty in their order, but the run's are "
            f"{', '.join(method.classes[:6])}{' ...' if len(method.classes) > 6 else ''}: give it as model.weights, for the "
            "backbone alone."
        )
    with torch.no_grad():
        head.classifier.weight.copy_(weight.view_as(head.classifier.weight))


def take_fitting(file: Path, method: Method) -> None:
    """Take over the weights of another method on the same backbone; heads it does not have keep their first weights."""
    own, tensors = method.state_dict(), read_weights(file)
    fitting = {name: t for name, t in tensors.items() if name in own and own[name].shape == t.shape}
    missing = [name for name in own if name.startswith("backbone.") and name not in fitting]
    if missing:
        raise UserError(
            f"{file} holds no weights of the backbone {method.backbone.name}: {missing[0]} is missing or of another shape."
        )
    method.load_state_dict(fitting, strict=False)
