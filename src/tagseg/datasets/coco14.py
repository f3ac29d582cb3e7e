"""MS COCO 2014: 82,081 photos to train on and 40,137 to measure on, those with at least one annotation; 80 classes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tagseg.data.layouts import COCO_CLASSES, find_layout
from tagseg.data.palette import write_mask
from tagseg.datasets.archive import Archive
from tagseg.datasets.dataset import (
    DataSet,
    Finding,
    Options,
    Part,
    Workspace,
    count_files,
    count_finding,
    list_text,
    missing,
    read_names,
    tags_text,
    write_file,
    wrong_list,
)
from tagseg.datasets.unpack import look_through, unpack
from tagseg.errors import UserError
from tagseg.extras import need
from tagseg.foreign import reading
from tagseg.interrupt import check

LISTS = "ImageSets/Segmentation"
SPLITS = ("train", "val")


def _mirrors(path: str) -> tuple[str, ...]:
    """The host's own address without TLS (its certificate is S3's), and the same bucket by S3's name."""
    return f"http://images.cocodataset.org/{path}", f"https://s3.amazonaws.com/images.cocodataset.org/{path}"


PHOTOS = {
    "train": Archive(
        "train2014.zip",
        _mirrors("zips/train2014.zip"),
        13_510_573_713,
        "ede4087e640bddba550e090eae701092534b554b42b05ac33f0300b984b31775",
        13_520_000_000,
    ),
    "val": Archive(
        "val2014.zip",
        _mirrors("zips/val2014.zip"),
        6_645_013_297,
        "fe9be816052049c34717e077d9e34aa60814a55679f804cd043e3cbee3b9fde0",
        6_650_000_000,
    ),
}
ANNOTATIONS = Archive(
    "annotations_trainval2014.zip",
    _mirrors("annotations/annotations_trainval2014.zip"),
    252_872_794,
    "031296bbc80c45a1d1f76bf9a90ead27e94e99ec629208449507a4917a3bf009",
    480_000_000,
)


@dataclass(frozen=True)
class Coco14Facts:
    """What there is when all is there: photos of each folder, and the length of each list."""

    photos: dict[str, int] = field(default_factory=lambda: {"train": 82_783, "val": 40_504})
    lists: dict[str, int] = field(default_factory=lambda: {"train": 82_081, "val": 40_137})


