"""The demo: its recipe, what it writes, and its page."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tagseg import cli
from tagseg.recipe import Recipe, load_recipe
from tagseg.run_folder import RunFolder
from tagseg.workflows import demo

SHORT = ("data.scenes.train=4", "data.scenes.val=2", "data.scenes.size=[64,64]")
SHORT += ("train.steps=1", "train.warmup_steps=0", "train.batch_size=2", "train.crop=64", "train.workers=0")


def run(out: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    """`tagseg demo` with its recipe cut to a step."""

    def shortened(name: str, overrides: list[str]) -> Recipe:
        start = [] if load_recipe(name).model.start is None else ["model.start=null"]
        return load_recipe(name, [*overrides, *SHORT, *start, "predict.crf=null"])

    monkeypatch.setattr(demo, "load_recipe", shortened)
    result = CliRunner().invoke(cli.app, ["demo", "--out", str(out), *words])
    assert result.exit_code == 0, (result.output, result.exception)
    return " ".join(result.output.split())


@pytest.mark.parametrize("words", [[], ["--quick"]])
def test_the_demo_ends_with_scores_and_a_page_that_it_opens(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []
    monkeypatch.setattr("tagseg.web.browser.open_page", opened.append)
    out = tmp_path / "demo"
    text = run(out, monkeypatch, *words)
    assert "mIoU in %" in text
    assert f"Look at {out / 'report.html'}" in text
    assert opened == [out / "report.html"]
    assert opened[0].is_file()
    assert RunFolder(out).result()["scores"]


def test_no_open_opens_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tagseg.web.browser.open_page", lambda page: pytest.fail("opened"))
    run(tmp_path / "demo", monkeypatch, "--quick", "--no-open")


def test_quick_does_less_and_needs_no_compiled_code() -> None:
    whole, quick = load_recipe(demo.RECIPE), load_recipe(demo.QUICK_RECIPE, list(demo.QUICK))
    assert quick.model.start is None
    assert quick.predict.crf is None
    assert quick.data.scenes.train < whole.data.scenes.train
