"""The PASCAL VOC layout, subsets of its classes, and where its tags come from."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tagseg.data.sources import DataSettings, open_sources
from tagseg.data.voc import VOC_CLASSES, open_voc
from tagseg.errors import UserError

ANIMALS = ("cat", "cow", "dog", "horse", "person", "sheep")
MASKS = {"2007_000063": (12, 9, 255), "2007_000175": (17, 0, 255), "2008_000001": (8, 15, 0)}


def annotation(*names: str) -> str:
    objects = "".join(f"<object><name>{name}</name><part><name>head</name></part></object>" for name in names)
    return f"<annotation><filename>x.jpg</filename>{objects}</annotation>"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three photos; the mask of one has three bands of the values in MASKS."""
    for folder in ("JPEGImages", "SegmentationClassAug", "ImageSets/Segmentation", "Annotations"):
        (tmp_path / folder).mkdir(parents=True)
    for name, values in MASKS.items():
        Image.new("RGB", (30, 20), (9, 90, 200)).save(tmp_path / "JPEGImages" / f"{name}.jpg")
        mask = np.repeat(np.array(values, dtype=np.uint8), 10)[None].repeat(20, axis=0)
        Image.fromarray(mask).save(tmp_path / "SegmentationClassAug" / f"{name}.png")
        tags = [VOC_CLASSES[value - 1] for value in values if 0 < value < 255]
        (tmp_path / "Annotations" / f"{name}.xml").write_text(annotation(*tags), encoding="utf-8")
    (tmp_path / "ImageSets" / "Segmentation" / "train.txt").write_text("2008_000001\n2007_000063\n", encoding="utf-8")
    (tmp_path / "ImageSets" / "Segmentation" / "val.txt").write_text("2007_000175\r\n\r\n", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("source", [None, "masks", "xml", Path("masks"), Path("xml"), "table"])
def test_every_source_gives_the_same_tags(root: Path, source: str | Path | None) -> None:
    if source == "table":
        rows = "JPEGImages/2007_000063.jpg,chair dog\n2007_000175,sheep\n2008_000001.jpg,person cat\n"
        (root / "labels.csv").write_text("file,tags\n" + rows, encoding="utf-8")
    data = open_voc(root, "train", tags=root / "labels.csv" if source == "table" else source)
    assert data.classes == VOC_CLASSES
    assert [(photo.name, photo.tags) for photo in data.photos] == [("2008_000001", (8, 15)), ("2007_000063", (9, 12))]
    assert data.mask(1)[0, ::10].tolist() == [12, 9, 255]


def test_a_subset_makes_the_rest_background(root: Path) -> None:
    data = open_voc(root, "train", classes=ANIMALS)
    assert data.classes == ANIMALS
    assert [photo.tags for photo in data.photos] == [(1, 5), (3,)]
    assert data.mask(0)[0, ::10].tolist() == [1, 5, 0]
    assert data.mask(1)[0, ::10].tolist() == [3, 0, 255]
    assert open_voc(root, "val", classes=("sofa", "cat")).photos[0].tags == ()


def test_tags_csv_is_preferred_and_its_dropped_classes_are_no_error(root: Path) -> None:
    rows = "JPEGImages/2007_000063.jpg,sofa dog\nJPEGImages/2007_000175.jpg,\nJPEGImages/2008_000001.jpg,cat\n"
    (root / "tags.csv").write_text("file,tags\n" + rows, encoding="utf-8")
    assert [photo.tags for photo in open_voc(root, "train", classes=ANIMALS).photos] == [(1,), (3,)]
    (root / "tags.csv").write_text("file,tags\n" + rows.replace("sofa", "sofas"), encoding="utf-8")
    with pytest.raises(
        UserError, match=r"tags\.csv, row 2: .*'sofas', which is not among the classes; did you mean 'sofa'"
    ):
        open_voc(root, "train", classes=ANIMALS)
    (root / "tags.csv").write_text("file,tags\n2008_000001,cat\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"tags\.csv has no row for 2007_000063; add one"):
        open_voc(root, "train")


def test_annotations_serve_where_there_are_no_masks(root: Path) -> None:
    for mask in (root / "SegmentationClassAug").iterdir():
        mask.unlink()
    data = open_voc(root, "train")
    assert [photo.tags for photo in data.photos] == [(8, 15), (9, 12)]
    assert data.mask(0) is None
    with pytest.raises(UserError, match="photo 2008_000001 has no mask"):
        open_voc(root, "train", tags="masks")


def test_masks_of_the_second_edition_fill_gaps(root: Path) -> None:
    """As in mmsegmentation's folder, whose SegmentationClassAug holds SBD's masks of photos that VOC has masks of, val's too."""
    (root / "SegmentationClass").mkdir()
    (root / "SegmentationClassAug" / "2008_000001.png").rename(root / "SegmentationClass" / "2008_000001.png")
    (root / "SegmentationClassAug" / "2008_000001.png").write_bytes(b"the other folder comes first")
    assert [photo.tags for photo in open_voc(root, "train").photos] == [(8, 15), (9, 12)]


def test_lists_with_paths(root: Path) -> None:
    text = "/JPEGImages/2008_000001.jpg /SegmentationClassAug/2008_000001.png\n/JPEGImages/2007_000063.jpg x\n"
    (root / "ImageSets" / "Segmentation" / "train.txt").write_text(text, encoding="utf-8")
    assert [photo.name for photo in open_voc(root, "train").photos] == ["2008_000001", "2007_000063"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("2008_000001\n../secret\n", r"train\.txt, line 2: '\.\./secret' leads outside the folder"),
        ("//etc/passwd\n", r"line 1: '//etc/passwd' leads outside the folder"),
        ("2008_000001\n2007_000063\n2008_000001\n", "line 3: 2008_000001 stands in line 1 already"),
        ("2009_000001\n", r"train\.txt names 2009_000001, but .*JPEGImages has no such photo"),
        ("\n\n", r"list .*train\.txt is empty"),
    ],
)
def test_bad_lists(root: Path, text: str, sentence: str) -> None:
    (root / "ImageSets" / "Segmentation" / "train.txt").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=sentence):
        open_voc(root, "train")


