"""Label Studio: tasks with brush masks as predictions, and the labelling interface that goes with them.

Shapes: H W pixels, R runs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from tagseg.data.folders import stem
from tagseg.data.photo import PIXEL_CAP
from tagseg.errors import UserError
from tagseg.files import replacing, to_json
from tagseg.outputs.palette import colour
from tagseg.outputs.writer import IGNORE, IGNORE_NAME, Stored, Writer, present, safe_name

TASKS, INTERFACE = "label-studio.json", "label-studio.xml"
LOCAL_FILES = "/data/local-files/?d="
_SIZES = (3, 4, 8, 16)  # bits that a run's length may take, as Label Studio itself writes them


class LabelStudioBrush(Writer):
    """`label-studio.json`, tasks to import, and `label-studio.xml`, the labelling interface to paste before.

    Photos are referred to as local files, `/data/local-files/?d=<file name>`. Ignored pixels are labelled "(ignore)".
    """

    shared = (TASKS, INTERFACE)

    def __init__(self, out: Path, classes: Sequence[str]) -> None:
        super().__init__(out, classes)
        labels = [*((k, name) for k, name in enumerate(self.classes) if k), (IGNORE, IGNORE_NAME)]
        rows = "".join(f'    <Label value={quoteattr(name)} background="{colour(k)}"/>\n' for k, name in labels)
        with replacing(out / INTERFACE) as temporary:
            temporary.write_text(
                '<View>\n  <Image name="image" value="$image" zoom="true"/>\n'
                f'  <BrushLabels name="tag" toName="image">\n{rows}  </BrushLabels>\n</View>\n',
                encoding="utf-8",
                newline="\n",
            )
        path = self.files.enter_context(replacing(out / TASKS))
        try:
            self._stream = self.files.enter_context(path.open("w", encoding="utf-8", newline="\n"))
        except OSError as error:
            raise UserError(f"{out / TASKS} cannot be written: {error.strerror or error}") from error
        self._stream.write("[")
        self._count = 0

    def write(
        self,
        name: str,
        photo: NDArray[np.uint8],
        mask: NDArray[np.uint8],
        probabilities: NDArray[np.float32] | None,
        file_name: str,
    ) -> None:
        """Add one task."""
        height, width = mask.shape
        results = []
        for k in present(mask):
            label = IGNORE_NAME if k == IGNORE else self.classes[k]
            value = {"format": "rle", "rle": list(encode_brush(mask == k)), "brushlabels": [label]}
            size = {"original_width": width, "original_height": height, "image_rotation": 0}
            target = {"type": "brushlabels", "from_name": "tag", "to_name": "image"}
            results.append({"id": f"{self._count}-{k}", **target, **size, "value": value})
        prediction: dict[str, Any] = {"model_version": "tagseg", "result": results}
        if probabilities is not None:
            prediction["score"] = round(float(probabilities.max(axis=0).mean()), 4)
        size_of_photo = {"width": width, "height": height}
        task = {
            "data": {"image": LOCAL_FILES + quote(os.fsencode(file_name)), "name": name, **size_of_photo},
            "predictions": [prediction],
        }
        comma = "," if self._count else ""
        self._stream.write(f"{comma}\n{to_json(task)}")
        self._count += 1

    def finish(self) -> None:
        """End the list."""
        self._stream.write("\n]\n")


def encode_brush(mask: NDArray[np.bool_]) -> bytes:
    """A binary mask (H, W) as Label Studio's brush RLE: the rle-pack format over four equal bytes (RGBA) a pixel.

    Bits: 32 the number of bytes, 5 the word size less one, 4 times 4 the sizes of a length; then for each run 1, two
    bits for the size, the length less one, and the value (0 or 255).
    """
    flat = np.asarray(mask, dtype=bool).ravel()
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    lengths_R = 4 * np.diff(np.append(starts, flat.size))
    values_R = np.where(flat[starts], 255, 0)
    # A run longer than 2^16 is several runs: as many full ones as needed, then the rest.
    pieces_R = (lengths_R - 1) // 65536 + 1
    last = np.cumsum(pieces_R) - 1
    rest_R = lengths_R - 65536 * (pieces_R - 1)
    lengths = np.full(int(pieces_R.sum()), 65536)
    lengths[last] = rest_R
    values = np.repeat(values_R, pieces_R)

    size = np.searchsorted([8, 16, 256], lengths)
    bits = np.array(_SIZES)[size]
    codes = (((4 | size) << bits | (lengths - 1)) << 8) | values
    header = f"{4 * flat.size:032b}{8 - 1:05b}" + "".join(f"{s - 1:04b}" for s in _SIZES)
    return np.packbits(
        np.concatenate([np.array([int(b) for b in header], dtype=np.uint8), _bits(codes, bits + 11)])
    ).tobytes()


def decode_brush(data: bytes, height: int, width: int) -> NDArray[np.bool_]:
    """The mask (H, W) of a brush RLE, True where the last byte of a pixel (its opacity) is not 0.

    Raises ValueError when it is broken or of another size.
    """
    window = data + bytes(8)

    def read(at: int, count: int) -> int:  # up to 32 bits
        byte = at >> 3
        return (int.from_bytes(window[byte : byte + 5], "big") >> (40 - (at & 7) - count)) & ((1 << count) - 1)

    total = read(0, 32)
    if total != 4 * height * width:
        raise ValueError(f"it holds {total} bytes, not 4 for each of {width} x {height} pixels")
    word = read(32, 5) + 1
    sizes = [read(37 + 4 * i, 4) + 1 for i in range(4)]
    at, done = 53, 0
    ends: list[int] = []
    values: list[int] = []
    while done < total:
        if at >= 8 * len(data):
            raise ValueError("it ends too early")
        size = sizes[read(at + 1, 2)]
        length = read(at + 3, size) + 1
        is_run = read(at, 1)
        at += 3 + size
        if done + length > total:
            raise ValueError("its runs are longer than the picture")
        for step in (length,) if is_run else (1,) * length:
            values.append(read(at, word))
            done += step
            ends.append(done)
            at += word
    # Pixel p's last byte is 4p + 3: the runs' ends in pixels are their ends in bytes divided by four.
    lengths = np.diff(np.array(ends, dtype=np.int64) // 4, prepend=0)
    return np.repeat(np.array(values) > 0, lengths).reshape(height, width)


def read_label_studio(out: Path) -> Stored:
    """The masks of `label-studio.json`, or of Label Studio's own JSON export beside `label-studio.xml`, in a folder.

    Annotations made by people go before predictions; a later stroke covers an earlier one. Raises UserError.
    """
    path = out / TASKS
    labels = _labels(out / INTERFACE)
    try:
        tasks = json.loads(path.read_text(encoding="utf-8"))
        if not all(isinstance(task, dict) and "data" in task for task in tasks):
            raise ValueError("it is not a list of tasks")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} cannot be read as Label Studio tasks: {error!r}") from error
    index = {label: k for k, label in enumerate(labels, start=1)} | {IGNORE_NAME: IGNORE}
    return Stored(("background", *labels), (_mask(path, task, index) for task in tasks))


def _mask(path: Path, task: dict[str, Any], index: dict[str, int]) -> tuple[str, NDArray[np.uint8]]:
    try:
        data = task["data"]
        name = safe_name(str(data.get("name") or _name(data["image"])))
        made = (task.get("annotations") or task.get("predictions") or [{"result": []}])[-1]["result"]
        strokes = [result for result in made if result["type"] == "brushlabels"]
        sizes = {(int(s["original_height"]), int(s["original_width"])) for s in strokes}
        sizes = sizes or {(int(data["height"]), int(data["width"]))}
        height, width = next(iter(sizes))
        if len(sizes) > 1 or not (height > 0 and width > 0 and height * width <= PIXEL_CAP):
            raise ValueError(f"its size is {sizes}; one of at most {PIXEL_CAP:,} pixels is needed")
        mask_HW = np.zeros((height, width), dtype=np.uint8)
        for stroke in strokes:
            (label,) = stroke["value"]["brushlabels"]
            mask_HW[decode_brush(bytes(stroke["value"]["rle"]), height, width)] = index[label]
    except UserError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise UserError(f"{path}: the task {task.get('data')!r} cannot be read: {error!r}") from error
    return name, mask_HW


def _name(image: str) -> str:
    url = urlsplit(image)
    return stem(parse_qs(url.query)["d"][0] if "d" in parse_qs(url.query) else Path(unquote(url.path)).name)


def _labels(path: Path) -> list[str]:
    """The brush labels of a labelling interface; one that declares entities is refused (they can fill the memory)."""
    labels: list[str] = []

    def refuse(*_: object) -> None:
        raise UserError(f"{path} declares entities, which a labelling interface never needs; remove them")

    def start(tag: str, attributes: dict[str, str]) -> None:
        if tag == "Label" and attributes.get("value", IGNORE_NAME) != IGNORE_NAME:
            labels.append(attributes["value"])

    parser = expat.ParserCreate()
    parser.EntityDeclHandler = refuse
    parser.StartElementHandler = start
    try:
        parser.Parse(path.read_bytes(), True)
    except (OSError, expat.ExpatError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    return labels


def _bits(codes: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The lowest `counts` bits of each code, highest first, one after another."""
    ends = np.cumsum(counts)
    place = np.repeat(ends, counts) - 1 - np.arange(int(ends[-1]))
    return ((np.repeat(codes, counts) >> place) & 1).astype(np.uint8)
