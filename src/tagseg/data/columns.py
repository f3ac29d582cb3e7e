"""Which columns of a table hold the photos and the tags: by their names, by what stands in them, or as told."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tagseg.data.sheets import MISSING, Sheet
from tagseg.data.suffixes import looks_like_photo
from tagseg.data.text import clean, quoted
from tagseg.data.workbook import Formula
from tagseg.errors import UserError

FILE_COLUMNS = ("file", "filename", "file_name", "file_path", "filepath", "path", "image", "image_name", "image_path",
                "image_id", "img", "photo", "files", "filenames", "images", "photos", "picture", "img_name", "img_path",
                "image_file", "image_filename", "photo_name", "photo_path", "foto", "bild", "datei", "dateiname",
                "bilddatei", "fichier", "nom_fichier", "archivo", "imagen")  # fmt: skip
TAG_COLUMNS = ("tags", "tag", "labels", "label", "classes", "class", "class_name", "categories", "category", "keywords",
               "keyword", "merkmale", "merkmal", "schlagwort", "klasse", "klassen", "etiqueta", "etiquetas", "classe",
               "etiquette")  # fmt: skip
ON = frozenset(("1", "1.0", "true", "t", "yes", "y", "x", "✓", "✔", "☑", "+", "ja", "j", "wahr", "oui", "o", "vrai", "si",
                "sí", "s", "verdadero", "sim"))  # fmt: skip
OFF = frozenset(("0", "0.0", "false", "f", "no", "n", "-", "✗", "☐", "nein", "falsch", "non", "faux", "falso", "não"))
NULLS = frozenset({"nan", "na", "n/a", "#n/a", "<na>", "nat", "null", r"\n"})
"""What data frames, databases and spreadsheets write into an empty cell; `\\n` is PostgreSQL's and MySQL's."""

SAMPLE = 2000  # rows that are looked at to tell what a column holds
_NUMBERED = re.compile(r"(.*?)[\W_]*\d+\W*")


@dataclass(frozen=True)
class Columns:
    """file: the column of the photos. tags: the columns whose cells hold tags. wide: the columns that are a tag each,
    by its name. open_end: whether cells past the header are tags too. notes: what was guessed, as sentences.
    """

    file: int
    tags: tuple[int, ...] = ()
    wide: tuple[tuple[int, str], ...] = ()
    open_end: bool = False
    notes: tuple[str, ...] = ()


def key(name: str) -> str:
    """A header as it is looked up."""
    return clean(name).lstrip("#").strip().lower().replace(" ", "_").replace("-", "_")


def is_known(header: Sequence[str]) -> bool:
    """Whether a header names a column of files and one of tags."""
    keys = {key(name) for name in header}
    return not keys.isdisjoint(FILE_COLUMNS) and any(_base(name) in TAG_COLUMNS for name in keys)


def is_null(cell: object) -> bool:
    """Whether a cell is empty, or holds what stands for that."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return True
    return isinstance(cell, str) and (not cell.strip() or clean(cell).lower() in NULLS)


def find_columns(source: str, sheet: Sheet, file_column: str | None, tags_column: str | None) -> Columns:
    """The columns of a table.

    file_column, tags_column: names as told; several columns of tags are separated by commas. Raises UserError that
    quotes the header where they cannot be told.
    """
    names = [key(name) for name in sheet.header]
    notes: list[str] = []
    file = _file_column(source, sheet, names, file_column, notes)
    if tags_column is not None:
        tags = tuple(_told(source, sheet, name, "--tags-column") for name in _several(sheet, tags_column))
    else:
        tags = _named_tags(source, sheet, names, file, notes)
    if tags:
        end = max(tags) + 1
        while end < len(names) and not names[end]:
            end += 1  # `tags` over several cells: the further ones have no header
        further = tuple(range(max(tags) + 1, end))
        return Columns(file, (*tags, *further), (), end == len(names) and file < end, tuple(notes))
    rest = [i for i, name in enumerate(names) if i != file and name]
    wide = [i for i in rest if _indicates(sheet, i)]
    if wide:
        unread = [quoted(sheet.header[i]) for i in rest if i not in wide]
        said = f"{source} has one column a tag: {_some([sheet.header[i] for i in wide])}"
        notes.append(said + (f"; {_some(unread)} not read" if unread else ""))
        return Columns(file, (), tuple((i, sheet.header[i]) for i in wide), False, tuple(notes))
    filled = [cell for i in rest for cell in _cells(sheet, i) if not is_null(cell) and cell is not MISSING]
    if len(rest) == 1 and filled and all(isinstance(cell, str | list) for cell in filled):
        notes.append(f"{source}: column {quoted(sheet.header[rest[0]])} is read as the tags")
        end = len(names)
        return Columns(file, (rest[0],), (), rest[0] == end - 1, tuple(notes))
    raise _unknown(source, sheet)


