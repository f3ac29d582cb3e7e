"""How far work is: a bar on a terminal, a plain line now and then elsewhere, nothing with --quiet."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import track

T = TypeVar("T")
SECONDS_BETWEEN_LINES = 20.0
_quiet = False


def silence(quiet: bool = True) -> None:
    """Show no progress from here on, or again."""
    global _quiet
    _quiet = quiet


def silent() -> bool:
    """Whether no progress is shown."""
    return _quiet


def nothing_said(*_: object) -> None:
    """A `say` that says nothing, such as that of all processes but the first."""


def tracked(items: Iterable[T], what: str, total: int, *, least: int = 9) -> Iterator[T]:
    """The items, with word of how many are done on standard error; of fewer than `least` nothing is said."""
    console = Console(stderr=True)
    if _quiet or total < least:
        yield from items
    elif console.is_terminal:
        yield from track(items, what, total=total, console=console, transient=True)
    else:
        yield from _lines(items, what, total, console)


def _lines(items: Iterable[T], what: str, total: int, console: Console) -> Iterator[T]:
    begun = said = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if done and now - said >= SECONDS_BETWEEN_LINES:
            said = now
            left = clock_text((now - begun) / done * (total - done))
            console.print(f"{what}: {done} of {total}, {left} left", markup=False, highlight=False, soft_wrap=True)
        yield item


def clock_text(seconds: float) -> str:
    """Seconds as 3:20 or 1:02:03."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
