"""A worker for the tests of kills: does the shards it is told, slowly, and notes each photo that it segmented."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from tagseg.segmenter import Segmenter
from tagseg.workflows.shards import Shards, predict_shards
from tests.colours import Colours


class Slow(Colours):
    """Takes a hundredth of a second a photo."""

    def segment(self, image_B3HW: Any) -> Any:
        time.sleep(0.01)
        return super().segment(image_B3HW)


if __name__ == "__main__":
    photos, out, shard, count = sys.argv[1:]
    predict_shards(lambda: Segmenter(Slow(), {"crf": None}), [Path(photos)], out, Shards(int(count), shard=shard))
