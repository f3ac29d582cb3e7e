"""A toy training for torchrun: dies once, or stops at a step, as its environment says."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch

from tagseg.distributed import rank
from tagseg.engine.fit import fit
from tagseg.engine.settings import TrainSettings
from tests.engine.toy_training import ToyBatches, ToyMethod

SETTINGS = TrainSettings(steps=12, batch_size=4, lr=0.05, checkpoint_every=2, log_every=1, workers=0)


class Disturbed(ToyBatches):
    """Kills rank 1 at step 7 while the marker is missing, and stops all at the step STOP_AT."""

    def __init__(self, marker: Path) -> None:
        super().__init__()
        self.marker, self.stop_at = marker, int(os.environ.get("STOP_AT", "-1"))

    def batch(self, step: int):
        if step == 7 and rank() == 1 and "DIE" in os.environ and not self.marker.exists():
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if step == self.stop_at:
            signal.raise_signal(signal.SIGTERM)
        return super().batch(step)


if __name__ == "__main__":
    torch.set_num_threads(1)
    out = Path(sys.argv[1])
    fit(ToyMethod(init=int(os.environ.get("INIT", "0"))), Disturbed(out.with_suffix(".died")), SETTINGS, out)
