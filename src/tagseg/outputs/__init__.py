"""Formats in which masks leave: each one a Writer, fed photo by photo."""

from tagseg.outputs.masks import Overlays, OverlaysPNG, PaletteMasks
from tagseg.outputs.writer import Writer

OUTPUTS: dict[str, type[Writer]] = {
    "png": PaletteMasks,
    "overlay": Overlays,
    "overlay-png": OverlaysPNG,
}

__all__ = ["OUTPUTS", "Writer"]
