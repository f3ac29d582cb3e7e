"""Folders and tables of the user's own photos."""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tagseg.data.folders import look_into
from tagseg.data.palette import write_mask
from tagseg.data.sources import with_masks
from tagseg.data.tagged import TaggedImages, TaggedPhoto, open_tagged
from tagseg.errors import UserError

Make = Callable[..., Path]


def tags_of(data: TaggedImages) -> dict[str, list[str]]:
    return {photo.name: [data.classes[tag - 1] for tag in photo.tags] for photo in data.photos}


def test_classes_come_in_alphabetical_order(photos: Make, table: Make) -> None:
    images = photos("a.png", "sub/b.png", "c.png", "unlisted.png")
    data = open_tagged(images, table("file,tags\nsub/b.png,dog cat\na.png,cow\nc,\n"))
    assert data.classes == ("cat", "cow", "dog")
    assert data.num_classes == 4
    assert data.photos == (
        TaggedPhoto("a", images / "a.png", (2,)),
        TaggedPhoto("c", images / "c.png", ()),
        TaggedPhoto("sub/b", images / "sub" / "b.png", (1, 3)),
    )
    assert [data.tag_vector(i).tolist() for i in range(3)] == [[0, 1, 0], [0, 0, 0], [1, 0, 1]]
    assert data.tag_vector(0).dtype == np.float32
    assert data.photo(0).shape == (40, 48, 3)
    assert data.mask(0) is None


def test_given_classes_keep_their_order(photos: Make, table: Make) -> None:
    data = open_tagged(photos("a.png"), table("file,tags\na.png,cat;dog\n"), classes=("dog", "cow", "cat"))
    assert data.classes == ("dog", "cow", "cat")
    assert data.photos[0].tags == (1, 3)


@pytest.mark.parametrize(
    "file", ["a.png", "a", "./a.png", "pictures/a.png", "pictures/a", "pictures\\a.png", " a.png "]
)
def test_ways_to_write_a_file(photos: Make, table: Make, file: str) -> None:
    data = open_tagged(photos("a.png", folder="pictures"), table(f"file,tags\n{file},cat\n"))
    assert tags_of(data) == {"a": ["cat"]}


def test_a_subfolder_named_like_the_folder(photos: Make, table: Make) -> None:
    images = photos("a.png", "pictures/a.png", folder="pictures")
    assert tags_of(open_tagged(images, table("file,tags\npictures/a.png,cat\na.png,dog\n"))) == {
        "a": ["dog"],
        "pictures/a": ["cat"],
    }


def test_composed_and_decomposed_names_are_the_same(photos: Make, table: Make) -> None:
    images = photos(unicodedata.normalize("NFD", "Füße, крыса 1.png"))
    path = table(f'file,tags\n"{unicodedata.normalize("NFC", "Füße, крыса 1.png")}",cat\n')
    assert list(tags_of(open_tagged(images, path))) == ["Füße, крыса 1"]


def test_names_with_dots(photos: Make, table: Make) -> None:
    images = photos("scan.2024.png", "scan.2025.png")
    assert list(tags_of(open_tagged(images, table("file,tags\nscan.2024,cat\nscan.2025.png,cat\n")))) == [
        "scan.2024",
        "scan.2025",
    ]


def test_class_folders(photos: Make) -> None:
    images = photos(
        "cat/1.png", "cat/deep/2.png", "fire hydrant/1.png", "Background/3.png", "none/1.png", "ok/9.png", ".git/x.png"
    )
    assert tags_of(open_tagged(images)) == {
        "Background/3": [],
        "cat/1": ["cat"],
        "cat/deep/2": ["cat"],
        "fire hydrant/1": ["fire hydrant"],
        "none/1": [],
        "ok/9": [],
    }
    photos("stray.png")
    with pytest.raises(UserError, match=r"stray\.png lies in no class folder; move it into one, or give a table"):
        open_tagged(images)


