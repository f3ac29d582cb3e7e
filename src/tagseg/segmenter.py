"""A trained model as a person uses it: a photo in, a mask out.

Shapes: K classes with background, C = K - 1 tags, B photos of one size, H W pixels.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import safe_open
from torch import Tensor

from tagseg.backbones import create_backbone
from tagseg.data.given import GivenPhoto, as_photo
from tagseg.errors import UserError
from tagseg.files import to_json, write_text
from tagseg.foreign import read_json, reading, shown
from tagseg.inference import PredictSettings, class_mask, one_thread_a_photo, resized_window, working_probabilities
from tagseg.inference import refine_probabilities as refine_probabilities
from tagseg.interrupt import check
from tagseg.methods import METHODS, Method
from tagseg.recipe import ModelSettings, first_fault
from tagseg.run_folder import RunFolder
from tagseg.tiling import Window, blend_tiles, ordered_map
from tagseg.weights import FIX, KIND, check_weights, load_weights

BACKGROUND = "background"
HEADER = "tagseg"  # the key of a bare file's header under which the model is described
BATCH = 8  # photos that a GPU takes together
WHOLE = 4  # photos up to so many tiles are read in one piece
MOST_CLASSES = 255  # with background: what a mask of 8 bits can tell apart
KEPT_BYTES = 1 << 30  # probabilities beyond that are not kept
Request = tuple[NDArray[np.uint8], Sequence[str] | None]
GivenRequest = GivenPhoto | tuple[GivenPhoto, Sequence[str] | None]


@dataclass(frozen=True)
class Prediction:
    """What a model says of one photo.

    mask: (H, W) uint8, indices into `classes`. probabilities: (K, H, W) float32; None of a photo so large that they
    would take more than a gibibyte. classes: K names, the first "background".
    """

    mask: NDArray[np.uint8]
    probabilities: NDArray[np.float32] | None
    classes: tuple[str, ...]


class Segmenter:
    """A method with its weights and its way of reading a photo.

    tile: side in pixels of the tiles in which photos of more than four tiles' area are read. facts: what else is known
    of the model, such as its training and scores. places: files and folders of the model, where no result may go.
    """

    def __init__(self, method: Method, settings: Any = None, facts: dict[str, Any] | None = None) -> None:
        self.method = method.eval()
        self.settings = PredictSettings.model_validate(settings or PredictSettings(), from_attributes=True)
        self.classes = (BACKGROUND, *method.classes)
        self.facts = facts or {}
        self.tile = 1024
        self.places: tuple[Path, ...] = ()

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return next(self.method.parameters()).device

    def to(self, device: torch.device | str) -> Segmenter:
        """Move the model to a device."""
        self.method.to(device)
        return self

    def set(self, **settings: Any) -> Segmenter:
        """Change how photos are read: the fields of PredictSettings, scales also as text ("0.5,1"); None: as it is.

        Raises UserError for a value that is not possible.
        """
        given = {key: value for key, value in settings.items() if value is not None}
        if isinstance(given.get("scales"), str):
            given["scales"] = given["scales"].split(",")
        try:
            self.settings = PredictSettings.model_validate(self.settings.model_dump() | given)
        except ValidationError as error:
            raise UserError(f"{first_fault(error)}.") from error
        return self

    def predict(self, image: GivenPhoto, *, tags: Sequence[str] | None = None, crf: bool = True) -> Prediction:
        """The mask of one photo: an (H, W, 3) uint8 RGB array or tensor, a PIL image, a file's path or its bytes.

        tags: names of the classes known to be present; without them all classes compete. crf: whether the recipe's
        dense CRF refines the result. Raises UserError for a file that is no photo, a wrong array, an unknown tag.
        """
        photo = as_photo(image)
        if self.is_tiled(photo):
            with one_thread_a_photo(self.device) as workers:
                return self._predict_tiled((photo, tags), crf, workers)
        return self.predict_batch([(photo, tags)], crf)[0]

    def predict_many(self, requests: Iterable[GivenRequest], *, crf: bool = True) -> Iterator[Prediction]:
        """Predictions of many photos of any sizes, in their order; each alone, or as (photo, tags).

        Photos are given as to `predict`.
        On a CPU several photos are worked at at once, one a core; a GPU takes those of one size together. Only a few
        photos are taken from `requests` ahead of the prediction that is due. Results are those of `predict`.
        """
        with one_thread_a_photo(self.device) as workers:
            for tiled, group in groupby(map(_request, requests), lambda request: self.is_tiled(request[0])):
                if tiled:
                    yield from (self._predict_tiled(request, crf, workers) for request in group)
                elif self.device.type == "cpu":
                    one = partial(self._predict_one, crf=crf, threads=1 if workers > 1 else None)
                    yield from ordered_map(one, group, workers)
                else:
                    while batch := list(islice(group, BATCH)):
                        yield from self.predict_batch(batch, crf)

    def _predict_one(self, request: Request, crf: bool, threads: int | None) -> Prediction:
        return self.predict_batch([request], crf, threads)[0]

    def predict_batch(
        self, requests: Sequence[Request], crf: bool = True, threads: int | None = None
    ) -> list[Prediction]:
        """Predictions of photos that fit into memory together; those of one size go through the model as one batch."""
        places: dict[tuple[Any, ...], list[int]] = {}
        for i, (photo, tags) in enumerate(requests):
            places.setdefault((photo.shape, tags is None), []).append(i)
        maps: list[Tensor] = [torch.empty(0)] * len(requests)
        for group in places.values():
            photo_BHW3 = torch.stack([torch.from_numpy(np.ascontiguousarray(requests[i][0])) for i in group])
            given = [tags for i in group if (tags := requests[i][1]) is not None]
            tag_BC = torch.stack([self.tag_vector(tags) for tags in given]) if given else None
            for i, probability in zip(group, self._full_size(photo_BHW3, tag_BC), strict=True):
                maps[i] = probability
        if crf:
            maps = refine_probabilities(self.settings, [photo for photo, _ in requests], maps, threads)
        return [Prediction(class_mask(p), p.float().cpu().numpy(), self.classes) for p in maps]

    def _full_size(self, photo_BHW3: Tensor, tag_BC: Tensor | None) -> Tensor:
        probability_BKhw = working_probabilities(self.method, self.settings, photo_BHW3, tag_BC)
        window = Window(0, photo_BHW3.shape[1], 0, photo_BHW3.shape[2])
        if probability_BKhw.shape[2:] == (window.bottom, window.right):
            return probability_BKhw
        size = (window.bottom, window.right)
        return torch.stack([resized_window(probability, size, window) for probability in probability_BKhw])

    def is_tiled(self, photo: NDArray[np.uint8]) -> bool:
        """Whether a photo is so large that it is read tile by tile, the dense CRF within each tile as well."""
        return photo.shape[0] * photo.shape[1] > WHOLE * self.tile**2

    def _blocks(
        self, photo: NDArray[np.uint8], tag_C: Tensor | None, crf: bool, workers: int
    ) -> Iterator[tuple[Window, Tensor]]:
        """The finished blocks of a large photo's probabilities."""
        size = (photo.shape[0], photo.shape[1])
        tag_1C = None if tag_C is None else tag_C[None]
        whole_Khw: Tensor | None = None
        if self.settings.long_side is not None:  # the model sees the photo small; only the enlarging goes by tiles
            whole_Khw = working_probabilities(self.method, self.settings, torch.from_numpy(photo)[None], tag_1C)[0]

        def read(window: Window) -> Tensor:
            check()
            part = np.ascontiguousarray(photo[window.slices])
            if whole_Khw is None:
                probability = working_probabilities(self.method, self.settings, torch.from_numpy(part)[None], tag_1C)[0]
            else:
                probability = resized_window(whole_Khw, size, window)
            threads = 1 if workers > 1 else None
            return refine_probabilities(self.settings, [part], [probability], threads)[0] if crf else probability

        return blend_tiles(*size, len(self.classes), self.tile, read, workers)

    def _predict_tiled(self, request: Request, crf: bool, workers: int) -> Prediction:
        photo, tags = request
        tag_C = None if tags is None else self.tag_vector(tags)
        mask = np.empty(photo.shape[:2], np.uint8)
        kept = 4 * len(self.classes) * mask.size <= KEPT_BYTES
        probabilities = np.empty((len(self.classes), *mask.shape), np.float32) if kept else None
        for window, block_Khw in self._blocks(photo, tag_C, crf, workers):
            mask[window.slices] = class_mask(block_Khw)
            if probabilities is not None:
                probabilities[:, *window.slices] = block_Khw.numpy()
        return Prediction(mask, probabilities, self.classes)

    def tag_vector(self, tags: Sequence[str]) -> Tensor:
        """Names of tags as a (C,) vector of 0 and 1."""
        unknown = [tag for tag in tags if tag not in self.method.classes]
        if unknown:
            known = ", ".join(self.method.classes)
            raise UserError(f"The model does not know the tag {unknown[0]!r}; it knows {known}.")
        return torch.tensor([float(name in tags) for name in self.method.classes])

    def probabilities(self, photo: NDArray[np.uint8], tag_C: Tensor | None = None) -> Tensor:
        """Probabilities (K, H, W) on the model's device before the CRF, merged over the settings' scales and flips."""
        if not self.is_tiled(photo):
            photo_1HW3 = torch.from_numpy(np.ascontiguousarray(photo))[None]
            return self._full_size(photo_1HW3, None if tag_C is None else tag_C[None])[0]
        whole_KHW = torch.empty(len(self.classes), *photo.shape[:2])
        for window, block_Khw in self._blocks(photo, tag_C, crf=False, workers=1):
            whole_KHW[:, *window.slices] = block_Khw
        return whole_KHW.to(self.device)

    def refine(self, photos: Sequence[NDArray[np.uint8]], probabilities: Sequence[Tensor]) -> list[Tensor]:
        """The settings' dense CRF over several photos at once; a label with probability 0 everywhere stays out."""
        return refine_probabilities(self.settings, photos, probabilities)

    def describe(self) -> dict[str, Any]:
        """Classes, method, model, prediction, and the facts: what `load` needs besides the weights, and more."""
        return {
            "classes": list(self.classes),
            "method": self.method.settings.model_dump(mode="json"),
            "model": {
                "backbone": self.method.backbone.name,
                "output_stride": self.method.backbone.output_stride,
                "licence": self.method.backbone.licence,
            },
            "predict": self.settings.model_dump(mode="json"),
            **self.facts,
        }

    def save(self, folder: Path, facts: dict[str, Any]) -> None:
        """Write model.json beside model.safetensors: `describe`, with facts such as the scores."""
        write_text(RunFolder(folder).model, to_json(self.describe() | facts, indent=2))


