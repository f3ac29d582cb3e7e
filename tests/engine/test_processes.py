"""Two processes equal one: every scenario runs in one pair of gloo processes, for starting them takes seconds."""

import json
import os
import signal
import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file

from tagseg import interrupt
from tagseg.engine.fit import fit
from tagseg.engine.settings import TrainSettings
from tagseg.errors import UserError
from tests.engine.toy_training import ToyBatches, ToyMethod

SCENARIOS = {
    "sgd": {},
    "adamw in parts": {"optimizer": "adamw", "lr": 0.01, "micro_batch": 1},
    "sgd in parts": {"micro_batch": 1, "ema_decay": 0.9},
}


def settings_of(**changes) -> TrainSettings:
    base = {"steps": 8, "batch_size": 4, "lr": 0.05, "checkpoint_every": 5, "log_every": 1, "workers": 0}
    return TrainSettings(**{**base, **changes})


class StoppedInOneProcess(ToyBatches):
    def batch(self, step):
        if step == 3 and dist.get_rank() == 1:
            signal.raise_signal(signal.SIGTERM)
        return super().batch(step)


def evaluation_that_rank_1_leaves(method, step):
    signal.raise_signal(signal.SIGTERM)
    if dist.get_rank() == 1:
        interrupt.check()
    dist.all_reduce(torch.zeros(1))
    return {"miou": 0.0}


def run_process(rank: int, port: int, out: Path) -> None:
    """All scenarios, in order, in one of two processes; what happened goes to a file per process."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    seen: dict[str, object] = {}

    for name, changes in SCENARIOS.items():
        fit(ToyMethod(), ToyBatches(), settings_of(**changes), out / name)
    assert dist.get_world_size() == 2

    result = fit(ToyMethod(), StoppedInOneProcess(), settings_of(), out / "stopped")
    seen["stopped"] = [result.step, result.interrupted]
    dist.barrier()
    fit(ToyMethod(init=rank + 5), ToyBatches(), settings_of(), out / "stopped")

    for name, method, changes in (("nan", ToyMethod(nan_at=2), {}), ("odd", ToyMethod(), {"batch_size": 3})):
        try:
            fit(method, ToyBatches(bad=3), settings_of(**changes), out / name)
        except UserError as error:
            seen[name] = str(error)

    # last: here the first process is left alone by the second one
    result = fit(ToyMethod(), ToyBatches(), settings_of(), out / "left", evaluate=evaluation_that_rank_1_leaves)
    seen["left"] = [result.step, result.interrupted]
    (out / f"rank{rank}.json").write_text(json.dumps(seen), encoding="utf-8")
    os._exit(0)  # without waiting for the other one


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("processes")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(run_process, (port, out), nprocs=2)
    return out


def rows(out: Path) -> list[dict]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in lines]


@pytest.mark.parametrize("name", SCENARIOS)
def test_two_processes_equal_one(out, tmp_path, name):
    settings = settings_of(**SCENARIOS[name] | {"micro_batch": None})
    fit(ToyMethod(), ToyBatches(), settings, tmp_path)
    one, two = (load_file(folder / "model.safetensors") for folder in (tmp_path, out / name))
    torch.testing.assert_close(two, one, rtol=1e-5, atol=1e-5)
    assert [row["step"] for row in rows(out / name)] == list(range(1, 9))
    for row_one, row_two in zip(rows(tmp_path), rows(out / name), strict=True):
        assert row_two == pytest.approx(row_one, abs=1e-5)


def test_a_signal_to_one_process_stops_both_and_the_run_goes_on_exactly(out):
    seen = [json.loads((out / f"rank{rank}.json").read_text(encoding="utf-8")) for rank in (0, 1)]
    assert [each["stopped"] for each in seen] == [[4, True], [4, True]]
    stopped, whole = (load_file(out / name / "model.safetensors") for name in ("stopped", "sgd"))
    torch.testing.assert_close(stopped, whole, rtol=0, atol=0)
    assert rows(out / "stopped") == rows(out / "sgd")


def test_nan_in_one_process_names_its_photos_in_both(out):
    for rank in (0, 1):
        sentence = json.loads((out / f"rank{rank}.json").read_text(encoding="utf-8"))["nan"]
        assert "step 3" in sentence
        assert "photos photo2-2, bad;" in sentence
    assert not list((out / "nan" / "checkpoints").glob("step-*.json"))


def test_a_batch_that_cannot_be_shared_is_refused(out):
    for rank in (0, 1):
        sentence = json.loads((out / f"rank{rank}.json").read_text(encoding="utf-8"))["odd"]
        assert "train.batch_size is 3" in sentence
        assert "multiple of 2" in sentence


def test_a_process_left_alone_in_an_evaluation_stops_as_well(out):
    seen = [json.loads((out / f"rank{rank}.json").read_text(encoding="utf-8")) for rank in (0, 1)]
    assert [each["left"] for each in seen] == [[8, True], [8, True]]
    assert (out / "left" / "checkpoints" / "step-0000008.json").exists()
    assert not (out / "left" / "model.safetensors").exists()