def test_splits_are_no_classes(photos: Make) -> None:
    images = photos("train/cat/1.png", "train/dog/2.png", "val/cat/3.png")
    with pytest.raises(UserError, match=r"holds train and val, each with folders of classes; .*--images .*train$"):
        open_tagged(images)
    assert open_tagged(images / "train").classes == ("cat", "dog")
    assert open_tagged(photos("train/1.png", "test/2.png", "bus/3.png", folder="toys")).classes == (
        "bus", "test", "train"
    )  # fmt: skip


def test_a_voc_folder_is_no_set_of_class_folders(photos: Make) -> None:
    images = photos("JPEGImages/a.png", "ImageSets/b.png", "SegmentationClass/a.png")
    with pytest.raises(UserError, match=r"has the PASCAL VOC layout, not one folder per class; set data\.format=voc"):
        open_tagged(images)


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_metadata_of_a_data_hub_folder_is_found(photos: Make, name: str) -> None:
    images = photos("a.png", "b.png")
    rows = [{"file_name": "a.png", "label": "cat"}, {"file_name": "b.png", "label": "dog"}]
    text = (
        "\n".join(json.dumps(row) for row in rows) if name.endswith("l") else "file_name,label\na.png,cat\nb.png,dog\n"
    )
    (images / name).write_text(text, encoding="utf-8")
    assert tags_of(open_tagged(images)) == {"a": ["cat"], "b": ["dog"]}


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("../x.png,cat", "tags.csv, row 3: '../x.png' leads outside the images folder; write a path relative to "),
        ("sub/../../x.png,cat", "tags.csv, row 3: 'sub/../../x.png' leads outside the images folder"),
        ("..\\x.png,cat", "tags.csv, row 3: '..\\\\x.png' leads outside the images folder"),
        ("/etc/passwd,cat", "tags.csv, row 3: '/etc/passwd' leads outside the images folder"),
        ("C:\\x.png,cat", "tags.csv, row 3: 'C:\\\\x.png' leads outside the images folder"),
        ("nowhere.png,cat", "tags.csv, row 3: 'nowhere.png' is not in "),
        ("a.jpg,cat", "tags.csv, row 3: 'a.jpg' is not in "),
        ("c.psd,cat", "tags.csv, row 3: 'c.psd' has a format that is not read; convert to JPEG or PNG"),
        ("a.png,dog;cow", "tags.csv, row 3: a.png stands in row 2 already; put all its tags into one row"),
        ("a,", "tags.csv, row 3: a.png stands in row 2 already"),
        ("twin,cat", "tags.csv, row 3: 'twin' may mean twin.gif or twin.png; write the suffix or rename one"),
        ("b.png,Cat", "tags.csv, row 3: b.png has the tag 'Cat', but row 2 writes 'cat'; spell a class in one way"),
        (",cat", "tags.csv, row 3 names no file"),
    ],
)
def test_a_bad_row_is_refused_in_one_sentence(photos: Make, table: Make, row: str, sentence: str) -> None:
    images = photos("a.png", "b.png", "twin.png", "twin.gif")
    (images / "c.psd").touch()
    with pytest.raises(UserError) as error:
        open_tagged(images, table(f"file,tags\na.png,cat\n{row}\n"))
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
@given(
    file=st.one_of(st.text(max_size=30), st.text("./\\a:b", max_size=12), st.integers(250, 5000).map(lambda n: "x" * n))
)
def test_whatever_a_row_names_lies_in_the_folder_or_is_refused(photos: Make, table: Make, file: str) -> None:
    images = photos("a.png", "b/a.png", "b/b.png")
    row = json.dumps({"file": file, "tags": ["cat"]})
    try:
        opened, sentence = open_tagged(images, table(row, "tags.jsonl")).photos, "tags.jsonl, row 1"
    except UserError as error:
        opened, sentence = (), str(error)
    assert "tags.jsonl, " in sentence
    assert all(photo.photo.is_relative_to(images) and photo.photo.is_file() for photo in opened)


def test_two_photos_with_one_name(photos: Make, table: Make) -> None:
    images = photos("twin.png", "twin.gif")
    with pytest.raises(UserError, match=r"row 3: twin\.gif and twin\.png differ only in their suffix; rename one"):
        open_tagged(images, table("file,tags\ntwin.png,cat\ntwin.gif,dog\n"))
    assert len(open_tagged(images, table("file,tags\ntwin.png,cat\n"))) == 1


