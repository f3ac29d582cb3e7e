"""Tables as they stand in their files: CSV and its kin, JSON and JSON Lines, Excel workbooks; cells are not yet read.

What a spreadsheet, a data frame or a database writes around a table (padding, rules, row names) goes here.
"""

from __future__ import annotations

import csv
import io
import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tagseg.data.headers import TITLE_ROWS, header_place, trim
from tagseg.data.suffixes import looks_like_photo
from tagseg.data.text import clean
from tagseg.data.workbook import is_workbook, read_workbook, refuse_other_formats
from tagseg.errors import UserError
from tagseg.foreign import DATA_CAP, read_bytes, reading

MISSING = object()
"""The cell of a JSON record that has no such key."""

_RULE = re.compile(r"[-+=|: \t]{3,}|\(\d+ rows?\)")  # what databases draw between rows, and write below them
_LOCK = threading.Lock()


@dataclass(frozen=True)
class Sheet:
    """A table. header: names as written, empty ones at its end dropped. rows: (number, cells), numbered as an editor or
    spreadsheet numbers them. unit: what a row is called. delimiter: of the cells, None where they are no text.
    """

    header: list[str]
    rows: list[tuple[int, list[Any]]]
    unit: str = "row"
    delimiter: str | None = None


def read_sheet(path: Path, known: Callable[[list[str]], bool]) -> tuple[Sheet, list[tuple[int, str]]]:
    """The table in a file, and (number, reason) of its lines that are none.

    known: whether a header names the columns that are looked for; it decides between several delimiters.
    Raises UserError when there is no table in the file.
    """
    if not path.is_file() and not path.exists():
        raise UserError(f"tags file {path} does not exist")
    data = read_bytes(path, "a table of tags", DATA_CAP, "give a CSV, TSV, JSON Lines or Excel file")
    if is_workbook(data):
        return Sheet(*read_workbook(path, data, known)), []
    refuse_other_formats(path, data)
    text = decode(path, data, "tags file")
    is_json = path.suffix.lower() in (".jsonl", ".ndjson", ".json") or text.lstrip()[:1] in ("{", "[")
    with reading(path, "a table", "save it as CSV UTF-8"):
        return _json_sheet(text, known) if is_json else (_csv_sheet(path, text, known), [])


def decode(path: Path, data: bytes, what: str) -> str:
    """The text of a file in UTF-8 or UTF-16. Raises UserError that says where it is neither, and what it may be."""
    encoding = "utf-8-sig"
    if data[:4] in (b"\xff\xfe\0\0", b"\0\0\xfe\xff"):
        encoding = "utf-32"
    elif data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encoding = "utf-16"
    elif len(data) > 3 and data[1] == data[3] == 0 and data[0] and data[2]:
        encoding = "utf-16-le"  # as PowerShell and SQL Server write it, without a mark
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        at = error.start
        hint = ""
        if encoding == "utf-8-sig":
            line = data.count(b"\n", 0, at) + 1
            word = re.search(rb"[^\s,;|\t\"]*\Z", data[max(0, at - 30) : at])
            rest = re.match(rb"[^\s,;|\t\"]*", data[at : at + 30])
            if word and rest:
                guess = (word[0] + rest[0]).decode("cp1252", "replace")
                hint = f"; line {line} would read {guess!r} in Windows-1252 (Excel's plain CSV)"
        raise UserError(
            f"{what} {path} is not UTF-8 text (byte {at}){hint}; save it as UTF-8 (in Excel: CSV UTF-8)"
        ) from error


def _csv_sheet(path: Path, text: str, known: Callable[[list[str]], bool]) -> Sheet:
    best: tuple[int, str, int] = (0, ",", 0)  # cells of the header, delimiter, rows in front of the header
    for delimiter in "\t,;| ":
        first = [cells for _, cells in islice(_records(text, delimiter), TITLE_ROWS)]
        at = header_place(first, known)
        if at is not None:
            best = (len(first[at]), delimiter, at)
            break
        cells = len(first[0]) if first else 0
        if cells > max(best[0], 1) and (delimiter != " " or '"' in text[:200]):  # R quotes what it writes
            best = (cells, delimiter, 0)
    cells, delimiter, at = best
    records = list(_records(text, delimiter))[at:]
    if cells <= 1 and records and any(mark in records[0][1][0] for mark in "\t,;|"):
        # Each line is one quoted cell: a table that was pasted into a single column.
        lines = [""] * records[-1][0]
        for number, row in records:
            lines[number - 1] = row[0]
        if not any("\n" in line for line in lines):
            return _csv_sheet(path, "\n".join(lines), known)
    header = trim(records[0][1]) if records else []
    return Sheet(header, _without_row_names(header, records[1:]), "row", delimiter)


