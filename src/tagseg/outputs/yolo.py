"""YOLO segmentation labels: a text file a photo, a line a region, its outline as a polygon.

Shapes: H W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image

from tagseg.data.folders import find_photos, holds_results, stem
from tagseg.data.paths import held
from tagseg.data.photo import PIXEL_CAP, photo_size
from tagseg.errors import UserError
from tagseg.files import replacing
from tagseg.foreign import DATA_CAP, read_text, read_yaml_file, reading, shown
from tagseg.mask_values import IGNORE
from tagseg.outputs.polygons import fill, trace
from tagseg.outputs.writer import Stored, Writer, present

FILE = "data.yaml"
DIGITS = 7  # of a coordinate as a share of the side: exact up to sides of a million pixels


class YoloPolygons(Writer):
    """`labels/<name>.txt`, `images/<name>.jpg` and `data.yaml`: a data set that Ultralytics' tools open.

    The labels of a photo in a folder called images lie in the folder labels beside that one, where Ultralytics looks.

    Lines read `class x y x y ...`, the class from 0 without background, the corners as shares of width and height. The
    polygons follow the pixels' edges, so nothing is lost but the ignored pixels, which the format cannot hold: they
    become background. Programs that draw polygons with their border (OpenCV does) find regions half a pixel larger.
    """

    shared = (FILE,)

    def __init__(self, out: Path, classes: Sequence[str]) -> None:
        super().__init__(out, classes)
        # Without `path`, Ultralytics takes the folder of data.yaml; a relative one it would join to its own settings.
        content = {"train": "images", "val": "images", "names": dict(enumerate(self.classes[1:]))}
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        self.files.enter_context(replacing(out / FILE)).write_text(text, encoding="utf-8", newline="\n")

    def write(
        self,
        name: str,
        photo: NDArray[np.uint8],
        mask: NDArray[np.uint8],
        probabilities: NDArray[np.float32] | None,
        file_name: str,
    ) -> None:
        """Write one photo, then its labels."""
        image_file, label_file = self.paths(name)
        with replacing(self.place(image_file)) as temporary:
            Image.fromarray(photo).save(temporary, format="JPEG", quality=95)
        side = np.array([mask.shape[1], mask.shape[0]])
        with (
            replacing(self.place(label_file)) as temporary,
            temporary.open("w", encoding="utf-8", newline="\n") as stream,
        ):
            for k in present(mask):
                for polygon in trace(mask == k) if k != IGNORE else ():
                    shares = " ".join(f"{value:.{DIGITS}g}" for value in (polygon / side).ravel())
                    stream.write(f"{k - 1} {shares}\n")

    @classmethod
    def paths(cls, name: str) -> tuple[str, ...]:
        """The photo, then the labels."""
        return f"images/{name}.jpg", f"{_label(name)}.txt"


def _label(name: str) -> str:
    """Where Ultralytics looks for the labels of images/<name>: the last folder called images becomes labels."""
    above, _, below = f"/images/{name}".rpartition("/images/")
    return f"{above}/labels/{below}".removeprefix("/")


def _labels_of(out: Path, name: str) -> Path:
    """The label file of a photo, or the one that tagseg wrote before it knew of folders called images."""
    path, former = out / f"{_label(name)}.txt", out / "labels" / f"{name}.txt"
    return former if former.is_file() and not path.exists() else path


def read_yolo(out: Path) -> Stored:
    """The masks of a data set of polygons: `data.yaml`, `images` for the sizes, `labels`.

    Pixels whose centers lie inside a polygon have its class, of several the later one's. A photo without a label file
    is all background. Raises UserError naming file and line.
    """
    path = held(out / FILE, out)
    with reading(path, "YOLO's data.yaml"):
        names = read_yaml_file(path, "YOLO's data.yaml")["names"]
        names = dict(enumerate(names)) if isinstance(names, list) else {int(k): v for k, v in names.items()}
        for name in names.values():
            if not isinstance(name, str | int | float):
                raise ValueError(f"the name {shown(name)} is no text")
        highest = max(names, default=-1)
    if min(names, default=0) < 0 or highest >= IGNORE - 1:
        raise UserError(f"{path} has the class {highest}; a mask holds the classes 0 to {IGNORE - 2}")
    classes = ("background", *(str(names.get(k, k)) for k in range(highest + 1)))
    return Stored(classes, _masks(out, highest + 1))


def _masks(out: Path, count: int) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    known = dict[Path, bool]()
    results = holds_results(out)  # a data set of a person's may be made of links
    images = held(out / "images", out) if results else out / "images"
    for file, photo in find_photos(images, results=results).items():
        height, width = photo_size(photo)
        if height * width > PIXEL_CAP:
            raise UserError(f"{photo} has {width} x {height} pixels, more than the cap of {PIXEL_CAP:,}")
        mask_HW = np.zeros((height, width), dtype=np.uint8)
        path = _labels_of(out, stem(file))
        path = held(path, out, known) if results else path
        lines = read_text(path, "YOLO labels", DATA_CAP).split("\n") if path.exists() else []
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            with reading(f"{path}, line {number},", "`class x y x y ...`", "correct the line"):
                k, *shares = line.split()
                polygon = np.array(shares, dtype=np.float64).reshape(-1, 2) * [width, height]
                if 1 <= len(polygon) < 3:
                    raise UserError(
                        f"{path}, line {number}, has {len(polygon)} corners, as a box has; boxes are no masks: give "
                        "outlines of 3 corners or more"
                    )
                if not 0 <= int(k) < count or not np.isfinite(polygon).all() or not len(polygon):
                    raise ValueError(f"class {shown(k)} of {count}, {len(polygon)} corners")
                # Back from shares to corners of pixels, where they come that close.
                near = np.rint(polygon)
                polygon = np.where(np.abs(polygon - near) < 1e-3, near, polygon)
                left, top = np.floor(polygon.min(axis=0)).clip(0, [width, height]).astype(int)
                right, bottom = np.ceil(polygon.max(axis=0)).clip(0, [width, height]).astype(int)
                inside = fill([polygon - [left, top]], bottom - top, right - left)
                mask_HW[top:bottom, left:right][inside] = int(k) + 1
        yield stem(file), mask_HW
