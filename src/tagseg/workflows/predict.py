"""Masks of photos without tags."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from rich.progress import track

from tagseg.data.folders import find_photos
from tagseg.data.photo import read_photo
from tagseg.engine.interrupt import Interruption, check
from tagseg.errors import UserError
from tagseg.outputs import OUTPUTS
from tagseg.segmenter import Segmenter
from tagseg.workflows.label import CHUNK, make_folder


def predict(segmenter: Segmenter, images: Path, out: Path, *, format: str = "png", crf: bool = True) -> tuple[int, list[str]]:
    """Segment every photo of a folder (or one file) and write the results in a format of OUTPUTS.

    Returns how many photos were done, and a sentence for each one that could not be read; the others are done all the same.
    """
    if format not in OUTPUTS:
        raise UserError(f"There is no format {format!r}; there are {', '.join(OUTPUTS)}.")
    if images.is_file():
        photos = {images.stem: images}
    elif images.is_dir():
        photos = {str(Path(name).with_suffix("").as_posix()): path for name, path in find_photos(images).items()}
    else:
        raise UserError(f"There is no photo or folder {images}.")
    if not photos:
        raise UserError(f"{images} holds no photo (jpg, png, webp, bmp, tif).")
    make_folder(out)
    problems: list[str] = []
    done = 0
    names = list(photos)
    with Interruption(), OUTPUTS[format](out, segmenter.classes) as writer:
        for start in track(range(0, len(names), CHUNK), description="Predicting", disable=len(names) <= CHUNK):
            check()
            chunk = []
            for name in names[start : start + CHUNK]:
                try:
                    chunk.append((name, read_photo(photos[name])))
                except UserError as error:
                    problems.append(str(error))
            arrays = [photo for _, photo in chunk]
            maps = [segmenter.probabilities(photo) for photo in arrays]
            if crf:
                maps = segmenter.refine(arrays, maps)
            for (name, photo), probability in zip(chunk, maps, strict=True):
                mask = probability.argmax(0).to(torch.uint8).cpu().numpy()
                writer.add(name, photo, mask, probability.cpu().numpy().astype(np.float32))
                done += 1
    return done, problems
