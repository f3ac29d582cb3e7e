"""Label Studio: tasks with brush masks as predictions, and the labeling interface that goes with them.

Shapes: H W pixels.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from tagseg.data.folders import stem
from tagseg.data.named_photos import meant_photo, photos_by_name
from tagseg.data.palette import color
from tagseg.data.paths import held
from tagseg.data.photo import PIXEL_CAP, photo_size
from tagseg.errors import UserError
from tagseg.files import replacing, to_json
from tagseg.foreign import DATA_CAP, read_bytes, read_json, reading, shown
from tagseg.mask_values import IGNORE
from tagseg.outputs.brush import decode_brush, encode_brush
from tagseg.outputs.label_interface import TAGS, Controls, read_controls
from tagseg.outputs.writer import IGNORE_NAME, Stored, Writer, present
from tagseg.places import safe_name

TASKS, INTERFACE = "label-studio.json", "label-studio.xml"
LOCAL_FILES = "/data/local-files/?d="
PAINTED = frozenset({"brushlabels", "brush"})
CLICKS = frozenset({"keypointlabels", "keypoint"})
NO_REGIONS = frozenset(
    {"choices", "relation", "textarea", "rating", "number", "datetime", "taxonomy", "pairwise", "ranker"}
)
"""Kinds of results that say something of a photo and draw nothing."""


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
            choices = f'  <Choices name="{TAGS}" toName="image" choice="multiple">\n{ticks}  </Choices>\n'
        self.files.enter_context(replacing(out / INTERFACE)).write_text(
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


def choices(tags: Sequence[str], *, id: str, from_name: str = TAGS, to_name: str = "image") -> dict[str, Any]:
    """Tags as one result of a `<Choices>` control."""
    return {
        "id": id,
        "type": "choices",
        "from_name": from_name,
        "to_name": to_name,
        "value": {"choices": list(tags)},
    }


def read_label_studio(
    out: Path,
    images: Path | None = None,
    problems: list[str] | None = None,
    *,
    predictions: bool = True,
) -> Stored:
    """The masks of `label-studio.json`, or of Label Studio's own JSON export, beside `label-studio.xml` in a folder.

    Of annotations made by people the newest counts, and they go before predictions; skipped ones are no annotations.
    A later stroke covers an earlier one. Tasks that nobody has annotated are left out where predictions are named by
    number alone, and where every annotation was skipped. images: the folder of the photos, which gives the size of a
    photo without a stroke. predictions: whether a task that nobody has annotated has its prediction's mask. problems:
    takes a sentence about each task that cannot be read, and the others are read; without it the first one raises
    UserError, as the files themselves do.
    """
    path, interface = held(out / TASKS, out), held(out / INTERFACE, out)
    controls = read_controls(read_bytes(interface, "a labeling interface"), interface)
    if len(controls.labels) >= IGNORE:
        raise UserError(f"{interface} has {len(controls.labels):,} labels; a mask holds 1 to {IGNORE - 1}")
    tasks = read_tasks(path)
    tags: dict[str, tuple[str, ...]] = {}
    unannotated: list[str] = []

    @cache
    def photos() -> dict[str, list[Path]]:  # the folder is walked once, and where no task lacks its size not at all
        return {} if images is None else photos_by_name(images)

    def size(name: str) -> tuple[int, int]:
        if images is None:
            raise UserError(f"{path}: {name} has no stroke and no size; give the folder of the photos too")
        meant = meant_photo(name, photos())
        if meant is None:
            raise UserError(f"{path}: {name} has no stroke and is not among the photos of {images}; correct its name")
        return photo_size(photos()[meant][0])

    def masks() -> Iterator[tuple[str, NDArray[np.uint8]]]:
        for task in tasks:
            try:
                results = chosen(path, task, predictions=predictions)
                if results is None:
                    unannotated.append(str(task["data"].get("image")))
                    continue
                name, mask_HW = _mask(path, task, results, controls, photos, size)
                with reading(f"{path}: the task {shown(task['data'])}", "a task with choices"):
                    ticked = controls.ticked(results) if task.get("annotations") else None
            except UserError as error:
                if problems is None:
                    raise
                problems.append(str(error))
                continue
            tags.pop(name, None)  # of another task of this photo
            if ticked is not None:
                tags[name] = ticked
            yield name, mask_HW

    return Stored(("background", *controls.labels), masks(), tags, unannotated=unannotated)


def read_tasks(path: Path) -> list[dict[str, Any]]:
    """The tasks of a JSON file. Raises UserError when it holds no list of tasks."""
    with reading(path, "Label Studio tasks"):
        tasks = read_json(path, "Label Studio tasks", DATA_CAP)
        is_list = isinstance(tasks, list)
        if not is_list or not all(isinstance(task, dict) and isinstance(task.get("data"), dict) for task in tasks):
            raise ValueError("it is not a list of tasks")
        return list(tasks)


def chosen(path: Path, task: dict[str, Any], *, predictions: bool = True) -> list[dict[str, Any]] | None:
    """The results of a task that count: of its newest annotation, else its last prediction; None where it has neither.

    predictions: whether they count.
    """
    with reading(f"{path}: the task {shown(task['data'])}", "a task with annotations"):
        annotations = task.get("annotations") or []
        made = [each for each in annotations if not each.get("was_cancelled")]
        if made:
            return list(max(made, key=lambda each: str(each.get("updated_at") or ""))["result"])
        found = [each for each in task.get("predictions") or [] if isinstance(each, dict)]
        return list(found[-1]["result"]) if found and predictions and not annotations else None


def task_name(task: dict[str, Any], photos: Callable[[], Collection[str]] = tuple) -> str:
    """The photo's path without suffix: as tagseg wrote it, else as far as the image's address tells it.

    photos: the names that it may have; without any it is the last part of the address.
    """
    data = task["data"]
    return safe_name(str(data.get("name") or _name(str(data["image"]), photos)))


def _mask(
    path: Path,
    task: dict[str, Any],
    results: list[dict[str, Any]],
    controls: Controls,
    photos: Callable[[], Collection[str]],
    size: Callable[[str], tuple[int, int]],
) -> tuple[str, NDArray[np.uint8]]:
    with reading(f"{path}: the task {shown(task['data'])}", "a brush mask"):
        data = task["data"]
        name = task_name(task, photos)
        strokes = [result for result in results if result["type"] in PAINTED]
        for result in results:
            kind, control = result["type"], result.get("from_name")
            prompt = bool(strokes) and (kind in CLICKS or control in controls.smart)  # what the model was asked by
            if kind not in PAINTED | NO_REGIONS and not prompt:
                raise UserError(
                    f"{path}: {name} has a region of the kind {shown(kind)}, which is no mask; draw it with the brush, and "
                    "export again"
                )
        index = {label: k for k, label in enumerate(controls.labels, start=1)} | {IGNORE_NAME: IGNORE}
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


def _name(image: str, photos: Callable[[], Collection[str]]) -> str:
    url = urlsplit(image)
    if (local := parse_qs(url.query).get("d")) is not None:
        return stem(local[0])
    whole = unquote(url.path)
    return meant_photo(stem(whole.lstrip("/")), photos()) or stem(Path(whole).name)
