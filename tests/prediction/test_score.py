"""Scores over several processes are those of one, for any number of photos: nothing is counted twice or left out."""

import json
import os
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from PIL import Image
from torch import Tensor

from tagseg.backbones import create_backbone
from tagseg.data.palette import write_mask
from tagseg.data.tagged import TaggedImages, TaggedPhoto
from tagseg.prediction.score import score_branches, score_table, summary
from tagseg.prediction.segmenter import Segmenter
from tagseg.prediction.settings import PredictSettings
from tagseg.prediction.work import Batches
from tagseg.scores import Scores
from tests.colors import Untrained

COUNTS = range(1, 10)


class Bright(Untrained):
    """Class 1 where a photo is bright, class 2 where it is red: no training, exact answers."""

    def segment(self, image_B3HW: Tensor) -> Tensor:
        bright, red = image_B3HW.mean(1), image_B3HW[:, 0] - image_B3HW[:, 1]
        return torch.stack([torch.full_like(bright, 0.4), bright, red.clamp(min=0)], 1).softmax(1)


def method() -> Bright:
    return Bright(create_backbone("resnet18", output_stride=32, weights="none"), ("bright", "red"))


def photos(folder: Path) -> TaggedImages:
    """Nine noisy photos of different sizes with masks of noise."""
    rng = np.random.default_rng(0)
    found = []
    for i in range(max(COUNTS)):
        size = (12 + i, 17)
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / f"{i}.png")
        write_mask(folder / f"mask{i}.png", rng.choice([0, 1, 2, 255], size).astype(np.uint8))
        found.append(TaggedPhoto(str(i), folder / f"{i}.png", (1, 2), folder / f"mask{i}.png"))
    return TaggedImages(("bright", "red"), tuple(found))


def first(data: TaggedImages, count: int) -> TaggedImages:
    return TaggedImages(data.classes, data.photos[:count])


def scores_of(data: TaggedImages) -> dict[str, object]:
    branches = score_branches(method(), data, PredictSettings(crf=None))
    return {"scores": summary(branches, data.classes), "photos": branches["P"].photos}


def run_process(rank: int, world: int, port: int, folder: Path) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=world)
    data = photos_of(folder)
    seen = {count: scores_of(first(data, count)) for count in COUNTS}
    (folder / f"rank{rank}.json").write_text(json.dumps(seen), encoding="utf-8")
    dist.barrier()  # a process that leaves early makes gloo abort the others
    dist.destroy_process_group()


def photos_of(folder: Path) -> TaggedImages:
    names = sorted((path.stem for path in folder.glob("[0-9].png")), key=int)
    found = (TaggedPhoto(name, folder / f"{name}.png", (1, 2), folder / f"mask{name}.png") for name in names)
    return TaggedImages(("bright", "red"), tuple(found))


def test_three_processes_score_like_one(tmp_path: Path) -> None:
    data = photos(tmp_path)
    alone = {str(count): scores_of(first(data, count)) for count in COUNTS}
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    mp.spawn(run_process, (3, port, tmp_path), nprocs=3)
    for rank in range(3):
        assert json.loads((tmp_path / f"rank{rank}.json").read_text(encoding="utf-8")) == alone


def test_tags_keep_absent_classes_out(tmp_path: Path) -> None:
    data = photos(tmp_path)
    only_red = TaggedImages(data.classes, tuple(TaggedPhoto(p.name, p.photo, (2,), p.mask) for p in data.photos))
    scores = score_branches(method(), only_red, PredictSettings(), tags=True)
    assert list(scores) == ["P", "P + CRF"]
    assert scores["P"].total.confusion[:, 1].sum() == 0
    assert scores["P + CRF"].total.confusion[:, 1].sum() == 0
    assert scores["P"].total.confusion[:, 2].sum() > 0


def test_the_table_has_a_row_per_branch(tmp_path: Path) -> None:
    data = photos(tmp_path)
    scores = {"without tags": summary(score_branches(method(), data, PredictSettings()), data.classes)}
    table = score_table(scores, "title")
    assert table.row_count == 1
    assert next(iter(table.columns[0].cells)) == "P"


@pytest.mark.parametrize("only_final", [True, False])
def test_what_the_method_returns_is_the_last_branch(tmp_path: Path, only_final: bool) -> None:
    data = photos(tmp_path)
    scores = score_branches(method(), data, PredictSettings(crf=None), only_final=only_final)
    name = "final" if only_final else "P"
    assert list(scores) == [name]
    assert scores[name].total.photos == 9


