"""Formats in which masks leave: each one a Writer, fed photo by photo, with a reader for the way back."""

from collections.abc import Callable
from pathlib import Path

from tagseg.outputs.coco import CocoRLE, read_coco
from tagseg.outputs.cvat import CvatMasks, read_cvat
from tagseg.outputs.label_studio import LabelStudioBrush, read_label_studio
from tagseg.outputs.masks import ImagesAndMasks, Overlays, OverlaysPNG, PaletteMasks, read_folders, read_masks
from tagseg.outputs.summary import Summaries, read_summaries
from tagseg.outputs.writer import Stored, Writer
from tagseg.outputs.yolo import YoloPolygons, read_yolo

OUTPUTS: dict[str, type[Writer]] = {
    "png": PaletteMasks,
    "overlay": Overlays,
    "overlay-png": OverlaysPNG,
    "folders": ImagesAndMasks,
    "coco": CocoRLE,
    "yolo": YoloPolygons,
    "label-studio": LabelStudioBrush,
    "cvat": CvatMasks,
    "json": Summaries,
}
"""Writers by the name of their format."""

READERS: dict[str, Callable[[Path], Stored]] = {
    "png": read_masks,
    "folders": read_folders,
    "coco": read_coco,
    "yolo": read_yolo,
    "label-studio": read_label_studio,
    "cvat": read_cvat,
}
"""Readers by format, for those that hold whole masks."""

__all__ = ["OUTPUTS", "READERS", "Stored", "Writer", "read_summaries"]
