"""The table beside masks: how sure the model is of each photo, and how good the mask is likely to be."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import NamedTuple, Protocol, TextIO

from tagseg.errors import UserError
from tagseg.files import write_text
from tagseg.foreign import DATA_CAP, read_bytes, reading
from tagseg.outputs.inert import cell_path, path_of_cell

CONFIDENCES = "confidence.csv"
HEAD = "file,confidence,expected_iou\n"


class Sureness(NamedTuple):
    """confidence: mean over the pixels of the likeliest class's probability.

    expected_iou: that of the mask, 0 to 1, as `Prediction.expected_iou` has it; None: not known.
    """

    confidence: float
    expected_iou: float | None = None


class Table(Protocol):
    """What adds the row of a photo, by its name without suffix."""

    def __call__(self, name: str, sure: Sureness) -> None: ...  # noqa: D102


def write_rows(file: TextIO, rows: Mapping[str, Sureness]) -> None:
    """Add a row a photo, by its name without suffix, to a table opened with newline=""."""
    for name, sure in rows.items():
        cell = _encodable(cell_path(name))
        # a carriage return alone is a line's end to who reads, and to csv only where it writes such ends
        writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL if "\r" in cell else csv.QUOTE_MINIMAL)
        expected = "" if sure.expected_iou is None else f"{sure.expected_iou:.4f}"
        writer.writerow((cell, f"{sure.confidence:.4f}", expected))


def write_table(path: Path, rows: Mapping[str, Sureness]) -> None:
    """Write the whole table, sorted by name, in place of what is there."""
    text = StringIO()
    text.write(HEAD)
    write_rows(text, dict(sorted(rows.items())))
    write_text(path, text.getvalue())


def read_rows(path: Path, *, own: bool = False) -> dict[str, Sureness]:
    """The rows of such a table by the photo's name; of a photo with several the last. Raises UserError for what is none.

    own: whether this call writes it. Then a last row that a kill has cut is left out, and numbers that are none stay.
    """
    rows = {}
    with reading(path, "a table of confidences"):
        content = read_bytes(path, "a table of confidences", DATA_CAP)
        # line ends are left as they are: one may stand in a name
        text = StringIO(content[: content.rfind(b"\n") + 1 if own else None].decode("utf-8-sig"), newline="")
    for number, row in enumerate(csv.DictReader(text), start=2):
        try:
            name, expected = path_of_cell(row["file"]), row.get("expected_iou")
            rows[name] = Sureness(float(row["confidence"]), float(expected) if expected else None)
            if not own and not all(math.isfinite(number) for number in rows[name] if number is not None):
                raise ValueError("no finite number")
        except (KeyError, TypeError, ValueError) as error:
            if own and next(text, None) is None:
                break
            raise UserError(
                f"{path}, line {number}: the table needs the columns file and confidence, with a number."
            ) from error
    return rows


@contextmanager
def confidence_table(path: Path, keep: Callable[[str], bool]) -> Iterator[Table]:
    """What adds rows while masks are written; at the end the table is sorted, a row a photo.

    keep: whether the row of a photo that is there stays, by its name. A row is on the disk when the call returns.
    """
    # the photo of a torn row has no mask yet and comes again
    there = read_rows(path, own=True) if path.is_file() else {}
    write_table(path, {name: sure for name, sure in there.items() if keep(name) or keep(_as_given(name))})

    def add(name: str, sure: Sureness) -> None:
        try:
            with path.open("a", encoding="utf-8", newline="") as file:
                write_rows(file, {name: sure})
        except OSError as error:
            raise UserError(
                f"{path} cannot be written: {error.strerror or error}; the masks so far are whole."
            ) from error

    yield add
    write_table(path, read_rows(path, own=True))


def _encodable(name: str) -> str:
    """A name as UTF-8 can hold it: bytes of a file's name that are no UTF-8 come as escapes."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def _as_given(name: str) -> str:
    """The name that `_encodable` took."""
    return re.sub(r"\\ud[89a-f][0-9a-f]{2}", lambda found: chr(int(found[0][2:], 16)), name)
