"""A photo under review: where it lies, and what is known of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tagseg.review.proposals import Proposal

Tags = tuple[str, ...] | None


@dataclass(slots=True)
class Photo:
    """One photo under review. tags: those of the table, None where it has none. revision: when its row changed last."""

    name: str
    path: Path
    tags: tuple[str, ...] | None
    proposal: Proposal | None = None
    problem: str = ""
    revision: int = 0

    def retagged(self, tags: Tags) -> bool:
        """Whether tags are others than those of the table, in whatever order."""
        return tags is not None and (self.tags is None or set(tags) != set(self.tags))
