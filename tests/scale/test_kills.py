"""Workers killed at any moment, two at a time, leave what an undisturbed run leaves, byte for byte."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tagseg.data.palette import write_mask
from tagseg.data.tagged import open_tagged
from tagseg.scale.finish import finish
from tagseg.scale.places import open_place
from tagseg.segmenter import Segmenter
from tagseg.workflows.refine import Refinement, refined
from tagseg.workflows.shards import Shards, label_shards, list_tagged, predict_shards, refine_shards
from tests.scale.slow_model import Slow
from tests.scale.test_label_and_refine import masked
from tests.scale.test_shards import draw, everything

ROOT = Path(__file__).parents[2]
SHARDS = 7
Command = Callable[[Path, Path, Shards], object]


def slow() -> Segmenter:
    return Segmenter(Slow(), {"crf": None})


def predicting(photos: Path, out: Path, shards: Shards) -> object:
    return predict_shards(slow, [photos / "photos"], out, shards)


def labeling(photos: Path, out: Path, shards: Shards) -> object:
    data = list_tagged(lambda _: open_tagged(photos / "photos", photos / "tags.csv", classes=("green", "blue")))
    return label_shards(slow, data, out, shards, confidence=0.9)


def refining(photos: Path, out: Path, shards: Shards) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tagseg.workflows.refine_shards.refined", slowly_refined)
        return refine_shards(photos / "masks", photos / "photos", out, shards, Refinement(iterations=1), device="cpu")


def slowly_refined(*given: Any) -> Any:
    time.sleep(0.02)
    return refined(*given)


def start(command: Command, photos: Path, out: Path, shard: int) -> int:
    """A forked process that does one shard: its number."""
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        try:
            command(photos, out, Shards(SHARDS, shard=f"{shard}/{SHARDS}"))
        finally:
            os._exit(0)
    return child


@pytest.mark.skipif(sys.platform != "linux", reason="forks a process that has used torch")
@pytest.mark.parametrize(
    ("command", "kills"),
    [
        (predicting, 4),
        *(pytest.param(command, 10, marks=pytest.mark.slow) for command in (predicting, labeling, refining)),
    ],
)
def test_seven_shards_two_at_a_time_each_killed_many_times(
    tmp_path: Path, command: Command, kills: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tagseg.workflows.refine_shards.cores", lambda: 1)
    photos, killed, whole = tmp_path / "in", tmp_path / "killed", tmp_path / "whole"
    rows = ["file,tags"]
    (photos / "masks").mkdir(parents=True)
    for name, mask in draw(photos / "photos", 280).items():
        write_mask(photos / "masks" / f"{name}.png", mask)
        rows.append(f"{name}.png,{'blue' if len(rows) % 2 else 'green blue'}")
    (photos / "tags.csv").write_text("\n".join(rows) + "\n")
    command(photos, whole, Shards(SHARDS))
    chance, died = random.Random(0), 0
    for first in range(0, SHARDS, 2):
        pair = [shard for shard in (first, first + 1) if shard < SHARDS]
        for _ in range(kills):
            children = [start(command, photos, killed, shard) for shard in pair]
            time.sleep(chance.uniform(0.0, 0.5))
            for child in children:
                os.kill(child, signal.SIGKILL)
                died += os.WIFSIGNALED(os.waitpid(child, 0)[1])
        for child in [start(command, photos, killed, shard) for shard in pair]:
            os.waitpid(child, 0)
    assert died > 3 * kills, "most should have been killed on their way"
    result = finish(open_place(killed))
    assert (result.masks, result.errors) == (280, ())
    left = list(killed.rglob(".tagseg-saving-*"))
    for path in left:  # a file of a killed process, never taken for a result
        path.unlink()
    assert everything(killed) == everything(whole)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ray_with_an_actor_killed(tmp_path: Path) -> None:
    pytest.importorskip("ray.data")
    photos, ours = tmp_path / "photos", tmp_path / "ray"
    draw(photos, 60)
    predict_shards(slow, [photos], tmp_path / "whole", Shards(5))
    marker = str(tmp_path / "killed-once")
    (masks, images), how = masked(tmp_path), Refinement((3.0, 3.0), (30.0, 10.0, 4.0), 5)
    refine_shards(masks, images, tmp_path / "refined", Shards(2), how, device="cpu")

    def build() -> Segmenter:
        from tests.scale.slow_model import Slow

        class Dying(Slow):
            def segment(self, image_B3HW):  # type: ignore[no-untyped-def]
                if image_B3HW.shape[2] == 9 and not os.path.exists(marker):  # noqa: PTH110
                    open(marker, "w").close()  # noqa: PTH123
                    os.kill(os.getpid(), 9)
                return super().segment(image_B3HW)

        return Segmenter(Dying(), {"crf": None})

    import ray

    os.environ["RAY_DATA_DISABLE_PROGRESS_BARS"] = "1"
    paths = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    os.environ["PYTHONPATH"] = paths
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=150 * 2**20, log_to_driver=False)
    try:
        result = predict_shards(build, [photos], ours, Shards(5, engine="ray", workers=1))
        refine_shards(masks, images, tmp_path / "refined-ray", Shards(2, engine="ray", workers=1), how, device="cpu")
    finally:
        ray.shutdown()
    assert result is not None
    assert (result.masks, result.errors) == (60, ())
    assert Path(marker).exists()
    assert everything(ours) == everything(tmp_path / "whole")
    assert everything(tmp_path / "refined-ray") == everything(tmp_path / "refined")
