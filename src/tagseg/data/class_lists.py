"""The list of classes that lies beside numbered masks, as labelme, CVAT and people write it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tagseg.data.classes import check_classes
from tagseg.data.paths import held
from tagseg.data.text import clean, quoted
from tagseg.errors import UserError
from tagseg.files import write_text
from tagseg.foreign import read_text
from tagseg.mask_values import BACKGROUND, IGNORE, UNKNOWN
from tagseg.result_folder import ResultFolder

CLASSES_FILE = "classes.txt"
LISTS = ("labels.txt", CLASSES_FILE, "class_names.txt")
RECORDS = tuple(f".tagseg-{command}" for command in ("label", "predict", "refine", "convert", "finish"))
LABELMAP = "labelmap.txt"
_BACKGROUND = re.compile(r"[\W_]*background[\W_]*")  # background, _background_, __background__
_IGNORE = re.compile(r"[\W_]*(ignored?|void)[\W_]*|255")
_LIKE_BACKGROUND = re.compile(r"[\W_]*(bg|back_?ground|un_?label+ed|unannotated|no_?label)[\W_]*")
_NUMBERED = re.compile(r"(?P<number>\d{1,3})\s*[:.,;=\s]\s*(?P<name>\S.*)")
_NUMBER_BEHIND = re.compile(r"(?P<name>.*\S)\s*[:,;=\s]\s*(?P<number>\d{1,3})")
_FIELD = r"[\"']?(id|index|number|value|label|class|name|category)s?[\"']?"
_HEADER = re.compile(rf"{_FIELD}\s*[:,;\s]\s*{_FIELD}")


@dataclass(frozen=True)
class ClassList:
    """names: of the classes 1..C. colors: RGB of the stored values 0..C, for masks stored as colors; None without."""

    names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...] | None = None


def find_class_list(folder: Path) -> ClassList | None:
    """The classes that a list in a folder gives to the values 1, 2, ... of its masks; None where there is no list.

    `labels.txt`, `classes.txt` and labelme's `class_names.txt` hold one class a line; background, which masks store as 0,
    may stand first, `__ignore__`, stored as 255, before it or last. Every line may bear its number, `1 cat` or `cat,1`.
    CVAT's `labelmap.txt` holds colors too.
    Raises UserError where the lines leave open which number a class has.
    """
    for name in LISTS:
        path = folder / name
        if path.exists():  # a device too: it is refused, not passed over
            return ClassList(_numbered_names(path, _lines(path)))
    path = folder / LABELMAP
    return _read_labelmap(path) if path.exists() else None


def read_class_list(path: Path) -> tuple[str, ...]:
    """The classes 1, 2, ... of one list, read as `find_class_list` does, or line by line where tagseg wrote it, or may have.

    That is background and then names of classes, whatever these look like; none where background stands alone.
    Raises UserError.
    """
    first, *names = read_text(path, "a list of classes", fix="write one class a line").rstrip("\n").split("\n")
    plain = not _numbers_each_place(names) and not any(_is(_IGNORE, name) for name in names)
    if first == BACKGROUND and (plain or _is_tagsegs(path)):
        with suppress(UserError):
            return check_classes(names)
    return _numbered_names(path, _lines(path))


def write_class_list(folder: Path, classes: Sequence[str]) -> None:
    """Write the names of the values 0, 1, ... of the masks in a folder, a line each."""
    write_text(folder / CLASSES_FILE, "".join(f"{name}\n" for name in classes))


def listed_classes(masks: Path) -> tuple[str, ...]:
    """The classes 1.. that a list in a folder of masks, or beside it, names; none where there is no list."""
    folder = next((f for f in (masks, masks.parent) if (f / CLASSES_FILE).is_file()), None)
    if folder is None:
        return ()
    return read_class_list(held(folder / CLASSES_FILE, folder))


def own_list(masks: Path) -> tuple[str, ...]:
    """As `listed_classes`, but a list beside the folder counts where tagseg wrote it: others speak of other files too."""
    inside = (masks / CLASSES_FILE).is_file()
    return listed_classes(masks) if inside or _is_tagsegs(masks.parent / CLASSES_FILE) else ()


def _is_tagsegs(path: Path) -> bool:
    """Whether a list is there as a command of tagseg wrote it."""
    return path.is_file() and any(ResultFolder.wrote_it(path.parent, record, path.name) for record in RECORDS)


def disagree(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether two lists of the classes 1, 2, ... give a class different numbers."""
    return any(one.index(name) != other.index(name) for name in set(one) & set(other))


