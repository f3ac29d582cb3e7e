from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tagseg.data.layouts import COCO_CLASSES, VOC_CLASSES
from tagseg.data.voc import open_voc
from tagseg.errors import UserError

NAMES = {"train": "COCO_train2014_000000000009", "val": "COCO_val2014_000000000042"}
COCO_LAYOUTS = {  # photos of train, masks of train; those of val with the other word
    "ToCo": ("coco2014/train2014", "SegmentationClass/train2014"),
    "SeCo": ("JPEGImages/train2014", "SegmentationClass/train2014"),
    "AFA": ("JPEGImages/train", "SegmentationClass/train"),
    "CoSA": ("train2014", "SegmentationClass/train2014"),
    "CLIP-ES": ("JPEGImages/train2014", "SegmentationClass"),
    "prepared": ("train2014", "SegmentationClass/train2014"),
}


def picture(path: Path, mask: np.ndarray | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 5)).save(path) if mask is None else Image.fromarray(mask).save(path)


def coco(root: Path, layout: str, lists: str = "coco") -> Path:
    for split, name in NAMES.items():
        photos, masks = (place.replace("train", split) for place in COCO_LAYOUTS[layout])
        picture(root / photos / f"{name}.jpg")
        picture(root / masks / f"{name}.png", np.full((5, 6), 80 if split == "val" else 17, dtype=np.uint8))
        (root / lists).mkdir(parents=True, exist_ok=True)
        (root / lists / f"{split}.txt").write_text(f"{name}\n")
    return root


@pytest.mark.parametrize("layout", COCO_LAYOUTS)
def test_coco_as_it_lies_on_peoples_disks(tmp_path: Path, layout: str) -> None:
    root = coco(tmp_path / "coco", layout, "ImageSets/Segmentation" if layout == "prepared" else "coco")
    train, val = open_voc(root, "train"), open_voc(root, "val")
    assert train.classes == COCO_CLASSES
    assert train.photos[0].name == NAMES["train"]
    assert [photo.tags for photo in (*train.photos, *val.photos)] == [(17,), (80,)]
    assert val.tags_from == "the masks"
    mask = val.mask(0)
    assert mask is not None
    assert (mask == 80).all()


def test_a_list_by_its_path(tmp_path: Path) -> None:
    root = coco(tmp_path / "coco", "AFA")
    (tmp_path / "mine.txt").write_text(f"{NAMES['val']}\n")
    assert [p.name for p in open_voc(root, str(tmp_path / "mine.txt")).photos] == [NAMES["val"]]


def test_coco_without_lists_says_what_makes_them(tmp_path: Path) -> None:
    picture(tmp_path / "train2014" / f"{NAMES['train']}.jpg")
    with pytest.raises(UserError, match="`tagseg data prepare coco14` makes lists and masks"):
        open_voc(tmp_path, "train")


@pytest.mark.parametrize("place", ["ImageSets/Segmentation/trainaug.txt", "ImageSets/SegmentationAug/train_aug.txt"])
def test_voc_with_other_peoples_lists(tmp_path: Path, place: str) -> None:
    picture(tmp_path / "JPEGImages/2007_000032.jpg")
    picture(tmp_path / "SegmentationClassAug/2007_000032.png", np.full((5, 6), 1, dtype=np.uint8))
    (tmp_path / place).parent.mkdir(parents=True)
    (tmp_path / place).write_text("2007_000032\n")
    assert open_voc(tmp_path, "train_aug").photos[0].tags == (1,)
    assert open_voc(tmp_path, "trainaug").photos[0].tags == (1,)


def label_file(path: Path, tags: dict[object, np.ndarray], protocol: int) -> Path:
    """What numpy.save makes of a dictionary, by an old or new protocol of pickle."""
    array = np.empty((), dtype=object)
    array[()] = tags
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
        pickle.dump(array, file, protocol=protocol)
    return path


def voc_photo(root: Path) -> Path:
    picture(root / "JPEGImages/2007_000032.jpg")
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    (root / "ImageSets/Segmentation/train.txt").write_text("2007_000032\n")
    return root


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("key", ["2007_000032", 2007000032])
@pytest.mark.parametrize("kind", ["float32", "float64", "uint8"])
def test_tags_of_the_papers_repositories(tmp_path: Path, key: object, protocol: int, kind: str) -> None:
    vector = np.zeros(20, dtype=kind)
    vector[[0, 14]] = 1
    file = label_file(tmp_path / "cls_labels.npy", {key: vector}, protocol)
    data = open_voc(voc_photo(tmp_path / "voc"), "train", tags=file)
    assert data.photos[0].tags == (1, 15)
    assert data.tags_from == "cls_labels.npy"


def test_tags_of_coco_by_the_photos_id(tmp_path: Path) -> None:
    root = coco(tmp_path / "coco", "CoSA")
    vector = np.zeros(80, dtype=np.float32)
    vector[16] = 1
    file = label_file(tmp_path / "cls_labels_onehot.npy", {9: vector}, 4)
    assert open_voc(root, "train", tags=file).photos[0].tags == (17,)
    with pytest.raises(UserError, match="has no tags of COCO_val2014_000000000042"):
        open_voc(root, "val", tags=file)


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


def test_nothing_of_a_label_file_is_carried_out(tmp_path: Path) -> None:
    root, trace = voc_photo(tmp_path / "voc"), tmp_path / "trace"
    file = label_file(tmp_path / "cls_labels.npy", {"2007_000032": Evil(trace)}, 4)  # type: ignore[dict-item]
    with pytest.raises(UserError, match="it asks for pathlib"):
        open_voc(root, "train", tags=file)
    pickle.loads(pickle.dumps(Evil(trace)))
    assert trace.exists()  # a plain reader would have been caught


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"2007_000032": np.zeros(80, np.float32)}, "has 80 places, but there are 20 classes"),
        ({"2007_000032": np.array(["a"] * 20)}, "no plain numbers"),
        ({"2007_000032": 3}, "no dictionary of vectors"),
        ([1, 2], "no dictionary of vectors"),
    ],
)
def test_other_label_files_are_refused(tmp_path: Path, content: object, said: str) -> None:
    file = label_file(tmp_path / "cls_labels.npy", content, 4)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=said):
        open_voc(voc_photo(tmp_path / "voc"), "train", tags=file)


@pytest.mark.timeout(20)
def test_a_label_file_that_holds_itself_is_refused(tmp_path: Path) -> None:
    array = np.empty((), dtype=object)
    array[()] = array
    file = tmp_path / "cls_labels.npy"
    np.save(file, array)
    with pytest.raises(UserError, match="it holds no dictionary of vectors"):
        open_voc(voc_photo(tmp_path / "voc"), "train", tags=file)


def test_a_plain_array_and_a_torn_file_are_refused(tmp_path: Path) -> None:
    root, path = voc_photo(tmp_path / "voc"), tmp_path / "cls_labels.npy"
    np.save(path, np.zeros((3, len(VOC_CLASSES))))
    with pytest.raises(UserError, match="numbers without photos' names"):
        open_voc(root, "train", tags=path)
    label_file(path, {"2007_000032": np.zeros(20, np.float32)}, 4)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match="cannot be read as a file of tags"):
        open_voc(root, "train", tags=path)
