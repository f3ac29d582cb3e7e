"""A function for CVAT's own client, which labels the frames of a task.

cvat-cli task auto-annotate 42 --function-module tagseg.serve.cvat_function -p run=str:runs/mine --allow-unmatched-labels
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tagseg.extras import need
from tagseg.mask_values import IGNORE
from tagseg.outputs.polygons import trace

if TYPE_CHECKING:
    from PIL import Image

    from tagseg.segmenter import Segmenter


class CvatFunction:
    """Masks of a model, one a class and frame, as cvat_sdk's auto-annotation takes them; background is no object."""

    def __init__(self, segmenter: Segmenter) -> None:
        self.segmenter = segmenter
        self._cvat = need("cvat_sdk.auto_annotation", "cvat", "CVAT's auto-annotations")
        self._masks = need("cvat_sdk.masks", "cvat", "CVAT's auto-annotations")

    @property
    def spec(self) -> Any:
        """The labels that are found: the model's classes."""
        labels = [self._cvat.label_spec(name, k, type="any") for k, name in enumerate(self.segmenter.classes) if k]
        return self._cvat.DetectionFunctionSpec(labels=labels)

    def detect(self, context: Any, image: Image.Image) -> list[Any]:
        """The masks of one frame, or their outlines where the task asks for polygons, of classes that are sure enough."""
        prediction = self.segmenter.predict(np.array(image.convert("RGB")))
        least = context.conf_threshold or 0.0
        shapes = []
        for k in np.flatnonzero(np.bincount(prediction.mask.ravel(), minlength=256)[:IGNORE]).tolist():
            inside = prediction.mask == k
            if k == 0 or float(prediction.confidence[inside].mean()) < least:
                continue
            if context.conv_mask_to_poly:
                shapes += [self._cvat.polygon(k, ring.ravel().astype(float).tolist()) for ring in trace(inside)]
            else:
                shapes.append(self._cvat.mask(k, self._masks.encode_mask(inside)))
        return shapes


def create(run: str) -> CvatFunction:
    """The function with the model of a run folder; cvat-cli calls it with `-p run=str:FOLDER`."""
    from tagseg.segmenter import load

    return CvatFunction(load(run))
