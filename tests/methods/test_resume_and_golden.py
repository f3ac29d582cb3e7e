"""Methods with phases: a run that stopped between two of them goes on exactly, and losses stay what they were."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tagseg.data.batch import Batch
from tagseg.engine.fit import fit
from tagseg.engine.settings import TrainSettings
from tagseg.methods import Method
from tagseg.methods.asdt import ASDT
from tagseg.methods.bmp import BMP
from tagseg.methods.mentor import Mentor
from tagseg.methods.tscd import TSCD
from tests.methods.attention import build_tiny
from tests.methods.small import TWO, batch

SYSTEMS: dict[str, tuple[type[Method], dict[str, Any]]] = {
    "tscd": (
        TSCD,
        {"class_steps": 2, "hidden": 8, "cam_scales": [1.0], "dropout": 0.3, "correspondence": {"samples": 5}},
    ),
    "bmp": (
        BMP,
        {
            "class_steps": 1,
            "hidden": 8,
            "cam_scales": [1.0],
            "dropout": 0.3,
            "seg_to_class": {"from_step": 2, "confidence": 0.0},
            "background_aware": {"from_step": 3},
        },
    ),
    "asdt": (
        ASDT,
        {
            "decoder": "segformer",
            "hidden": 8,
            "cam_scales": [1.0],
            "head_steps": 1,
            "background_aware": {"from_step": 3},
            "wave": {"period": 2, "high": 1, "warmup": 1, "high_first": True},
        },
    ),
    "mentor": (
        Mentor,
        {
            "hidden": 8,
            "cam_scales": [1.0],
            "labels": {"background_from": 1, "seg_from": 3},
            "mixing": {"boxes": 0.5, "objects": 0.5},
        },
    ),
}
# Changes here are changes of what training computes: state them as such.
GOLDEN = {
    "tscd": {
        "class": 0.697072,
        "seg": 0.135371,
        "energy": -2.0368e-07,
        "affinity": 0.0294748,
        "correspondence": -0.0530044,
    },
    "bmp": {"class": 0.697072, "affinity": 0.0289508, "class to seg": 0.529868, "seg to class": 0.111229},
    "asdt": {
        "class": 0.685879,
        "seg_teacher labels": 1.21516,
        "seg_teacher energy": -9.57569e-06,
        "student labels": 1.43937,
        "student energy": -9.88897e-06,
    },
    "mentor": {"class": 0.719844, "seg": 1.52578},
}


class KilledError(Exception):
    pass


class Batches:
    """The same small photos with other seeds at every step; killed before a step."""

    def __init__(self, killed_before: int | None = None) -> None:
        self.killed_before = killed_before

    def loader(self, start_step: int, steps: int, workers: int) -> Iterator[Batch]:
        for step in range(start_step, start_step + steps):
            if step == self.killed_before:
                raise KilledError
            given = batch(TWO)
            given.seed_B += 100 * step
            yield given


def train(name: str, out: Path, batches: Batches) -> dict[str, torch.Tensor]:
    kind, settings = SYSTEMS[name]
    mean = {"ema_decay": 0.9, "ema_ramp": 4} if name == "mentor" else {}  # it is the teacher, and goes on as it was
    train_settings = TrainSettings(
        **mean, steps=5, batch_size=2, optimizer="adamw", lr=1e-2, checkpoint_every=1, log_every=1, workers=0, crop=64
    )
    fit(build_tiny(kind, **settings), batches, train_settings, out)
    return load_file(out / "model.safetensors")


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_run_killed_between_phases_goes_on_exactly(name: str, tmp_path: Path) -> None:
    whole = train(name, tmp_path / "whole", Batches())
    for killed_before in (1, 3):
        with pytest.raises(KilledError):
            train(name, tmp_path / "killed", Batches(killed_before))
    resumed = train(name, tmp_path / "killed", Batches())
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    assert (tmp_path / "whole/metrics.jsonl").read_text().count("\n") == 5


@pytest.mark.parametrize("name", SYSTEMS)
def test_golden_losses(name: str) -> None:
    kind, settings = SYSTEMS[name]
    method = build_tiny(kind, **settings).train()
    losses = {key: value.item() for key, value in method(batch(TWO), 4).items()}
    assert losses == pytest.approx(GOLDEN[name], rel=2e-3, abs=0)