def _request(given: GivenRequest) -> Request:
    if not isinstance(given, tuple):
        return as_photo(given), None
    if len(given) != 2:
        raise UserError(f"A request should be a photo or (photo, tags), not a tuple of {len(given)}.")
    return as_photo(given[0]), given[1]


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
            raise UserError(f"model.frozen: no part of the backbone {model.backbone} starts with {prefix!r}.")
        for parameter in part:
            parameter.requires_grad_(False)
    build: Any = METHODS[settings.name]  # every method takes its own kind of settings
    return build(backbone, classes, settings)


def load(path: str | Path) -> Segmenter:
    """The trained model of a run folder, or of a file that `tagseg export --format safetensors` wrote.

    The folder of a chain stands for its last stage. Nothing stored is executed.
    Raises UserError when there is no finished model, or its description doesn't fit.
    """
    path = Path(path)
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
        settings = METHODS[chosen["name"]].Settings.model_validate(chosen)
        about = facts.pop("model")
        model = ModelSettings(backbone=about["backbone"], output_stride=about["output_stride"], weights="none")
        predict = PredictSettings.model_validate(facts.pop("predict"))
        names = facts.pop("classes")
        is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
        if not is_list or not 2 <= len(names) <= MOST_CLASSES or len(set(names)) < len(names):
            raise ValueError(f"its classes are no {MOST_CLASSES} or fewer different names: {shown(names)}")
        classes = tuple(names[1:])
        # Without memory first: a description may ask for anything, and the weights show what is really there.
        with torch.device("meta"):
            plan = build_method(settings, model.model_copy(update={"frozen_norm": False}), classes)
        check_weights(weights, plan)
        method = build_method(settings, model, classes)
    method.backbone.licence = str(about.get("licence", ""))
    load_weights(weights, method)
    segmenter = Segmenter(method, predict, facts)
    segmenter.places = (path,) if path.is_file() else tuple(run.places())
    return segmenter


def _header(file: Path) -> str | None:
    """The description in the header of a bare .safetensors file, where it has one."""
    if file.suffix != ".safetensors":
        raise UserError(
            f"{file} is no model that can be loaded: give a run folder, or a .safetensors file of `tagseg export`."
        )
    with reading(file, KIND, FIX), safe_open(file, framework="pt") as content:
        return (content.metadata() or {}).get(HEADER)