def numbers_by_name(listed: Sequence[str], classes: Sequence[str]) -> tuple[int, ...] | None:
    """What each value 0..255 of masks with a list means in the order of `classes`; None where both orders agree.

    A value that is none of the classes becomes UNKNOWN, which is refused where a mask holds it.
    """
    if not disagree(listed, classes):
        return None
    return values_by_name((BACKGROUND, *listed), (BACKGROUND, *classes))


def values_by_name(stored: Sequence[str], names: Sequence[str]) -> tuple[int, ...]:
    """What each value 0..255 of masks means in the order of `names`, where 0, 1, ... are `stored`; UNKNOWN: none of them."""
    index = {name: k for k, name in enumerate(names)}
    return (*(index.get(name, UNKNOWN) for name in stored), *[UNKNOWN] * (IGNORE - len(stored)), IGNORE)


def _numbers_each_place(names: list[str]) -> bool:
    """Whether each line bears its number and a name of its own: `1 cat`, `2 dog`, but not the coins `1 euro`, `2 euro`."""
    found = [match for match in map(_NUMBERED.fullmatch, names) if match]
    numbers, bare = {int(match["number"]) for match in found}, {match["name"] for match in found}
    return bool(names) and len(bare) == len(names) and numbers == set(range(1, len(names) + 1))


def _lines(path: Path) -> list[str]:
    return _cleaned(read_text(path, "a list of classes", fix="write one class a line"))


def _cleaned(text: str) -> list[str]:
    return [line for line in map(clean, text.split("\n")) if line]


def _numbered_names(path: Path, lines: list[str]) -> tuple[str, ...]:
    pairs = _pairs(path, lines)
    return check_classes(_in_order(path, lines) if pairs is None else _by_number(path, pairs))


def _pairs(path: Path, lines: list[str]) -> list[tuple[int, str]] | None:
    """The numbers that a list gives to its names; None where it has none, and the lines' places are the numbers."""
    for pattern in (_NUMBERED, _NUMBER_BEHIND):
        rest = lines[1:] if len(lines) > 1 and _HEADER.fullmatch(lines[0].lower()) else lines
        found = [pattern.fullmatch(line) for line in rest]
        pairs = [(int(match["number"]), clean(match["name"])) for match in found if match]
        has_background = any(_is(_BACKGROUND, name) for _, name in pairs)
        if not (has_background or _counts_classes(pairs)):
            continue  # 2 wheels, 4 wheels; boeing 737, airbus 320: the numbers belong to the names
        if len(pairs) == len(rest):
            return pairs
        for match, line in zip(found, rest, strict=True):
            if match and (has_background or (pattern is _NUMBERED and min(pairs)[0] <= 1)):
                raise UserError(
                    f"{path} numbers {quoted(line)}, but not every class; give each line its number, or none: `1 cat`"
                )
    return None


def _counts_classes(pairs: list[tuple[int, str]]) -> bool:
    """Whether numbers count the classes: from 0 or 1 on, perhaps with a gap, which is refused later, or without a gap."""
    numbers = sorted(number for number, _ in pairs if number != IGNORE)
    if not numbers or len({name for _, name in pairs}) < len(pairs):
        return False
    return numbers[0] <= 1 or numbers == [*range(numbers[0], numbers[0] + len(numbers))]


