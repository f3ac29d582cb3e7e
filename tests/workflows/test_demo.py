"""The demo: its trainings, what it writes, and its page."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

import tagseg
from tagseg import cli
from tagseg.errors import UserError
from tagseg.recipe import Recipe, load_recipe
from tagseg.workflows import demo
from tagseg.workflows.chain import Chain, load_chain
from tagseg.workflows.run import chain_alone

DATA = ("data.scenes.train=4", "data.scenes.val=2", "data.scenes.size=[64,64]")
TRAIN = ("train.steps=1", "train.warmup_steps=0", "train.batch_size=2", "train.crop=64", "train.workers=0")
WITHOUT = "predict.crf=null"


def run(out: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    """`tagseg demo` with its trainings cut to a step."""

    def recipe(name: str | Path, overrides: list[str] | None = None, *, stored: bool = False) -> Recipe:
        return (
            load_recipe(name, stored=True)
            if stored
            else load_recipe(name, [*(overrides or []), *DATA, *TRAIN, WITHOUT])
        )

    def chain(name: str, overrides: list[str]) -> Chain:
        stages = [f"{stage}.{setting}" for stage in ("teacher", "segmenter") for setting in (*TRAIN, WITHOUT)]
        return load_chain(name, [*overrides, *DATA, *stages, "segmenter.method.hidden=8"])

    monkeypatch.setattr(demo, "load_recipe", recipe)
    monkeypatch.setattr(demo, "load_chain", chain)
    result = CliRunner().invoke(cli.app, ["demo", "--out", str(out), *words])
    if result.exception is not None:
        raise result.exception
    return " ".join(result.output.split())


@pytest.mark.parametrize(
    ("words", "branches"), [([], ("teacher: refined", "segmenter: P_s")), (["--quick"], ("P_ct",))]
)
def test_the_demo_ends_with_scores_and_a_page_that_it_opens(
    words: list[str], branches: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []
    monkeypatch.setattr("tagseg.web.browser.open_page", opened.append)
    out = tmp_path / "demo"
    text = run(out, monkeypatch, *words)
    assert "mIoU in %" in text
    assert all(branch in text for branch in branches)
    assert f"Look at {out / 'report.html'}" in text
    assert opened == [out / "report.html"]
    assert opened[0].is_file()


def test_the_demo_ends_in_a_model_and_overwrite_drops_it_for_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "demo"
    run(out, monkeypatch, "--no-open")
    assert tagseg.load(out).classes[0] == "background"
    own = [out / "mine.txt", out / "teacher" / "model.onnx", out / "masks" / "notes.txt"]
    for file in own:
        file.write_text("kept", encoding="utf-8")
    with pytest.raises(UserError, match="something else than these scenes"):
        run(out, monkeypatch, "--no-open", "--seed", "1")
    mask = sorted((out / "masks").glob("*.png"))[0]
    before = mask.read_bytes()
    mask.write_bytes(b"corrected by hand")
    with pytest.raises(UserError, match="has been changed since tagseg wrote it"):
        run(out, monkeypatch, "--no-open", "--seed", "1", "--overwrite")
    assert (out / "scenes" / "scenes.json").is_file(), "nothing is lost"
    mask.write_bytes(before)
    with chain_alone(out):
        for words in (["--overwrite"], []):
            with pytest.raises(UserError, match=r"Another command makes the chain in .* at this moment"):
                run(out, monkeypatch, "--no-open", *words)
    assert (out / "scenes" / "scenes.json").is_file(), "another demo trains on them"
    (out / "scenes" / "JPEGImages" / ".tagseg-saving-1").mkdir()
    for name in (".DS_Store", ".tagseg-saving-1/new.jpg"):
        (out / "scenes" / "JPEGImages" / name).touch()
    run(out, monkeypatch, "--no-open", "--seed", "1", "--overwrite")
    assert "seed: 1" in (out / "segmenter" / "recipe.yaml").read_text(encoding="utf-8")
    assert all(file.read_text(encoding="utf-8") == "kept" for file in own)

    recipe = out / "teacher" / "recipe.yaml"
    text = recipe.read_text(encoding="utf-8")
    recipe.write_text(text.replace("title: classifier on scenes", "title: mine"), encoding="utf-8")
    for words in ([], ["--overwrite"]):  # a chain of one's own is neither dropped nor trained anew
        with pytest.raises(UserError, match="holds another chain"):
            run(out, monkeypatch, "--no-open", "--seed", "1", *words)
    assert (out / "segmenter" / "model.safetensors").is_file()


def test_no_open_opens_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tagseg.web.browser.open_page", lambda page: pytest.fail("opened"))
    run(tmp_path / "demo", monkeypatch, "--quick", "--no-open")


def test_quick_does_less_and_needs_no_compiled_code() -> None:
    whole, quick = load_chain(demo.CHAIN), load_recipe(demo.QUICK_RECIPE, list(demo.QUICK))
    assert quick.model.start is None
    assert quick.predict.crf is None
    assert quick.data.scenes.train < whole.teacher.data.scenes.train
