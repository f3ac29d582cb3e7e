"""The dense CRF by shards: what is done to a photo with its mask, and how the two find each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tagseg.cores import cores
from tagseg.data.class_lists import listed_classes
from tagseg.data.mask_numbers import MaskNumbers, TagTable
from tagseg.data.masks import read_mask, refuse_ignored_objects
from tagseg.data.named_photos import photos_by_name
from tagseg.data.photo import PIXEL_CAP
from tagseg.devices import choose_device
from tagseg.errors import UserError
from tagseg.mask_values import BACKGROUND
from tagseg.scale.jobs import UNNAMED, Job, Result
from tagseg.scale.photos import Photo, list_files, list_photos
from tagseg.scale.places import Place
from tagseg.threads import ordered_map
from tagseg.workflows.refine import SUFFIXES, Refinement, Unrefined, mask_files, photo_of, refined


class Refining(Job):
    """listed: the names of the classes 1, 2, ... of the masks; without any their numbers stand for them."""

    name = "refine"
    places = ()

    def __init__(self, how: Refinement, device: str, listed: Sequence[str] = ()) -> None:
        known = listed if not set(listed) & set(UNNAMED) else ()
        self.classes = (BACKGROUND, *known, *UNNAMED[len(known) + 1 :])  # masks may hold more than the list
        self.how, self.device = how, choose_device(device)
        self.made_by = self.same = how.digest()

    def read(self, photo: Photo, places: dict[str, Place]) -> Unrefined:
        """Its pixels, and its mask or probabilities."""
        pixels = photo.read(places, pixel_cap=PIXEL_CAP)
        assert photo.beside is not None
        with photo.beside.file(places) as path:
            return Unrefined.read(pixels, path, self.how.confidence)

    def one(self, item: Unrefined) -> Result:
        """On one thread of a CPU, or on a device."""
        return Result(refined(item, self.how, self.device))

    def many(self, items: Iterable[Unrefined]) -> Iterator[Result]:
        """On a CPU a photo a core."""
        yield from ordered_map(self.one, items, cores() if self.device.type == "cpu" else 1)


def list_pairs(
    masks: str, images: str, out: str, tags: TagTable | None = None, *, say: Callable[[str], Any] = print
) -> tuple[list[Photo], list[str]]:
    """The photos that have a mask or probabilities, each with these beside it, and a sentence about what is left out.

    masks, images: folders, stores or tar archives. tags: the photos' tags; `say` hears of a class that they promise and no
    mask holds. Raises UserError where masks hold nothing but 0 and 255, and where a store or an archive holds what
    cannot be used.
    """
    problems: list[str] = []
    pairs: list[Photo] = []
    sources = _files(masks, problems)
    if is_far(images):
        listed, faults = list_photos([images], out=out)
        if faults:
            raise UserError(f"{faults[0]}.")
        photos = {photo.name: photo for photo in listed}
        for source in sources:
            if source.name in photos:
                pairs.append(replace(photos[source.name], beside=source))
            else:
                problems.append(f"{source.file_name} has no photo {source.name} in {images}.")
    else:
        files = photos_by_name(Path(images))
        for source in sources:
            try:
                path = photo_of(source.name, Path(source.file_name), files, Path(images))
            except UserError as error:
                problems.append(str(error))
                continue
            pairs.append(replace(Photo.at(path, source.name, source.name + path.suffix), beside=source))
    plain = [source for source in sources if source.file_name.lower().endswith(".png")]
    refuse_ignored_objects((mask_HW for _, mask_HW in _read(plain)), masks)
    if tags is not None:
        folders = [Path(place) for place in (masks, images) if not is_far(place)]
        order = tags.classes or (None if is_far(masks) else listed_classes(Path(masks)) or None)
        known, tags_of = tags.of_masks((source.name for source in sources), folders, order)
        numbers = MaskNumbers(known, masks)
        wanted = (source for source in plain if numbers.wants(tags_of.get(source.name, ())))
        for name, mask_HW in _read(wanted):
            numbers.add(tags_of.get(name, ()), mask_HW)
        for sentence in numbers.broken_promises():
            say(sentence)
    return pairs, problems


def is_far(source: str) -> bool:
    """Whether it is a store or an archive that has to be read through, not a folder or a file of this machine."""
    return "://" in source or source.endswith(".tar")


def _files(masks: str, problems: list[str]) -> list[Photo]:
    if not is_far(masks):
        return [Photo.at(path, name, name + path.suffix) for name, path in mask_files(Path(masks)).items()]
    found, faults = list_files(masks, SUFFIXES)
    problems += faults
    twice = next((one.name for one, other in pairwise(found) if one.name == other.name), None)
    if twice is not None:
        raise UserError(f"{masks} holds two files {twice}; keep one of them.")
    return found


def _read(sources: Iterable[Photo]) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Name and mask, one after another."""
    places: dict[str, Place] = {}
    for source in sources:
        with source.file(places) as path:
            try:
                mask_HW = read_mask(path)
            except UserError:
                continue  # it is named when it is used
        yield source.name, mask_HW
