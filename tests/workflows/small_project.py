"""One small project, trained once: photos, their tags and true masks, and what tagseg makes of them."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tagseg import cli
from tagseg.data.palette import write_mask
from tagseg.errors import UserError
from tagseg.run_folder import RunFolder
from tagseg.workflows import train
from tagseg.workflows.trusted import seal

FAST = ("train.steps=1", "train.workers=0", "model.start=null", "train.batch_size=2", "train.crop=64")
FAST += ("predict.crf=null", "train.short_side=64", "method.hidden=8", "method.cam_scales=[1.0]")


def command(*words: object) -> str:
    """Run the command line in this process; what it printed, or the sentence it ended with."""
    result = CliRunner().invoke(cli.app, [str(word) for word in words])
    if isinstance(result.exception, UserError):
        raise result.exception
    assert result.exception is None, (words, result.output, result.exception)
    return " ".join(result.output.split())


def settings(*more: str) -> list[str]:
    """The settings of a training of seconds, as words."""
    return [word for setting in (*FAST, *more) for word in ("--set", setting)]


@dataclass
class Project:
    """A person's folder: photos, tables/tags.csv, masks, and run, a finished run of them."""

    path: Path

    def __getattr__(self, name: str) -> Path:
        return self.path / name

    @property
    def table(self) -> Path:
        return self.path / "tables" / "tags.csv"

    def train(self, out: Path, *more: object) -> str:
        """Train on the photos for one step."""
        data = ["--images", self.photos, "--tags", self.table, "--masks", self.masks]
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(train, "_multiply_adds", lambda *_: 0.0)  # counting them takes longer than all the rest
            return command("train", *data, "--out", out, "--method", "rrm", *settings(), *more)

    def contents(self) -> dict[str, bytes]:
        """Every file that is not the run's, byte for byte."""
        files = [path for path in self.path.rglob("*") if path.is_file() and self.run not in path.parents]
        return {path.relative_to(self.path).as_posix(): path.read_bytes() for path in files}


def write_project(path: Path) -> Project:
    """Four photos in PNG, two tagged cat and two dog, and their masks."""
    project = Project(path)
    project.photos.mkdir(parents=True)
    project.masks.mkdir()
    project.table.parent.mkdir()
    for i in range(4):
        blocks = np.random.default_rng(i).integers(0, 256, (6, 8, 3))
        Image.fromarray(np.kron(blocks, np.ones((8, 8, 1))).astype(np.uint8)).save(project.photos / f"{i}.png")
        mask = np.zeros((48, 64), np.uint8)
        mask[10:30, 10:40] = 1 + i // 2
        write_mask(project.masks / f"{i}.png", mask)
    project.table.write_text("file,tags\n0,cat\n1,cat\n2,dog\n3,dog\n", encoding="utf-8")
    return project


def copied(project: Project, path: Path) -> Project:
    """A copy of a project; its run reads the copy."""
    shutil.copytree(project.path, path)
    recipe = path / "run" / "recipe.yaml"
    text = recipe.read_text(encoding="utf-8").replace(str(project.path), str(path))
    recipe.write_text(text, encoding="utf-8")
    seal(RunFolder(path / "run"))
    return Project(path)
