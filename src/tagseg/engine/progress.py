"""How far training is: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from tagseg.progress import SECONDS_BETWEEN_LINES, clock_text, silent

FIRST_ESTIMATE = 5  # steps after which a rate is worth something


class TrainProgress:
    """Rate, time left, losses and current scores on standard error; silent when not `enabled`."""

    def __init__(
        self, steps: int, enabled: bool = True, later: float = 0.0, effort: Callable[[int], float] = float
    ) -> None:
        """later: what comes after this training, in steps of it that take as long. effort: what the first N steps take, in
        steps too: the first ones may take less.
        """
        self.steps, self.start, self.done, self.later = steps, 0, 0, later
        self.effort = effort
        self.enabled = enabled and not silent()
        self.console = Console(stderr=True)
        self.scores: dict[str, float] = {}
        self._training_seconds = 0.0
        self._last_line = -SECONDS_BETWEEN_LINES
        self._clock = time.monotonic()
        self._bar: Progress | None = None

    def begin(self, start: int) -> None:
        """Show the bar; `start` steps are done."""
        self.start = self.done = start
        self._open()

    def _open(self) -> None:
        self._clock = time.monotonic()
        if self.enabled and self.console.is_terminal:
            text = TextColumn("{task.description}", markup=False)
            self._bar = Progress(TimeElapsedColumn(), BarColumn(20), text, console=self.console, transient=True)
            self._task = self._bar.add_task(f"step {self.done}/{self.steps}", total=self.steps, completed=self.done)
            self._bar.start()

    def close(self) -> None:
        """Take the bar off the screen."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the screen, and the clock of the rate, to something else, such as an evaluation."""
        self.close()
        try:
            yield
        finally:
            self._open()

    def advance(self, row: dict[str, Any], terms: list[str]) -> None:
        """Show a step: `row` as in metrics.jsonl, `terms` the names of its losses."""
        now = time.monotonic()
        self._training_seconds += now - self._clock
        self._clock = now
        self.done = row["step"]
        if not self.enabled or (self._bar is None and not self._line_is_due(now)):
            return
        rate = (self.done - self.start) / max(self._training_seconds, 1e-9)
        losses = " ".join(f"{name} {row[name]:.3g}" for name in ["loss", *terms])
        scores = "".join(f" | {name} {value:.2f}" for name, value in self.scores.items())
        speed = f"{rate:.1f} steps/s" if rate >= 1 else f"{1 / max(rate, 1e-9):.1f} s/step"
        text = f"step {self.done}/{self.steps} {speed}{self._left()} | {losses}{scores}"
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, description=text)
        else:
            self.say(text)

    def _left(self) -> str:
        """How long it will take, once some steps have shown it; the first ones are slow."""
        if self.done - self.start < FIRST_ESTIMATE and self.done < self.steps:
            return ""
        done, whole = self.effort(self.done), self.effort(self.steps)
        seconds = self._training_seconds / (done - self.effort(self.start))
        left, later = (whole - done) * seconds, self.later * seconds
        followed = f", about {clock_text(left + later)} with what follows" if later else ""
        return f" {clock_text(left)} left{followed}"

    def _line_is_due(self, now: float) -> bool:
        due = self.done == self.steps or now - self._last_line >= SECONDS_BETWEEN_LINES
        if due:
            self._last_line = now
        return due

    def say(self, text: str) -> None:
        """Print a sentence above the bar."""
        if self.enabled:
            self.console.print(text, markup=False, highlight=False, soft_wrap=True)
