"""Excel workbooks, and the other formats of data that are recognized and named."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any

from tagseg.data.headers import TITLE_ROWS, header_place, trim
from tagseg.errors import UserError
from tagseg.foreign import reading

UNPACKED_CAP = 1 << 29
"""Bytes that a workbook may unpack to."""
_SAVE_AS = "in Excel choose File, Save As, 'CSV UTF-8 (comma delimited)', and give that file"
_EXTRA = 'pip install "tagseg[excel]"'
_FORMATS = (
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook (.xls) or another Office file", _SAVE_AS),
    (b"PAR1", "a Parquet file", "write it as CSV: pandas.read_parquet(...).to_csv('tags.csv', index=False)"),
    (
        b"ARROW1",
        "an Arrow or Feather file",
        "write it as CSV: pandas.read_feather(...).to_csv('tags.csv', index=False)",
    ),
    (b"SQLite format 3", "an SQLite database", "export the table as CSV"),
    (b"\x1f\x8b", "packed with gzip", "unpack it and give the file inside"),
    (b"%PDF", "a PDF", "give the table as CSV"),
    (b"\x89HDF", "an HDF5 file", "write the table as CSV"),
)


class Formula(str):
    """The formula of a cell whose value a workbook does not hold: a program wrote it, and no spreadsheet calculated it."""

    __slots__ = ()


def is_workbook(data: bytes) -> bool:
    """Whether a file is an Excel workbook (.xlsx, .xlsm), whatever it is called."""
    if data[:4] != b"PK\x03\x04":
        return False
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return any(name.startswith("xl/") for name in archive.namelist())
    except Exception:  # a damaged zip file raises any type
        return False


def refuse_other_formats(path: Path, data: bytes) -> None:
    """Raises UserError for a file of another known format, with what to do about it."""
    if data[:4] == b"PK\x03\x04":
        inside = data[:4096]
        what, fix = "a zip file", "unpack it and give the table inside"
        if b"opendocument.spreadsheet" in inside:
            what, fix = "a LibreOffice sheet", "in LibreOffice choose File, Save As, 'Text CSV' in UTF-8"
        elif b"Index/" in inside or b".iwa" in inside:
            what, fix = "a Numbers sheet", "in Numbers choose File, Export To, CSV with encoding UTF-8"
        elif path.suffix.lower() in (".xlsx", ".xlsm"):
            what, fix = "a damaged Excel workbook", _SAVE_AS
        raise UserError(f"tags file {path} is {what}: {fix}.")
    for start, what, fix in _FORMATS:
        if data.startswith(start):
            raise UserError(f"tags file {path} is {what}: {fix}.")
    if data.lstrip()[:100].lower().startswith((b"<!doctype html", b"<html", b"<table")):
        raise UserError(f"tags file {path} is a web page: open it in a spreadsheet and save it as CSV UTF-8.")


def read_workbook(
    path: Path, data: bytes, known: Callable[[list[str]], bool]
) -> tuple[list[str], list[tuple[int, list[Any]]]]:
    """Header and numbered rows of the first sheet whose header names the columns looked for, else of the first filled.

    A cell is a text, or a `Formula`. Raises UserError without openpyxl, saying how to save the sheet instead.
    """
    try:
        import openpyxl
    except ImportError:
        raise UserError(f"tags file {path} is an Excel workbook: {_SAVE_AS}; or {_EXTRA}.") from None
    with reading(path, "an Excel workbook", _SAVE_AS):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > UNPACKED_CAP:
            raise UserError(f"tags file {path} unpacks to {size:,} bytes: {_SAVE_AS}.")
        book, written = (
            openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=values) for values in (True, False)
        )
        try:
            first: tuple[list[str], list[tuple[int, list[Any]]]] | None = None
            for sheet, formulas in zip(book.worksheets, written.worksheets, strict=True):
                rows = list(_rows(sheet, formulas))
                if rows:
                    at = header_place([cells for _, cells in rows[:TITLE_ROWS]], known)
                    found = trim(rows[at or 0][1]), rows[(at or 0) + 1 :]
                    if at is not None:
                        return found
                    first = first or found
        finally:
            book.close()
            written.close()
    if first is None:
        raise UserError(f"tags file {path} is an empty Excel workbook; fill in the columns file and tags.")
    return first


def _rows(sheet: Any, formulas: Any) -> Iterator[tuple[int, list[str]]]:
    """The numbered rows of a sheet that hold anything; formulas: the same sheet with its formulas in place of values."""
    for one in (sheet, formulas):
        one.reset_dimensions()  # what the file claims about its size is not believed
    for number, (cells, written) in enumerate(zip(sheet.iter_rows(), formulas.iter_rows(), strict=True), start=1):
        row = [
            # The empty text that a formula gave is stored as a text, so its type tells it from no value at all.
            Formula(getattr(formula.value, "text", formula.value))
            if formula.data_type == "f" and cell.value is None and cell.data_type == "n"
            else _text(cell.value)
            for cell, formula in zip(cells, written, strict=True)
        ]
        if any(row):
            yield number, row


def _text(cell: object) -> str:
    """A cell as Excel shows it, near enough for names: whole numbers without a point."""
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "TRUE" if cell else "FALSE"
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    if isinstance(cell, datetime | date):
        return cell.isoformat()
    return str(cell)
