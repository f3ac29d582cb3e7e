"""Cues for supervision: class activation maps, labels made from them, the pulse wave. Two losses keep their old names here."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tagseg.cues.cam import multi_scale_cam, normalize_cam
    from tagseg.cues.pulse import PulseWave
    from tagseg.cues.reliable import ReliableSettings, reliable_labels
    from tagseg.losses.affinity import affinity_loss
    from tagseg.losses.correspondence import correspondence_loss

_HOME = {
    "PulseWave": "tagseg.cues.pulse",
    "multi_scale_cam": "tagseg.cues.cam",
    "normalize_cam": "tagseg.cues.cam",
    "normalise_cam": "tagseg.cues.cam",  # its name before
    "reliable_labels": "tagseg.cues.reliable",
    "ReliableSettings": "tagseg.cues.reliable",
    "correspondence_loss": "tagseg.losses.correspondence",
    "affinity_loss": "tagseg.losses.affinity",
}
__all__ = [
    "PulseWave",
    "ReliableSettings",
    "affinity_loss",
    "correspondence_loss",
    "multi_scale_cam",
    "normalize_cam",
    "reliable_labels",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
