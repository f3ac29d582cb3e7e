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
from tagseg.data.batches import Batch
from tagseg.data.tagged import TaggedImages, TaggedPhoto
from tagseg.methods.method import Method, ParameterGroup
from tagseg.outputs.palette import write_mask
from tagseg.prediction.score import score_branches, score_table, summary
from tagseg.prediction.settings import PredictSettings

COUNTS = range(1, 10)


class Bright(Method):
    """Class 1 where a photo is bright, class 2 where it is red: no training, exact answers."""

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        raise AssertionError("never trained")

    def segment(self, image_B3HW: Tensor) -> Tensor:
        bright, red = image_B3HW.mean(1), image_B3HW[:, 0] - image_B3HW[:, 1]
        return torch.stack([torch.full_like(bright, 0.4), bright, red.clamp(min=0)], 1).softmax(1)

    def branches(self, image_B3HW: Tensor, tag_BC: Tensor | None = None) -> dict[str, Tensor]:
        return {"P": self.segment(image_B3HW)}

    def cams(self, image_B3HW: Tensor) -> Tensor:
        return self.segment(image_B3HW)[:, 1:]

    def parameter_groups(self) -> list[ParameterGroup]:
        return []


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
