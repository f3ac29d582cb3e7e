"""The papers' archives, made tiny: the same folders, names and traps, a handful of photos."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from PIL import Image
from pycocotools import mask as coco_mask

from tagseg.data.layouts import COCO_CLASSES
from tagseg.datasets.archive import Archive
from tagseg.datasets.caltech256 import CALTECH256, CLASS_MAP
from tagseg.datasets.coco14 import COCO14, Coco14Facts
from tagseg.datasets.coco_stuff10k import COCO_STUFF_10K, StuffFacts
from tagseg.datasets.dataset import DataSet, list_text
from tagseg.datasets.voc12 import VOC12, Voc12Facts

HEIGHT, WIDTH = 12, 16
VOC_TRAIN, VOC_VAL, VOC_TEST = ("2007_000001", "2007_000002"), ("2007_000003", "2008_000001"), ("2008_900001",)
SBD_TRAIN = ("2007_000001", "2007_000003", "2008_000010")  # one of VOC's train, one of its val, one of its own
SBD_VAL = ("2008_000011", "2008_000001")
TRAIN_AUG = ("2007_000001", "2007_000002", "2008_000010", "2008_000011")


def jpeg(seed: int, size: tuple[int, int] = (HEIGHT, WIDTH), *, gray: bool = False) -> bytes:
    values = np.random.default_rng(seed).integers(0, 256, size if gray else (*size, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(values).save(file, format="JPEG")
    return file.getvalue()


def palette_png(mask: np.ndarray) -> bytes:
    image = Image.fromarray(mask, mode="P")
    image.putpalette(list(range(256)) * 3)
    file = io.BytesIO()
    image.save(file, format="PNG")
    return file.getvalue()


def voc_mask(name: str) -> np.ndarray:
    """A mask of VOC's own: a class inside a border of 255."""
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    mask[2:8, 3:9] = 255
    mask[3:7, 4:8] = 1 + int(name[-1]) % 20
    return mask


def sbd_truth(name: str) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    mask[1:9, 2:10] = 1 + (int(name[-2:]) + 3) % 20
    return mask


def sbd_mat(mask: np.ndarray) -> bytes:
    kind = [("Boundaries", object), ("Segmentation", object), ("CategoriesPresent", object)]
    record = np.zeros((1, 1), dtype=kind)
    record[0, 0] = (np.zeros((1, 1)), mask, np.array([[1]]))
    file = io.BytesIO()
    scipy.io.savemat(file, {"GTcls": record})
    return file.getvalue()


def xml(*objects: tuple[str, bool]) -> bytes:
    inner = "".join(f"<object><name>{n}</name><difficult>{int(d)}</difficult></object>" for n, d in objects)
    return f"<annotation>{inner}</annotation>".encode()


def write_tar(path: Path, files: dict[str, bytes], *, mode: str = "w", link: str | None = None) -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        if link:
            info = tarfile.TarInfo(link)
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(info)
    return path


def write_zip(path: Path, files: dict[str, bytes], *, link: str | None = None) -> Path:
    with zipfile.ZipFile(path, "w") as zipped:
        for name, content in files.items():
            zipped.writestr(name, content)
        if link:
            info = zipfile.ZipInfo(link)
            info.external_attr = 0o120777 << 16
            zipped.writestr(info, "/etc/passwd")
    return path


def archive_of(path: Path, *addresses: str, known: bool = True) -> Archive:
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest() if known else None
    return Archive(path.name, addresses, len(content) if known else None, digest, len(content))


def md5(names: Any) -> str:
    return hashlib.md5(list_text(names).encode()).hexdigest()


def voc_files() -> dict[str, bytes]:
    """The files of VOC's archive."""
    root = "VOCdevkit/VOC2012/"
    files: dict[str, bytes] = {f"{root}ImageSets/Main/aeroplane_train.txt": b"2007_000001  1\n"}
    for number, name in enumerate((*VOC_TRAIN, *VOC_VAL, *SBD_TRAIN, *SBD_VAL)):
        files[f"{root}JPEGImages/{name}.jpg"] = jpeg(number)
        files[f"{root}Annotations/{name}.xml"] = xml(("person", False), ("cat", True), ("person", True))
    for name in (*VOC_TRAIN, *VOC_VAL):
        files[f"{root}SegmentationClass/{name}.png"] = palette_png(voc_mask(name))
    files[f"{root}ImageSets/Segmentation/train.txt"] = list_text(VOC_TRAIN).encode()
    files[f"{root}ImageSets/Segmentation/val.txt"] = list_text(VOC_VAL).encode().rstrip(b"\n")
    return files


def sbd_files() -> dict[str, bytes]:
    root = "benchmark_RELEASE/dataset/"
    files = {f"{root}cls/{name}.mat": sbd_mat(sbd_truth(name)) for name in (*SBD_TRAIN, *SBD_VAL)}
    files[f"{root}train.txt"] = "\n".join(SBD_TRAIN).encode()
    files[f"{root}val.txt"] = "\n".join(SBD_VAL).encode()
    return files


