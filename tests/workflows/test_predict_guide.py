"""The guide to prediction: its Python runs as printed, and it names every format."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import tagseg
from tagseg.outputs import OUTPUTS
from tagseg.segmenter import Segmenter
from tests.colors import Colors

GUIDE = (Path(__file__).parents[2] / "docs" / "predict.md").read_text(encoding="utf-8")


class Cows(Colors):
    def __init__(self) -> None:
        super().__init__()
        self.classes = ("cow", "grass")


def test_the_python_of_the_guide_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tagseg, "load", lambda path: Segmenter(Cows(), {"crf": None}))
    Image.new("RGB", (30, 20), (0, 200, 0)).save("photo.jpg")
    (block,) = re.findall(r"^```python\n(.*?)^```", GUIDE, re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    exec(compile(block, "docs/predict.md", "exec"), names)
    assert np.array_equal(names["one"].mask, np.ones((20, 30)))
    assert names["number"] == 3


def test_the_guide_names_every_format() -> None:
    cells = [line.split("|")[1] for line in GUIDE.splitlines() if line.startswith("| `")]
    assert set(re.findall(r"`([a-z-]+)`", " ".join(cells))) - {"--format"} == set(OUTPUTS)