class Softmax(Bright):
    """Its class depends on the size a photo is read at: scales and flips matter."""

    def segment_logits(self, image_B3HW: Tensor) -> Tensor:
        bright, red = image_B3HW.mean(1), image_B3HW[:, 0] - image_B3HW[:, 1]
        slope = torch.linspace(0, image_B3HW.shape[-1] / 20, image_B3HW.shape[-1]).expand_as(bright)
        return torch.stack([torch.full_like(bright, 0.4), bright, red.clamp(min=0) + slope], 1)

    def segment(self, image_B3HW: Tensor) -> Tensor:
        return self.segment_logits(image_B3HW).softmax(1)


def softmax() -> Softmax:
    return Softmax(create_backbone("resnet18", output_stride=32, weights="none"), ("bright", "red"))


@pytest.mark.parametrize("merge", ["mean", "max", "max_logits"])
def test_the_last_score_is_that_of_the_masks_that_predict_gives(tmp_path: Path, merge: str) -> None:
    data, settings = photos(tmp_path), PredictSettings(scales=(1.0, 2.0), flip=True, merge=merge, short_side=20)
    scores = score_branches(softmax(), data, settings)
    assert list(scores) == ["P, single scale", "P, single scale + CRF", "P", "P + CRF"]
    for crf, name in ((False, "P"), (True, "P + CRF")):
        segmenter, total = Segmenter(softmax(), settings), Scores(3)
        for index in range(len(data)):
            truth = data.mask(index)
            assert truth is not None
            total.add(segmenter.predict(data.photo(index), crf=crf).mask, truth)
        assert (scores[name].total.confusion == total.confusion).all()
    plain = score_branches(softmax(), data, PredictSettings())
    assert (plain["P"].total.confusion == scores["P, single scale"].total.confusion).all()
    assert (plain["P"].total.confusion != scores["P"].total.confusion).any()


def test_scores_in_batches_are_those_of_single_photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = photos(tmp_path)
    same = TaggedImages(
        data.classes, data.photos[:4] + data.photos[:2] + data.photos[:3]
    )  # three sizes twice or thrice
    alone = summary(score_branches(method(), same, PredictSettings()), data.classes)
    monkeypatch.setattr(Segmenter, "batches", lambda self: Batches(self.device, 8))
    assert summary(score_branches(method(), same, PredictSettings()), data.classes) == alone


def test_a_photo_beyond_four_tiles_is_scored_as_it_is_predicted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (30, 22, 3), dtype=np.uint8)).resize(
        (280, 300), Image.Resampling.BICUBIC
    )
    image.save(tmp_path / "large.png")
    write_mask(tmp_path / "mask.png", rng.integers(0, 3, (300, 280), dtype=np.uint8))
    data = TaggedImages(("bright", "red"), (TaggedPhoto("large", tmp_path / "large.png", (1,), tmp_path / "mask.png"),))
    original = Segmenter.__init__

    def small_tiles(self: Segmenter, *arguments: object) -> None:
        original(self, *arguments)  # type: ignore[arg-type]
        self.tile = 128

    monkeypatch.setattr(Segmenter, "__init__", small_tiles)
    scores = score_branches(method(), data, PredictSettings())
    assert list(scores) == ["P", "P + CRF"]
    truth, total = data.mask(0), Scores(3)
    assert truth is not None
    total.add(Segmenter(method(), PredictSettings()).predict(data.photo(0)).mask, truth)
    assert (scores["P + CRF"].total.confusion == total.confusion).all()


def test_a_photo_beyond_the_largest_is_scored_as_it_is_predicted(tmp_path: Path) -> None:
    data = photos(tmp_path)  # of 12 x 17 to 20 x 17 pixels
    predict = PredictSettings(largest=300)
    scores = score_branches(method(), data, predict)
    assert list(scores) == ["P", "P + CRF"]
    for name, crf in (("P", False), ("P + CRF", True)):
        total = Scores(3)
        for index in range(len(data)):
            truth = data.mask(index)
            assert truth is not None
            total.add(Segmenter(method(), predict).predict(data.photo(index), crf=crf).mask, truth)
        assert (scores[name].total.confusion == total.confusion).all()
    own_size = score_branches(method(), data, PredictSettings())
    assert (own_size["P"].total.confusion != scores["P"].total.confusion).any()
