"""What is done to each photo of a plan: the one thing in which `predict`, `label` and `refine` by shards differ.

Shapes: H W pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tagseg.mask_values import IGNORE
from tagseg.outputs.confidence import Sureness
from tagseg.scale.photos import Photo
from tagseg.scale.places import Place
from tagseg.segmenter import Prediction, Segmenter

UNNAMED = ("background", *map(str, range(1, IGNORE)))
"""The classes of masks whose numbers have no names."""


def named(classes: tuple[str, ...]) -> tuple[str, ...]:
    """The classes up to the last that has a name, with background; none where no number has one."""
    last = max((k for k, name in enumerate(classes) if k >= len(UNNAMED) or name != UNNAMED[k]), default=-1)
    return classes[: last + 1]


@dataclass(frozen=True)
class Result:
    """mask: uint8 (H, W). sure: of it; None: not known."""

    mask: NDArray[np.uint8]
    sure: Sureness | None = None


class Job(ABC):
    """name: of the command. classes: of the masks, with background.

    made_by: a digest of all that results depend on but the photos. same: a digest of that less the largest photo that is
    read, which a retry may raise. places: files and folders where no result may go.
    device: where it computes.
    """

    name: str
    classes: tuple[str, ...]
    made_by: str
    same: str
    places: tuple[Path, ...]
    device: torch.device

    @abstractmethod
    def read(self, photo: Photo, places: dict[str, Place]) -> Any:
        """What `one` and `many` take of a photo. Raises UserError that names it where it cannot be read."""

    @abstractmethod
    def one(self, item: Any) -> Result:
        """The result of one photo."""

    @abstractmethod
    def many(self, items: Iterable[Any]) -> Iterator[Result]:
        """Results in the order of the items, only a few of which are taken ahead of the result that is due."""


class Segmenting(Job):
    """A model's masks, with the tags that the plan has for a photo.

    same: a digest of the model and its settings, made_by of pixel_cap too, the largest photo that is read. sure: a pixel whose
    likeliest class has a probability below it becomes 255.
    """

    def __init__(
        self,
        name: str,
        segmenter: Segmenter,
        made_by: str,
        same: str,
        *,
        crf: bool = True,
        pixel_cap: int,
        sure: float = 0.0,
    ) -> None:
        self.name, self.segmenter, self.made_by, self.same = name, segmenter, made_by, same
        self.classes, self.places, self.device = segmenter.classes, segmenter.places, segmenter.device
        self.crf, self.pixel_cap, self.sure = crf, pixel_cap, sure

    def read(self, photo: Photo, places: dict[str, Place]) -> tuple[NDArray[np.uint8], tuple[str, ...] | None]:
        """Its pixels and tags."""
        return photo.read(places, pixel_cap=self.pixel_cap), photo.tags

    def one(self, item: tuple[NDArray[np.uint8], tuple[str, ...] | None]) -> Result:
        """As `Segmenter.predict`."""
        return self._result(self.segmenter.predict(item[0], tags=item[1], crf=self.crf))

    def many(self, items: Iterable[tuple[NDArray[np.uint8], tuple[str, ...] | None]]) -> Iterator[Result]:
        """As `Segmenter.predict_many`."""
        yield from map(self._result, self.segmenter.predict_many(items, crf=self.crf))

    def _result(self, prediction: Prediction) -> Result:
        mask = prediction.mask
        if self.sure > 0:
            mask = np.where(prediction.confidence >= self.sure, mask, np.uint8(IGNORE))
        return Result(mask, prediction.sureness)
