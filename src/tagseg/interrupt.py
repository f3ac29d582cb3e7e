"""Stopping on request: Ctrl-C or a scheduler's SIGTERM sets a flag that long loops look at."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

EXIT_INTERRUPTED = 75
"""Exit status after an interruption that lost nothing: the same command goes on (EX_TEMPFAIL of sysexits.h)."""

_ECHO_SECONDS = 0.5  # launchers pass a terminal's Ctrl-C on to processes that have it already: no second one


class Interrupted(KeyboardInterrupt):
    """Raised by `check` in a loop that was asked to stop."""


class Interruption:
    """While entered, the first SIGINT or SIGTERM only sets `requested`; the second one aborts at once.

    Handlers are put back on leaving. Outside the main thread signals cannot be caught, and `requested` stays False.
    Data-loading processes forked meanwhile inherit the handlers, and so outlive the first signal to a whole process
    group: were they to die of it, torch would raise in the middle of a step.
    """

    def __init__(self) -> None:
        self.requested = False
        self._first = 0.0
        self._handlers: dict[int, Any] = {}
        self._outer: Interruption | None = None

    def __enter__(self) -> Interruption:
        global _current
        self._outer, _current = _current, self
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        global _current
        _current = self._outer
        if self._outer is not None:
            self._outer.requested |= self.requested
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._handlers.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self.requested:
            self.requested = True
            self._first = time.monotonic()
        elif time.monotonic() - self._first > _ECHO_SECONDS:
            self._restore()
            raise KeyboardInterrupt


_current: Interruption | None = None


def requested() -> bool:
    """Whether the surrounding `Interruption`, if there is one, was asked to stop."""
    return _current is not None and _current.requested


def check() -> None:
    """Raise `Interrupted` when the surrounding `Interruption` was asked to stop; for loops over photos."""
    if requested():
        raise Interrupted
