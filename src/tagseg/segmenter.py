"""A trained model as a person uses it: a photo in, a mask out. The parts stand in `prediction`."""

from __future__ import annotations

from tagseg.mask_values import BACKGROUND
from tagseg.methods.build import build_method
from tagseg.prediction.load import HEADER, load
from tagseg.prediction.prediction import Prediction
from tagseg.prediction.segmenter import GivenRequest, Request, Segmenter

__all__ = ["BACKGROUND", "HEADER", "GivenRequest", "Prediction", "Request", "Segmenter", "build_method", "load"]
