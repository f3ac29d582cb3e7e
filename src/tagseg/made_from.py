"""What a result is made from, and whether that is still the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class MadeFrom:
    """What a result is made from: facts such as tags, as JSON holds them, and files.

    stamp: what is cheap to ask of the files; where it differs, their contents decide. Both as JSON holds them.
    fits_older: whether the facts are those of a result whose record, of an older version, does not tell what it is made from.
    """

    facts: object
    stamp: Callable[[], object]
    contents: Callable[[], object]
    fits_older: bool = True

    def now(self) -> list[object] | None:
        """What the record keeps; None where a file is gone."""
        try:
            return [self.facts, self.stamp(), self.contents()]
        except OSError:
            return None

    def was(self, known: list[object] | None) -> bool:
        """Whether a result whose record keeps this was made from the same."""
        if known is None:
            return self.fits_older
        facts, stamp, contents = known
        try:
            return facts == self.facts and (stamp == self.stamp() or contents == self.contents())
        except OSError:
            return True  # a file that is gone tells nothing
