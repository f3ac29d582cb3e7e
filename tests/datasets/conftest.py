from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tagseg.datasets import DATASETS
from tagseg.datasets.dataset import DataSet
from tests.datasets import tiny

MAKERS: dict[str, Callable[..., DataSet]] = {
    "voc12": tiny.voc12,
    "coco14": tiny.coco14,
    "coco-stuff10k": tiny.coco_stuff10k,
    "caltech256": tiny.caltech256,
}


@pytest.fixture
def archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes the tiny archives of a data set, which takes its name's place meanwhile: archives("voc12") -> folder."""

    def make(name: str, *more: object) -> Path:
        folder = tmp_path / "archives"
        monkeypatch.setitem(DATASETS, name, MAKERS[name](folder, *more))
        return folder

    return make