def voc12(folder: Path) -> DataSet:
    """VOC's data set with archives in `folder`, and facts to match."""
    folder.mkdir(parents=True, exist_ok=True)
    trainval = write_tar(folder / VOC12.trainval.file, voc_files())
    benchmark = write_tar(folder / VOC12.benchmark.file, sbd_files(), mode="w:gz")
    root = "VOCdevkit/VOC2012/"
    test_files = {f"{root}JPEGImages/{name}.jpg": jpeg(90) for name in (*VOC_TEST, "2008_900002")}
    test_files[f"{root}ImageSets/Segmentation/test.txt"] = list_text(VOC_TEST).encode()
    test = write_tar(folder / VOC12.test.file, test_files)
    lists = {"train": VOC_TRAIN, "val": VOC_VAL, "train_aug": TRAIN_AUG, "test": VOC_TEST}
    facts = Voc12Facts(6, 4, {name: (len(names), md5(names)) for name, names in lists.items()})
    return replace(
        VOC12, trainval=archive_of(trainval), benchmark=archive_of(benchmark), test=archive_of(test), facts=facts
    )


def instances(split: str) -> dict[str, Any]:
    """Three photos: overlapping polygons and an uncompressed crowd, a compressed one, and a photo without annotation."""
    categories = [i for i in range(1, 91) if i not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)]
    big = {"image_id": 9, "category_id": 18, "area": 90.0, "iscrowd": 0, "segmentation": [[1, 1, 14, 1, 14, 10, 1, 10]]}
    small = {"image_id": 9, "category_id": 90, "area": 9.0, "iscrowd": 0, "segmentation": [[3, 3, 7, 3, 7, 7, 3, 7]]}
    runs = {"size": [HEIGHT, WIDTH], "counts": [0, 24, HEIGHT * WIDTH - 24]}
    crowd = {"image_id": 9, "category_id": 1, "area": 40.0, "iscrowd": 1, "segmentation": runs}
    code = coco_mask.encode(np.asfortranarray(np.eye(HEIGHT, WIDTH, dtype=np.uint8)))
    packed = {"size": code["size"], "counts": code["counts"].decode()}
    other = {"image_id": 25, "category_id": 3, "area": 12.0, "iscrowd": 0, "segmentation": packed}
    return {
        "images": [
            {"id": i, "file_name": f"COCO_{split}2014_{i:012d}.jpg", "height": HEIGHT, "width": WIDTH}
            for i in (25, 9, 30)
        ],
        "annotations": [small, big, crowd, other],
        "categories": [{"id": i, "name": n} for i, n in zip(categories, COCO_CLASSES, strict=True)],
    }


def coco14(folder: Path) -> DataSet:
    """COCO's data set with archives in `folder`: two marked photos and one without a mark in each split."""
    folder.mkdir(parents=True, exist_ok=True)
    photos = {}
    for split in ("train", "val"):
        files = {f"{split}2014/COCO_{split}2014_{i:012d}.jpg": jpeg(i, gray=i == 9) for i in (9, 25, 30)}
        files[f"__MACOSX/{split}2014/._COCO.jpg"] = b"junk"
        photos[split] = archive_of(write_zip(folder / f"{split}2014.zip", files))
    files = {
        f"annotations/instances_{split}2014.json": json.dumps(instances(split)).encode() for split in ("train", "val")
    }
    files["annotations/captions_train2014.json"] = b"{}"
    annotations = archive_of(write_zip(folder / "annotations_trainval2014.zip", files))
    facts = Coco14Facts({"train": 3, "val": 3}, {"train": 2, "val": 2})
    return replace(COCO14, photos=photos, annotations=annotations, facts=facts)


def stuff_labels(number: int, *, highest: int = 182) -> np.ndarray:
    """Unlabeled, an airplane, a category of another set, and stuff."""
    label = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    label[:, 4:8], label[:, 8:12], label[:, 12:] = 5, 13 + number % 2, highest
    return label


def stuff_files(*, highest: int = 182) -> dict[str, bytes]:
    names = [f"COCO_train2014_{i:012d}" for i in (77, 9, 30)]
    files: dict[str, bytes] = {}
    for number, name in enumerate(names):
        file = io.BytesIO()
        scipy.io.savemat(file, {"S": stuff_labels(number, highest=highest), "captions": "x"})
        files[f"annotations/{name}.mat"] = file.getvalue()
        files[f"images/{name}.jpg"] = jpeg(number)
    files["imageLists/train.txt"] = "\n".join(names[:2]).encode()
    files["imageLists/test.txt"] = f"{names[2]}\n".encode()
    files["imageLists/all.txt"] = b"x\n"
    return files


def coco_stuff10k(folder: Path, files: dict[str, bytes] | None = None) -> DataSet:
    folder.mkdir(parents=True, exist_ok=True)
    path = write_zip(folder / COCO_STUFF_10K.archive.file, files or stuff_files())
    return replace(COCO_STUFF_10K, archive=archive_of(path, known=False), facts=StuffFacts((2, None), (1, None)))


def caltech256(folder: Path) -> DataSet:
    folder.mkdir(parents=True, exist_ok=True)
    files = {"256_ObjectCategories/198.spider/RENAME2": b"x", "256_ObjectCategories/251.airplanes-101/RENAME2": b"x"}
    for name in (*CLASS_MAP, "198.spider"):
        files[f"256_ObjectCategories/{name}/{name[:3]}_0001.jpg"] = jpeg(int(name[:3]))
    path = write_tar(folder / CALTECH256.archive.file, files)
    return replace(CALTECH256, archive=archive_of(path), least=len(CLASS_MAP))
