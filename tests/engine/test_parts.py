"""Parts of a batch that are worked at at the same time: the same numbers as one after the other, or a refusal."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tagseg.backbones import create_backbone
from tagseg.engine.fit import fit
from tagseg.engine.processes import parts_together
from tagseg.engine.settings import TrainSettings
from tagseg.engine.step import TrainingDiverged
from tagseg.errors import UserError
from tagseg.methods import METHODS, Method
from tests.engine.toy_training import ToyBatches, ToyMethod
from tests.methods.small import CLASSES, batch, build

FOUR = [[1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 1.0, 0.0]]


class Photos:
    """Four photos a step, others at every step."""

    def loader(self, start_step: int, steps: int, workers: int) -> Any:
        for step in range(start_step, start_step + steps):
            given = batch(FOUR)
            given.seed_B += 100 * step
            yield given


def trained(out: Path, **changes: Any) -> dict[str, torch.Tensor]:
    settings = TrainSettings(steps=3, batch_size=4, lr=1e-3, workers=0, crop=64, **changes)
    fit(build("classifier", dropout=0.5), Photos(), settings, out)
    return load_file(out / "model.safetensors")


def test_parts_at_the_same_time_equal_parts_in_turn_to_the_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = {}
    for cores in (1, 2):
        monkeypatch.setattr("tagseg.engine.processes.cores", lambda cores=cores: cores)
        assert parts_together(TrainSettings(parts=2), torch.device("cpu")) == cores
        weights[cores] = trained(tmp_path / str(cores), parts=2)
    assert all(torch.equal(weights[1][name], weights[2][name]) for name in weights[1])
    whole = trained(tmp_path / "whole")
    for name, value in whole.items():
        torch.testing.assert_close(weights[2][name], value, rtol=1e-4, atol=1e-5)
    assert any(not torch.equal(value, build("classifier").state_dict()[name]) for name, value in whole.items())


def test_a_photo_that_breaks_the_loss_of_its_part_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tagseg.engine.processes.cores", lambda: 2)
    monkeypatch.setattr(ToyMethod, "parts_apart", True)
    with pytest.raises(TrainingDiverged, match="step 2: the loss head is nan on the photos bad, photo1-3;"):
        fit(ToyMethod(nan_at=1), ToyBatches(bad=2), TrainSettings(steps=3, batch_size=4, parts=2, workers=0), tmp_path)


def asdt() -> Method:
    return build("asdt")


def trained_norm() -> Method:
    backbone = create_backbone("efficientnet_lite0", weights="none", frozen_norm=False)
    return METHODS["classifier"](backbone, CLASSES, METHODS["classifier"].Settings(name="classifier"))


def drop_path() -> Method:
    return build("classifier", "mit_b0")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (asdt, "method asdt computes on whole batches"),
        (trained_norm, "normalization that is trained takes its statistics from whole batches"),
        (drop_path, "the network's dropout draws for one part after the other"),
    ],
)
def test_parts_that_would_disturb_each_other_are_refused(make: Any, reason: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"train.parts is 2, but {reason}: set train.parts=1."):
        fit(make(), Photos(), TrainSettings(steps=1, batch_size=4, parts=2, workers=0), tmp_path / "run")
    assert not (tmp_path / "run").exists()
