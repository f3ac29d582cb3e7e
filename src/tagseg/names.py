"""Names that were meant: what stands nearest to a name that there is not."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name nearest to one that there is not, or None where none is near; names that begin alike are preferred."""
    found = difflib.get_close_matches(name[:200], list(known), n=5)
    # max takes the first of several: of names that begin equally alike the one that difflib finds most alike
    return max(found, key=lambda other: _begins_alike(name, other), default=None)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a sentence on an unknown name, with its mark: the nearest one, or all there are."""
    names = list(known)
    near = nearest(name, names)
    return f"did you mean {near}?" if near else f"there are {', '.join(names)}."


def _begins_alike(one: str, other: str) -> int:
    """How many letters two names have in common from their beginning."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
