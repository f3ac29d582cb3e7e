"""Label Studio: tasks with brush masks as predictions, and the labeling interface that goes with them.

Shapes: H W pixels.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from tagseg.data.folders import find_photos, stem
from tagseg.data.palette import color
from tagseg.data.paths import held
from tagseg.data.photo import PIXEL_CAP, photo_size
from tagseg.errors import UserError
from tagseg.files import replacing, to_json
from tagseg.foreign import DATA_CAP, read_bytes, read_json, reading, shown
from tagseg.mask_values import IGNORE
from tagseg.outputs.brush import decode_brush, encode_brush
from tagseg.outputs.writer import IGNORE_NAME, Stored, Writer, present
from tagseg.places import safe_name

TASKS, INTERFACE = "label-studio.json", "label-studio.xml"
LOCAL_FILES = "/data/local-files/?d="


class LabelStudioBrush(Writer):
    """`label-studio.json`, tasks to import, and `label-studio.xml`, the labeling interface to paste before.

    Photos are referred to as local files, `/data/local-files/?d=<folder>/<file name>`: Label Studio serves no photo that
    lies directly in its document root, so the root is the folder above the photos' own. photo_url: what stands before
    the file name instead, such as `https://host/photos/`. version: the predictions' model_version.
    tags: names of the tags by the photo's name; then the interface asks for tags too, and these are ticked.
    Ignored pixels are labeled "(ignore)".
    """

    shared = (TASKS, INTERFACE)
    needs_probabilities = True

    def __init__(
        self,
        out: Path,
        classes: Sequence[str],
        *,
        photo_url: str | None = None,
        version: str = "tagseg",
        tags: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        super().__init__(out, classes)
        self.photo_url, self.version, self.tags = photo_url, version, tags
        labels = [*((k, name) for k, name in enumerate(self.classes) if k), (IGNORE, IGNORE_NAME)]
        rows = "".join(f'    <Label value={quoteattr(name)} background="{color(k)}"/>\n' for k, name in labels)
        choices = ""
        if tags is not None:
            ticks = "".join(f"    <Choice value={quoteattr(name)}/>\n" for name in self.classes[1:])
            choices = f'  <Choices name="tags" toName="image" choice="multiple">\n{ticks}  </Choices>\n'
        with replacing(out / INTERFACE) as temporary:
            temporary.write_text(
                '<View>\n  <Image name="image" value="$image" zoom="true"/>\n'
                f'  <BrushLabels name="tag" toName="image">\n{rows}  </BrushLabels>\n{choices}</View>\n',
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
        result = regions(mask, self.classes, prefix=f"{self._count}-")
        tags = None if self.tags is None else self.tags.get(name)
        if tags is not None:
            result.append(choices(tags, id=f"{self._count}-tags"))
        prediction: dict[str, Any] = {"model_version": self.version, "result": result}
        if probabilities is not None:
            prediction["score"] = round(float(probabilities.max(axis=0).mean()), 4)
        image = (
            LOCAL_FILES + quote(os.fsencode(self.link))
            if self.photo_url is None
            else self.photo_url + quote(os.fsencode(file_name))
        )
        task = {
            "data": {"image": image, "name": name, "width": width, "height": height},
            "predictions": [prediction],
        }
        comma = "," if self._count else ""
        self._stream.write(f"{comma}\n{to_json(task)}")
        self._count += 1

    def finish(self) -> None:
        """End the list."""
        self._stream.write("\n]\n")


def regions(
    mask: NDArray[np.uint8], classes: Sequence[str], *, from_name: str = "tag", to_name: str = "image", prefix: str = ""
) -> list[dict[str, Any]]:
    """A mask (H, W) as Label Studio's brush regions, one a class that is present; 255 is "(ignore)"."""
    height, width = mask.shape
    found = []
    for k in present(mask):
        label = IGNORE_NAME if k == IGNORE else classes[k]
        value = {"format": "rle", "rle": list(encode_brush(mask == k)), "brushlabels": [label]}
        size = {"original_width": width, "original_height": height, "image_rotation": 0}
        target = {"type": "brushlabels", "from_name": from_name, "to_name": to_name}
        found.append({"id": f"{prefix}{k}", **target, **size, "value": value})
    return found


def choices(tags: Sequence[str], *, id: str, from_name: str = "tags", to_name: str = "image") -> dict[str, Any]:
    """Tags as one result of a `<Choices>` control."""
    return {
        "id": id,
        "type": "choices",
        "from_name": from_name,
        "to_name": to_name,
        "value": {"choices": list(tags)},
    }


def read_label_studio(out: Path, images: Path | None = None) -> Stored:
    """The masks of `label-studio.json`, or of Label Studio's own JSON export, beside `label-studio.xml` in a folder.

    Of annotations made by people the newest counts, and they go before predictions; skipped ones are no annotations. A
    later stroke covers an earlier one. Tasks that nobody has annotated are left out where predictions are named by
    number alone, and where every annotation was skipped. images: the folder of the photos, which gives the size of a
    photo without a stroke. Raises UserError.
    """
    path = held(out / TASKS, out)
    labels = _labels(held(out / INTERFACE, out))
    index = {label: k for k, label in enumerate(labels, start=1)} | {IGNORE_NAME: IGNORE}
    found = ((task, results) for task in read_tasks(path) if (results := chosen(path, task)) is not None)

    @cache
    def photos() -> dict[str, Path]:  # the folder is walked once, and where no task lacks its size not at all
        return {} if images is None else {stem(file): photo for file, photo in find_photos(images).items()}

    def size(name: str) -> tuple[int, int]:
        if images is None:
            raise UserError(f"{path}: {name} has no stroke and no size; give the folder of the photos too")
        if name not in photos():
            raise UserError(f"{path}: {name} has no stroke and is not among the photos of {images}; correct its name")
        return photo_size(photos()[name])

    return Stored(("background", *labels), (_mask(path, task, results, index, size) for task, results in found))


