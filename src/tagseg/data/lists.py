"""Several tags in one cell, as programs print their lists: JSON, Python, numpy, PostgreSQL, R."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

_PAIRS = {"[": "]", "{": "}", "(": ")"}
_QUOTED = re.compile(r"""\s*(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)')\s*(?:,|(?=["'])|$)""", re.DOTALL)
_BARE = re.compile(r"""\s*(?:"((?:[^"\\]|\\.)*)"|([^,"'\[\]{}]*))\s*(?:,|$)""", re.DOTALL)
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|.)", re.DOTALL)


def listed(cell: str) -> list[str] | None:
    r"""The items of a cell that is a printed list with quoted items, or PostgreSQL's `{a,b}`; None for any other text.

    `["a", "b"]`, `['a', 'b']`, `['a' 'b']`, `('a',)`, `{'a', 'b'}`, `c("a", "b")`, `{a,"b c"}`, `[]` and `set()`.
    """
    text = cell.strip()
    if text in ("set()", "()", "[]", "{}", "character(0)", "NULL"):
        return []
    if text.startswith('{"') and text.endswith("}") and ":" in text:
        return _labeled(text)
    if text.startswith('["') and text.endswith("]"):
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = None  # perhaps another language's list
        if isinstance(found, list) and all(isinstance(item, str) for item in found):
            return found
    if text.startswith("c("):
        text = text[1:]
    elif text.startswith("array("):
        text = text[len("array") :].removeprefix("(").partition("]")[0] + "]"
    if len(text) < 2 or _PAIRS.get(text[0]) != text[-1]:
        return None
    inside = text[1:-1]
    items = _items(inside, _QUOTED)
    if items is None and text[0] == "{" and ":" not in inside:
        items = _items(inside, _BARE)
    return items


def is_object(cell: object) -> bool:
    """Whether a cell holds JSON that is no list of names."""
    return isinstance(cell, str) and cell.strip()[:2] in ('{"', "[{", "[[") and cell.strip()[-1:] in ("}", "]")


def _labeled(text: str) -> list[str] | None:
    """The names in `{"choices": ["a", "b"]}`, as Label Studio writes them; None for other objects."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    lists = [value for value in found.values() if isinstance(value, list)] if isinstance(found, dict) else []
    if len(lists) == 1 and len(found) == 1 and all(isinstance(item, str) for item in lists[0]):
        return lists[0]
    return None


def all_listed(cells: Iterable[str]) -> bool:
    """Whether a column holds lists without quotes, `[a, b]`: every cell stands in brackets and one has a comma."""
    commas = False
    for cell in cells:
        text = cell.strip()
        if len(text) < 2 or _PAIRS.get(text[0]) != text[-1]:
            return False
        commas = commas or "," in text
    return commas


def _items(inside: str, pattern: re.Pattern[str]) -> list[str] | None:
    items, at = [], 0
    while at < len(inside):
        match = pattern.match(inside, at)
        if match is None or match.end() == at:
            return None
        at = match.end()
        first, second = match.groups()
        text = first if first is not None else second
        items.append(text if pattern is _BARE and first is None else _ESCAPE.sub(_unescape, text))
    return items


def _unescape(match: re.Match[str]) -> str:
    code = match[1]
    if len(code) > 1:
        return chr(int(code[1:], 16))
    return {"n": "\n", "t": "\t", "r": "\r"}.get(code, code)
