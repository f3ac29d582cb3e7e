"""Where losses were before `tagseg.losses`, for methods outside tagseg that import them from here."""

from __future__ import annotations

import warnings
from typing import Any

from tagseg import losses, resize

_RENAMED = {"upsample": resize.upsample, "tag_loss": losses.tag_loss, "labelled_mean": losses.labeled_mean}


def __getattr__(name: str) -> Any:
    if name not in _RENAMED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}: see tagseg.losses")
    now = _RENAMED[name]
    warnings.warn(f"{name} is now {now.__module__}.{now.__name__}", DeprecationWarning, stacklevel=2)
    return now
