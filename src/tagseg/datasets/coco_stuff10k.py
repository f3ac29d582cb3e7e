"""COCO-Stuff 10K as ASDT's Table 2 uses it: VOC's twenty classes of 9,000 photos to train on, 1,000 to measure on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tagseg.data.palette import write_mask
from tagseg.data.photo import read_mask
from tagseg.data.voc import VOC_CLASSES
from tagseg.datasets.archive import Archive
from tagseg.datasets.dataset import (
    DataSet,
    Finding,
    Options,
    Part,
    Workspace,
    count_finding,
    list_text,
    missing,
    read_names,
    tags_text,
    write_file,
)
from tagseg.datasets.unpack import look_through, read_members, unpack
from tagseg.errors import UserError
from tagseg.extras import need
from tagseg.foreign import reading
from tagseg.interrupt import check
from tagseg.mask_values import IGNORE

LISTS = "ImageSets/Segmentation"
TO_VOC = {5: 1, 2: 2, 16: 3, 9: 4, 44: 5, 6: 6, 3: 7, 17: 8, 62: 9, 21: 10, 67: 11, 18: 12, 19: 13, 4: 14, 1: 15,
          64: 16, 20: 17, 63: 18, 7: 19, 72: 20}  # fmt: skip
"""COCO's category ids -> VOC's classes; every other label is background."""
LAST, LAST_OF_1_0 = 182, 172  # the largest label of release 1.1, and of 1.0, whose labels mean other things

STUFF = Archive(
    "cocostuff-10k-v1.1.zip",
    (
        "https://calvin.inf.ed.ac.uk/wp-content/uploads/data/cocostuffdataset/cocostuff-10k-v1.1.zip",
        "http://calvin.inf.ed.ac.uk/wp-content/uploads/data/cocostuffdataset/cocostuff-10k-v1.1.zip",
    ),
    None,
    None,  # nobody has published one; lists and counts are checked instead
    2_000_000_000,
    about=2_000_000_000,
)


@dataclass(frozen=True)
class StuffFacts:
    """Photos of each list, and the SHA-256 of its sorted names, one a line."""

    train: tuple[int, str | None] = (9_000, "511b98d0ef2ae15b1a5e8957401e50af46430077550e3c580a4bdd1d252583c4")
    test: tuple[int, str | None] = (1_000, "0994fddc9b4fe2cc769ef235cf1905eb90d7dc21b528c9316e5387a2530786a5")


@dataclass(frozen=True)
class CocoStuff10k(DataSet):
    """COCO-Stuff 10K, release 1.1, with masks of VOC's classes in VOC's layout."""

    archive: Archive = STUFF
    facts: StuffFacts = StuffFacts()

    def parts(self, root: Path, options: Options) -> list[Part]:
        """Photos; then masks, lists, tags and classes."""
        photos = missing(root, "JPEGImages")
        made = missing(root, "SegmentationClass", f"{LISTS}/train.txt", f"{LISTS}/test.txt", "tags.csv", "classes.txt")

        def masks(work: Workspace) -> None:
            self._masks(work, 0 if options.unlabeled == "background" else IGNORE)

        return [
            Part("photos", photos, (self.archive,), self.archive.unpacked, 30, self._photos),
            Part("masks, lists and tags", made, (self.archive,), 60_000_000, 240, masks),
        ]

    def choices(self, options: Options) -> dict[str, str]:
        """What unlabeled pixels became."""
        return {"unlabeled": options.unlabeled}

    def check(self, root: Path) -> list[Finding]:
        """Counts, lists, and that no photo is in both."""
        count = self.facts.train[0] + self.facts.test[0]
        findings = [
            count_finding(root, "JPEGImages", ".jpg", count),
            count_finding(root, "SegmentationClass", ".png", count),
        ]
        names = {}
        for split, fact in (("train", self.facts.train), ("test", self.facts.test)):
            path = root / LISTS / f"{split}.txt"
            names[split] = read_names(path) if path.is_file() else []
            findings.append(Finding(f"{split}.txt", f"{len(names[split]):,} photos", _wrong(path, names[split], *fact)))
        both = sorted(set(names["train"]) & set(names["test"]))
        if both:
            findings.append(Finding("train and test", f"{len(both):,} photos in both", f"{both[0]} is in both lists"))
        return findings

    def _photos(self, work: Workspace) -> None:
        archive = work.archive(self.archive)
        found = look_through(archive, _photo)
        count = self.facts.train[0] + self.facts.test[0]
        if len(found) != count:
            raise UserError(f"{archive} holds {len(found):,} photos below images/ in place of {count:,}; remove it.")
        with work.bar("Unpacking photos", count) as at:
            unpack(archive, work.staging, _photo, at)

    def _masks(self, work: Workspace, unlabeled: int) -> None:
        archive = work.archive(self.archive)
        look_through(archive, _list)
        names = {}
        for target, _, file in read_members(archive, _list):
            names[target] = [Path(line).stem for line in file().read().decode().split()]
        for split, fact in (("train", self.facts.train), ("test", self.facts.test)):
            path = work.staging / LISTS / f"{split}.txt"
            if wrong := _wrong(path, names.get(split, []), *fact):
                raise UserError(f"{archive} holds another list: {wrong}; remove it.")
            write_file(path, list_text(names[split]))
        listed = set(names["train"]) | set(names["test"])
        into = work.staging / "SegmentationClass"
        into.mkdir(parents=True, exist_ok=True)
        highest = self._highest(archive, work)
        if highest <= LAST_OF_1_0:
            raise UserError(
                f"{archive} holds labels up to {highest}, as release 1.0 does, whose numbers mean other classes: "
                "take release 1.1."
            )
        with work.bar("Converting masks", len(listed)) as at:
            for number, (name, _, file) in enumerate(read_members(archive, _annotation), 1):
                if name in listed and not (into / f"{name}.png").is_file():
                    label = stuff_label(file().read(), f"{archive}: {name}.mat")
                    write_mask(into / f"{name}.png", to_voc(label, unlabeled))
                at(number)
        bare = sorted(name for name in listed if not (into / f"{name}.png").is_file())
        if bare:
            raise UserError(f"{archive} has no annotation of {bare[0]} ({len(bare):,} lack): remove it.")
        rows = []
        for name in sorted(listed):
            check()
            present = set(np.unique(read_mask(into / f"{name}.png")).tolist()) - {0, IGNORE}
            rows.append((f"{name}.jpg", [VOC_CLASSES[value - 1] for value in sorted(present)]))
        write_file(work.staging / "tags.csv", tags_text(rows))
        write_file(work.staging / "classes.txt", "".join(f"{name}\n" for name in VOC_CLASSES))

    def _highest(self, archive: Path, work: Workspace, enough: int = 500) -> int:
        """The highest label of the first annotations: it tells the release before any mask is written."""
        highest = 0
        with work.bar("Looking at labels", enough) as at:
            for number, (name, _, file) in enumerate(read_members(archive, _annotation), 1):
                highest = max(highest, int(stuff_label(file().read(), f"{archive}: {name}.mat").max()))
                at(number)
                if number >= enough or highest > LAST_OF_1_0:
                    break
        return highest


def stuff_label(content: bytes, source: str) -> NDArray[np.int64]:
    """The labels of COCO-Stuff's .mat file: (H, W), 0 = unlabeled, 1 to 91 things by COCO's ids, 92 to 182 stuff."""
    io: Any = need("scipy.io", "datasets", "COCO-Stuff's annotations")
    with reading(source, "an annotation of COCO-Stuff", "the archive is damaged; remove it"):
        label = np.asarray(io.loadmat(BytesIO(content))["S"]).astype(np.int64)
    if label.ndim != 2 or label.min() < 0 or label.max() > LAST:
        raise UserError(f"{source} holds the label {int(label.max())}, but there are {LAST}: it is damaged.")
    return label


def to_voc(label: NDArray[np.int64], unlabeled: int) -> NDArray[np.uint8]:
    """Labels of COCO-Stuff as VOC's classes: uint8 (H, W), 0 = every other thing and stuff; unlabeled: 0 or 255."""
    values = np.zeros(LAST + 1, dtype=np.uint8)
    values[0] = unlabeled
    for coco, voc in TO_VOC.items():
        values[coco] = voc
    return values[label]