def read_tasks(path: Path) -> list[dict[str, Any]]:
    """The tasks of a JSON file. Raises UserError when it holds no list of tasks."""
    with reading(path, "Label Studio tasks"):
        tasks = read_json(path, "Label Studio tasks", DATA_CAP)
        is_list = isinstance(tasks, list)
        if not is_list or not all(isinstance(task, dict) and isinstance(task.get("data"), dict) for task in tasks):
            raise ValueError("it is not a list of tasks")
        return list(tasks)


def chosen(path: Path, task: dict[str, Any]) -> list[dict[str, Any]] | None:
    """The results of a task that count: of its newest annotation, else its last prediction; None where it has neither."""
    with reading(f"{path}: the task {shown(task['data'])}", "a task with annotations"):
        annotations = task.get("annotations") or []
        made = [each for each in annotations if not each.get("was_cancelled")]
        if made:
            return list(max(made, key=lambda each: str(each.get("updated_at") or ""))["result"])
        predictions = [each for each in task.get("predictions") or [] if isinstance(each, dict)]
        return list(predictions[-1]["result"]) if predictions and not annotations else None


def read_choices(out: Path) -> dict[str, tuple[str, ...]]:
    """The ticked tags by photo, where an annotation has any; a task whose ticks nobody touched tells nothing of them."""
    path = held(out / TASKS, out)
    found: dict[str, tuple[str, ...]] = {}
    for task in read_tasks(path):
        with reading(f"{path}: the task {shown(task['data'])}", "a task with choices"):
            for result in chosen(path, task) or [] if task.get("annotations") else []:
                if result["type"] == "choices":
                    found[task_name(task)] = tuple(map(str, result["value"]["choices"]))
    return found


def task_name(task: dict[str, Any]) -> str:
    """The photo's path without suffix: as tagseg wrote it, else as far as the image's address tells it."""
    data = task["data"]
    return safe_name(str(data.get("name") or _name(str(data["image"]))))


def _mask(
    path: Path,
    task: dict[str, Any],
    results: list[dict[str, Any]],
    index: dict[str, int],
    size: Callable[[str], tuple[int, int]],
) -> tuple[str, NDArray[np.uint8]]:
    with reading(f"{path}: the task {shown(task['data'])}", "a brush mask"):
        data = task["data"]
        name = task_name(task)
        strokes = [result for result in results if result["type"] in ("brushlabels", "brush")]
        sizes = {(int(s["original_height"]), int(s["original_width"])) for s in strokes}
        height, width = next(iter(sizes)) if sizes else _size(data) or size(name)
        if len(sizes) > 1 or not (height > 0 and width > 0 and height * width <= PIXEL_CAP):
            raise ValueError(f"its size is {sizes}; one of at most {PIXEL_CAP:,} pixels is needed")
        mask_HW = np.zeros((height, width), dtype=np.uint8)
        for stroke in strokes:
            labels = stroke["value"].get("brushlabels") or []
            if len(labels) != 1:
                what = f"the labels {shown(labels)}" if labels else "no label"
                raise UserError(f"{path}: a region of {name} has {what}; give it exactly one, and export again")
            if labels[0] not in index:
                raise UserError(
                    f"{path}: {name} has the label {shown(labels[0])}, which {INTERFACE} does not hold; add it"
                )
            rle = stroke["value"]["rle"]
            # bytes() of a number would be that many zeros.
            if not isinstance(rle, list) or len(rle) > 16 * height * width + 64:
                raise ValueError(f"its rle is no list of bytes as long as {width} x {height} pixels can need")
            mask_HW[decode_brush(bytes(rle), height, width)] = index[labels[0]]
    return name, mask_HW


def _size(data: dict[str, Any]) -> tuple[int, int] | None:
    """The height and width that a task names itself."""
    return (int(data["height"]), int(data["width"])) if "height" in data and "width" in data else None


def _name(image: str) -> str:
    url = urlsplit(image)
    return stem(parse_qs(url.query)["d"][0] if "d" in parse_qs(url.query) else Path(unquote(url.path)).name)


def _labels(path: Path) -> list[str]:
    """The brush labels of a labeling interface; one that declares entities is refused (they can fill the memory)."""
    labels: list[str] = []

    def refuse(*_: object) -> None:
        raise UserError(f"{path} declares entities, which a labeling interface never needs; remove them")

    def start(tag: str, attributes: dict[str, str]) -> None:
        if tag == "Label" and attributes.get("value", IGNORE_NAME) != IGNORE_NAME:
            labels.append(attributes["value"])

    parser = expat.ParserCreate()
    parser.EntityDeclHandler = refuse
    parser.StartElementHandler = start
    with reading(path, "a labeling interface"):
        parser.Parse(read_bytes(path, "a labeling interface"), True)
    if len(labels) >= IGNORE:
        raise UserError(f"{path} has {len(labels):,} labels; a mask holds 1 to {IGNORE - 1}")
    return labels