def _file_column(source: str, sheet: Sheet, names: list[str], told: str | None, notes: list[str]) -> int:
    if told is not None:
        return _told(source, sheet, told, "--file-column")
    named = next((names.index(name) for name in FILE_COLUMNS if name in names), None)
    if named is not None:
        return named
    if any(map(looks_like_photo, sheet.header)):
        raise _unknown(source, sheet)  # there is no header
    found = [i for i in range(len(names)) if _holds_photos(sheet, i)]
    if len(found) != 1:
        raise _unknown(source, sheet)
    notes.append(f"{source}: column {quoted(sheet.header[found[0]])} is read as the photos' names")
    return found[0]


def _several(sheet: Sheet, told: str) -> list[str]:
    return [told] if key(told) in map(key, sheet.header) else [name for name in told.split(",") if name.strip()]


def _told(source: str, sheet: Sheet, name: str, option: str) -> int:
    names = [key(header) for header in sheet.header]
    if key(name) not in names:
        there = ", ".join(quoted(header) for header in sheet.header[:12])
        raise UserError(f"{source} has no column {quoted(name)} ({option}); its columns are {there}")
    return names.index(key(name))


def _named_tags(source: str, sheet: Sheet, names: list[str], file: int, notes: list[str]) -> tuple[int, ...]:
    groups: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        if i != file and _base(name) in TAG_COLUMNS:
            groups.setdefault(_base(name), []).append(i)
    # Names rather than numbers; else the likelier word.
    order = sorted(groups, key=lambda base: (_numbers(sheet, groups[base]), TAG_COLUMNS.index(base)))
    if not order:
        return ()
    chosen = groups[order[0]]
    unread = [sheet.header[i] for base in order[1:] for i in groups[base]]
    if unread:
        notes.append(
            f"{source}: the tags are read from {_some([sheet.header[i] for i in chosen])}, not {_some(unread)}"
        )
    return tuple(chosen)


def _base(name: str) -> str:
    """`tags` of `tags`, `tag_2`, `tag.1`, `Tag 3`."""
    match = _NUMBERED.fullmatch(name)
    return match[1] if match and match[1] in TAG_COLUMNS else name


def _cells(sheet: Sheet, i: int) -> list[Any]:
    return [cells[i] for _, cells in sheet.rows[:SAMPLE] if i < len(cells)]


def _holds_photos(sheet: Sheet, i: int) -> bool:
    cells = [cell for cell in _cells(sheet, i) if not is_null(cell) and cell is not MISSING]
    return bool(cells) and sum(map(looks_like_photo, cells)) >= 0.8 * len(cells)


def _numbers(sheet: Sheet, columns: list[int]) -> bool:
    cells = [cell for i in columns for cell in _cells(sheet, i) if not is_null(cell) and cell is not MISSING]
    return bool(cells) and all(isinstance(cell, int) or str(cell).strip().isdecimal() for cell in cells)


def indicator(cell: object) -> bool | None:
    """What a cell says about the tag of its column; None where it says something else."""
    if is_null(cell) or cell is MISSING:
        return False
    word = clean(str(cell)).lower()
    return True if word in ON else False if word in OFF else None


def _indicates(sheet: Sheet, i: int) -> bool:
    """Whether a column is one tag: nine in ten of its filled cells say yes or no; a class may have no photo."""
    # A formula without its value may say either; its row is refused later.
    said = [isinstance(cell, Formula) or indicator(cell) for cell in _cells(sheet, i)]
    filled = sum(not is_null(cell) and cell is not MISSING for cell in _cells(sheet, i))
    return filled > 0 and said.count(None) <= 0.1 * filled


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    return ", ".join(names[:6]) + more


def _unknown(source: str, sheet: Sheet) -> UserError:
    first = (sheet.delimiter or ", ").join(sheet.header)
    text = f"tags file {source} must begin with the header `file,tags`, not {quoted(first[:60])}"
    if len(sheet.header) > 1 and not any(map(looks_like_photo, sheet.header)):
        text += "; or name its columns with --file-column and --tags-column"
    return UserError(text)
