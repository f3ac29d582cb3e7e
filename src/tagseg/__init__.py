"""Weakly supervised semantic segmentation: photos with image-level tags in, pixel masks and a trained model out."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tagseg.cores import wait_quietly

__version__ = "0.1.0"
wait_quietly()

if TYPE_CHECKING:
    from tagseg.recipe import load_recipe
    from tagseg.segmenter import load
    from tagseg.workflows.evaluate import evaluate
    from tagseg.workflows.label import label
    from tagseg.workflows.predict import predict
    from tagseg.workflows.train import train

_WHERE = {
    "load_recipe": "tagseg.recipe",
    "load": "tagseg.segmenter",
    "evaluate": "tagseg.workflows.evaluate",
    "label": "tagseg.workflows.label",
    "predict": "tagseg.workflows.predict",
    "train": "tagseg.workflows.train",
}

__all__ = ["__version__", "evaluate", "label", "load", "load_recipe", "predict", "train"]


def __getattr__(name: str) -> Any:
    # Imported on first use, so that `import tagseg` and `tagseg --help` stay quick.
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'tagseg' has no attribute {name!r}")
