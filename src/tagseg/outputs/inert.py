"""Text of others, written so that the program which opens the file does nothing with it: Markdown, spreadsheets."""

from __future__ import annotations

import re


def markdown(text: object) -> str:
    """A text as Markdown shows it, on one line: no table, heading, link, code or HTML of its own."""
    line = " ".join(str(text).split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*\[\]|~]|^[#+-])", r"\\\1", line)


def code(text: object) -> str:
    """A text as code inside a Markdown table."""
    return f"`{' '.join(str(text).split()).replace('`', chr(39)).replace('|', chr(92) + '|')}`"


def cell_path(name: str) -> str:
    """A relative path for a cell of a CSV table: one that a spreadsheet would run as a formula begins with `./`."""
    return f"./{name}" if name[:1] in FORMULA else name


def path_of_cell(cell: str) -> str:
    """The path that `cell_path` wrote."""
    return cell.removeprefix("./") if cell[2:3] in FORMULA else cell


FORMULA = tuple("=+-@\t\r")
