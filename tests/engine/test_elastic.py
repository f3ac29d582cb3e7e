"""torchrun restarts a training whose process died, and a run goes on with another number of processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]


def train(out: Path, processes: int, **environment: str) -> None:
    """Run the worker alone, or under torchrun."""
    run = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "--max-restarts", "2"]
    words = [sys.executable, *(run if processes > 1 else []), "-m", "tests.engine.elastic_worker", str(out)]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    told = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"} | environment
    done = subprocess.run(words, cwd=ROOT, env=told, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def losses(out: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in lines]


def assert_alike(out: Path, whole: Path) -> None:
    assert [row["step"] for row in losses(out)] == list(range(1, 13))
    for one, other in zip(losses(out), losses(whole), strict=True):
        assert one == pytest.approx(other, abs=1e-5)
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (out, whole))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("elastic") / "whole"
    train(out, 1)
    return out


@pytest.mark.slow
def test_a_killed_process_is_restarted_and_the_run_ends_as_if_it_had_not_been(whole: Path, tmp_path: Path) -> None:
    train(tmp_path / "run", 2, DIE="1")
    assert (tmp_path / "run.died").exists()
    assert_alike(tmp_path / "run", whole)


@pytest.mark.slow
def test_a_run_goes_on_from_two_processes_to_one_and_back(whole: Path, tmp_path: Path) -> None:
    train(tmp_path / "run", 2, STOP_AT="3")
    train(tmp_path / "run", 1, STOP_AT="7", INIT="3")
    train(tmp_path / "run", 2, INIT="4")
    assert_alike(tmp_path / "run", whole)
