"""Photos that a person names for prediction, and what is said about the files beside them."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from tagseg.data.inputs import Inputs, open_inputs
from tagseg.data.tagged import tags_of_photos

Make = Callable[..., Path]


def opened(source: str | Path, out: Path) -> Inputs:
    with open_inputs([source], out=out) as inputs:
        return inputs


def test_a_pattern_tells_the_pictures_that_are_not_read_as_a_folder_does(photos: Make, tmp_path: Path) -> None:
    images = photos("a.jpg", "sub/b.jpg")
    for name in ("b.jp2", "c.cr2", "sub/d.cr2", "notes.txt", "Thumbs.db"):
        (images / name).write_bytes(b"x")
    found = opened(f"{images}/**/*", tmp_path / "out")
    assert [photo.file_name for photo in found.photos] == ["a.jpg", "sub/b.jpg"]
    assert found.problems == [
        f"{images}/**/*: 2 .cr2 files not read (c.cr2, d.cr2); convert to JPEG or PNG",
        f"{images}/**/*: 1 .jp2 file not read (b.jp2); convert to JPEG or PNG",
    ]
    assert found.notes == [f"{images}/**/*: 1 .txt file not read (notes.txt)"]
    assert len(opened(images, tmp_path / "out").problems) == 2
    assert opened(f"{images}/*.jpg", tmp_path / "out").problems == []


@pytest.mark.parametrize("source", ["", "a.jpg", "*.jpg", "**/*.jpg"])
def test_a_table_names_photos_by_the_path_above_them(photos: Make, table: Make, tmp_path: Path, source: str) -> None:
    images = photos("a.jpg")
    found = opened(f"{images}/{source}", tmp_path / "out")
    tags, _ = tags_of_photos(
        table("file,tags\nimages/a.jpg,cat\n"),
        [photo.file_name for photo in found.photos],
        found.folders,
        classes=("cat",),
    )
    assert tags == {"a.jpg": ("cat",)}


def test_a_list_names_photos_as_their_names_lie_on_the_disk(photos: Make, tmp_path: Path) -> None:
    apart = unicodedata.normalize("NFD", "caf\xe9.jpg")
    images = photos(apart)
    (images / "photos.txt").write_text(f"{apart}\n", encoding="utf-8")
    found = opened(images / "photos.txt", tmp_path / "out")
    assert [photo.file_name for photo in found.photos] == ["caf\xe9.jpg"]
    assert found.photos[0].path.is_file()
    assert found.problems == []
