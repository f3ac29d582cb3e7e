"""Masks of small marks: classes whose objects are too small for a CAM are drawn from what sticks out of their masks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from tagseg.cues.erasing import Asked, Erased, Mask, erase
from tagseg.data.class_lists import CLASSES_FILE, write_class_list
from tagseg.data.palette import write_mask
from tagseg.data.photo import read_mask
from tagseg.data.sources import LABELED
from tagseg.data.tagged import TaggedImages
from tagseg.errors import UserError
from tagseg.files import make_folder
from tagseg.interrupt import Interruption, check
from tagseg.mask_values import IGNORE
from tagseg.places import check_output
from tagseg.prediction.made_by import made_by
from tagseg.prediction.maps import reduced
from tagseg.prediction.segmenter import WHOLE, Segmenter
from tagseg.progress import tracked
from tagseg.result_folder import ResultFolder
from tagseg.workflows.digests import digest_masks

SHARE = 0.5  # of a class's photos whose tag falls: then its objects are small marks


@dataclass(frozen=True)
class MarkedClass:
    """What the test found of a class: photos with its tag, photos in which something sticks out, and whose tag falls."""

    name: str
    photos: int
    tested: int
    falls: int

    @property
    def small(self) -> bool:
        """Whether its objects are small marks."""
        return self.photos > 0 and self.falls >= SHARE * self.photos

    def __str__(self) -> str:
        return f"{self.name}: {self.falls} of {self.photos}"


class MarkTest(NamedTuple):
    """What is kept of a photo's test: the size it was made at, and the pixels without which the tag fell, if it fell.

    bits: eight pixels to a byte, as the tests of all photos are in memory together.
    """

    size: tuple[int, int]
    bits: NDArray[np.uint8] | None

    @classmethod
    def of(cls, erased: Erased) -> MarkTest:
        """What is kept of a test."""
        return cls(erased.pixels.shape, np.packbits(erased.pixels) if erased.falls else None)

    @property
    def falls(self) -> bool:
        """Whether the tag fell."""
        return self.bits is not None

    def pixels(self, size: tuple[int, int]) -> Mask:
        """The pixels (H, W) without which the tag fell, at the mask's size."""
        assert self.bits is not None
        pixels_hw = np.unpackbits(self.bits, count=self.size[0] * self.size[1]).reshape(self.size)
        return _of_size(pixels_hw, size).astype(bool)


def small_marks(
    segmenter: Segmenter,
    masks: Path,
    data: TaggedImages,
    out: Path,
    *,
    inputs: str | None = None,
    overwrite: bool = False,
) -> list[MarkedClass]:
    """Write the masks anew to `out`, classes of small marks drawn from what sticks out of their masks; what was found.

    masks: of `label`, made by the same model. inputs: what stands for masks and photos, by default the masks and the photos'
    names and tags. A class is one of small marks where the tag falls in half of its photos once
    what sticks out of the mask is painted over (`tagseg.cues.erasing`). In its other photos its pixels become 255, as nobody
    knows where the mark is. Other classes keep their masks.
    Raises UserError where the model has no classifier, and as `label` does for `out`.
    """
    check_output(out, [*data.places, *segmenter.places, masks])
    names = [f"{photo.name}.png" for photo in data.photos]
    # one photo's test decides about the masks of all others
    inputs = inputs or repr([digest_masks(masks), [(photo.name, photo.tags) for photo in data.photos]])
    by = made_by(segmenter, ["small marks", inputs])
    results = ResultFolder.claim(out, LABELED, by, names, overwrite=overwrite, rewritten=[CLASSES_FILE])
    with Interruption(), results.rewriting():
        tests = _tests(segmenter, masks, data)
        found = [_found(k, name, data, tests) for k, name in enumerate(data.classes, start=1)]
        small = {k for k, marked in enumerate(found, start=1) if marked.small}
        write_class_list(out, segmenter.classes)
        for index, name in enumerate(names):
            check()
            if results.has(name):
                continue
            mask_HW = read_mask(masks / name)
            for k in small & set(data.photos[index].tags):
                mask_HW = _drawn(mask_HW, k, tests.get((index, k)))
            results.begin([name])
            make_folder((out / name).parent)
            write_mask(out / name, mask_HW)
            results.wrote([name])
    return found


def _tests(segmenter: Segmenter, masks: Path, data: TaggedImages) -> dict[tuple[int, int], MarkTest]:
    """The test of each photo's tags, where something sticks out of the mask."""
    ask, tests = asking(segmenter), dict[tuple[int, int], MarkTest]()
    for index in tracked(range(len(data)), "Erasing", len(data)):
        check()
        tags = data.photos[index].tags
        if not tags:
            continue
        photo_HW3 = as_read(segmenter, data.photo(index))
        mask_HW = _of_size(read_mask(masks / f"{data.photos[index].name}.png"), photo_HW3.shape[:2])
        for k in tags:
            erased = erase(ask, photo_HW3, mask_HW, k) if (mask_HW == k).any() else None
            if erased is not None:
                tests[index, k] = MarkTest.of(erased)
    return tests


def as_read(segmenter: Segmenter, photo_HW3: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The photo as small as the model reads it, or as what prediction reads in one piece; never enlarged."""
    height, width = segmenter.settings.working_size(*photo_HW3.shape[:2])
    return reduced(photo_HW3, min(height * width, WHOLE * segmenter.tile**2))


def _of_size(map_HW: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """A mask of another size, each pixel the nearest one."""
    if map_HW.shape == size:
        return map_HW
    return np.asarray(Image.fromarray(map_HW).resize(size[::-1], Image.Resampling.NEAREST))


def _found(k: int, name: str, data: TaggedImages, tests: Mapping[tuple[int, int], MarkTest]) -> MarkedClass:
    own = [test for (_, other), test in tests.items() if other == k]
    tagged = sum(k in photo.tags for photo in data.photos)
    return MarkedClass(name, tagged, len(own), sum(test.falls for test in own))


def _drawn(mask_HW: NDArray[np.uint8], k: int, test: MarkTest | None) -> NDArray[np.uint8]:
    """A mask whose class is what was painted over, if the tag fell without it, and else is left open."""
    holds = test is not None and test.falls
    mask_HW = np.where(mask_HW == k, np.uint8(0 if holds else IGNORE), mask_HW)
    if test is not None and holds:
        mask_HW[test.pixels(mask_HW.shape)] = k
    return mask_HW


def asking(segmenter: Segmenter) -> Asked:
    """A model's classifier as a function of a photo, read as it is given.

    Raises UserError where the model has no classifier.
    """
    method, device = segmenter.method, segmenter.device

    @torch.inference_mode()
    def ask(photo_HW3: NDArray[np.uint8]) -> NDArray[np.float32]:
        image_13HW = torch.from_numpy(photo_HW3.copy()).permute(2, 0, 1)[None].to(device).float() / 255
        logit_BC = method.photo_logits(image_13HW)
        if logit_BC is None:
            raise UserError(
                "The model has no classifier, so nothing tells small marks: train one that learns from tags."
            )
        return np.asarray(logit_BC[0].sigmoid().cpu().numpy(), dtype=np.float32)

    return ask
