"""What a run writes down while it goes: metrics.jsonl and TensorBoard events."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from tagseg.errors import UserError
from tagseg.files import write_text
from tagseg.foreign import DATA_CAP, read_bytes, reading
from tagseg.run_folder import RunFolder


class RunLog:
    """Lines of metrics.jsonl and the same as TensorBoard scalars, continued at a step.

    Lines from step `start` on, and one that a kill cut short, are dropped first: a resumed run writes them anew.
    """

    def __init__(self, out: Path, start: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # slow to import, and only the writing process needs it

        run = RunFolder(out)
        _drop_lines(run.metrics, start)
        self._file = run.metrics.open("a", encoding="utf-8", newline="\n")
        self._events = SummaryWriter(str(run.events), purge_step=start)

    def write(self, row: dict[str, Any]) -> None:
        """Add a line. `row`: "step", numbers by name, and possibly "scores" with numbers by name."""
        row = {**row}
        if "scores" in row:
            row["scores"] = {name: _finite(value) for name, value in row["scores"].items()}
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        for name, value in row.items():
            if name == "scores":
                for score, number in value.items():
                    if number is not None:
                        self._events.add_scalar(f"scores/{score}", number, row["step"])
            elif name != "step":
                self._events.add_scalar(f"train/{name}", value, row["step"])

    def pictures(self, pictures: dict[str, np.ndarray], step: int) -> None:
        """Add pictures (H, W, 3) uint8 to the TensorBoard events."""
        for name, picture in pictures.items():
            self._events.add_image(name, picture, step, dataformats="HWC")

    def close(self) -> None:
        """Write out what is buffered; on a full disk what fits, for what was written before has said so."""
        for each in (self._file, self._events):
            with suppress(OSError):
                each.close()


def _finite(value: float) -> float | None:
    """JSON knows no NaN: a score that does not exist is null."""
    return float(value) if math.isfinite(value) else None


def _drop_lines(path: Path, start: int) -> None:
    if not path.exists():
        return
    text = read_bytes(path, path.name, DATA_CAP).decode("utf-8", errors="replace")
    kept = []
    for line in text.split("\n"):
        with suppress(UserError), reading(path, "a line of metrics.jsonl"):
            if int(json.loads(line)["step"]) < start:
                kept.append(line)
    repaired = "".join(line + "\n" for line in kept)
    if repaired != text:
        write_text(path, repaired)