def _below(name: str, folder: str, suffix: str) -> str | None:
    """The stem of a file directly in a folder of the archive, which may have one folder around all."""
    parts = name.split("/")
    inside = len(parts) in (2, 3) and parts[-2] == folder and parts[0] != "__MACOSX"
    return parts[-1].removesuffix(suffix) if inside and parts[-1].endswith(suffix) and parts[-1][0] != "." else None


def _photo(name: str) -> str | None:
    found = _below(name, "images", ".jpg")
    return found and f"JPEGImages/{found}.jpg"


def _annotation(name: str) -> str | None:
    return _below(name, "annotations", ".mat")


def _list(name: str) -> str | None:
    found = _below(name, "imageLists", ".txt")
    return found if found in ("train", "test") else None


def _wrong(path: Path, names: list[str], count: int, sha256: str | None) -> str | None:
    if len(set(names)) != count:
        return f"{path} names {len(set(names)):,} photos in place of {count:,}"
    text = list_text(set(names))
    # published without saying whether the last line ends
    if sha256 is not None and sha256 not in {hashlib.sha256(t.encode()).hexdigest() for t in (text, text.rstrip("\n"))}:
        return f"{path} names {count:,} photos, but not the published ones"
    return None


COCO_STUFF_10K = CocoStuff10k(
    "coco-stuff10k",
    "COCO-Stuff 10K with VOC's classes; annotations CC BY 4.0, photos under Flickr's terms of use",
    "tagseg train asdt-voc12 --set data.root={root} --set data.train=train --set data.val=test --set data.tags=null "
    "--out runs/asdt-stuff",
)