def _by_number(path: Path, pairs: list[tuple[int, str]]) -> list[str]:
    """The names of the classes 1, 2, ... Raises UserError where background is not 0, or a number is missing or twice there."""
    names: dict[int, str] = {}
    for number, name in pairs:
        if number in names:
            raise UserError(
                f"{path} gives the number {number} to {quoted(names[number])} and {quoted(name)}; correct it"
            )
        names[number] = name
    zero = names.pop(0, None)
    if zero is not None and not _is(_BACKGROUND, zero) and not _is(_LIKE_BACKGROUND, zero):
        raise UserError(
            f"{path} gives the number 0 to {quoted(zero)}, but masks store background as 0; number the classes from 1, in "
            "the masks too"
        )
    if (last := names.pop(IGNORE, None)) is not None and not _is(_IGNORE, last):
        raise UserError(
            f"{path} gives the number {IGNORE} to {quoted(last)}, but masks store ignored pixels as {IGNORE}; number the "
            "classes 1, 2, 3 ..., in the masks too"
        )
    kept = sorted((number, name) for number, name in names.items() if not _is(_IGNORE, name))
    for place, (number, name) in enumerate(kept, start=1):
        if _is(_BACKGROUND, name):
            raise UserError(f"{path} gives the number {number} to {quoted(name)}, but masks store background as 0")
        if number != place:
            raise UserError(
                f"{path} gives the number {number} to {quoted(name)}, and no class has the number {place}; number the "
                "classes 1, 2, 3 ... without a gap, in the masks too"
            )
    if not kept:
        raise UserError(f"class list {path} is empty; write one class a line")
    return [name for _, name in kept]


def _in_order(path: Path, lines: list[str]) -> list[str]:
    """The names of the classes 1, 2, ... by their places. Raises UserError where background or ignored pixels stand between."""
    names = list(lines)
    while names and _is(_IGNORE, names[0]):
        del names[0]
    while names and _is(_IGNORE, names[-1]):
        del names[-1]
    for at, name in enumerate(names):
        if _is(_IGNORE, name):
            raise UserError(
                f"{path} has {quoted(name)} between the classes, so their numbers are not clear; put it last, in the order "
                "that the masks' numbers have, or number the lines: `1 cat`"
            )
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
    return names


def _read_labelmap(path: Path) -> ClassList:
    rows = labelmap_rows(path, read_text(path, "a list of classes"))
    rows = [rows[0], *(row for row in rows[1:] if not _is(_IGNORE, row[0]))]
    return ClassList(check_classes([name for name, _ in rows[1:]]), tuple(color for _, color in rows))


def labelmap_rows(source: object, text: str) -> list[tuple[str, tuple[int, int, int]]]:
    """The labels of a labelmap and their RGB, with background, which masks store as 0, in front, called "background".

    text: `name:r,g,b:parts:actions`, a line a label, as CVAT and Datumaro write it. Where no label is called background,
    it is the one colored 0,0,0. Raises UserError naming the source.
    """
    rows = []
    for line in _cleaned(text):
        if line.startswith("#"):
            continue
        parts = line.split(":")
        color = _color(parts[1]) if len(parts) > 1 else None
        if color is None:
            raise UserError(f"{source} cannot be read: {quoted(line)} is not `name:r,g,b::`; correct the line")
        rows.append((clean(parts[0]), color))
    zero = next((row for row in rows if _is(_BACKGROUND, row[0])), None)
    zero = zero or next((row for row in rows if row[1] == (0, 0, 0)), None)
    if zero is None:
        raise UserError(f"{source} has no background; add the line background:0,0,0:: in front")
    by_color: dict[tuple[int, int, int], str] = {}
    for name, color in rows:
        if name in by_color.values():
            raise UserError(f"{source} has the label {quoted(name)} twice; keep one of the lines")
        if color in by_color:
            raise UserError(
                f"{source} gives {quoted(by_color[color])} and {quoted(name)} one color, {color}; give each its own"
            )
        by_color[color] = name
    return [(BACKGROUND, zero[1]), *(row for row in rows if row is not zero)]


def _color(text: str) -> tuple[int, int, int] | None:
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 3 or not all(part.isdecimal() and len(part) <= 3 and int(part) <= 255 for part in parts):
        return None
    return int(parts[0]), int(parts[1]), int(parts[2])


def _is(pattern: re.Pattern[str], name: str) -> bool:
    return pattern.fullmatch(name.lower().replace(" ", "_")) is not None
