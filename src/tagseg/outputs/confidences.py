"""The table of how sure a model was of each photo, beside the masks that it made: `file,confidence`."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import TextIO

from tagseg.data.folders import stem
from tagseg.errors import UserError
from tagseg.files import write_text
from tagseg.outputs.inert import cell_path, path_of_cell

CONFIDENCES = "confidence.csv"
HEADER = "file,confidence\n"


@contextmanager
def confidence_table(path: Path, overwrite: bool) -> Iterator[Callable[[dict[str, float]], None]]:
    """What adds rows to the table while masks are written; at the end it is sorted, a row a photo."""
    if path.is_file() and not overwrite:
        # A kill may have torn the last row; its photo has no mask yet and comes again.
        write_text(path, path.read_text(encoding="utf-8").rpartition("\n")[0] + "\n")
    else:
        write_text(path, HEADER)

    def add(confidences: dict[str, float]) -> None:
        try:
            with path.open("a", encoding="utf-8", newline="") as file:
                _write_rows(file, confidences)
        except OSError as error:
            raise UserError(
                f"{path} cannot be written: {error.strerror or error}; the masks so far are whole."
            ) from error

    yield add
    text = StringIO()
    text.write(HEADER)
    _write_rows(text, dict(sorted(read_confidences(path).items())))
    write_text(path, text.getvalue())


def read_confidences(path: Path) -> dict[str, float]:
    """Confidence by photo; a file's suffix is left out, as in photos' names.

    Raises UserError for a missing file or column, and a value that is no number from 0 to 1.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}).") from error
    found = {}
    for number, row in enumerate(rows, start=2):
        name, text = row.get("file"), row.get("confidence")
        if name is None or text is None:
            raise UserError(f"{path}, line {number}: the table needs the columns file and confidence.")
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 <= value <= 1:
            raise UserError(f"{path}, line {number}: the confidence {text!r} of {name} should be a number from 0 to 1.")
        found[stem(path_of_cell(name))] = value
    return found


def _write_rows(file: TextIO, confidences: dict[str, float]) -> None:
    csv.writer(file, lineterminator="\n").writerows(
        (cell_path(name), f"{value:.4f}") for name, value in confidences.items()
    )
