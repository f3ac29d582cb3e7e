"""Formats in which masks leave: each one a Writer, fed photo by photo, with a reader for the way back."""

from collections.abc import Callable
from pathlib import Path

from tagseg.outputs.coco import CocoRLE, read_coco
from tagseg.outputs.masks import ImagesAndMasks, Overlays, OverlaysPNG, PaletteMasks, read_folders, read_masks
from tagseg.outputs.writer import Stored, Writer

OUTPUTS: dict[str, type[Writer]] = {
    "png": PaletteMasks,
    "overlay": Overlays,
    "overlay-png": OverlaysPNG,
    "folders": ImagesAndMasks,
    "coco": CocoRLE,
}

READERS: dict[str, Callable[[Path], Stored]] = {
    "png": read_masks,
    "folders": read_folders,
    "coco": read_coco,
}

__all__ = ["OUTPUTS", "READERS", "Stored", "Writer"]
