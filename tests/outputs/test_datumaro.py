"""CVAT's format as datumaro reads it, in an environment of its own; slow, and left out where none is named.

TAGSEG_DATUMARO: a Python that has datumaro, such as /opt/datumaro/bin/python.
"""

import os
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tagseg.data.palette import write_mask
from tagseg.outputs import READERS
from tagseg.workflows.exchange import export_tasks

PYTHON = os.environ.get("TAGSEG_DATUMARO")
CLASSES = ("background", "green", "blue")
READ = """
import sys
import numpy as np
from datumaro.components.dataset import Dataset
found = Dataset.import_from(sys.argv[1], "voc_segmentation")
(kind,) = [each for each in found.categories() if each.name == "label"]
names = [label.name for label in found.categories()[kind]]
for item in found:
    shapes = [shape for shape in item.annotations if shape.type.name == "mask"]
    mask = np.zeros(shapes[0].image.shape if shapes else (1, 1), np.uint8)
    for shape in shapes:
        mask[shape.image.astype(bool)] = sys.argv[3:].index(names[shape.label])
    np.save(f"{sys.argv[2]}/{item.id}.npy", mask)
"""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not PYTHON, reason="TAGSEG_DATUMARO names no Python with datumaro"),
]


def test_datumaro_reads_every_pixel_of_the_tasks(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    masks = {}
    for number, name in enumerate(("round", "random", "bare")):
        height, width = 40 + number, 57
        rows, columns = np.mgrid[:height, :width]
        masks[name] = {
            "round": np.where((rows - 20) ** 2 + (columns - 30) ** 2 < 150, 1, 0) + 2 * (rows < 3),
            "random": rng.integers(0, 3, (height, width)),
            "bare": np.zeros((height, width)),
        }[name].astype(np.uint8)
        for folder in ("photos", "masks", "read"):
            (tmp_path / folder).mkdir(exist_ok=True)
        Image.new("RGB", (width, height)).save(tmp_path / "photos" / f"{name}.png")
        write_mask(tmp_path / "masks" / f"{name}.png", masks[name])
    export_tasks(tmp_path / "masks", tmp_path / "photos", tmp_path / "tasks", to="cvat", classes=CLASSES)
    with zipfile.ZipFile(tmp_path / "tasks" / "cvat.zip") as archive:
        archive.extractall(tmp_path / "unpacked")
    reading = [str(PYTHON), "-c", READ, str(tmp_path / "unpacked"), str(tmp_path / "read"), *CLASSES]
    subprocess.run(reading, check=True)
    ours = dict(READERS["cvat"](tmp_path / "tasks").masks)
    for name, mask in masks.items():
        theirs = np.load(tmp_path / "read" / f"{name}.npy")
        assert np.array_equal(np.broadcast_to(theirs, mask.shape) if theirs.size == 1 else theirs, mask), name
        assert np.array_equal(ours[name], mask), name
