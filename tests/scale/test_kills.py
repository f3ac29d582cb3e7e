"""Workers killed at any moment, two at a time, leave what an undisturbed run leaves, byte for byte."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tagseg.scale.finish import finish
from tagseg.scale.places import open_place
from tagseg.segmenter import Segmenter
from tagseg.workflows.shards import Shards, predict_shards
from tests.scale.killed import Slow
from tests.scale.test_shards import draw, everything

ROOT = Path(__file__).parents[2]
SHARDS = 7


def start(photos: Path, out: Path, shard: int) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "tests.scale.killed", str(photos), str(out), f"{shard}/{SHARDS}", str(SHARDS)]
    return subprocess.Popen(words, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"})


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_seven_shards_each_killed_ten_times(tmp_path: Path) -> None:
    photos, killed, whole = tmp_path / "photos", tmp_path / "killed", tmp_path / "whole"
    draw(photos, 140)
    predict_shards(lambda: Segmenter(Slow(), {"crf": None}), [photos], whole, Shards(SHARDS))
    chance = random.Random(0)
    for first in range(0, SHARDS, 2):
        pair = [shard for shard in (first, first + 1) if shard < SHARDS]
        for _ in range(10):
            workers = [start(photos, killed, shard) for shard in pair]
            # the import of torch takes most of a worker's life: the kill falls from before it to after the commit
            time.sleep(chance.uniform(1.0, 9.0))
            for worker in workers:
                worker.kill()
                worker.wait()
        for shard in pair:
            assert start(photos, killed, shard).wait() == 0
    finish(open_place(killed))
    assert everything(killed) == everything(whole)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ray_with_an_actor_killed(tmp_path: Path) -> None:
    pytest.importorskip("ray.data")
    photos, ours = tmp_path / "photos", tmp_path / "ray"
    draw(photos, 60)
    predict_shards(lambda: Segmenter(Slow(), {"crf": None}), [photos], tmp_path / "whole", Shards(5))
    marker = str(tmp_path / "killed-once")

    def build() -> Segmenter:
        from tests.scale.killed import Slow

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
    finally:
        ray.shutdown()
    assert result is not None
    assert (result.masks, result.errors) == (60, ())
    assert Path(marker).exists()
    assert everything(ours) == everything(tmp_path / "whole")
