"""The tutorials run as printed; trainings are cut short."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tagseg.cli.frame import app
from tagseg.data.review_journal import read_verdicts
from tagseg.run_folder import RunFolder

SHORT = "train.steps=2 --set train.warmup_steps=0 --set train.crop=64"
DOCS = Path(__file__).parents[2] / "docs"


def run(page: str) -> None:
    """Run the page's Python and shell blocks in their order."""
    text = (DOCS / page).read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    for kind, block in re.findall(r"^```(python|sh)\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        if kind == "python":
            exec(compile(block.replace("train=200, val=20", "train=8, val=2"), page, "exec"), names)
            continue
        for line in block.strip().splitlines():
            words = shlex.split(line.replace("train.steps=300", SHORT), comments=True)
            assert words[0] == "tagseg"
            result = CliRunner().invoke(app, words[1:])
            assert result.exit_code == 0, (line, result.output, result.exception)


def test_the_dense_crf_tutorial_runs(capsys: pytest.CaptureFixture[str]) -> None:
    run("tutorials/dense-crf.md")
    before, after = map(int, re.findall(r"wrong \w+: (\d+)", capsys.readouterr().out))
    assert after < before / 4


@pytest.mark.slow
def test_the_own_photos_tutorial_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run("tutorials/own-photos.md")
    assert (tmp_path / "fish.safetensors").is_file()
    assert len(list((tmp_path / "pseudo-masks").glob("*.png"))) == 10


@pytest.mark.slow
def test_the_notebook_of_the_second_model_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cells = json.loads((DOCS / "tutorials/second-model.ipynb").read_text(encoding="utf-8"))["cells"]
    names: dict[str, Any] = {}
    for number, cell in enumerate(cells):
        if cell["cell_type"] == "code":
            text = (
                "".join(cell["source"])
                .replace("STEPS = 150", "STEPS = 2")
                .replace("train=120, val=40", "train=8, val=3")
            )
            exec(compile(text, f"cell {number}", "exec"), names)
    assert {verdict.state for verdict in read_verdicts(tmp_path / "second-model/review").values()} == {"accepted"}
    assert "8 reviewed masks" in RunFolder.of(names["second"]).result()["labels"]
    assert 0 <= names["before"] <= 1
    assert 0 <= names["after"] <= 1