@pytest.mark.parametrize("split", ["test", "../Segmentation/train", ""])
def test_a_missing_list_tells_which_there_are(root: Path, split: str) -> None:
    with pytest.raises(UserError, match=r"does not exist; the lists of this folder are: train, val"):
        open_voc(root, split)


def test_unknown_class(root: Path) -> None:
    with pytest.raises(UserError, match="'dogs', which is not among the classes; did you mean 'dog'"):
        open_voc(root, "train", classes=("cat", "dogs"))


def test_a_folder_with_classes_of_its_own(root: Path) -> None:
    (root / "labels.txt").write_text(
        "\ufeffbackground\r\n" + "\r\n".join(f"kind {i}" for i in range(1, 18)), encoding="utf-8"
    )
    data = open_voc(root, "train", classes=("kind 15", "kind 8"))
    assert [photo.tags for photo in data.photos] == [(1, 2), ()]
    assert data.mask(0)[0, ::10].tolist() == [2, 1, 0]
    (root / "labels.txt").write_text("kind 1\nkind 2\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"2008_000001\.png holds the value 8, but there are 2 classes"):
        open_voc(root, "train")
    (root / "tags.csv").write_text("file,tags\n2008_000001,kind 1\n2007_000063,\n", encoding="utf-8")
    data = open_voc(root, "train")
    assert [photo.tags for photo in data.photos] == [(1,), ()]
    with pytest.raises(UserError, match="holds the value 8, which none of the 2 classes has"):
        data.mask(0)


def test_masks_of_another_size(root: Path) -> None:
    Image.new("L", (30, 21)).save(root / "SegmentationClassAug" / "2008_000001.png")
    data = open_voc(root, "train")
    with pytest.raises(
        UserError, match=r"2008_000001\.png is 30 x 21 pixels, but its photo 2008_000001\.jpg is 30 x 20"
    ):
        data.mask(0)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entities_in_annotations_are_refused(root: Path, encoding: str) -> None:
    entities = '<!ENTITY a "cat">' + "".join(
        f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    )
    text = f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE x [{entities}]>' + annotation("&i;")
    (root / "Annotations" / "2008_000001.xml").write_text(text, encoding=encoding)
    with pytest.raises(UserError, match=r"2008_000001\.xml declares entities"):
        open_voc(root, "train", tags="xml")


def test_external_entities_read_no_file(root: Path) -> None:
    secret = root / "secret.txt"
    secret.write_text("cat", encoding="utf-8")
    text = f'<!DOCTYPE x [<!ENTITY a SYSTEM "{secret.as_uri()}">]>' + annotation("&a;")
    (root / "Annotations" / "2008_000001.xml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="declares entities"):
        open_voc(root, "train", tags="xml")


def test_broken_annotations(root: Path) -> None:
    path = root / "Annotations" / "2008_000001.xml"
    path.write_text("<annotation><object>", encoding="utf-8")
    with pytest.raises(UserError, match=r"2008_000001\.xml cannot be read"):
        open_voc(root, "train", tags="xml")
    path.write_text(annotation("kat"), encoding="utf-8")
    with pytest.raises(UserError, match="'kat', which is not among the classes; did you mean 'cat'"):
        open_voc(root, "train", tags="xml")
    path.unlink()
    with pytest.raises(UserError, match=r"2008_000001\.xml does not exist"):
        open_voc(root, "train", tags="xml")


TWO_COLUMNS = "file,tags,weak\n2008_000001.jpg,cat,person\n2007_000063.jpg,NA,chair/dog\n2007_000175.jpg,,sheep\n"


def test_a_table_is_read_as_told_and_what_was_guessed_is_kept(root: Path) -> None:
    table = root / "my.csv"
    table.write_text(TWO_COLUMNS, encoding="utf-8")
    told = open_voc(root, "train", tags=table, tags_column="weak", separator="/")
    assert [photo.tags for photo in told.photos] == [(15,), (9, 12)]
    guessed = open_voc(root, "train", tags=table)
    assert [photo.tags for photo in guessed.photos] == [(8,), ()]
    assert guessed.notes == ("my.csv: 1 cell with nan, NA, null or the like read as no tag",)
    with pytest.raises(UserError, match=r"my\.csv has no column 'nope'"):
        open_voc(root, "train", tags=table, file_column="nope")
    with pytest.raises(UserError, match=r"tags_column 'weak' is for a table, but the tags of .* come from the masks"):
        open_voc(root, "train", tags_column="weak")


def test_the_recipe_of_a_voc_folder_says_how_its_table_is_read(root: Path) -> None:
    (root / "tags.csv").write_text(TWO_COLUMNS, encoding="utf-8")
    data = {"format": "voc", "root": root, "tags_column": "weak", "separator": "/"}
    sources = open_sources(DataSettings.model_validate(data), root)
    assert [photo.tags for photo in sources.train.photos] == [(15,), (9, 12)]
    assert sources.val is not None
    assert [photo.tags for photo in sources.val.photos] == [(17,)]


def test_a_table_with_paths_goes_on_when_the_test_photos_come(root: Path) -> None:
    rows = "".join(f"JPEGImages/{name}.jpg,cat\n" for name in MASKS)
    (root / "tags.csv").write_text("file,tags\n" + rows, encoding="utf-8")
    before = open_voc(root, "train")
    (root / "JPEGImages_test").mkdir()
    Image.new("RGB", (30, 20)).save(root / "JPEGImages_test" / "2008_000009.jpg")
    assert open_voc(root, "train").photos == before.photos


def test_lists_with_names_that_hold_spaces(root: Path) -> None:
    (root / "JPEGImages" / "2007_000063.jpg").rename(root / "JPEGImages" / "my photo.jpg")
    (root / "SegmentationClassAug" / "2007_000063.png").rename(root / "SegmentationClassAug" / "my photo.png")
    text = "my photo.jpg\n2008_000001 -1\n"
    (root / "ImageSets" / "Segmentation" / "train.txt").write_text(text, encoding="utf-8")
    assert [photo.name for photo in open_voc(root, "train").photos] == ["my photo", "2008_000001"]


def test_a_list_is_named_by_its_path(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("zzz\n", encoding="utf-8")
    with pytest.raises(UserError, match=rf"^{re.escape(str(path))} names zzz, but .*JPEGImages has no such photo"):
        open_voc(root, str(path))


@pytest.mark.parametrize(
    ("twin", "what"), [("JPEGImages/2008_000001.png", "photos"), ("SegmentationClassAug/2008_000001.tif", "masks")]
)
def test_two_files_of_one_name_are_refused(root: Path, twin: str, what: str) -> None:
    Image.new("L", (30, 20), 3).save(root / twin)
    with pytest.raises(UserError, match=rf"holds two {what} called 2008_000001 \(.*, .*\); remove one"):
        open_voc(root, "train")
