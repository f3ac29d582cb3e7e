"""Reading tables of tags: CSV, TSV and JSON Lines as people and their tools write them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tagseg.errors import UserError

FILE_COLUMNS = ("file", "filename", "file_name", "file_path", "filepath", "path", "image", "image_name", "image_path",
                "image_id", "img", "photo")  # fmt: skip
TAG_COLUMNS = ("tags", "tag", "labels", "label", "classes", "class", "class_name", "categories", "category")
TABLE_SUFFIXES = (".csv", ".tsv", ".txt", ".jsonl", ".ndjson")
NO_TAG = frozenset({"background", "none", "ok"})  # words (and folders) that say: nothing of interest here


@dataclass(frozen=True)
class Row:
    """One row as it stands in the file; `number` counts from 1 and includes the header, as a spreadsheet shows it."""

    number: int
    file: str
    tags: tuple[str, ...]


@dataclass(frozen=True)
class Problem:
    """Something wrong with the data: its kind (a word or two), the file it concerns, and a sentence.

    fatal: training refuses it; the others are only worth a look.
    """

    kind: str
    file: str
    text: str
    fatal: bool = True


def read_table(
    path: Path, *, classes: Sequence[str] | None = None, separator: str | None = None
) -> tuple[list[Row], list[Problem]]:
    """All readable rows of a table of tags, and what is wrong with the others.

    CSV and TSV need a header with a file column and a tags column (common synonyms are known). Tags in one cell are
    separated by `separator`; without it by the first of `; | ,` that occurs in any cell, else by spaces. JSON Lines
    hold one object a line, whose tags are a list or one text. Raises UserError when the file as a whole cannot be read.
    """
    text = _text(path)
    cells: list[tuple[int, str, list[str] | str]]
    problems: list[Problem] = []
    reader = _json_cells if path.suffix.lower() in (".jsonl", ".ndjson", ".json") else _csv_cells
    cells = list(reader(path, text, problems))
    if separator == "":
        raise UserError("the separator of tags must not be empty; leave it out to have it detected")
    separator = separator or _separator([c for _, _, c in cells if isinstance(c, str)], classes)
    rows = []
    for number, file, cell in cells:
        tags = split_tags(cell, separator) if isinstance(cell, str) else cell
        tags = [tag.strip() for tag in tags]
        rows.append(Row(number, file, tuple(dict.fromkeys(t for t in tags if t and t.lower() not in NO_TAG))))
    return rows, problems


def split_tags(cell: str, separator: str | None) -> list[str]:
    """The tags of one cell; `separator` None takes the cell as one tag, a space stands for any white space."""
    if separator is None:
        return [cell]
    return cell.split() if separator == " " else cell.split(separator)


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"tags file {path} does not exist") from None
    except OSError as error:
        raise UserError(f"tags file {path} cannot be read ({error.strerror or error})") from error
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise UserError(f"tags file {path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from error


def _separator(cells: list[str], classes: Sequence[str] | None) -> str | None:
    for separator in ";|,":
        if any(separator in cell for cell in cells):
            return separator
    if classes is not None and any(" " in name for name in classes):
        return None  # a space belongs to a name here: each cell is one tag
    return " "


def _csv_cells(path: Path, text: str, problems: list[Problem]) -> Iterator[tuple[int, str, str]]:
    first = text.lstrip("\r\n").split("\n", 1)[0]
    for delimiter in "\t,;":
        header = [_column(name) for name in next(csv.reader([first], delimiter=delimiter), [])]
        file_at = next((header.index(name) for name in FILE_COLUMNS if name in header), None)
        tags_at = next((header.index(name) for name in TAG_COLUMNS if name in header), None)
        if file_at is not None and tags_at is not None:
            break
    else:
        raise UserError(f"tags file {path} must begin with the header `file,tags`, not {first.strip()[:60]!r}")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    seen_header = False
    number = 0
    try:
        for number, record in enumerate(reader, start=1):
            if not any(cell.strip() for cell in record):
                continue
            if not seen_header:
                seen_header = True
                continue
            if len(record) <= file_at or not record[file_at].strip():
                problems.append(Problem("bad row", "", f"{path.name}, row {number} names no file"))
                continue
            # `a.jpg,cat,dog` under `file,tags`: cells past the last column are tags too.
            cells = record[tags_at:] if tags_at == len(header) - 1 else record[tags_at : tags_at + 1]
            cells = [cell for cell in cells if cell.strip()]
            if len(record) > len(header) and tags_at != len(header) - 1:
                text_ = (
                    f"{path.name}, row {number} has {len(record)} cells under a header of {len(header)}; quote the tags"
                )
                problems.append(Problem("bad row", record[file_at], text_))
                continue
            yield number, record[file_at], delimiter.join(cells)
    except csv.Error as error:
        raise UserError(f"tags file {path}, row {number + 1} cannot be read as a table ({error})") from error


def _json_cells(path: Path, text: str, problems: list[Problem]) -> Iterator[tuple[int, str, list[str] | str]]:
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            problems.append(Problem("bad row", "", f"{path.name}, line {number} is not JSON ({error})"))
            continue
        fields: dict[str, Any] = {_column(k): v for k, v in record.items()} if isinstance(record, dict) else {}
        file = next((fields[name] for name in FILE_COLUMNS if name in fields), None)
        tags = next((fields[name] for name in TAG_COLUMNS if name in fields), None)
        if not isinstance(file, str) or not file.strip():
            problems.append(Problem("bad row", "", f'{path.name}, line {number} names no file; write {{"file": ...}}'))
        elif tags is None or isinstance(tags, str):
            yield number, file, tags or ""
        elif isinstance(tags, list) and all(isinstance(t, str) for t in tags):
            yield number, file, tags
        else:
            text_ = (
                f"{path.name}, line {number}: the tags of {file} must be a text or a list of texts, not {tags!r:.60}"
            )
            problems.append(Problem("bad row", file, text_))


def _column(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")
