"""Opening a trained model."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import safe_open

from tagseg.devices import AUTO, choose_device
from tagseg.errors import UserError
from tagseg.foreign import read_json, reading, shown
from tagseg.methods import find_method, own_name
from tagseg.methods.build import ModelSettings, build_method
from tagseg.prediction.hub import fetch, is_address
from tagseg.prediction.model_card import check_training
from tagseg.prediction.segmenter import Segmenter
from tagseg.prediction.settings import PredictSettings
from tagseg.run_folder import RunFolder
from tagseg.weights import FIX, KIND, check_weights, load_weights

MOST_CLASSES = 255  # with background: what a mask of 8 bits can tell apart
HEADER = "tagseg"  # the key of a bare file's header under which the model is described


def load(path: str | Path, *, device: str | torch.device = AUTO) -> Segmenter:
    """The trained model of a run folder, of a file that `tagseg export --format safetensors` wrote, or of the Hub.

    path: also `hf://owner/name` or `hf://owner/name@revision`, which is fetched once and then found without a network.
    The folder of a chain stands for its last stage.
    device: where it computes: auto (a CUDA GPU where there is one), cpu, cuda, cuda:N or mps. Nothing stored is executed.
    Raises UserError when there is no finished model, its description doesn't fit, or the device is not there.
    """
    path, where = fetch(path) if is_address(path) else Path(path), choose_device(device)
    run = RunFolder(path.parent) if path.is_file() else RunFolder.of(path)
    weights, card = path if path.is_file() else run.weights, run.model
    text = _header(weights) if path.is_file() else None
    if text is not None:
        card = weights
    elif not card.is_file() or not weights.is_file():
        kept = RunFolder(run.replaced)
        before = f"; the run that is being replaced is {kept.path}" if kept.model.is_file() else ""
        raise UserError(
            f"{path} holds no finished model ({run.model.name}, {run.weights.name}): use `tagseg train`{before}."
        )
    with reading(card, "the description of a model of this version of tagseg", "train or export it anew"):
        facts = read_json(card, "JSON") if text is None else json.loads(text)
        chosen = facts.pop("method")
        method_class = find_method(chosen["name"], stored=True)
        settings = method_class.Settings.model_validate(chosen | {"name": own_name(method_class)})
        settings = settings.model_copy(update={"name": chosen["name"]})
        about = facts.pop("model")
        model = ModelSettings(backbone=about["backbone"], output_stride=about["output_stride"], weights="none")
        predict = PredictSettings.model_validate(facts.pop("predict"))
        names = facts.pop("classes")
        is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
        if not is_list or not 2 <= len(names) <= MOST_CLASSES or len(set(names)) < len(names):
            raise ValueError(f"its classes are no {MOST_CLASSES} or fewer different names: {shown(names)}")
        classes = tuple(names[1:])
        check_training(facts)
        # Without memory first: a description may ask for anything, and the weights show what is really there.
        with torch.device("meta"):
            plan = build_method(settings, model.model_copy(update={"frozen_norm": False}), classes)
        check_weights(weights, plan)
        method = build_method(settings, model, classes)
    method.backbone.license = str(about.get("license", about.get("licence", "")))
    load_weights(weights, method)
    segmenter = Segmenter(method.to(where), predict, facts)
    segmenter.places = (path,) if path.is_file() else tuple(run.places())
    return segmenter


def is_described(file: Path) -> bool:
    """Whether a file of weights says which model it is of, in its header or beside it, as in a run folder."""
    if file.suffix != ".safetensors" or not file.is_file():
        return False
    run = RunFolder(file.parent)
    return (file.name == run.weights.name and run.model.is_file()) or _header(file) is not None


def _header(file: Path) -> str | None:
    """The description in the header of a bare .safetensors file, where it has one."""
    if file.suffix != ".safetensors":
        raise UserError(
            f"{file} is no model that can be loaded: give a run folder, or a .safetensors file of `tagseg export`."
        )
    with reading(file, KIND, FIX), safe_open(file, framework="pt") as content:
        return (content.metadata() or {}).get(HEADER)
