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

from tagseg.data.folders import find_photos, stem
from tagseg.data.photo import PIXEL_CAP, photo_size
from tagseg.errors import UserError
from tagseg.files import replacing
from tagseg.outputs.polygons import fill, trace
from tagseg.outputs.writer import IGNORE, Stored, Writer, present

FILE = "data.yaml"
DIGITS = 7  # of a coordinate as a share of the side: exact up to sides of a million pixels


class YoloPolygons(Writer):
    """`labels/<name>.txt`, `images/<name>.jpg` and `data.yaml`: a data set that Ultralytics' tools open.

    Lines read `class x y x y ...`, the class from 0 without background, the corners as shares of width and height. The
    polygons follow the pixels' edges, so nothing is lost but the ignored pixels, which the format cannot hold: they
    become background. Programs that draw polygons with their border (OpenCV does) find regions half a pixel larger.
    """

    shared = (FILE,)

    def __init__(self, out: Path, classes: Sequence[str]) -> None:
        super().__init__(out, classes)
        content = {"path": ".", "train": "images", "val": "images", "names": dict(enumerate(self.classes[1:]))}
        with replacing(out / FILE) as temporary:
            text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
            temporary.write_text(text, encoding="utf-8", newline="\n")

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
        return f"images/{name}.jpg", f"labels/{name}.txt"


def read_yolo(out: Path) -> Stored:
    """The masks of a data set of polygons: `data.yaml`, `images` for the sizes, `labels`.

    Pixels whose centres lie inside a polygon have its class, of several the later one's. A photo without a label file
    is all background. Raises UserError naming file and line.
    """
    path = out / FILE
    try:
        names = yaml.safe_load(path.read_text(encoding="utf-8"))["names"]
        names = dict(enumerate(names)) if isinstance(names, list) else {int(k): str(v) for k, v in names.items()}
        highest = max(names, default=-1)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read as YOLO's data.yaml: {error!r}") from error
    if min(names, default=0) < 0 or highest >= IGNORE - 1:
        raise UserError(f"{path} has the class {highest}; a mask holds the classes 0 to {IGNORE - 2}")
    classes = ("background", *(str(names.get(k, k)) for k in range(highest + 1)))
    return Stored(classes, _masks(out, highest + 1))


def _masks(out: Path, count: int) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    for file, photo in find_photos(out / "images").items():
        height, width = photo_size(photo)
        if height * width > PIXEL_CAP:
            raise UserError(f"{photo} has {width} x {height} pixels, more than the cap of {PIXEL_CAP:,}")
        mask_HW = np.zeros((height, width), dtype=np.uint8)
        path = out / "labels" / f"{stem(file)}.txt"
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
        for number, line in enumerate(lines, start=1):
            try:
                k, *shares = line.split()
                polygon = np.array(shares, dtype=np.float64).reshape(-1, 2) * [width, height]
                if not 0 <= int(k) < count or not np.isfinite(polygon).all() or not len(polygon):
                    raise ValueError(f"class {k} of {count}, {len(polygon)} corners")
            except ValueError as error:
                raise UserError(f"{path}, line {number} is not `class x y x y ...`: {error}") from error
            # Back from shares to corners of pixels, where they come that close.
            near = np.rint(polygon)
            polygon = np.where(np.abs(polygon - near) < 1e-3, near, polygon)
            left, top = np.floor(polygon.min(axis=0)).clip(0, [width, height]).astype(int)
            right, bottom = np.ceil(polygon.max(axis=0)).clip(0, [width, height]).astype(int)
            inside = fill([polygon - [left, top]], bottom - top, right - left)
            mask_HW[top:bottom, left:right][inside] = int(k) + 1
        yield stem(file), mask_HW
