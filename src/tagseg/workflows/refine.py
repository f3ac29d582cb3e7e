"""The dense CRF over a folder: index masks or probabilities in, refined index masks out.

Shapes: L labels, H W pixels.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from tagseg.allocator import freed_memory_kept
from tagseg.cores import cores
from tagseg.data.class_lists import CLASSES_FILE, listed_classes, own_list, write_class_list
from tagseg.data.folders import look_into
from tagseg.data.mask_numbers import MaskNumbers, TagTable
from tagseg.data.masks import read_mask, refuse_ignored_objects
from tagseg.data.named_photos import photos_by_name
from tagseg.data.palette import write_mask
from tagseg.data.photo import read_photo
from tagseg.devices import AUTO, choose_device
from tagseg.errors import UserError
from tagseg.files import make_folder
from tagseg.foreign import read_array
from tagseg.interrupt import Interruption, check
from tagseg.mask_values import BACKGROUND, IGNORE
from tagseg.outputs.masks import PaletteMasks
from tagseg.places import check_output
from tagseg.progress import tracked
from tagseg.refine import dense_crf, probabilities_from_labels
from tagseg.refine.crf_checks import check_values
from tagseg.refine.defaults import BILATERAL, GAUSSIAN, ITERATIONS
from tagseg.refine.settings import CRFSettings
from tagseg.result_folder import ResultFolder
from tagseg.settings import first_fault
from tagseg.workflows.digests import made_from

SUFFIXES = (".png", ".npy")  # of masks, and of probabilities
MARKER = ".tagseg-refine"  # beside the masks: what they were made by


@dataclass(frozen=True)
class Refinement:
    """The dense CRF's kernels. A mask's labels have the probability `confidence`, its pixels of 255 are unsure.

    Only labels that occur in a mask can come out. Where it is one alone, unsure pixels stay 255.
    """

    gaussian: tuple[float, float] = GAUSSIAN
    bilateral: tuple[float, float, float] = BILATERAL
    iterations: int = ITERATIONS
    confidence: float = 0.7

    def __post_init__(self) -> None:
        """Raises UserError for settings that make no sense for any photo."""
        try:
            CRFSettings(gaussian=self.gaussian, bilateral=self.bilateral, iterations=self.iterations)
        except ValidationError as error:
            raise UserError(f"The dense CRF cannot be set so: {first_fault(error)}.") from error
        if not 0.5 < self.confidence < 1:  # of two labels the other would be likelier
            raise UserError(f"--label-probability should lie between 0.5 and 1, not {self.confidence}.")

    def kernels(self) -> dict[str, Any]:
        """As `dense_crf` takes them."""
        return {"gaussian": self.gaussian, "bilateral": self.bilateral, "iterations": self.iterations}

    def digest(self) -> str:
        """What stands for these settings in folders of results."""
        settings = json.dumps([self.gaussian, self.bilateral, self.iterations, self.confidence])
        return hashlib.sha256(settings.encode()).hexdigest()


def refine_folder(
    masks_or_probabilities: Path,
    images: Path,
    out: Path,
    how: Refinement,
    *,
    device: str = AUTO,
    workers: int | None = None,
    overwrite: bool = False,
    tags: TagTable | None = None,
    say: Callable[[str], object] = print,
) -> int:
    """Refine every index mask (.png) or array of probabilities (.npy, (L, H, W)); return how many were written now.

    The photos lie in `images` under the same names; the palette PNGs in `out` get them too.
    Masks that are there already are passed over, so an interrupted run goes on; those of a mask or photo that has changed
    are refined anew. workers: files at once, None for all cores. device: auto, cpu, cuda, cuda:N or mps.
    tags: the photos' tags; a class that they promise and no mask holds is said.
    Masks that hold nothing but 0 and 255 are refused, for 255 means ignored: their objects would vanish.
    Raises UserError, at the end, when files could not be refined; at once for an `out` that is, holds or lies inside
    one of both folders, or holds masks of other settings, or files that tagseg did not write or a person has changed since.
    """
    where = choose_device(device)
    workers = 1 if where.type != "cpu" else workers or cores()
    check_output(out, [masks_or_probabilities, images, *([] if tags is None else [tags.file])])
    sources, photos = mask_files(masks_or_probabilities), photos_by_name(images)
    known, tags_of = tuple[str, ...](), dict[str, tuple[int, ...]]()
    if tags is not None:
        order = tags.classes or listed_classes(masks_or_probabilities) or None
        known, tags_of = tags.of_masks(sources, [masks_or_probabilities, images], order)
    numbers = MaskNumbers(known, str(masks_or_probabilities))
    refuse_ignored_objects(
        (path for path in sources.values() if path.suffix.lower() == ".png"), str(masks_or_probabilities)
    )
    for name in sources:
        PaletteMasks.check_name(name)
    pairs = {f"{name}.png": made_from([path, *photos.get(name, [])]) for name, path in sources.items()}
    listed = () if ResultFolder.is_foreign(out, MARKER, CLASSES_FILE) else names_of(masks_or_probabilities)
    beside = [CLASSES_FILE] if listed else []
    results = ResultFolder.claim(
        out, MARKER, how.digest(), pairs, overwrite=overwrite, rewritten=beside, made_from=pairs
    )
    todo = [name for name in sources if not results.has(f"{name}.png")]
    problems: list[str] = []

    def work(name: str) -> None:
        photo = read_photo(photo_of(name, sources[name], photos, images))
        unrefined = Unrefined.read(photo, sources[name], how.confidence)
        if sources[name].suffix.lower() == ".png":
            numbers.add_held(tags_of.get(name, ()), np.isin(np.arange(256), unrefined.labels))
        mask = refined(unrefined, how, where)
        path = out / f"{name}.png"
        results.begin([f"{name}.png"])
        make_folder(path.parent)
        write_mask(path, mask)
        results.wrote([f"{name}.png"])

    running: deque[Future[None]] = deque()

    def wait() -> None:
        try:
            running.popleft().result()
        except UserError as error:
            problems.append(str(error))

    with Interruption(), freed_memory_kept(), results.rewriting(), ThreadPoolExecutor(workers) as pool:
        if listed:
            write_class_list(out, (BACKGROUND, *listed))
        for name in tracked(todo, "Refining", len(todo), least=workers + 1):
            check()
            running.append(pool.submit(work, name))
            if len(running) >= 2 * workers:  # no more in flight: results stream to the disk
                wait()
        while running:
            wait()
    if len(todo) == len(sources):  # of some of the masks, others may hold the class
        for note in numbers.broken_promises():
            say(note)
    if problems:
        raise UserError(f"{len(problems)} of {len(todo)} files were not refined; the first: {problems[0]}")
    return len(todo)


def names_of(masks: Path) -> tuple[str, ...]:
    """The names of the classes 1, 2, ... by the list with masks; none where there is none, or none that can be read."""
    with suppress(UserError):
        return own_list(masks)
    return ()


def mask_files(folder: Path) -> dict[str, Path]:
    """Masks and arrays of a folder by name, hidden ones left out. Raises UserError for a link that leads outside."""
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give the folder of the masks or probabilities.")
    sources: dict[str, Path] = {}
    found = look_into(folder, results=True)
    files = found.photos | {file: folder / file for file in found.others}
    for file, path in sorted(files.items()):
        if path.suffix.lower() not in SUFFIXES:
            continue
        name = unicodedata.normalize("NFC", PurePosixPath(file).with_suffix("").as_posix())
        if name in sources:
            raise UserError(f"{folder} holds both {sources[name].name} and {path.name}; keep one of the two.")
        sources[name] = path
    if not sources:
        raise UserError(f"{folder} holds no .png masks and no .npy probabilities.")
    return sources


@dataclass(frozen=True)
class Unrefined:
    """A photo (H, W, 3) and what is known of it: its labels, uint8 (L,), and their probabilities (L, H, W).

    Of a single label they are 1, and 0 where a mask holds 255.
    """

    photo: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    maps_LHW: NDArray[np.float32]

    @classmethod
    def read(cls, photo: NDArray[np.uint8], path: Path, confidence: float) -> Unrefined:
        """With the mask or the probabilities of a file. Raises UserError for what does not fit the photo."""
        return cls(photo, *_read(path, photo.shape[:2], confidence))


def refined(given: Unrefined, how: Refinement, where: torch.device) -> NDArray[np.uint8]:
    """The refined mask (H, W); with one label or none nothing changes: pixels of 255 stay, as nothing speaks for the label."""
    photo, labels = given.photo, given.labels
    if len(labels) < 2:
        known_HW = given.maps_LHW.any(0)
        return np.where(known_HW, labels[0] if len(labels) else IGNORE, IGNORE).astype(np.uint8)
    kernels = how.kernels()
    if where.type == "cpu":
        best_HW: NDArray[np.intp] = dense_crf(photo, given.maps_LHW, threads=1, **kernels).argmax(0)
    else:
        maps = torch.from_numpy(given.maps_LHW).to(where)
        best_HW = dense_crf(torch.from_numpy(photo).to(where), maps, **kernels).argmax(0).cpu().numpy()
    return labels[best_HW]


def photo_of(name: str, source: Path, photos: Mapping[str, Sequence[Path]], images: Path) -> Path:
    """The one photo of a mask. Raises UserError where there is none, or two."""
    found = photos.get(name, [])
    if len(found) != 1:
        some = f"two photos {name}, {found[0].name} and {found[1].name}," if found else f"no photo {name}"
        raise UserError(f"{source} has {some} in {images}.")
    return found[0]


def _read(path: Path, size: tuple[int, ...], confidence: float) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Labels, uint8, and their probabilities (L, H, W)."""
    if path.suffix.lower() == ".png":
        mask = read_mask(path)
        if mask.shape != tuple(size):
            raise UserError(f"{path} is {mask.shape[0]} x {mask.shape[1]}, its photo {size[0]} x {size[1]}.")
        labels = np.unique(mask[mask != IGNORE])
        if len(labels) < 2:
            return labels, (mask == labels[:, None, None]).astype(np.float32)
        compact = np.full(256, IGNORE, np.uint8)
        compact[labels] = np.arange(len(labels))
        return labels, probabilities_from_labels(compact[mask], len(labels), confidence=confidence)
    maps_LHW = read_array(path, "an array of probabilities")
    if maps_LHW.ndim != 3 or maps_LHW.shape[1:] != tuple(size) or not 1 <= len(maps_LHW) <= IGNORE:
        raise UserError(
            f"{path} has the shape {maps_LHW.shape}; probabilities must be (L, {size[0]}, {size[1]}), L up to 255."
        )
    if maps_LHW.dtype.kind != "f":
        raise UserError(f"{path} holds {maps_LHW.dtype}; probabilities must be floats.")
    try:
        check_values(maps_LHW, "probabilities", logits="take the softmax of logits")
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return np.arange(len(maps_LHW), dtype=np.uint8), maps_LHW
