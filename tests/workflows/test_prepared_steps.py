"""One training step of every published recipe on a VOC and a COCO folder that `tagseg data prepare` made."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest

from tagseg.datasets import DATASETS
from tagseg.recipe import load_recipe
from tagseg.workflows.prepare import prepare
from tagseg.workflows.train import train
from tests.datasets import tiny

RECIPES = (
    "classifier-voc12", "rrm-voc12", "asdt-voc12", "tscd-voc12-mit_b1", "bmp-voc12-mit_b1",
    "supervised-voc12-deeplab_v2", "supervised-voc12-resnet38", "supervised-voc12-pspnet",
    "supervised-voc12-segformer-mit_b1", "tscd-coco14-mit_b1", "bmp-coco14-mit_b1",
)  # fmt: skip
SMALL = [
    "model.weights=none",
    "model.start=null",
    "model.frozen_norm=false",  # random weights explode without the batch's statistics
    "train.steps=1",
    "train.warmup_steps=0",
    "train.crop=64",
    "train.long_side=null",
    "train.short_side=null",
    "train.batch_size=2",
    "train.micro_batch=2",
    "train.workers=0",
    "train.log_every=1",
    "predict.scales=[1.0]",
    "predict.short_side=null",
    "predict.long_side=64",
]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", RECIPES)
def test_a_step_on_prepared_data(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, maker = ("coco14", tiny.coco14) if "coco14" in name else ("voc12", tiny.voc12)
    monkeypatch.setitem(DATASETS, kind, maker(tmp_path / "archives"))
    root, out = tmp_path / kind, tmp_path / "run"
    prepare(kind, root, archives=tmp_path / "archives", say=lambda _: None)
    phases = [f"method.{key}=0" for key in ("class_steps",) if name.startswith(("tscd", "bmp"))]
    train(load_recipe(name, [*SMALL, *phases, f"data.root={root}"]), out, say=lambda _: None)
    (row,) = [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert math.isfinite(row["loss"])
    facts = json.loads((out / "scores.json").read_text(encoding="utf-8"))
    assert facts["tags_from"] == ("tags.csv" if kind == "coco14" else "Annotations (XML)")
    assert facts["parameters"] > 10**6
    assert facts["multiply_adds"] > 10**6
    shutil.rmtree(out)
