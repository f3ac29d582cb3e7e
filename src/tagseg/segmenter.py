"""A trained model as a person uses it: a photo in, a mask out.

Shapes: K classes with background, C = K - 1 tags, H W pixels.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor

from tagseg.backbones import create_backbone
from tagseg.data.photo import read_photo
from tagseg.engine.checkpoint import load_weights, write_text_atomically
from tagseg.errors import UserError
from tagseg.methods import METHODS, Method
from tagseg.recipe import ModelSettings, PredictSettings
from tagseg.refine import dense_crf

BACKGROUND = "background"


@dataclass(frozen=True)
class Prediction:
    """What a model says of one photo.

    mask: (H, W) uint8, indices into `classes`. probabilities: (K, H, W) float32. classes: K names, the first "background".
    """

    mask: NDArray[np.uint8]
    probabilities: NDArray[np.float32]
    classes: tuple[str, ...]


class Segmenter:
    """A method with its weights and its way of reading a photo."""

    def __init__(self, method: Method, settings: PredictSettings | None = None) -> None:
        self.method = method.eval()
        self.settings = settings or PredictSettings()
        self.classes = (BACKGROUND, *method.classes)

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return next(self.method.parameters()).device

    def to(self, device: torch.device | str) -> Segmenter:
        """Move the model to a device."""
        self.method.to(device)
        return self

    def predict(
        self, image: NDArray[np.uint8] | str | Path, *, tags: Sequence[str] | None = None, crf: bool = True
    ) -> Prediction:
        """The mask of one photo, an (H, W, 3) uint8 RGB array or a file.

        tags: names of the classes known to be present; without them all classes compete. crf: whether the recipe's dense
        CRF refines the result. Raises UserError for a file that is no photo, a wrong array, an unknown tag.
        """
        photo = image if isinstance(image, np.ndarray) else read_photo(Path(image))
        if photo.ndim != 3 or photo.shape[2] != 3 or photo.dtype != np.uint8:
            raise UserError(f"A photo should be an (H, W, 3) uint8 array, not {photo.shape} {photo.dtype}.")
        tag_C = None if tags is None else self.tag_vector(tags)
        probability_KHW = self.probabilities(photo, tag_C)
        if crf:
            probability_KHW = self.refine([photo], [probability_KHW])[0]
        mask = probability_KHW.argmax(0).to(torch.uint8).cpu().numpy()
        return Prediction(mask, probability_KHW.float().cpu().numpy(), self.classes)

    def tag_vector(self, tags: Sequence[str]) -> Tensor:
        """Names of tags as a (C,) vector of 0 and 1."""
        unknown = [tag for tag in tags if tag not in self.method.classes]
        if unknown:
            raise UserError(f"The model does not know the tag {unknown[0]!r}; it knows {', '.join(self.method.classes)}.")
        return torch.tensor([float(name in tags) for name in self.method.classes])

    @torch.inference_mode()
    def probabilities(self, photo: NDArray[np.uint8], tag_C: Tensor | None = None) -> Tensor:
        """Probabilities (K, H, W) on the model's device before the CRF, the mean over the scales and flips of the settings."""
        image_13HW = torch.from_numpy(photo).to(self.device).permute(2, 0, 1)[None].float() / 255
        height, width = photo.shape[:2]
        tag_1C = None if tag_C is None else tag_C[None].to(self.device)
        total = torch.zeros(len(self.classes), height, width, device=self.device)
        for scale in self.settings.scales:
            size = (max(round(height * scale), 1), max(round(width * scale), 1))
            scaled = image_13HW if scale == 1 else F.interpolate(image_13HW, size, mode="bilinear", align_corners=False)
            for flipped in (False, True) if self.settings.flip else (False,):
                view = scaled.flip(-1) if flipped else scaled
                if tag_1C is None:
                    probability = self.method.segment(view)
                else:
                    probability = self.method.segment_tagged(view, tag_1C)
                probability = probability.flip(-1) if flipped else probability
                total += F.interpolate(probability.float(), (height, width), mode="bilinear", align_corners=False)[0]
        return total / total.sum(0, keepdim=True)

    def refine(self, photos: Sequence[NDArray[np.uint8]], probabilities: Sequence[Tensor]) -> list[Tensor]:
        """The dense CRF of the settings over several photos at once; a label with probability 0 everywhere stays out."""
        return refine_probabilities(self.settings, photos, probabilities)

    def save(self, folder: Path, facts: dict[str, Any]) -> None:
        """Write model.json beside model.safetensors: classes, method, model, prediction, and facts such as the scores."""
        model = {
            "classes": list(self.classes),
            "method": self.method.settings.model_dump(mode="json"),
            "model": {
                "backbone": self.method.backbone.name,
                "output_stride": self.method.backbone.output_stride,
                "licence": self.method.backbone.licence,
            },
            "predict": self.settings.model_dump(mode="json"),
            **facts,
        }
        write_text_atomically(folder / "model.json", json.dumps(model, indent=2, ensure_ascii=False))