def test_sets_built_from_links(photos: Make, table: Make, tmp_path: Path) -> None:
    """Links to photos and folders count; circles, the folder above and links to nothing end in a sentence."""
    images = photos("a.png", folder="set")
    outside = photos("b.png", "sub/c.png", folder="outside")
    try:
        (images / "link.png").symlink_to(outside / "b.png")
        (images / "linked").symlink_to(outside, target_is_directory=True)
        (images / "again").symlink_to(outside, target_is_directory=True)
        (outside / "circle").symlink_to(outside, target_is_directory=True)
        (images / "up").symlink_to(tmp_path, target_is_directory=True)
        (images / "lost.png").symlink_to(tmp_path / "nothing.png")
    except OSError:
        pytest.skip("this system makes no links")
    found = look_into(images)
    assert list(found.photos) == ["a.png", "again/b.png", "again/sub/c.png", "link.png"]
    assert sorted(found.broken) == ["again/circle", "linked", "lost.png", "up"]
    [problem] = found.not_read()
    assert problem.text.startswith("4 links are not read (")
    data = open_tagged(images, table("file,tags\na.png,cat\nlink.png,dog\nagain/sub/c.png,dog\n"))
    assert tags_of(data) == {"a": ["cat"], "again/sub/c": ["dog"], "link": ["dog"]}
    assert any("4 links are not read" in note for note in data.notes)
    classes = photos("cat/a.png", folder="classes")
    (classes / "dog").symlink_to(outside, target_is_directory=True)
    assert tags_of(open_tagged(classes)) == {"cat/a": ["cat"], "dog/b": ["dog"], "dog/sub/c": ["dog"]}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
def test_pipes_and_devices_are_named_and_never_opened(photos: Make, table: Make) -> None:
    images = photos("a.png")
    os.mkfifo(images / "pipe.png")
    (images / "endless.png").symlink_to("/dev/zero")
    data = open_tagged(images, table("file,tags\na.png,cat\n"))
    assert data.notes == ("2 pipes or devices are not read (endless.png, pipe.png)",)
    for tags in (images / "pipe.png", Path("/dev/zero")):
        with pytest.raises(UserError, match="no regular file"):
            open_tagged(images, tags)


def test_unknown_tag_names_the_nearest_class(photos: Make, table: Make) -> None:
    images = photos("a.png", "b.png")
    path = table("file,tags\na.png,cat\nb.png,traffic-light;cta\n")
    with pytest.raises(UserError) as error:
        open_tagged(images, path, classes=("cat", "person", "traffic light"))
    assert str(error.value) == (
        "tags.csv, row 3: b.png has the tag 'traffic-light', which is not among the classes; did you mean "
        "'traffic light'? (1 more problem: `tagseg check` lists all)"
    )


