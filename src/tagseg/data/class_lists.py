"""The list of classes that lies beside numbered masks, as labelme, CVAT and people write it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tagseg.data.classes import check_classes
from tagseg.data.text import clean, quoted
from tagseg.errors import UserError
from tagseg.foreign import read_text

LISTS = ("labels.txt", "classes.txt", "class_names.txt")
LABELMAP = "labelmap.txt"
_BACKGROUND = re.compile(r"[\W_]*background[\W_]*")  # background, _background_, __background__
_IGNORE = re.compile(r"[\W_]*(ignored?|void)[\W_]*|255")
_LIKE_BACKGROUND = re.compile(r"[\W_]*(bg|back_?ground|un_?label+ed|unannotated|no_?label)[\W_]*")
_NUMBERED = re.compile(r"(\d{1,3})\s*[:.,;\s]\s*(\S.*)")


@dataclass(frozen=True)
class ClassList:
    """names: of the classes 1..C. colors: RGB of the stored values 0..C, for masks stored as colors; None without."""

    names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...] | None = None


def find_class_list(folder: Path) -> ClassList | None:
    """The classes that a list in a folder gives to the values 1, 2, ... of its masks; None where there is no list.

    `labels.txt`, `classes.txt` and labelme's `class_names.txt` hold one class a line; background, which masks store as 0,
    may stand first, `__ignore__`, stored as 255, before it. CVAT's `labelmap.txt` holds colors too.
    Raises UserError where the lines leave open which number a class has.
    """
    for name in LISTS:
        path = folder / name
        if path.exists():  # a device too: it is refused, not passed over
            return ClassList(_numbered_names(path, _lines(path)))
    path = folder / LABELMAP
    return _read_labelmap(path) if path.exists() else None


def _lines(path: Path) -> list[str]:
    text = read_text(path, "a list of classes", fix="write one class a line")
    return [line for line in map(clean, text.split("\n")) if line]


def _numbered_names(path: Path, lines: list[str]) -> tuple[str, ...]:
    numbered = [_NUMBERED.fullmatch(line) for line in lines]
    if lines and all(numbered):
        pairs = [(int(match[1]), clean(match[2])) for match in numbered if match]
        start = pairs[0][0]
        if [number for number, _ in pairs] == list(range(start, start + len(pairs))) and start in (0, 1):
            if start == 0 and not _is(_BACKGROUND, pairs[0][1]) and not _is(_LIKE_BACKGROUND, pairs[0][1]):
                raise UserError(
                    f"{path} gives the number 0 to {quoted(pairs[0][1])}, but masks store background as 0; number the "
                    "classes from 1, in the masks too"
                )
            lines = [name for _, name in pairs][1 - start :]
    names = [line for line in lines if not _is(_IGNORE, line)]
    for at, name in enumerate(names):
        if _is(_BACKGROUND, name) and at > 0:
            raise UserError(
                f"{path} has {quoted(name)} in place {at + 1}, but masks store background as 0; put it first, in the order "
                "that the masks' numbers have"
            )
    if names and _is(_BACKGROUND, names[0]):
        names = names[1:]
    if not names:
        raise UserError(f"class list {path} is empty; write one class a line")
    if _is(_LIKE_BACKGROUND, names[0]):
        raise UserError(
            f"{path} begins with {quoted(names[0])}; if masks store it as 0, call it background, else give it another name"
        )
    return check_classes(names)


def _read_labelmap(path: Path) -> ClassList:
    """`name:r,g,b:parts:actions`, a line a stored value, as CVAT and Datumaro write it."""
    names: list[str] = []
    colors: list[tuple[int, int, int]] = []
    for line in _lines(path):
        if line.startswith("#"):
            continue
        parts = line.split(":")
        color = _color(parts[1]) if len(parts) > 1 else None
        if color is None:
            raise UserError(f"{path} cannot be read: {quoted(line)} is not `name:r,g,b::`")
        names.append(clean(parts[0]))
        colors.append(color)
    background = next((i for i, name in enumerate(names) if _is(_BACKGROUND, name)), None)
    if background is None:
        raise UserError(f"{path} has no background; add the line background:0,0,0:: in front")
    order = [background, *(i for i in range(len(names)) if i != background and not _is(_IGNORE, names[i]))]
    if len(set(colors)) < len(colors):
        raise UserError(f"{path} gives two classes one color; correct it")
    return ClassList(check_classes([names[i] for i in order[1:]]), tuple(colors[i] for i in order))


def _color(text: str) -> tuple[int, int, int] | None:
    parts: Sequence[str] = text.split(",")
    if len(parts) != 3 or not all(part.strip().isdecimal() and int(part) <= 255 for part in parts):
        return None
    return int(parts[0]), int(parts[1]), int(parts[2])


def _is(pattern: re.Pattern[str], name: str) -> bool:
    return pattern.fullmatch(name.lower().replace(" ", "_")) is not None