def refine_probabilities(
    settings: PredictSettings, photos: Sequence[NDArray[np.uint8]], probabilities: Sequence[Tensor]
) -> list[Tensor]:
    """The dense CRF over several photos, with the labels that have a probability anywhere (the others stay 0)."""
    crf = settings.crf
    if crf is None:
        return list(probabilities)
    present = [p.amax((1, 2)).nonzero().flatten() for p in probabilities]
    refined = dense_crf(
        [torch.from_numpy(photo).to(p.device) for photo, p in zip(photos, probabilities, strict=True)],
        [p[labels].contiguous() for p, labels in zip(probabilities, present, strict=True)],
        gaussian=crf.gaussian,
        bilateral=crf.bilateral,
        iterations=crf.iterations,
    )
    whole = []
    for probability, labels, marginal in zip(probabilities, present, refined, strict=True):
        result = torch.zeros_like(probability)
        result[labels] = marginal
        whole.append(result)
    return whole


def build_method(settings: Any, model: ModelSettings, classes: tuple[str, ...], weights: str | None = None) -> Method:
    """A method on its backbone, with the backbone's weights as the recipe says, or as `weights` says."""
    backbone = create_backbone(
        model.backbone,
        output_stride=model.output_stride,
        weights=weights or model.weights,
        frozen_norm=model.frozen_norm,
    )
    for prefix in model.frozen:
        part = [parameter for name, parameter in backbone.named_parameters() if name.startswith(prefix)]
        if not part:
            raise UserError(f"model.frozen: the backbone {model.backbone} has no part whose name starts with {prefix!r}.")
        for parameter in part:
            parameter.requires_grad_(False)
    return METHODS[settings.name](backbone, classes, settings)


def load(path: str | Path) -> Segmenter:
    """The trained model of a run folder. Nothing stored is executed.

    Raises UserError when the folder holds no finished model, or one that doesn't fit its description.
    """
    folder = Path(path)
    card, weights = folder / "model.json", folder / "model.safetensors"
    if not card.is_file() or not weights.is_file():
        raise UserError(f"{folder} holds no finished model (model.json and model.safetensors): train one with `tagseg train`.")
    try:
        facts = json.loads(card.read_text(encoding="utf-8"))
        settings = METHODS[facts["method"]["name"]].Settings.model_validate(facts["method"])
        model = ModelSettings(
            backbone=facts["model"]["backbone"], output_stride=facts["model"]["output_stride"], weights="none"
        )
        predict = PredictSettings.model_validate(facts["predict"])
        classes = tuple(facts["classes"][1:])
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise UserError(f"{card} does not describe a model of this version of tagseg: {' '.join(str(error).split())}.") from error
    method = build_method(settings, model, classes)
    load_weights(weights, method)
    return Segmenter(method, predict)
