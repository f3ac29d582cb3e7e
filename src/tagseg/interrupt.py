"""Stopping on request: Ctrl-C or a scheduler's SIGTERM sets a flag that long loops look at.

Where a signal comes            what happens
outside every Interruption      KeyboardInterrupt at once (the command line makes one of SIGTERM too)
inside, the first one           one sentence says what will happen; the flag is set; the next `check` raises Interrupted
inside, within half a second    nothing: launchers pass a terminal's Ctrl-C on
inside, a later one             KeyboardInterrupt at once
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Any, Protocol

EXIT_INTERRUPTED = 75
"""Exit status after an interruption that lost nothing: the same command goes on (EX_TEMPFAIL of sysexits.h)."""

ANSWER = "Stopping after what is being worked at; what is done is kept. Ctrl-C again ends at once."
_ECHO_SECONDS = 0.5  # launchers pass a terminal's Ctrl-C on to processes that have it already: no second one


class Interrupted(KeyboardInterrupt):
    """Raised by `check` in a loop that was asked to stop."""


class Injector(Protocol):
    """What makes a fault happen at a place of a loop, so that tests meet it there each time."""

    def __call__(self, number: int) -> None:
        """Called before each step, photo or file, which are counted from 1 over all loops of one Interruption."""


@dataclass
class _Request:
    """What all Interruptions inside each other share, so that no signal falls between two of them."""

    made: bool = False
    first: float = 0.0
    process: int = 0
    injector: Injector | None = None
    passed: int = 0  # how often a loop has asked


class Interruption:
    """While entered, the first SIGINT or SIGTERM only sets `requested` and is answered; a later one aborts at once.

    One inside another shares its request. Handlers are put back on leaving. Outside the main thread no signal is caught:
    there it only shares the request of the main thread's, if that has entered one.
    injector: makes faults in the loops inside; for tests.
    Data-loading processes forked meanwhile inherit the handlers, and so outlive the first signal to a whole process
    group: were they to die of it, torch would raise in the middle of a step.
    """

    def __init__(self, injector: Injector | None = None) -> None:
        self._injector = injector
        self._request = _Request(injector=injector)
        self._handlers: dict[int, Any] = {}
        self._outer: Interruption | None = None

    @property
    def requested(self) -> bool:
        """Whether a signal asked to stop."""
        return self._request.made

    def __enter__(self) -> Interruption:
        global _current
        outer = _current
        if outer is None:
            self._request = _Request(process=os.getpid(), injector=self._injector)
        else:
            self._request = outer._request
        if threading.current_thread() is threading.main_thread():
            self._outer, _current = outer, self
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        global _current
        if _current is self:
            _current = self._outer
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._handlers.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        request = self._request
        if not request.made:
            request.made, request.first = True, time.monotonic()
            if request.process == os.getpid() and os.environ.get("RANK", "0") == "0":  # not those forked or beside it
                _answer()
        elif time.monotonic() - request.first > _ECHO_SECONDS:
            self._restore()
            raise KeyboardInterrupt


def _answer() -> None:
    """Say at once what will happen; straight to the terminal, for a handler may have come in the middle of a print."""
    with suppress(OSError, ValueError, AttributeError):
        os.write(sys.stderr.fileno(), f"\n{ANSWER}\n".encode())


_current: Interruption | None = None


def requested() -> bool:
    """Whether the surrounding `Interruption`, if there is one, was asked to stop."""
    return _current is not None and _current.requested


def check() -> None:
    """Raise `Interrupted` when the surrounding `Interruption` was asked to stop; for loops over photos."""
    passing()
    if requested():
        raise Interrupted


def passing() -> None:
    """Let the surrounding `Interruption`'s injector, if there is one, make its fault here."""
    if _current is not None and _current._request.injector is not None:
        _current._request.passed += 1
        _current._request.injector(_current._request.passed)
