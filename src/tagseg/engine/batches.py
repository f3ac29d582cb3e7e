"""Batches by step, as training takes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

import torch

from tagseg.data.batch import Batch
from tagseg.engine.processes import loading_workers
from tagseg.engine.settings import TrainSettings
from tagseg.interrupt import Interrupted, Interruption, passing


class Batches(Protocol):
    """Batches addressed by step: a step's batch follows from its number alone."""

    def loader(self, start_step: int, steps: int, workers: int) -> Iterable[Batch]:
        """The share of this process in the batches of `steps` steps from `start_step` on."""


def numbered(
    batches: Batches, start: int, settings: TrainSettings, interruption: Interruption, device: torch.device
) -> Iterator[tuple[int, Batch]]:
    """The steps from `start` on with their batches, on this process. Raises Interrupted where loading was asked to stop."""
    if start == settings.steps:
        return
    loaded = iter(batches.loader(start, settings.steps - start, loading_workers(settings, device)))
    for step in range(start, settings.steps):
        passing()
        try:
            batch = next(loaded)
        except RuntimeError as error:
            if interruption.requested:  # the signal went to the whole process group and ended the loading processes too
                raise Interrupted from error
            raise
        yield step, batch
