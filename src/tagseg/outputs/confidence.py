"""The table beside pseudo masks: how sure the model is of each photo, as `supervised.confidence` reads it."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from typing import TextIO

from tagseg.outputs.inert import cell_path

CONFIDENCES = "confidence.csv"
HEAD = "file,confidence\n"


def write_rows(file: TextIO, confidences: Mapping[str, float]) -> None:
    """Add a row a photo, by its name without suffix, to a table opened with newline=""."""
    csv.writer(file, lineterminator="\n").writerows(
        (cell_path(name), f"{value:.4f}") for name, value in confidences.items()
    )
