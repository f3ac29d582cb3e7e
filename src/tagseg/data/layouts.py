"""Where photos, masks and lists lie in the folders that people have: PASCAL VOC's, mmsegmentation's, and six of COCO's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
COCO_CLASSES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant",
    "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard",
    "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli",
    "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet",
    "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink",
    "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
"""COCO's 80 in the order of their category ids: a mask of the papers stores the place in this list, counted from 1."""

_PHOTOS = (
    "JPEGImages", "JPEGImages_test", "JPEGImages/train2014", "JPEGImages/val2014", "JPEGImages/train", "JPEGImages/val",
    "coco2014/train2014", "coco2014/val2014", "train2014", "val2014",
)  # fmt: skip
_MASKS = (
    "SegmentationClass", "SegmentationClass/train2014", "SegmentationClass/val2014", "SegmentationClass/train",
    "SegmentationClass/val", "SegmentationClassAug",
)  # fmt: skip
_LISTS = ("ImageSets/Segmentation", "ImageSets/SegmentationAug", "ImageSets", "coco", ".")
_SAME = {"train_aug": "trainaug", "trainaug": "train_aug"}


@dataclass(frozen=True)
class Layout:
    """A data set's folders, those that are there.

    photos, masks: in the order they are searched; a name that two hold is taken from the first. lists: folders of lists.
    classes: what its masks store where no list of classes lies beside them.
    """

    root: Path
    photos: tuple[Path, ...]
    masks: tuple[Path, ...]
    lists: tuple[Path, ...]
    classes: tuple[str, ...]

    @property
    def coco(self) -> bool:
        """Whether it is COCO's: photos of train and val in folders of their own."""
        return self.classes == COCO_CLASSES

    def list_file(self, split: str) -> Path | None:
        """The list of a split, or of the other spelling of train_aug; a name ending in .txt is a path of its own."""
        if split.endswith(".txt"):
            return Path(split) if Path(split).is_file() else None
        if not split or Path(split).name != split:
            return None
        names = [split, _SAME[split]] if split in _SAME else [split]
        files = [folder / f"{name}.txt" for name in names for folder in self.lists]
        return next((file for file in files if file.is_file()), None)

    def splits(self) -> tuple[str, ...]:
        """Names of the lists that are there; beside the photos themselves only those that are named like a split."""
        known = ("train", "val", "test", "train_aug", "trainaug", "val_part")
        found = {file.stem for folder in self.lists for file in folder.glob("*.txt") if folder.name.startswith("Seg")}
        return tuple(sorted(found | {name for name in known if self.list_file(name)}))


def find_layout(root: Path) -> Layout:
    """The layout of a folder, by the folders in it."""
    photos = tuple(root / name for name in _PHOTOS if (root / name).is_dir())
    coco = any(folder.name in ("train2014", "val2014") for folder in photos)
    return Layout(
        root,
        photos,
        tuple(root / name for name in _MASKS if (root / name).is_dir()),
        tuple(root / name for name in _LISTS if (root / name).is_dir()),
        COCO_CLASSES if coco or _names_coco(root / "JPEGImages") else VOC_CLASSES,
    )


def _names_coco(folder: Path) -> bool:
    """Whether JPEGImages/{train,val} hold COCO 2014's photos, as AFA's folders do."""
    return any(next((folder / name).glob(f"COCO_{name}2014_*.jpg"), None) is not None for name in ("train", "val"))
