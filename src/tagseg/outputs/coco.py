"""COCO JSON: one annotation a class and photo, its pixels as compressed RLE.

Shapes: H W pixels, K classes with background.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from tagseg.data.folders import stem
from tagseg.data.paths import held
from tagseg.data.photo import PIXEL_CAP
from tagseg.errors import UserError
from tagseg.files import replacing, to_json
from tagseg.foreign import DATA_CAP, read_json, reading, shown
from tagseg.mask_values import BACKGROUND, IGNORE
from tagseg.outputs.polygons import fill
from tagseg.outputs.rle import compress, decode_rle, decompress, encode_rle
from tagseg.outputs.writer import IGNORE_NAME, Stored, Writer, box, present
from tagseg.places import safe_name

FILE = "annotations.json"
KIND = "COCO JSON"


class CocoRLE(Writer):
    """`annotations.json`: categories 1..K-1 are the classes, and 255 "(ignore)" the ignored pixels; background is none.

    Each annotation has its area, box, and, where probabilities are known, their mean over its pixels as `score`.
    """

    shared = (FILE,)
    needs_probabilities = True

    def __init__(self, out: Path, classes: Sequence[str]) -> None:
        super().__init__(out, classes)
        # Two lists grow at once; the second one is put behind the first in the end.
        path = self.files.enter_context(replacing(out / FILE))
        # beside it, in the folder that nobody else can write to
        self._target, self._images = self._open(path), self._open(path.with_name("images"))
        self._target.write('{"annotations": [')
        self._counts = [0, 0]  # images, annotations

    def write(
        self,
        name: str,
        photo: NDArray[np.uint8],
        mask: NDArray[np.uint8],
        probabilities: NDArray[np.float32] | None,
        file_name: str,
    ) -> None:
        """Add one photo."""
        height, width = mask.shape
        image = {"id": self._counts[0] + 1, "file_name": file_name, "height": height, "width": width}
        self._put(self._images, 0, image)
        for k in present(mask):
            region_HW = mask == k
            annotation = {
                "id": self._counts[1] + 1,
                "image_id": image["id"],
                "category_id": k,
                "segmentation": {"size": [height, width], "counts": compress(encode_rle(region_HW))},
                "area": int(region_HW.sum()),
                "bbox": list(box(region_HW)),
                "iscrowd": 0,
            }
            if probabilities is not None and k < IGNORE:
                annotation["score"] = round(float(probabilities[k][region_HW].mean()), 4)
            self._put(self._target, 1, annotation)

    def finish(self) -> None:
        """Put the images and categories behind the annotations."""
        categories: list[dict[str, Any]] = [{"id": k, "name": self.classes[k]} for k in range(1, len(self.classes))]
        categories.append({"id": IGNORE, "name": IGNORE_NAME})
        self._target.write('\n], "images": [')
        self._images.seek(0)
        for line in self._images:
            self._target.write(line)
        self._target.write(f'\n], "categories": {to_json(categories)}}}\n')

    def _put(self, stream: TextIO, kind: int, item: dict[str, Any]) -> None:
        comma = "," if self._counts[kind] else ""
        stream.write(f"{comma}\n{to_json(item)}")
        self._counts[kind] += 1

    def _open(self, path: Path) -> TextIO:
        try:
            return self.files.enter_context(path.open("w+", encoding="utf-8", newline="\n"))
        except OSError as error:
            raise UserError(f"{self.out / FILE} cannot be written: {error.strerror or error}") from error


def read_coco(out: Path) -> Stored:
    """The masks of `annotations.json` in a folder, or of a COCO file; later annotations cover earlier ones.

    Ids may begin anywhere and have gaps: the classes 1, 2, ... are the categories in the order of their ids, but for those
    called background and "(ignore)".
    Raises UserError naming the file, and the image where it is one's fault.
    """
    path = held(out / FILE, out) if out.is_dir() else out
    with reading(path, KIND):
        content = read_json(path, KIND, DATA_CAP)
        categories = [(int(c["id"]), str(c["name"])) for c in content["categories"]]
        images = {int(i["id"]): (str(i["file_name"]), int(i["height"]), int(i["width"])) for i in content["images"]}
        doubled = len(images) < len(content["images"])
        annotations: dict[int, list[tuple[int, Any]]] = {}
        for a in content["annotations"]:
            annotations.setdefault(int(a["image_id"]), []).append((int(a["category_id"]), a["segmentation"]))
    if doubled:
        raise UserError(f"{path} has two images of one id; give each its own")
    if orphans := annotations.keys() - images.keys():
        raise UserError(f"{path} has annotations of the image {min(orphans)}, which no image's id is; add it")
    names = dict(sorted(categories))
    if len(names) < len(categories):
        raise UserError(f"{path} has two categories of one id; give each its own")
    special = {BACKGROUND: 0, IGNORE_NAME: IGNORE}
    classes = [k for k, name in names.items() if name not in special]
    if len(classes) >= IGNORE:
        raise UserError(f"{path} has {len(classes):,} categories; masks hold 1 to {IGNORE - 1}")
    values = {k: special.get(name, 0) for k, name in names.items()}
    values |= {k: value for value, k in enumerate(classes, start=1)}
    masks = _masks(path, images, annotations, values)
    files = {stem(file_name) for file_name, _, _ in images.values()}
    return Stored((BACKGROUND, *(names[k] for k in classes)), masks, names=files)


def _masks(
    path: Path,
    images: dict[int, tuple[str, int, int]],
    annotations: dict[int, list[tuple[int, Any]]],
    values: dict[int, int],
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    for number, (file_name, height, width) in images.items():
        if not (height > 0 and width > 0 and height * width <= PIXEL_CAP):
            raise UserError(f"{path}: {file_name} has {width} x {height} pixels; the cap is {PIXEL_CAP:,}")
        mask_HW = np.zeros((height, width), dtype=np.uint8)
        for category, region in annotations.get(number, []):
            if category not in values:
                raise UserError(f"{path}: {file_name} has the category {category}, which no category's id is; add it")
            with reading(f"{path}: the mask of {file_name}", "RLE or polygons"):
                mask_HW[_region(region, height, width)] = values[category]
        yield safe_name(stem(file_name)), mask_HW


def _region(region: dict[str, Any] | list[list[float]], height: int, width: int) -> NDArray[np.bool_]:
    """The pixels (H, W) of an annotation: as RLE, or inside any of its polygons. Raises as Python does where it is neither."""
    if isinstance(region, dict):
        counts, size = region["counts"], region.get("size", [height, width])
        if list(size) != [height, width]:
            raise ValueError(f"its size is {shown(size)}, that of its image {[height, width]}")
        return decode_rle(decompress(counts) if isinstance(counts, str) else np.asarray(counts), height, width)
    if not region or any(len(corners) < 6 for corners in region):
        raise ValueError("a polygon needs three corners")
    inside_HW = np.zeros((height, width), dtype=bool)
    for corners in region:
        inside_HW |= fill([np.asarray(corners, dtype=np.float64).reshape(-1, 2)], height, width)
    return inside_HW
