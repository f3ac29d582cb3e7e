"""Where the header of a table stands, and what belongs to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tagseg.data.text import clean

TITLE_ROWS = 10
"""Rows among which the header is looked for."""


def header_place(rows: Sequence[Sequence[str]], known: Callable[[list[str]], bool]) -> int | None:
    """Which of the first rows is the header; those before it may only be titles of one cell, or comments."""
    for at, cells in enumerate(rows[:TITLE_ROWS]):
        if known(list(cells)):
            return at
        if sum(bool(cell.strip()) for cell in cells) > 1 and not cells[0].lstrip().startswith("#"):
            return None
    return None


def trim(header: list[str]) -> list[str]:
    """A header without the empty cells that spreadsheets pad it with."""
    header = [clean(name) for name in header]
    while header and not header[-1]:
        header.pop()
    return header
