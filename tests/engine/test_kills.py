"""Real processes that are signalled and killed."""

import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.utils.data import DataLoader, Dataset

from tagseg.engine.fit import fit
from tagseg.engine.settings import TrainSettings
from tests.engine.toy_training import ToyBatches, ToyMethod

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks a process that has used torch")


def rows(out: Path) -> list[dict]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in lines]


def test_killed_again_and_again_a_run_ends_as_if_it_had_not_been(tmp_path):
    settings = TrainSettings(steps=60, batch_size=4, lr=0.05, checkpoint_every=1, log_every=1, workers=0)

    def train(out: Path, seconds: float, init: int) -> None:
        fit(ToyMethod(dropout=0.5, init=init), ToyBatches(seconds=seconds), settings, out)

    def saved() -> int:
        return max(
            (int(path.stem[5:]) for path in (tmp_path / "killed" / "checkpoints").glob("step-*.json")), default=0
        )

    train(tmp_path / "whole", 0.0, 0)
    for attempt in range(8):
        before = saved()
        child = os.fork()
        if child == 0:
            train(tmp_path / "killed", 0.002, init=attempt and attempt + 1)
            os._exit(0)
        while saved() == before:
            time.sleep(0.001)
        time.sleep(0.0029 * attempt)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert not (tmp_path / "killed" / "model.safetensors").exists(), "it should have been killed on its way each time"
    train(tmp_path / "killed", 0.0, init=101)
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole")
    for name in ("model.safetensors", "checkpoints/step-0000060.safetensors"):
        whole, killed = (load_file(tmp_path / folder / name) for folder in ("whole", "killed"))
        torch.testing.assert_close(killed, whole, rtol=0, atol=0)
    left = [path.name for path in tmp_path.rglob(".tagseg-saving-*")]
    assert not left


class Steps(Dataset):
    def __init__(self, batches: ToyBatches, steps: range) -> None:
        self.batches, self.steps = batches, steps

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, i: int):
        return self.batches.batch(self.steps[i])


class LoadedAside(ToyBatches):
    """Batches from two forked processes; at a step, a signal goes to all of them and to this one."""

    def __init__(self, at: int, number: signal.Signals, prepare: Callable[[int], None] | None = None) -> None:
        super().__init__()
        self.at, self.number, self.prepare = at, number, prepare

    def loader(self, start_step, steps, workers):
        run = range(start_step, start_step + steps)
        loaded = DataLoader(
            Steps(self, run),
            batch_size=None,
            num_workers=2,
            multiprocessing_context="fork",
            worker_init_fn=self.prepare,
        )
        for step, batch in zip(run, loaded, strict=True):
            if step == self.at:
                for process in [os.getpid(), *(child.pid for child in multiprocessing.active_children())]:
                    os.kill(process, self.number)
            yield batch


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_group_leaves_the_loading_processes_to_the_training_one(tmp_path, number):
    settings = TrainSettings(steps=10, batch_size=4, lr=0.05, log_every=1)
    began = time.monotonic()
    result = fit(ToyMethod(), LoadedAside(4, number), settings, tmp_path / "parts")
    assert (result.step, result.interrupted) == (5, True)
    assert time.monotonic() - began < 20
    assert not multiprocessing.active_children()
    fit(ToyMethod(init=1), LoadedAside(-1, number), settings, tmp_path / "parts")
    fit(ToyMethod(), ToyBatches(), settings, tmp_path / "whole")
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")
    whole, parts = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    torch.testing.assert_close(parts, whole, rtol=0, atol=0)


def die_of_signals(worker: int) -> None:
    """As loading processes do that were not forked."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def test_a_signal_that_ends_the_loading_processes_too_is_no_error(tmp_path):
    settings = TrainSettings(steps=10, batch_size=4, lr=0.05, log_every=1, checkpoint_every=3)
    batches = LoadedAside(4, signal.SIGTERM, prepare=die_of_signals)
    result = fit(ToyMethod(), batches, settings, tmp_path / "parts")
    assert result.interrupted
    assert result.step < 10
    fit(ToyMethod(init=1), ToyBatches(), settings, tmp_path / "parts")
    fit(ToyMethod(), ToyBatches(), settings, tmp_path / "whole")
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")
