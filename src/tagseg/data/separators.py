"""What separates the tags of one cell, seen from all cells of a table."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tagseg.data.text import clean, quoted

SEPARATORS = ";|,"
_MARK = re.compile(r"\s*[;|,/+&\t]\s*")
_COMPANY = 3  # other words that a word stands with when it is surely a tag of its own


class Splitter:
    """Splits cells into tags, and tells what may not have been meant so.

    rows: the cells of each row that may hold several tags. classes: the names that tags may have, where they are known.
    told: the separator where a person names it; nothing else is then looked at.
    """

    def __init__(self, rows: Sequence[Sequence[str]], classes: Sequence[str] | None, told: str | None) -> None:
        self.told = told
        self.classes = None if classes is None else frozenset(map(clean, classes))
        cells = list(dict.fromkeys(cell for row in rows for cell in row))
        found = [mark for mark in SEPARATORS if any(mark in cell for cell in cells)]
        # Where rows hold several cells, these are the tags, and spaces belong to names.
        spaces = not found and not any(len(row) > 1 for row in rows)
        self.separator = told or (found[0] if found else " " if spaces else None)
        # What a part must be so that splitting is surely meant: a class, or a tag that also stands alone.
        if self.classes is not None:
            self.alone = self.classes
        elif self.separator == " ":
            self.alone = _words(rows)
        else:
            parts = {clean(part) for cell in cells for part in self._parts(cell)}
            self.alone = frozenset(part for part in parts if not _MARK.search(part))
        self._unsure: dict[str, list[str]] = {}

    def split(self, cell: str) -> list[str]:
        """The tags of one cell, not cleaned."""
        parts = self._parts(cell)
        if self.told is not None:
            return parts
        spaced = self.separator == " " and self.classes is None and len(parts) > 1
        if spaced and not self.alone.issuperset(parts):
            self._unsure[clean(cell)] = parts
        return [piece for part in parts for piece in self._pieces(part)]

    def notes(self) -> list[str]:
        """Sentences about tags that may be several, or were split at spaces without certainty."""
        notes = []
        spaced = {tag: pieces for tag, pieces in self._unsure.items() if not _MARK.search(tag)}
        marked = [tag for tag in self._unsure if tag not in spaced]
        if spaced:
            tag, pieces = next(iter(spaced.items()))
            more = f" (and {len(spaced) - 1:,} more like it)" if len(spaced) > 1 else ""
            notes.append(
                f"tags are split at spaces: {quoted(tag)} gives {' and '.join(pieces)}{more}; "
                "if that is one tag: --separator ';'"
            )
        if marked:
            mark = self.separator if self.separator and self.separator in SEPARATORS else ";"
            more = f" (and {len(marked) - 1:,} more like it)" if len(marked) > 1 else ""
            notes.append(f"the tag {quoted(marked[0])} may be several{more}; if it is one: --separator '{mark}'")
        return notes

    def _parts(self, cell: str) -> list[str]:
        """A cell split at the separator."""
        if self.separator is None:
            return [cell]
        if self.separator != " ":
            return cell.split(self.separator)
        words = clean(cell).split()
        if self.told is None and self.classes is not None and any(" " in name for name in self.classes):
            # A space belongs to a name here, or separates names.
            return words if clean(cell) not in self.classes and self.classes.issuperset(words) else [cell]
        return words

    def _pieces(self, part: str) -> list[str]:
        """A part split at another mark where its pieces are tags of their own; else it is kept, and perhaps noted."""
        tag = clean(part)
        pieces = [piece for piece in _MARK.split(tag) if piece]
        if len(pieces) < 2 or (self.classes is not None and tag in self.classes):
            return [part]
        known = self.alone.issuperset(pieces)
        if known and any(mark in tag for mark in SEPARATORS):
            return pieces
        if self.classes is None and (known or any(mark in tag for mark in SEPARATORS)):
            self._unsure[tag] = pieces
        return [part]


def _words(rows: Sequence[Sequence[str]]) -> frozenset[str]:
    """The words that are surely tags of their own in a table whose tags may be separated by spaces.

    A word that stands alone in a cell, or one of "cat dog" where "dog cat" is there as well; in a table where a third of
    the cells have one word, also one that stands with three others.
    """
    cells = [tuple(clean(cell).split()) for row in rows for cell in row]
    there = frozenset(cells)
    sure = {word for cell in there if len(cell) == 1 or cell[::-1] in there - {cell} for word in cell}
    if 3 * sum(len(cell) == 1 for cell in cells) >= len(cells):
        company: dict[str, set[str]] = {}
        for cell in there:
            for word in cell:
                company.setdefault(word, set()).update(cell)
        sure |= {word for word, others in company.items() if len(others) > _COMPANY}
    return frozenset(sure)
