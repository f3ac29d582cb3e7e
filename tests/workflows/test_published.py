"""The published recipes on a small folder in the layout of PASCAL VOC: their network, their losses, real steps."""

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from tagseg import cli
from tagseg.data.scenes import SCENE_CLASSES, write_scenes

SMALL = [
    "data.train=train",
    "data.tags=null",
    f"data.classes=[{', '.join(SCENE_CLASSES)}]",
    "model.weights=none",
    "model.start=null",
    # Published weights bring the statistics that frozen norm relies on; random weights explode without the batch's.
    "model.frozen_norm=false",
    "train.steps=2",
    "train.crop=64",
    "train.long_side=null",
    "train.batch_size=2",
    "train.workers=0",
    "train.log_every=1",
]
TERMS = {
    "classifier-voc12": {"class"},
    "rrm-voc12": {"class", "student labels", "student energy"},
    "asdt-voc12": {
        "class", "seg_teacher labels", "seg_teacher energy", "student labels", "student energy",
    },
}  # fmt: skip


@pytest.fixture
def out(tmp_path: Path) -> Iterator[Path]:
    """A run's folder, removed afterwards: its checkpoints take more than a gigabyte."""
    yield tmp_path / "run"
    shutil.rmtree(tmp_path / "run", ignore_errors=True)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("recipe", TERMS)
def test_published_recipes_take_real_steps(recipe: str, out: Path, tmp_path: Path) -> None:
    write_scenes(tmp_path / "voc", train=4, val=1, size=(64, 64))
    words = [word for setting in [*SMALL, f"data.root={tmp_path / 'voc'}"] for word in ("--set", setting)]
    result = CliRunner().invoke(cli.app, ["train", recipe, "--out", str(out), *words])
    assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"

    resolved = yaml.safe_load((out / "recipe.yaml").read_text(encoding="utf-8"))
    assert resolved["model"]["backbone"] == "wide_resnet38"
    assert resolved["method"]["cam_scales"] == [0.5, 1.0, 1.5, 2.0]
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == [1, 2]
    for row in rows[:2]:
        assert set(row) >= TERMS[recipe]
        assert all(math.isfinite(row[term]) for term in TERMS[recipe])
    assert (out / "model.safetensors").stat().st_size > 4 * 105_000_000


STAGE_2 = {  # recipe: published crop, and photos per pass that fit into 24 GiB
    "supervised-voc12-deeplab_v2": (321, 5),
    "supervised-voc12-resnet38": (448, 2),
    "supervised-voc12-pspnet": (512, 2),
    "supervised-voc12-segformer-mit_b1": (512, 4),
}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("recipe", STAGE_2)
def test_published_segmenters_take_a_step_at_their_crop_within_24_gib(recipe: str, out: Path, tmp_path: Path) -> None:
    crop, photos = STAGE_2[recipe]
    write_scenes(tmp_path / "voc", train=16, val=1, size=(96, 96))
    random = [
        "data.train=train",
        "data.tags=null",
        f"data.root={tmp_path / 'voc'}",
        f"data.classes=[{', '.join(SCENE_CLASSES)}]",
        "model.weights=none",
        "model.frozen_norm=false",
        "train.steps=1",
        "train.warmup_steps=0",
        f"train.micro_batch={photos}",
        "train.workers=0",
    ]
    words = [word for setting in random for word in ("--set", setting)]
    result = CliRunner().invoke(cli.app, ["train", recipe, "--out", str(out), *words])
    assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
    resolved = yaml.safe_load((out / "recipe.yaml").read_text(encoding="utf-8"))
    assert resolved["train"]["crop"] == crop
    assert resolved["train"]["batch_size"] in (10, 16)
    (row,) = [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert math.isfinite(row["loss"])
    assert json.loads((out / "scores.json").read_text(encoding="utf-8"))["peak_memory_gib"] < 24
