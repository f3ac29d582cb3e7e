"""Stopping on request: Ctrl-C or a scheduler's SIGTERM sets a flag that long loops look at."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

EXIT_INTERRUPTED = 75
"""Exit status after an interruption that lost nothing: the same command goes on (EX_TEMPFAIL of sysexits.h)."""

_ECHO_SECONDS = 0.5


class Interrupted(KeyboardInterrupt):
    """Raised by `check` in a loop that was asked to stop."""


class Interruption:
    """While entered, the first SIGINT or SIGTERM only sets `requested`; the second one aborts at once.

    Handlers are put back on leaving. Outside the main thread signals cannot be caught, and `requested` stays False.
    Data-loading processes forked meanwhile leave the signals to this one.
    """

    def __init__(self) -> None:
        self.requested = False
        self._first = 0.0
        self._ignored_in_child = False
        self._process = os.getpid()
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
        if os.getpid() != self._process:
            self._handle_in_child(number)
        elif not self.requested:
            self.requested = True
            self._first = time.monotonic()
        elif (
            time.monotonic() - self._first > _ECHO_SECONDS
        ):  # launchers pass a terminal's Ctrl-C on: that echo is no second one
            self._restore()
            raise KeyboardInterrupt

    def _handle_in_child(self, number: int) -> None:
        # A forked data-loading process inherits this handler, and a terminal or scheduler signals the whole
        # process group. Were it to die, torch would raise in the middle of the parent's step; a second SIGTERM ends it.
        if number == signal.SIGTERM:
            if self._ignored_in_child:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                os.kill(os.getpid(), signal.SIGTERM)
            self._ignored_in_child = True


_current: Interruption | None = None


def requested() -> bool:
    """Whether the surrounding `Interruption`, if there is one, was asked to stop."""
    return _current is not None and _current.requested


def check() -> None:
    """Raise `Interrupted` when the surrounding `Interruption` was asked to stop; for loops over photos."""
    if requested():
        raise Interrupted
