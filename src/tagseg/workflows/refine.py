"""The dense CRF over a folder: index masks or probabilities in, refined index masks out.

Shapes: L labels, H W pixels.
"""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track

from tagseg.data.folders import stem
from tagseg.data.photo import PHOTO_SUFFIXES, read_mask, read_photo
from tagseg.devices import AUTO, choose_device
from tagseg.engine.interrupt import Interruption, check
from tagseg.errors import UserError
from tagseg.files import make_folder
from tagseg.foreign import read_array
from tagseg.outputs.palette import write_mask
from tagseg.refine import dense_crf, probabilities_from_labels
from tagseg.refine.crf_checks import check_values

IGNORE = 255


def refine_folder(
    masks_or_probabilities: Path,
    images: Path,
    out: Path,
    *,
    gaussian: tuple[float, float],
    bilateral: tuple[float, float, float],
    iterations: int,
    confidence: float = 0.7,
    device: str = AUTO,
    workers: int | None = None,
    overwrite: bool = False,
) -> int:
    """Refine every index mask (.png) or array of probabilities (.npy, (L, H, W)); return how many were written now.

    The photos lie in `images` under the same names; the palette PNGs in `out` get them too. A mask's labels have the
    probability `confidence`, its pixels of 255 are unsure, and only labels that occur in it can come out.
    Masks that are there already are passed over, so an interrupted run goes on. workers: files at once, None for all
    cores. device: auto, cpu, cuda, cuda:N or mps.
    Raises UserError, at the end, when files could not be refined.
    """
    sources = _sources(masks_or_probabilities)
    photos = {
        stem(path.relative_to(images).as_posix()): path
        for path in sorted(images.rglob("*"))
        if path.suffix.lower() in PHOTO_SUFFIXES
    }
    make_folder(out)
    todo = [name for name in sources if overwrite or not (out / f"{name}.png").is_file()]
    problems: list[str] = []

    def work(name: str) -> None:
        source = sources[name]
        if name not in photos:
            raise UserError(f"{source} has no photo {name} in {images}.")
        photo = read_photo(photos[name])
        labels, maps_LHW = _read(source, photo.shape[:2], confidence)
        if len(labels) < 2:
            mask = np.full(photo.shape[:2], labels[0] if len(labels) else IGNORE, np.uint8)
        else:
            kernels: Any = {"gaussian": gaussian, "bilateral": bilateral, "iterations": iterations, "threads": 1}
            if where.type == "cpu":
                mask = labels[dense_crf(photo, maps_LHW, **kernels).argmax(0)]
            else:
                maps = torch.from_numpy(maps_LHW).to(where)
                mask = labels[dense_crf(torch.from_numpy(photo).to(where), maps, **kernels).argmax(0).cpu().numpy()]
        path = out / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_mask(path, mask)

    where = choose_device(device)
    workers = 1 if where.type != "cpu" else workers or os.cpu_count() or 1
    running: deque[Future[None]] = deque()

    def wait() -> None:
        try:
            running.popleft().result()
        except UserError as error:
            problems.append(str(error))

    with Interruption(), ThreadPoolExecutor(workers) as pool:
        for name in track(todo, description="Refining", disable=len(todo) <= workers):
            check()
            running.append(pool.submit(work, name))
            if len(running) >= 2 * workers:  # no more in flight: results stream to the disk
                wait()
        while running:
            wait()
    if problems:
        raise UserError(f"{len(problems)} of {len(todo)} files were not refined; the first: {problems[0]}")
    return len(todo)


def _sources(folder: Path) -> dict[str, Path]:
    """Masks and arrays of a folder by name."""
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give the folder of the masks or probabilities.")
    sources: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in (".png", ".npy") or path.name.startswith("."):
            continue
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in sources:
            raise UserError(f"{folder} holds both {sources[name].name} and {path.name}; keep one of the two.")
        sources[name] = path
    if not sources:
        raise UserError(f"{folder} holds no .png masks and no .npy probabilities.")
    return sources


def _read(path: Path, size: tuple[int, ...], confidence: float) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Labels, uint8, and their probabilities (L, H, W)."""
    if path.suffix.lower() == ".png":
        mask = read_mask(path)
        if mask.shape != tuple(size):
            raise UserError(f"{path} is {mask.shape[0]} x {mask.shape[1]}, its photo {size[0]} x {size[1]}.")
        labels = np.unique(mask[mask != IGNORE])
        if len(labels) < 2:
            return labels, np.empty((0, *size), np.float32)
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
