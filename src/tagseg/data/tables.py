"""Reading tables of tags: what spreadsheets, data frames, databases and people write, as rows of a file and its tags."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tagseg.data.columns import Columns, find_columns, indicator, is_known, is_null
from tagseg.data.lists import all_listed, is_object, listed
from tagseg.data.separators import Splitter
from tagseg.data.sheets import MISSING, Sheet, read_sheet
from tagseg.data.text import NO_TAG, clean, name_flaw, printable, quoted
from tagseg.data.workbook import Formula
from tagseg.errors import UserError


@dataclass(frozen=True)
class Row:
    """One row as it stands in the file; `number` counts from 1 and includes the header, as a spreadsheet shows it."""

    number: int
    file: str
    tags: tuple[str, ...]


@dataclass(frozen=True)
class Problem:
    """Something wrong with the data: its kind (a word or two), the file it concerns, and a sentence.

    fatal: training refuses it; the others are only worth a look. count: of the files that the sentence is about.
    """

    kind: str
    file: str
    text: str
    fatal: bool = True
    count: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", printable(self.text))


@dataclass(frozen=True)
class _Cells:
    """What stands in the tags of one row, not yet split: texts that may hold several tags, and whole tags."""

    number: int
    file: str
    texts: tuple[str, ...]
    whole: tuple[str, ...]


def read_table(
    path: Path,
    *,
    classes: Sequence[str] | None = None,
    separator: str | None = None,
    file_column: str | None = None,
    tags_column: str | None = None,
) -> tuple[list[Row], list[Problem]]:
    """All readable rows of a table of tags, and what is wrong with the others.

    The file is CSV, TSV, JSON, JSON Lines or an Excel workbook. Its columns are found by their names or by what stands in
    them, unless `file_column` and `tags_column` name them. A table may have one column of tags, several, or one column a tag
    (0/1, x, yes); one photo may have several rows. Tags in one cell are separated by `separator`; without it by `;`, `|` or
    `,`, else by spaces; lists as programs print them are known. All names come in the form of `tagseg.data.text.clean`.
    Problems that are not fatal tell what was guessed. Raises UserError when the file as a whole cannot be read.
    """
    if separator == "":
        raise UserError("the separator of tags must not be empty; leave it out to have it detected")
    sheet, bad = read_sheet(path, is_known)
    unit = sheet.unit
    problems = [Problem("bad row", "", f"{path.name}, {unit} {number} {why}") for number, why in bad]
    if not sheet.header and sheet.unit == "line":
        return [], problems  # JSON Lines without a line that can be read
    columns = find_columns(str(path), sheet, file_column, tags_column)
    problems += [Problem("read as", "", note.replace(str(path), path.name), fatal=False) for note in columns.notes]
    cells = list(_rows(path.name, sheet, columns, set(classes or ()), problems))
    _read_bare_lists(cells)
    splitter = Splitter([row.texts for row in cells], classes, separator)
    read: dict[tuple[str, ...], tuple[tuple[str, ...], str]] = {}  # most cells stand in many rows
    rows = []
    for row in cells:
        if (key := (*row.texts, "\0", *row.whole)) not in read:
            tags = [clean(tag) for text in row.texts for tag in splitter.split(text)] + [*map(clean, row.whole)]
            kept = tuple(dict.fromkeys(tag for tag in tags if tag and tag.lower() not in NO_TAG))
            flaws = (f"the tag {quoted(tag)} {flaw}" for tag in kept if (flaw := name_flaw(tag)) is not None)
            read[key] = kept, next(flaws, "")
        kept, wrong = read[key]
        if wrong:
            problems.append(Problem("bad tag", row.file, f"{path.name}, {unit} {row.number}: {wrong}"))
        else:
            rows.append(Row(row.number, row.file, kept))
    problems += [Problem("tags to look at", "", f"{path.name}: {note}", fatal=False) for note in splitter.notes()]
    problems += [
        Problem("tags to look at", "", f"{path.name}: {note}", fatal=False) for note in _numeric(rows, classes)
    ]
    return rows, problems


def _rows(source: str, sheet: Sheet, columns: Columns, classes: set[str], problems: list[Problem]) -> Iterator[_Cells]:
    unit, width, nulls = sheet.unit, len(sheet.header), 0
    used = (columns.file, *columns.tags, *(i for i, _ in columns.wide))
    for number, cells in sheet.rows:
        where = f"{source}, {unit} {number}"
        if (
            formula := next((cells[i] for i in used if i < len(cells) and isinstance(cells[i], Formula)), None)
        ) is not None:
            text = (
                f"{where}: the formula {quoted(formula)} has no value in the file; open it in a spreadsheet and save it"
            )
            problems.append(Problem("bad row", "", text))
            continue
        file = cells[columns.file] if columns.file < len(cells) else ""
        if isinstance(file, dict) and isinstance(file.get("path"), str):
            file = file["path"]  # as Hugging Face writes pictures
        if isinstance(file, int) and not isinstance(file, bool):
            file = str(file)  # photos that are numbered
        if not isinstance(file, str) or not file.strip():
            hint = '; write {"file": ...}' if unit != "row" else ""
            problems.append(Problem("bad row", "", f"{where} names no file{hint}"))
            continue
        file = file.strip()
        if sheet.delimiter is not None and sheet.delimiter in file and len(lines := re.split(r"[\r\n]+", file)) > 1:
            text = f"{where}: the file {quoted(lines[0])} runs on for {len(lines)} lines; close its quotation mark"
            problems.append(Problem("bad row", "", text))
            continue
        further = cells[width:]
        if any(not is_null(cell) for cell in further) and not columns.open_end:
            text = f"{where} has {len(cells)} cells under a header of {width}; quote the tags"
            problems.append(Problem("bad row", file, text))
            continue
        if columns.wide:
            tags, wrong = _wide(cells, columns)
            if wrong:
                problems.append(Problem("bad row", file, f"{where}: {wrong}"))
            else:
                yield _Cells(number, file, (), tags)
            continue
        found = [cells[i] for i in columns.tags if i < len(cells)] + (further if columns.open_end else [])
        if found and all(cell is MISSING for cell in found):
            keys = " or ".join(quoted(sheet.header[i]) for i in columns.tags)
            problems.append(Problem("bad row", file, f"{where}: {quoted(file)} has no key {keys}; write [] for no tag"))
            continue
        texts: list[str] = []
        whole: list[str] = []
        wrong = ""
        for cell in found:
            if isinstance(cell, str) and cell.strip() in classes:
                whole.append(cell)
            elif is_null(cell) or cell is MISSING:
                nulls += isinstance(cell, str) and bool(cell.strip())
            elif isinstance(cell, str):
                items = listed(cell)
                lines = [line for line in re.split(r"[\r\n]+", cell.strip()) if line.strip()]
                if items is not None:
                    whole += items
                elif is_object(cell):
                    wrong = f"the tags of {file} must be a text or a list of texts, not {quoted(cell)}"
                elif len(lines) > 1 and sheet.delimiter is not None and sheet.delimiter in cell:
                    wrong = f"a cell runs over several lines ({quoted(cell)}); a quotation mark is missing or too many"
                elif len(lines) > 1:
                    for line in lines:
                        (whole if line.strip() in classes else texts).append(line)
                else:
                    texts.append(cell)
            elif isinstance(cell, list) and all(isinstance(tag, str) or is_null(tag) for tag in cell):
                whole += [tag for tag in cell if not is_null(tag)]
            else:
                wrong = f"the tags of {file} must be a text or a list of texts, not {quoted(cell)}"
        if wrong:
            problems.append(Problem("bad row", file, f"{where}: {wrong}"))
        else:
            yield _Cells(number, file, tuple(texts), tuple(whole))
    if nulls:
        some = f"{nulls} cell{'s' * (nulls > 1)} with nan, NA, null or the like read as no tag"
        problems.append(Problem("tags to look at", "", f"{source}: {some}", fatal=False))


def _wide(cells: list[Any], columns: Columns) -> tuple[tuple[str, ...], str]:
    """The tags of a row with one column a tag, and what is wrong with it."""
    tags = []
    for i, name in columns.wide:
        cell = cells[i] if i < len(cells) else ""
        said = indicator(cell)
        if said is None:
            return (
                (),
                f"column {quoted(name)} holds {quoted(cell)}; write 1, x or yes for the tag, 0 or nothing without",
            )
        if said:
            tags.append(name)
    return tuple(tags), ""


def _read_bare_lists(rows: list[_Cells]) -> None:
    """`[cat, dog]`, as Java and Spark print lists, where the whole column is written so."""
    texts = [text for row in rows for text in row.texts]
    if not texts or not all_listed(texts):
        return
    for at, row in enumerate(rows):
        whole = tuple(part for text in row.texts for part in text.strip()[1:-1].split(","))
        rows[at] = _Cells(row.number, row.file, (), row.whole + whole)


def _numeric(rows: list[Row], classes: Sequence[str] | None) -> list[str]:
    if classes is not None:
        return []
    tags = {tag for row in rows for tag in row.tags}
    if tags and all(re.fullmatch(r"-?\d+(\.0)?", tag) for tag in tags):
        return [f"all tags are numbers, such as {min(tags)}; classes need names, a number may mean no tag"]
    return []
