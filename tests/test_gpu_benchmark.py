"""The benchmark of a GPU, in small, where there is none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_it_runs_to_its_end_in_small_and_says_what_it_skips(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    command = [sys.executable, str(ROOT / "benchmarks/gpu.py"), "--small", "--out", str(page), "--seconds", "840"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    text = page.read_text(encoding="utf-8")
    for title in ("Kernels against their CPU forms", "Training steps at published settings", "killed and resumed"):
        assert title in text
    assert "Failed after" not in text, text
    assert "Cut off" not in text, text
    assert "no time left" not in text, text
    skipped = [line for line in text.splitlines() if line.startswith(("Skipped: everything", "Skipped for want"))]
    assert skipped or "No package is missing." in text
    assert "All sections together" in text
