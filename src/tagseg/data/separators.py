"""What separates the tags of one cell, seen from all cells of a table."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tagseg.data.text import clean, quoted

SEPARATORS = ";|,"
_MARK = re.compile(r"\s*[;|,/+&\t]\s*")
_SHOWN = 5


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
            words = [tuple(clean(cell).split()) for cell in cells]
            there = frozenset(words)
            # In another order as well, "cat dog" and "dog cat", they are two.
            self.alone = frozenset(
                word for found in words if len(found) == 1 or found[::-1] in there - {found} for word in found
            )
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
        for tag, pieces in list(self._unsure.items())[:_SHOWN]:
            if " " in tag and not _MARK.search(tag):
                notes.append(
                    f"tags are split at spaces: {quoted(tag)} gives {' and '.join(pieces)}; "
                    "if that is one tag: --separator ';'"
                )
            else:
                mark = self.separator if self.separator and self.separator in SEPARATORS else ";"
                notes.append(f"the tag {quoted(tag)} may be several; if it is one: --separator '{mark}'")
        if len(self._unsure) > _SHOWN:
            notes.append(f"and {len(self._unsure) - _SHOWN:,} more tags like these")
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
