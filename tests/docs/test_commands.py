"""Every command that a page prints is one that tagseg has, and those that need nothing more are run."""

from __future__ import annotations

import shutil
import zipfile
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

import tagseg.cli  # noqa: F401  (its commands join the app)
from tagseg.cli.frame import app
from tagseg.cli.tag_options import TagOptions
from tagseg.data.scenes import write_scenes
from tagseg.recipe import load_recipe
from tagseg.shipped import shipped_chains, shipped_recipes
from tagseg.workflows.chain import load_chain
from tagseg.workflows.demo import CHAIN
from tests.docs.commands import PAGES, Command, commands

ALL = [command for page in PAGES for command in commands(page)]
TRAIN = ("steps=2", "warmup_steps=0", "crop=64", "short_side=64", "batch_size=2", "workers=0")
ELSEWHERE = ("docs/tutorials/own-photos.md",)  # run from top to bottom by test_tutorials.py
RUN = [page for page in PAGES if page not in ELSEWHERE and any(not c.needs for c in commands(page))]


def values(words: list[str]) -> list[str]:
    return [after for word, after in pairwise(words) if word == "--set"]


def test_the_pages_hold_commands() -> None:
    assert len(ALL) > 60
    assert {command.page for command in ALL} >= {"README.md", "docs/index.md", "docs/own-photos.md", "docs/scale.md"}


@pytest.mark.parametrize("command", ALL, ids=lambda command: f"{command.page}: {command.line[:60]}")
def test_a_printed_command_is_one_of_tagsegs(command: Command) -> None:
    """Its name, options and values are known, and so are the recipe and its settings."""
    group: Any = typer.main.get_command(app)
    words = command.words
    name, found, rest = group.resolve_command(typer.Context(group), words)
    while hasattr(found, "resolve_command"):
        name, found, rest = found.resolve_command(typer.Context(found), rest)
    context = found.make_context(name, list(rest))
    recipe = context.params.get("recipe")
    if name == "train" and recipe in shipped_recipes():
        load_recipe(recipe, values(words))
    if name == "run" and recipe in shipped_chains():
        load_chain(recipe, values(words))


def test_every_command_that_reads_a_table_of_tags_has_the_same_options_for_it() -> None:
    group: Any = typer.main.get_command(app)
    names = [field.name for field in fields(TagOptions)]
    said = {}
    for command in group.commands.values():
        options = {each.name: (each.opts, each.help, each.default) for each in command.params}
        if "separator" in options:
            said[command.name] = [options[name] for name in names]
    assert set(said) == {"check", "train", "run", "label", "predict", "refine", "review", "evaluate"}
    assert all(each == said["check"] for each in said.values())


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the pages have it: photos, tables, masks, and a model trained for two steps."""
    path = tmp_path_factory.mktemp("home")
    write_scenes(path / "scenes", train=6, val=2, size=(64, 64), seed=3)
    table = (path / "scenes/tags.csv").read_text(encoding="utf-8").replace("JPEGImages/", "")
    shutil.copytree(path / "scenes/JPEGImages", path / "photos")
    (path / "tags.csv").write_text(table, encoding="utf-8")
    shutil.copytree(path / "scenes/SegmentationClass", path / "true-masks")
    for folder in ("new-photos", "test-photos", "frames", "day1"):
        shutil.copytree(path / "photos", path / folder)
    first = sorted((path / "photos").iterdir())[0]
    shutil.copy(first, path / "a.jpg")
    Image.open(first).save(path / "day1" / "evening.png")
    for name in ("banded", "dotted"):
        (path / "by-class" / name).mkdir(parents=True)
        shutil.copy(first, path / "by-class" / name / f"{name}.jpg")
    (path / "list.txt").write_text(f"photos/{first.name}\n", encoding="utf-8")
    with zipfile.ZipFile(path / "more.zip", "w") as archive:
        archive.write(first, "b.jpg")
    return path


def invoke(words: list[str]) -> str:
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, (words, result.output, result.exception)
    return result.output


def short(words: list[str]) -> list[str]:
    """A training of seconds."""
    if words[0] == "demo" and "--quick" not in words:  # what it runs, so that what comes next finds a segmenter
        out = [] if "--out" in words else ["--out", "demo"]
        words = ["run", CHAIN, *words[1:], *out, "--set", "data.scenes.train=8", "--set", "data.scenes.val=2"]
    if words[0] == "train":
        settings = [f"train.{setting}" for setting in TRAIN] + ["model.start=null"]
    elif words[0] == "run":
        classifier = words[1] in shipped_chains() and load_chain(words[1]).classifier is not None
        stages = ("classifier", "teacher", "segmenter") if classifier else ("teacher", "segmenter")
        settings = [f"{stage}.train.{setting}" for stage in stages for setting in TRAIN]
        settings.append("rounds=1")
    elif words[0] == "demo":
        return [*words, "--no-open"]
    elif words[0] == "reproduce":
        return [*words, "--no-hours"]
    else:
        return words
    return [*words, *(word for setting in settings for word in ("--set", setting))]


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("page", RUN)
def test_what_a_page_prints_runs(page: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "home"
    shutil.copytree(home, place)
    monkeypatch.chdir(place)
    monkeypatch.setattr("tagseg.web.listen.listen", lambda *_, **__: None)  # the page would wait for a person
    todo = [command.words for command in commands(page) if not command.needs]
    own = ["train", "--images", "photos", "--tags", "tags.csv", "--out", "runs/mine"]
    if own not in todo and any("runs/mine" in words for words in todo):
        invoke(short(own))
    done: list[list[str]] = []
    for words in todo:
        if words not in done:
            invoke(short(words))
            done.append(words)
