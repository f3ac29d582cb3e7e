"""Weights that a model starts from: those of another run, or of a published file."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import torch

from tagseg.backbones.weights import read_weights as read_published
from tagseg.backbones.wide_resnet38 import PSA_CLASSIFIER
from tagseg.data.layouts import VOC_CLASSES
from tagseg.errors import UserError
from tagseg.foreign import reading
from tagseg.methods import Method
from tagseg.methods.build import build_method
from tagseg.recipe import Recipe
from tagseg.weights import read_facts, read_weights


def checkpoint_classes(file: Path) -> tuple[str, ...] | None:
    """The classes of the training that a file of weights is a checkpoint of; None of other files, and of one that is not there."""
    if file.suffix != ".safetensors" or not file.is_file():
        return None
    facts = read_facts(file)
    with reading(file, "a checkpoint"):
        return None if facts is None else tuple(map(str, facts["identity"]["classes"]))


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


def take_fitting(file: Path, method: Method, *, apart: Collection[str] = (), source: Method | None = None) -> None:
    """Take over the weights of another method on the same backbone; heads it does not have keep their first weights.

    apart: names of weights that keep their first values too. source: the model that the file is of, where that is known.
    Raises UserError where the backbone is another.
    """
    own, tensors = method.state_dict(), read_weights(file)
    fitting = {
        name: t for name, t in tensors.items() if name in own and own[name].shape == t.shape and name not in apart
    }
    missing = [name for name in own if name.startswith("backbone.") and name not in fitting]
    if missing:
        why = f"{missing[0]} is missing or of another shape"
        if source is not None and source.backbone.name != method.backbone.name:
            why = f"it is of a model on {source.backbone.name}; set model.backbone to {source.backbone.name}"
        raise UserError(f"{file} holds no weights of the backbone {method.backbone.name}: {why}.")
    method.load_state_dict(fitting, strict=False)


def weights_of_classes(recipe: Recipe, method: Method) -> set[str]:
    """Names of the weights of which each class has its own: those whose shape another class would change."""
    plain = recipe.model.model_copy(update={"frozen_norm": False})  # folding layers looks at values, and there are none
    with torch.device("meta"):
        other = build_method(recipe.method, plain, (*method.classes, "one more"), weights="none").state_dict()
    return {name for name, tensor in method.state_dict().items() if name in other and other[name].shape != tensor.shape}
