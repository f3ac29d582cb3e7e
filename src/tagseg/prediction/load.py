"""Opening a trained model."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open

from tagseg.devices import AUTO, choose_device
from tagseg.engine.checkpoint import load_weights
from tagseg.errors import UserError
from tagseg.methods import METHODS
from tagseg.methods.build import ModelSettings, build_method
from tagseg.prediction.segmenter import Segmenter
from tagseg.prediction.settings import PredictSettings

HEADER = "tagseg"  # the key of a bare file's header under which the model is described


def load(path: str | Path, *, device: str | torch.device = AUTO) -> Segmenter:
    """The trained model of a run folder, or of a file that `tagseg export --format safetensors` wrote.

    device: where it computes: auto (a CUDA GPU where there is one), cpu, cuda, cuda:N or mps. Nothing stored is executed.
    Raises UserError when there is no finished model, its description doesn't fit, or the device is not there.
    """
    path, where = Path(path), choose_device(device)
    weights = path if path.is_file() else path / "model.safetensors"
    card = weights.with_name("model.json")
    text = _header(weights) if path.is_file() else None
    if text is not None:
        card = weights
    elif not card.is_file() or not weights.is_file():
        raise UserError(f"{path} holds no finished model (model.json, model.safetensors): use `tagseg train`.")
    try:
        facts = json.loads(card.read_text(encoding="utf-8") if text is None else text)
        chosen = facts.pop("method")
        settings = METHODS[chosen["name"]].Settings.model_validate(chosen)
        about = facts.pop("model")
        model = ModelSettings(backbone=about["backbone"], output_stride=about["output_stride"], weights="none")
        predict = PredictSettings.model_validate(facts.pop("predict"))
        classes = tuple(facts.pop("classes")[1:])
    except (ValueError, KeyError, TypeError, AttributeError, OSError, ValidationError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{card} does not describe a model of this version of tagseg: {reason}.") from error
    method = build_method(settings, model, classes)
    method.backbone.licence = str(about.get("licence", ""))
    load_weights(weights, method)
    return Segmenter(method.to(where), predict, facts)


def _header(file: Path) -> str | None:
    """The description in the header of a bare .safetensors file, where it has one."""
    if file.suffix != ".safetensors":
        raise UserError(
            f"{file} is no model that can be loaded: give a run folder, or a .safetensors file of `tagseg export`."
        )
    try:
        with safe_open(file, framework="pt") as content:
            return (content.metadata() or {}).get(HEADER)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file} cannot be read as safetensors ({error}): it is damaged or of another kind.") from error