@pytest.mark.parametrize(
    ("classes", "sentence"),
    [
        (("cat", "cat"), "class 'cat' stands twice"),
        (("cat", "background"), "'background' means a photo without tags and cannot be a class"),
        (("cat", " dog"), "class name ' dog' is empty or has spaces around it"),
        (("",), "class name '' is empty"),
        (tuple(f"c{i}" for i in range(254)), "there are 254 classes, but masks hold at most 253"),
    ],
)
def test_bad_class_lists(photos: Make, table: Make, classes: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        open_tagged(photos("a.png"), table("file,tags\na.png,cat\n"), classes=classes)


def test_nothing_to_learn_from(photos: Make, table: Make, tmp_path: Path) -> None:
    images = photos("a.png")
    with pytest.raises(UserError, match=r"tags\.csv names no photo"):
        open_tagged(images, table("file,tags\n"))
    with pytest.raises(UserError, match=r"none of the photos in .*tags\.csv has a tag"):
        open_tagged(images, table("file,tags\na.png,\n"))
    with pytest.raises(UserError, match=r"images folder .*absent does not exist"):
        open_tagged(tmp_path / "absent")
    with pytest.raises(UserError, match="is not a folder"):
        open_tagged(images / "a.png")


def test_masks_of_the_same_name(photos: Make, table: Make, tmp_path: Path) -> None:
    images = photos("sub/a.png", "b.png", "c.png", "d.png")
    masks = tmp_path / "masks"
    (masks / "sub").mkdir(parents=True)
    values = np.zeros((40, 48), dtype=np.uint8)
    values[:9], values[9:12], values[12:20] = 1, 2, 255
    Image.fromarray(values).save(masks / "sub" / "a.png")
    Image.fromarray(values[:, :-1]).save(masks / "b.png")
    Image.fromarray(values + 2).save(masks / "c.png")
    data = open_tagged(images, table("file,tags\nsub/a,cat dog\nb,cat\nc,cat\nd,cat\n"), masks=masks)
    by_name = {photo.name: i for i, photo in enumerate(data.photos)}
    assert data.mask(by_name["sub/a"]).tolist() == values.tolist()
    assert data.mask(by_name["d"]) is None
    with pytest.raises(UserError, match=r"b\.png is 47 x 40 pixels, but its photo b\.png is 48 x 40; masks need"):
        data.mask(by_name["b"])
    with pytest.raises(UserError, match=r"c\.png holds the value 3, which none of the 2 classes has"):
        data.mask(by_name["c"])
    with pytest.raises(UserError, match=r"masks folder .* does not exist"):
        open_tagged(images, table("file,tags\nb,cat\n"), masks=tmp_path / "no")


def test_masks_fit_the_upright_photo(tmp_path: Path, table: Make) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying, shown standing
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    Image.new("RGB", (48, 40)).save(tmp_path / "images" / "a.jpg", exif=exif)
    Image.new("L", (40, 48)).save(tmp_path / "masks" / "a.png")
    data = open_tagged(tmp_path / "images", table("file,tags\na.jpg,cat\n"), masks=tmp_path / "masks")
    assert data.photo(0).shape[:2] == data.mask(0).shape == (48, 40)


def test_nothing_is_decoded_on_opening(tmp_path: Path, table: Make) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_text("broken", encoding="utf-8")
    data = open_tagged(tmp_path / "images", table("file,tags\na.jpg,cat\n"))
    with pytest.raises(UserError, match=r"a\.jpg"):
        data.photo(0)


def test_arrays_and_pickles_are_never_touched(photos: Make, table: Make) -> None:
    images = photos("a.png")
    bait = images / "ran"
    for name in ("cls_labels.npy", "a.npy", "a.pkl", "b.pickle", "metadata.pkl"):
        (images / name).write_bytes(b"cos\nsystem\n(S'touch " + str(bait).encode() + b"'\ntR.")
    data = open_tagged(images, table("file,tags\na,cat\n"), masks=images)
    assert list(tags_of(data)) == ["a"]
    for name in ("cls_labels.npy", "b.pickle"):
        with pytest.raises(UserError, match="must begin with the header"):
            open_tagged(images, images / name)
    assert not bait.exists()


def test_masks_are_read_by_the_list_beside_them(photos: Make, table: Make, tmp_path: Path) -> None:
    images, masks = photos("a.png", "b.png"), tmp_path / "masks"
    masks.mkdir()
    values = np.zeros((40, 48), dtype=np.uint8)
    values[:9], values[9:12], values[12:20] = 1, 2, 255
    write_mask(masks / "a.png", values)
    write_mask(masks / "b.png", values + (values == 0) * np.uint8(3))
    tags = table("file,tags\na,cat dog\nb,cat\n")
    (masks / "classes.txt").write_text("background\ndog\ncat\nhorse\n", encoding="utf-8")
    data = open_tagged(images, tags, masks=masks)
    assert data.classes == ("cat", "dog")
    assert data.mask(0)[[0, 9, 12, 30], 0].tolist() == [2, 1, 255, 0]
    assert "masks are read by name" in data.notes[-1]
    with pytest.raises(UserError, match="holds the value 3, which none of the 2 classes has"):
        data.mask(1)
    again = with_masks(open_tagged(images, tags), masks)
    assert np.array_equal(again.mask(0), data.mask(0))
    (masks / "classes.txt").write_text("background\ncat\ndog\nhorse\n", encoding="utf-8")
    assert np.array_equal(open_tagged(images, tags, masks=masks).mask(0), values)