@dataclass(frozen=True)
class Coco14(DataSet):
    """COCO 2014 in its own layout, with masks painted from the instances' outlines.

    A photo's annotations are painted from the smallest area to the largest, each on pixels that none has painted yet, so
    small objects stay on top; crowds are painted like objects; no pixel is ignored.
    """

    photos: dict[str, Archive] = field(default_factory=lambda: dict(PHOTOS))
    annotations: Archive = ANNOTATIONS
    facts: Coco14Facts = Coco14Facts()

    def parts(self, root: Path, options: Options) -> list[Part]:
        """Photos of both years' folders, the instances, and masks, lists, tags and classes made from them."""
        parts = []
        for split in SPLITS:
            place, archive = f"{split}2014", self.photos[split]
            there = self._photo_folder(root, split) is not None
            seconds = archive.bytes // 60_000_000
            gone: tuple[str, ...] = () if there else (place,)
            parts.append(
                Part(f"photos of {place}", gone, (archive,), archive.unpacked, seconds, self._unpacker(archive, gone))
            )
        gone = missing(root, *(f"annotations/instances_{split}2014.json" for split in SPLITS))
        parts.append(
            Part(
                "instances",
                gone,
                (self.annotations,),
                self.annotations.unpacked,
                10,
                self._unpacker(self.annotations, gone),
            )
        )
        for split in SPLITS:
            gone = missing(root, f"SegmentationClass/{split}2014", f"{LISTS}/{split}.txt", f"{LISTS}/{split}_tags.csv")
            count = self.facts.lists[split]
            parts.append(Part(f"masks of {split}2014", gone, (), count * 5_000, count // 120, self._masks(split)))
        gone = missing(root, "tags.csv", "classes.txt")
        parts.append(Part("tags and classes", gone, (), 5_000_000, 2, self._tags))
        return parts

    def check(self, root: Path) -> list[Finding]:
        """Counts of photos, masks and lists; a mask for every listed photo."""
        findings = []
        for split in SPLITS:
            folder = self._photo_folder(root, split)
            if folder is None:
                findings.append(Finding(f"{split}2014", "not there", f"{root} has no photos of {split}2014"))
            else:
                place = folder.relative_to(root).as_posix()
                findings.append(count_finding(root, place, ".jpg", self.facts.photos[split]))
            path, masks = root / LISTS / f"{split}.txt", root / "SegmentationClass" / f"{split}2014"
            if not path.is_file():
                findings.append(Finding(f"{split}.txt", "not there", f"{path} is not there"))
                continue
            names = read_names(path)
            wrong = wrong_list(path, names, self.facts.lists[split], None)
            findings.append(Finding(f"{split}.txt", f"{len(names):,} photos", wrong))
            bare = [name for name in names if not (masks / f"{name}.png").is_file()]
            lacking = f"{masks} lacks {len(bare):,} masks, the first {bare[0]}.png" if bare else None
            findings.append(Finding(f"masks of {split}", f"{count_files(masks, '.png'):,} files", lacking))
        findings += [
            Finding(name, "there" if (root / name).is_file() else "not there", wrong)
            for name in ("tags.csv", "classes.txt")
            for wrong in [None if (root / name).is_file() else f"{root / name} is not there"]
        ]
        return findings

    def _photo_folder(self, root: Path, split: str) -> Path | None:
        """Where photos lie, whichever of the layouts they came in."""
        return next((f for f in find_layout(root).photos if f.name in (f"{split}2014", split)), None)

    def _unpacker(self, archive: Archive, gone: tuple[str, ...]) -> Any:
        def make(work: Workspace) -> None:
            path = work.archive(archive)

            def wanted(name: str) -> str | None:
                inside = any(name == place or name.startswith(f"{place}/") for place in gone)
                return name if inside and not name.rsplit("/", 1)[-1].startswith(".") else None

            found = look_through(path, wanted)
            lacking = [place for place in gone if not any(member.target.startswith(place) for member in found)]
            if lacking:
                raise UserError(f"{path} holds no {lacking[0]}: it is another archive; remove it.")
            with work.bar(f"Unpacking {archive.file}", len(found)) as at:
                unpack(path, work.staging, wanted, at)

        return make

    def _masks(self, split: str) -> Any:
        def make(work: Workspace) -> None:
            source = work.root / "annotations" / f"instances_{split}2014.json"
            photos, categories = read_instances(source)
            names = tuple(name for _, name in sorted(categories.items()))
            if names != COCO_CLASSES:
                raise UserError(f"{source} has {len(names)} categories, not the 80 of COCO 2014: it is another file.")
            index = {category: i for i, category in enumerate(sorted(categories), 1)}
            marked = [photo for photo in photos if photo["annotations"]]
            path = work.staging / LISTS / f"{split}.txt"
            if wrong := wrong_list(path, [photo["name"] for photo in marked], self.facts.lists[split], None):
                raise UserError(f"{source} is not COCO 2014's: {wrong}.")
            into = work.staging / "SegmentationClass" / f"{split}2014"
            into.mkdir(parents=True, exist_ok=True)
            rows = []
            with work.bar(f"Painting masks of {split}2014", len(marked)) as at:
                for number, photo in enumerate(marked, 1):
                    check()
                    target = into / f"{photo['name']}.png"
                    if not target.is_file():
                        write_mask(target, paint(photo, index, str(source)))
                    present = sorted({index[a["category_id"]] for a in photo["annotations"]})
                    rows.append((f"{photo['name']}.jpg", [names[i - 1] for i in present]))
                    at(number)
            write_file(path, list_text(photo["name"] for photo in marked))
            write_file(work.staging / LISTS / f"{split}_tags.csv", tags_text(sorted(rows)))

        return make

    def _tags(self, work: Workspace) -> None:
        """One table of both lists' tags: a photo's categories, crowds included."""
        parts = [(work.root / LISTS / f"{split}_tags.csv").read_text(encoding="utf-8") for split in SPLITS]
        write_file(work.staging / "tags.csv", parts[0] + "".join(part.partition("\n")[2] for part in parts[1:]))
        write_file(work.staging / "classes.txt", "".join(f"{name}\n" for name in COCO_CLASSES))


def read_instances(path: Path) -> tuple[list[dict[str, Any]], dict[int, str]]:
    """Photos (name, height, width, annotations) by id, and category id -> name, of a COCO file of instances.

    Raises UserError where it is none.
    """
    import json

    with reading(path, "COCO's file of instances", "unpack it anew"):
        content = json.loads(path.read_text(encoding="utf-8"))
        photos = {
            image["id"]: {
                "name": image["file_name"].rsplit(".", 1)[0],
                "height": int(image["height"]),
                "width": int(image["width"]),
                "annotations": [],
            }
            for image in content["images"]
        }
        for annotation in content["annotations"]:
            photos[annotation["image_id"]]["annotations"].append(annotation)
        categories = {int(category["id"]): str(category["name"]) for category in content["categories"]}
    return [photos[key] for key in sorted(photos)], categories


def paint(photo: dict[str, Any], index: dict[int, int], source: str) -> NDArray[np.uint8]:
    """The mask of one photo: uint8 (H, W) of class indices, 0 = background. index: category id -> class.

    An annotation of smaller area wins over a larger one. Raises UserError naming a category that is not known.
    """
    mask_tool: Any = need("pycocotools.mask", "datasets", "COCO's masks")
    height, width = photo["height"], photo["width"]
    mask = np.zeros((height, width), dtype=np.uint8)
    # From the largest to the smallest, each over what is there: what the first of equal areas paints must come last.
    for annotation in sorted(photo["annotations"], key=lambda a: a["area"])[::-1]:
        if annotation["category_id"] not in index:
            raise UserError(
                f"{source}: {photo['name']} has category {annotation['category_id']}, which COCO 2014 lacks."
            )
        with reading(f"{source}: an outline of {photo['name']}", "polygons or run lengths", "the file is damaged"):
            outline = annotation["segmentation"]
            if isinstance(outline, list):
                code = mask_tool.merge(mask_tool.frPyObjects(outline, height, width)) if outline else None
            elif isinstance(outline["counts"], list):
                code = mask_tool.frPyObjects(outline, height, width)
            else:
                code = outline
            if code is not None:
                mask[mask_tool.decode(code) > 0] = index[annotation["category_id"]]
    return mask


COCO14 = Coco14(
    "coco14",
    "MS COCO 2014; annotations CC BY 4.0, photos under Flickr's terms of use",
    "tagseg train tscd-coco14-mit_b1 --set data.root={root} --out runs/tscd-coco",
)