def _records(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    with _LOCK:  # cells may be long; the limit of the whole process is only ever raised
        if csv.field_size_limit() < DATA_CAP:
            csv.field_size_limit(DATA_CAP)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    first = True
    for number, cells in enumerate(reader, start=1):
        line = delimiter.join(cells)
        if not line.strip(delimiter + " \t") or _RULE.fullmatch(line.strip()):
            continue
        if first and re.fullmatch(r"sep=.?", clean(line).lower()):  # Excel's own first line
            continue
        first = False
        yield number, cells


def _without_row_names(header: list[str], rows: list[tuple[int, list[str]]]) -> list[tuple[int, list[Any]]]:
    """R's write.table names the rows, but not their column: every row has a cell more, and the first is different."""
    names = {cells[0] for _, cells in rows}
    if (
        rows
        and all(len(cells) == len(header) + 1 for _, cells in rows)
        and len(names) == len(rows)
        and all(name.strip() for name in names)
        and not any(looks_like_photo(name) for name in names)
        and all(any(map(looks_like_photo, cells[1:])) for _, cells in rows)
    ):
        return [(number, cells[1:]) for number, cells in rows]
    return list(rows)


def _json_sheet(text: str, known: Callable[[list[str]], bool]) -> tuple[Sheet, list[tuple[int, str]]]:
    bad: list[tuple[int, str]] = []
    records: list[tuple[int, dict[str, Any]]] = []
    for number, line in enumerate(re.split(r"\r\n|\n|\r", text), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            if not records and not bad:
                if (whole := _whole_json(text, known)) is not None:
                    return _columns_of(whole), []
                if _is_json(text):
                    raise ValueError("it is no list of objects with a file and its tags") from error
            bad.append((number, f"is not JSON ({_short(error)})"))
            continue
        if (
            not records
            and not bad
            and isinstance(record, list | dict)
            and (whole := _whole_json(text, known)) is not None
        ):
            return _columns_of(whole), []
        if isinstance(record, dict):
            records.append((number, record))
        else:
            bad.append((number, "is no JSON object"))
    return _columns_of(records, "line"), bad


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _short(error: Exception) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)[:80]


def _whole_json(text: str, known: Callable[[list[str]], bool]) -> list[tuple[int, dict[str, Any]]] | None:
    """The records of a text that is one JSON value: a list of objects, a data frame of pandas, or {file: tags}."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, dict) and isinstance(value.get("data"), list):
        if isinstance(value.get("columns"), list):  # pandas, orient="split"
            names = [str(name) for name in value["columns"]]
            value = [dict(zip(names, row, strict=False)) for row in value["data"] if isinstance(row, list)]
        else:
            value = value["data"]  # pandas, orient="table"
    elif isinstance(value, dict) and value and all(isinstance(column, dict) for column in value.values()):
        keys = list(dict.fromkeys(key for column in value.values() for key in column))
        if known(keys):  # pandas, orient="index"
            value = list(value.values())
        else:  # pandas, orient="columns"
            value = [{name: column[key] for name, column in value.items() if key in column} for key in keys]
    elif isinstance(value, dict) and any(map(looks_like_photo, value)):
        value = [{"file": file, "tags": tags} for file, tags in value.items()]
    if not isinstance(value, list) or not value or not all(isinstance(record, dict) for record in value):
        return None
    return list(enumerate(value, start=1))


def _columns_of(records: list[tuple[int, dict[str, Any]]], unit: str = "record") -> Sheet:
    header = list(dict.fromkeys(key for _, record in records for key in record))
    if len(header) > 10_000:
        raise ValueError(
            f"its {len(records):,} records have {len(header):,} different keys; write one key for the tags"
        )
    rows = [(number, [record.get(name, MISSING) for name in header]) for number, record in records]
    return Sheet([clean(name) for name in header], rows, unit)
