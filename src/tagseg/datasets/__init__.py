"""The papers' data sets: where their archives are, how they are checked, and how they become a folder to train on."""

from __future__ import annotations

from tagseg.datasets.caltech256 import CALTECH256
from tagseg.datasets.coco14 import COCO14
from tagseg.datasets.coco_stuff10k import COCO_STUFF_10K
from tagseg.datasets.dataset import DataSet
from tagseg.datasets.voc12 import VOC12

DATASETS: dict[str, DataSet] = {dataset.name: dataset for dataset in (VOC12, COCO14, COCO_STUFF_10K, CALTECH256)}
