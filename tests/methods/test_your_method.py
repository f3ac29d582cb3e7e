"""The example of docs/your-method.md is a method like any other."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import tagseg
from tagseg.methods import METHODS
from tests.methods import test_contract as contract

GUIDE = Path(__file__).parents[2] / "docs" / "your-method.md"


def block(language: str) -> str:
    found = re.findall(rf"^```{language}\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert len(found) == 1
    return str(found[0])


@pytest.fixture
def mil(monkeypatch: pytest.MonkeyPatch) -> None:
    names: dict[str, Any] = {"__name__": "mil"}
    exec(compile(block("python"), str(GUIDE), "exec"), names)
    monkeypatch.setitem(METHODS, "mil", names["MIL"])


@pytest.mark.usefixtures("mil")
def test_it_keeps_the_contract() -> None:
    contract.test_losses_are_finite_and_reach_every_parameter_in_a_group("mil")
    contract.test_losses_are_finite_for_one_photo_whatever_its_labels("mil", [[0.0, 0.0, 0.0]], "ignored")
    contract.test_the_same_step_has_the_same_losses("mil")
    contract.test_probabilities_have_the_photos_size_and_sum_to_one("mil", (33, 65))
    contract.test_tags_leave_absent_classes_out("mil")


@pytest.mark.usefixtures("mil")
def test_its_recipe_trains_and_the_run_reads_a_photo(tmp_path: Path) -> None:
    recipe = yaml.safe_load(block("yaml"))
    recipe["data"] = {"scenes": {"train": 6, "val": 2, "size": [64, 64]}}
    recipe["train"] |= {"steps": 2, "batch_size": 2, "crop": 64, "workers": 0}
    (tmp_path / "mil.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    tagseg.train(tagseg.load_recipe(str(tmp_path / "mil.yaml")), tmp_path / "run")
    prediction = tagseg.load(tmp_path / "run").predict(np.full((40, 50, 3), 90, np.uint8))
    assert prediction.mask.shape == (40, 50)
