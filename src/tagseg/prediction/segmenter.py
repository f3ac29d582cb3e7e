"""A trained model as a person uses it: a photo in, a mask out.

Shapes: K classes with background, C = K - 1 tags, B photos of one size, H W pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor

from tagseg.data.given import GivenPhoto, as_photo, check_many
from tagseg.devices import choose_device, is_out_of_memory, memory_sentence
from tagseg.errors import UserError
from tagseg.files import to_json, write_text
from tagseg.interrupt import check
from tagseg.mask_values import BACKGROUND
from tagseg.methods import Method
from tagseg.prediction.expected import Expected
from tagseg.prediction.hub import push
from tagseg.prediction.maps import (
    device_of,
    refine_probabilities,
    refined_photo,
    resized_window,
    working_probabilities,
)
from tagseg.prediction.prediction import Prediction
from tagseg.prediction.settings import PredictSettings
from tagseg.prediction.tiling import Window, blend_tiles
from tagseg.prediction.work import ADVICE, BATCH, Batches, batched_map, workers_of
from tagseg.run_folder import RunFolder
from tagseg.settings import first_fault, merged
from tagseg.threads import ordered_map

WHOLE = 4  # photos up to so many tiles are read in one piece
KEPT_BYTES = 1 << 30  # probabilities beyond that are not kept
Request = tuple[NDArray[np.uint8], Sequence[str] | None]
GivenRequest = GivenPhoto | tuple[GivenPhoto, Sequence[str] | None]


class Segmenter:
    """A method with its weights and its way of reading a photo.

    tile: side in pixels of the tiles in which photos of more than four tiles' area are read. batch: photos of one size
    that go through the model together, at most; None: by the device, 1 on a CPU. facts: what else is known of the model,
    such as its training and scores. places: files and folders of the model, where no result may go.
    """

    def __init__(
        self,
        method: Method,
        settings: PredictSettings | dict[str, Any] | None = None,
        facts: dict[str, Any] | None = None,
    ) -> None:
        self.method = method.eval()
        self.settings = PredictSettings.model_validate(settings or PredictSettings(), from_attributes=True)
        self.classes = (BACKGROUND, *method.classes)
        self.facts = facts or {}
        self.tile = 1024
        self.batch: int | None = None
        self.places: tuple[Path, ...] = ()

    def __repr__(self) -> str:
        names = ", ".join(self.classes[1:])
        return f"Segmenter({self.method.settings.name}, {len(self.classes) - 1} classes: {names}, on {self.device})"

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return device_of(self.method)

    def to(self, device: torch.device | str) -> Segmenter:
        """Move the model to a device: cpu, cuda, cuda:N, mps, or auto. Raises UserError for one that is not there."""
        self.method.to(choose_device(device))
        return self

    def set(self, **settings: Any) -> Segmenter:
        """Change how photos are read: the fields of PredictSettings, scales also as text ("0.5,1"); None: as it is.

        Of a block such as crf={"iterations": 10} only the keys that are given change.

        Of long_side and short_side the one that is given takes the other's place.
        Raises UserError for a value that is not possible.
        """
        given = {key: value for key, value in settings.items() if value is not None}
        if isinstance(given.get("scales"), str):
            given["scales"] = given["scales"].split(",")
        if len(sides := given.keys() & {"long_side", "short_side"}) == 1:
            given |= dict.fromkeys({"long_side", "short_side"} - sides)
        try:
            self.settings = PredictSettings.model_validate(merged(self.settings.model_dump(), given))
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
            return self._predict_tiled((photo, tags), crf, workers_of(self.device))
        return self._predict_one((photo, tags), crf, threads=None)

    def predict_many(self, requests: Iterable[GivenRequest], *, crf: bool = True) -> Iterator[Prediction]:
        """Predictions of many photos of any sizes, in their order; each alone, or as (photo, tags).

        Photos are given as to `predict`.
        On a CPU several photos are worked at at once, one a core; a GPU takes those of one size together, and fewer
        after it has run out of memory. Only some photos are taken from `requests` ahead of the prediction that is due.
        Results are those of `predict`. Raises UserError where one photo alone does not fit into memory.
        """
        check_many(requests)
        workers, batches = workers_of(self.device), self.batches()
        for tiled, group in groupby(map(_request, requests), lambda request: self.is_tiled(request[0])):
            if tiled:
                yield from (self._predict_tiled(request, crf, workers) for request in group)
            elif batches.most > 1:
                yield from batched_map(
                    partial(self.predict_batch, crf=crf),
                    group,
                    batches,
                    kind=lambda request: (request[0].shape, request[1] is None),
                    pixels=lambda request: request[0].shape[0] * request[0].shape[1],
                    held=lambda request: (4 * len(self.classes) + 8) * request[0].shape[0] * request[0].shape[1],
                    what=lambda request: named(request[0]),
                )
            else:
                yield from ordered_map(
                    partial(self._predict_one, crf=crf, threads=own_threads(workers)), group, workers
                )

    def batches(self) -> Batches:
        """Batches for the model's device: photos one by one on a CPU."""
        return Batches(self.device, self.batch or (1 if self.device.type == "cpu" else BATCH))

    def _predict_one(self, request: Request, crf: bool, threads: int | None) -> Prediction:
        work = partial(self.predict_batch, crf=crf, threads=threads)
        return self.batches().run(work, [request], pixels=1, what=named(request[0]))[0]

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
            for i, probability in zip(group, self.full_size(photo_BHW3, tag_BC), strict=True):
                maps[i] = probability
        photos = [photo for photo, _ in requests]
        refined = refine_probabilities(self.settings, photos, maps, threads) if crf else maps
        return [self._prediction(*of_photo) for of_photo in zip(photos, maps, refined, strict=True)]

    def _prediction(self, photo: NDArray[np.uint8], before_KHW: Tensor, probability_KHW: Tensor) -> Prediction:
        # torch's max finds the same class as its argmax, in a quarter of the time on a CPU
        best_HW, best_class_HW = probability_KHW.max(0)
        mask_HW = best_class_HW.to(torch.uint8).cpu().numpy()
        return Prediction(
            mask_HW,
            probability_KHW,
            self.classes,
            best_HW.float().cpu().numpy(),
            Expected.of(before_KHW, mask_HW, photo).photo,
        )

    def full_size(self, photo_BHW3: Tensor, tag_BC: Tensor | None) -> Tensor:
        """Probabilities (B, K, H, W) of photos that are read whole, before the CRF, at the photos' own size."""
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
        if self.settings.working_size(*size) != size:  # the model sees it small; only the enlarging goes by tiles
            whole_Khw = working_probabilities(self.method, self.settings, torch.from_numpy(photo)[None], tag_1C)[0]
            small = refined_photo(self.settings, photo)
            if crf and small is not photo:  # and so does the CRF
                whole_Khw = resized_window(whole_Khw, small.shape[:2], Window(0, small.shape[0], 0, small.shape[1]))
                (whole_Khw,), crf = refine_probabilities(self.settings, [small], [whole_Khw], workers), False

        def read(window: Window) -> Tensor:
            check()
            part = np.ascontiguousarray(photo[window.slices])
            if whole_Khw is None:
                probability = working_probabilities(self.method, self.settings, torch.from_numpy(part)[None], tag_1C)[0]
            else:
                probability = resized_window(whole_Khw, size, window)
            if not crf:
                return probability
            return refine_probabilities(self.settings, [part], [probability], own_threads(workers))[0]

        try:
            yield from blend_tiles(*size, len(self.classes), self.tile, read, workers)
            return
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        raise UserError(memory_sentence(f"A tile of {self.tile} pixels", self.device, ADVICE))

    def _predict_tiled(self, request: Request, crf: bool, workers: int) -> Prediction:
        photo, tags = request
        tag_C = None if tags is None else self.tag_vector(tags)
        mask = np.empty(photo.shape[:2], np.uint8)
        best = np.empty(mask.shape, np.float32)
        kept = 4 * len(self.classes) * mask.size <= KEPT_BYTES
        probabilities = np.empty((len(self.classes), *mask.shape), np.float32) if kept else None
        for window, block_Khw in self._blocks(photo, tag_C, crf, workers):
            highest, label = block_Khw.max(0)
            mask[window.slices], best[window.slices] = label.to(torch.uint8).numpy(), highest.numpy()
            if probabilities is not None:
                probabilities[:, *window.slices] = block_Khw.numpy()
        return Prediction(mask, probabilities, self.classes, best)

    def tag_vector(self, tags: Sequence[str]) -> Tensor:
        """Names of tags as a (C,) vector of 0 and 1. Raises UserError for a name that the model does not know."""
        if isinstance(tags, str):
            raise UserError(f"tags should be a list of names, such as [{tags!r}], not a text.")
        tags = list(tags)
        unknown = [tag for tag in tags if tag not in self.method.classes]
        if unknown:
            known = ", ".join(self.method.classes)
            raise UserError(f"The model does not know the tag {unknown[0]!r}; it knows {known}.")
        return torch.tensor([float(name in tags) for name in self.method.classes])

    def probabilities(self, photo: NDArray[np.uint8], tag_C: Tensor | None = None) -> Tensor:
        """Probabilities (K, H, W) on the model's device before the CRF, merged over the settings' scales and flips."""
        if not self.is_tiled(photo):
            photo_1HW3 = torch.from_numpy(np.ascontiguousarray(photo))[None]
            return self.full_size(photo_1HW3, None if tag_C is None else tag_C[None])[0]
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
                "license": self.method.backbone.license,
            },
            "predict": self.settings.model_dump(mode="json"),
            **self.facts,
        }

    def push_to_hub(
        self,
        repo: str,
        *,
        private: bool | None = None,
        revision: str | None = None,
        token: str | None = None,
        message: str | None = None,
    ) -> str:
        """Upload the model with its card to the Hugging Face Hub as `owner/name`; returns what `tagseg.load` takes.

        private: of a repository that is not there yet. revision: a branch. token: else HF_TOKEN or `hf auth login`.
        Raises UserError when the Hub refuses.
        """
        return push(self, repo, private=private, revision=revision, token=token, message=message)

    def save(self, folder: Path, facts: dict[str, Any]) -> None:
        """Write model.json beside model.safetensors: `describe`, with facts such as the scores."""
        write_text(RunFolder(folder).model, to_json(self.describe() | facts, indent=2))


def own_threads(workers: int) -> int | None:
    """The threads of a photo's dense CRF where several photos are worked at at once; None: all."""
    return 1 if workers > 1 else None


def named(photo: NDArray[np.uint8]) -> str:
    """A photo in messages: by its size."""
    return f"A photo of {photo.shape[1]} x {photo.shape[0]} pixels"


def _request(given: GivenRequest) -> Request:
    if not isinstance(given, tuple):
        return as_photo(given), None
    if len(given) != 2:
        raise UserError(f"A request should be a photo or (photo, tags), not a tuple of {len(given)}.")
    return as_photo(given[0]), given[1]
