"""What is looked at while training: scores and overlays of a few validation photos."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tagseg.data.palette import overlay
from tagseg.data.tagged import TaggedImages
from tagseg.methods import Method
from tagseg.prediction.score import score_branches, spread_indices
from tagseg.prediction.segmenter import Segmenter
from tagseg.prediction.settings import PredictSettings
from tagseg.recipe import Recipe


class Evaluation:
    """The scores shown while training: `segment` without tags, before the CRF, on a fixed choice of photos."""

    def __init__(self, data: TaggedImages, recipe: Recipe, photos: int = 100) -> None:
        chosen = tuple(data.photos[i] for i in spread_indices(photos, 0, len(data)))
        self.data, self.recipe = replace(data, photos=chosen), recipe

    def __call__(self, method: Method, step: int) -> dict[str, float]:
        """The mIoU, by the name under which it is logged."""
        scores = score_branches(method, self.data, self.recipe.predict, crf=False, only_final=True)
        return {"miou": next(iter(scores.values())).total.miou}


class Pictures:
    """Overlays of a few photos for TensorBoard."""

    def __init__(self, data: TaggedImages, photos: int = 4) -> None:
        self.data, self.indices = data, list(spread_indices(photos, 0, len(data)))

    def __call__(self, method: Method, step: int) -> dict[str, NDArray[np.uint8]]:
        """The overlays by the photos' names."""
        was_training, pictures = method.training, {}
        segmenter = Segmenter(method, PredictSettings(crf=None))
        for index in self.indices:
            photo = self.data.photo(index)
            pictures[self.data.photos[index].name] = overlay(photo, segmenter.predict(photo).mask)
        method.train(was_training)
        return pictures
