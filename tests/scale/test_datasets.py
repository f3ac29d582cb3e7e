"""Photos in tar archives, masks in Parquet files, and what Hugging Face `datasets` reads of them."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest

from tagseg.workflows.shards import Shards, predict_shards
from tests.scale.test_shards import build, draw

datasets = pytest.importorskip("datasets")


def test_datasets_reads_masks_and_their_facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    masks = draw(tmp_path / "photos", 5)
    broken = tmp_path / "photos/broken.png"
    broken.write_bytes(b"no photo")
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        for path in sorted((tmp_path / "photos").iterdir()):
            tar.add(path, path.name)
    predict_shards(build, [tmp_path / "photos.tar"], tmp_path / "out", Shards(2, container="parquet"))
    files = sorted(map(str, (tmp_path / "out/shards").glob("*.parquet")))
    read = datasets.Dataset.from_parquet(files, cache_dir=str(tmp_path / "cache"))
    assert isinstance(read.features["mask"], datasets.Image)
    assert [row["name"] for row in read] == sorted([*masks, "broken"])
    for row in read:
        if row["name"] == "broken":
            assert row["mask"] is None
            assert "broken.png" in row["error"]
            continue
        mask = np.array(row["mask"])
        np.testing.assert_array_equal(mask, masks[row["name"]])
        assert (row["height"], row["width"]) == mask.shape
        assert sum(row["pixels"]) == mask.size
        assert 0.9 < row["confidence"] <= 1
        assert row["error"] is None
