"""Names of classes: which can be one, which occur in a table, and what is said about a tag that is none."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache

from tagseg.data.tables import Problem, Row
from tagseg.data.text import clean, name_flaw, quoted
from tagseg.errors import UserError

MOST_CLASSES = 253  # that masks of 8 bits hold beside background, 254 = no class and 255 = ignored


def unknown_tag(where: str, file: str, tag: str, known: Sequence[str]) -> str:
    """The sentence about a tag that is no class, with the nearest class."""
    hint = _nearest(tag.lower()[:200], tuple(known))
    return f"{where}: {file} has the tag {quoted(tag)}, which is not among the classes{hint}"


@lru_cache(maxsize=1000)
def _nearest(tag: str, known: tuple[str, ...]) -> str:
    by_lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(tag, list(by_lower), n=1, cutoff=0.0)
    return f"; did you mean {quoted(by_lower[near[0]])}?" if near else ""


def check_classes(classes: Iterable[str]) -> tuple[str, ...]:
    """The classes as a tuple, in the form of `clean`; raises UserError when one cannot be a class or stands twice."""
    if isinstance(classes, str):
        raise UserError(f"the classes should be a list of names, such as [{classes[:40]!r}], not a text")
    written = tuple(classes)
    if len(written) > MOST_CLASSES:
        raise UserError(
            f"there are {len(written):,} classes, but masks hold at most {MOST_CLASSES}; they begin with "
            + ", ".join(map(quoted, written[:3]))
        )
    names = tuple(map(clean, written))
    for name, before in zip(names, written, strict=True):
        if not name or before != before.strip():
            raise UserError(f"class name {before!r} is empty or has spaces around it; correct the list of classes")
        if (flaw := name_flaw(name)) is not None:
            raise UserError(f"{quoted(name)} {flaw}; rename it, or leave it out of the classes")
    for name, count in Counter(names).items():
        if count > 1:
            raise UserError(f"class {quoted(name)} stands twice in the list of classes")
    return names


def derive_classes(rows: Iterable[Row], source: str, problems: list[Problem]) -> tuple[str, ...]:
    """The tags that occur, in alphabetical order; those that differ in capitals alone go to `problems`."""
    first: dict[str, Row] = {}
    for row in rows:
        for tag in row.tags:
            first.setdefault(tag, row)
    by_lower: dict[str, str] = {}
    for tag, row in first.items():
        other = by_lower.setdefault(tag.lower(), tag)
        if other != tag:
            text = (
                f"{source}, row {row.number}: {row.file} has the tag {tag!r}, but row {first[other].number} writes "
                f"{other!r}; spell a class in one way"
            )
            problems.append(Problem("unknown tag", row.file, text))
    return check_classes(sorted(first))
