"""Weakly supervised semantic segmentation: photos with image-level tags in, pixel masks and a trained model out."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tagseg.cores import wait_quietly

__version__ = "0.1.0"
wait_quietly()

if TYPE_CHECKING:
    from tagseg.api import check, evaluate, label, open_tagged, predict, run, train
    from tagseg.errors import UserError
    from tagseg.prediction.load import load
    from tagseg.prediction.prediction import Prediction
    from tagseg.prediction.segmenter import Segmenter
    from tagseg.recipe import Recipe, load_recipe
    from tagseg.refine.crf import dense_crf

_WHERE = {
    **dict.fromkeys(("check", "evaluate", "label", "open_tagged", "predict", "run", "train"), "tagseg.api"),
    "UserError": "tagseg.errors",
    "load": "tagseg.prediction.load",
    "Prediction": "tagseg.prediction.prediction",
    "Segmenter": "tagseg.prediction.segmenter",
    "Recipe": "tagseg.recipe",
    "load_recipe": "tagseg.recipe",
    "dense_crf": "tagseg.refine.crf",
}

__all__ = [
    "Prediction",
    "Recipe",
    "Segmenter",
    "UserError",
    "__version__",
    "check",
    "dense_crf",
    "evaluate",
    "label",
    "load",
    "load_recipe",
    "open_tagged",
    "predict",
    "run",
    "train",
]


def __getattr__(name: str) -> Any:
    # Imported on first use, so that `import tagseg` and `tagseg --help` stay quick.
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'tagseg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
