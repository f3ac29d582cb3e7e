"""Tags that are given for prediction and labeling are read as those of training are, and what is not read is named."""

from __future__ import annotations

import json
import os
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tagseg.data.inputs import open_inputs
from tagseg.data.tagged import open_tagged
from tagseg.errors import UserError
from tagseg.workflows.predict import predict
from tests.workflows.test_predict import BLUE, masks, segmenter, stop_at, write


def table(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "row",
    ["a.jpg", "a", "photos/a.jpg", "./photos/a", "photos\\a.jpg", "{folder}/a.jpg", "A.JPG", "a.JPG", "\u200ba.jpg "],
)
def test_rows_name_photos_in_every_way_that_training_knows(tmp_path: Path, row: str) -> None:
    write(tmp_path / "photos" / "a.jpg", BLUE)
    write(tmp_path / "photos" / "b.png", BLUE)
    text = f"file,tags\n{row.format(folder=tmp_path / 'photos')},green\n"
    tags = table(tmp_path / "tags.csv", text)
    assert open_tagged(tmp_path / "photos", tags).photos[0].name == "a"
    assert predict(segmenter(), tmp_path / "photos", tmp_path / "out", tags=tags).tagged == 1


def test_double_rows_are_treated_as_training_treats_them(tmp_path: Path) -> None:
    write(tmp_path / "photos" / "a.jpg", BLUE)
    one_tag_a_row = table(tmp_path / "long.csv", "file,tag\na.jpg,green\na.jpg,blue\n")
    result = predict(segmenter(), tmp_path / "photos", tmp_path / "out", tags=one_tag_a_row)
    assert any("1 photo in several rows, their tags joined" in note for note in result.notes)
    for text in ("file,tags\na.jpg,green\na.jpg,\n", "file,tags\na.jpg,green;blue\na.jpg,blue\n"):
        tags = table(tmp_path / "double.csv", text)
        for read in (
            lambda tags=tags: open_tagged(tmp_path / "photos", tags),
            lambda tags=tags: predict(segmenter(), tmp_path / "photos", tmp_path / "none", tags=tags),
        ):
            with pytest.raises(UserError, match=r"row 3: a\.jpg stands in row 2 already"):
                read()


def test_options_of_the_table(tmp_path: Path) -> None:
    write(tmp_path / "photos" / "a.jpg", BLUE)
    tags = table(tmp_path / "tags.csv", "Nummer;Art;Ort\na;green+blue;Ulm\n")
    words = {"file_column": "Nummer", "tags_column": "Art", "separator": "+"}
    assert predict(segmenter(), tmp_path / "photos", tmp_path / "out", tags=tags, **words).tagged == 1
    with pytest.raises(UserError, match="does not know the class 'red'"):
        predict(segmenter(), tmp_path / "photos", tmp_path / "no", tags=tags, classes=("red",), **words)


def test_a_row_more_goes_on_and_another_tag_does_not(tmp_path: Path) -> None:
    write(tmp_path / "photos" / "a.jpg", BLUE)
    tags = table(tmp_path / "tags.csv", "file,tags\na.jpg,green\n")
    assert predict(segmenter(), tmp_path / "photos", tmp_path / "out", tags=tags).done == 1
    write(tmp_path / "photos" / "b.png", BLUE)
    table(tags, "file,tags\na.jpg,green\nb.png,blue\n")
    result = predict(segmenter(), tmp_path / "photos", tmp_path / "out", tags=tags)
    assert (result.done, result.already) == (1, 1)
    table(tags, "file,tags\na.jpg,blue\nb.png,blue\n")
    with pytest.raises(UserError, match="holds a result of a made with green: choose another --out"):
        predict(segmenter(), tmp_path / "photos", tmp_path / "out", tags=tags)
    with pytest.raises(UserError, match="holds a result of a made with green"):
        predict(segmenter(), tmp_path / "photos", tmp_path / "out")
    assert predict(segmenter(), tmp_path / "photos", tmp_path / "out", tags=tags, overwrite=True).done == 2
    assert predict(segmenter(), tmp_path / "photos", tmp_path / "out", tags=tags).already == 2


def test_results_keep_the_tags_that_they_were_made_with(tmp_path: Path) -> None:
    folder, out, model = tmp_path / "photos", tmp_path / "out", segmenter()
    write(folder / "a.jpg", BLUE)
    write(folder / "b.png", BLUE)
    tags = table(tmp_path / "tags.csv", "file,tags\na.jpg,green\n")
    predict(model, folder, out, tags=tags)
    predict(model, folder, out, overwrite=True)
    assert masks(out)["a.png"] == 2
    assert predict(model, folder, out).already == 2
    with pytest.raises(UserError, match="holds a result of a made with no tags"):
        predict(model, folder, out, tags=tags)
    (out / "a.png").unlink()
    predict(model, folder, out)
    with pytest.raises(UserError, match="holds a result of a made with no tags"):
        predict(model, folder, out, tags=tags)
    predict(model, folder, out, tags=tags, overwrite=True)
    table(tags, "file,tags\na.jpg,green\nb.png,\n")
    with pytest.raises(UserError, match="holds a result of b made with no tags"):
        predict(model, folder, out, tags=tags)
    predict(model, folder, out, tags=tags, overwrite=True)
    assert masks(out)["b.png"] == 0
    with pytest.raises(UserError, match="holds a result of a made with green"):
        predict(model, folder, out)


def test_an_interrupted_renewal_with_tags_takes_other_tags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, out, model = tmp_path / "photos", tmp_path / "out", segmenter()
    for name in "ab":
        write(folder / f"{name}.png", BLUE)
    predict(model, folder, out)
    tags = table(tmp_path / "tags.csv", "file,tags\na.png,green\nb.png,green\n")
    stop_at(monkeypatch, "b", lambda: predict(model, folder, out, tags=tags, overwrite=True))
    table(tags, "file,tags\na.png,blue\nb.png,green\n")
    assert predict(model, folder, out, tags=tags, overwrite=True).done == 2
    assert masks(out)["a.png"] == 2


def test_tags_that_an_older_version_noted_still_count(tmp_path: Path) -> None:
    folder, out, model = tmp_path / "photos", tmp_path / "out", segmenter()
    write(folder / "a.jpg", BLUE)
    tags = table(tmp_path / "tags.csv", "file,tags\na.jpg,green\n")
    predict(model, folder, out, tags=tags)
    record = out / ".tagseg-predict"
    rows = [json.loads(line) for line in record.read_text(encoding="utf-8").split("\n") if line]
    record.write_text("".join(f"\n{json.dumps(row[:2])}" for row in rows), encoding="utf-8")
    (out / ".tagseg-predict-tags").write_text('{"a": ["green"]}', encoding="utf-8")
    assert predict(model, folder, out, tags=tags).already == 1
    with pytest.raises(UserError, match="holds a result of a made with green"):
        predict(model, folder, out)


def test_what_lies_among_photos_is_read_or_named(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    write(folder / "a.jpg", BLUE)
    for name in ("b.CR2", "c.cr2", "d.pdf", "notes.md", ".DS_Store", ".hidden/e.jpg", "Thumbs.db"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x")
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe.jpg")
    result = predict(segmenter(), folder, tmp_path / "out")
    assert result.done == 1
    problems = [problem.removeprefix(f"{folder}: ") for problem in result.problems]
    assert problems[:2] == [
        "2 .cr2 files are not read (b.CR2, c.cr2); convert to JPEG or PNG",
        "1 .pdf file is not read (d.pdf); convert to JPEG or PNG",
    ]
    assert problems[2:] == (["1 pipe or device is not read (pipe.jpg)"] if hasattr(os, "mkfifo") else [])
    assert [note.removeprefix(f"{folder}: ") for note in result.notes] == [
        "1 file is no photo: 1 .md",
        "3 hidden files or folders are not read (.DS_Store, .hidden, Thumbs.db)",
    ]


def test_what_lies_in_a_zip_file_is_read_or_named(tmp_path: Path) -> None:
    photo = write(tmp_path / "a.jpg", BLUE)
    packed = tmp_path / "photos.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.write(photo, "sub/a.jfif")
        archive.writestr("b.NEF", b"x")
        archive.writestr("readme.md", b"x")
        archive.writestr("__MACOSX/._a.jfif", b"x")
    result = predict(segmenter(), packed, tmp_path / "out")
    assert masks(tmp_path / "out") == {"sub/a.png": 2}
    assert result.problems == [f"{packed}: 1 .nef file not read (b.NEF); convert to JPEG or PNG"]
    assert result.notes == [f"{packed}: 1 .md file not read (readme.md)"]


def test_two_spellings_of_one_name_are_named(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "é.jpg") for form in ("NFC", "NFD"))
    write(tmp_path / "photos" / composed, BLUE)
    write(tmp_path / "photos" / decomposed)
    if len(list((tmp_path / "photos").iterdir())) == 1:
        pytest.skip("on this disk both names are one file")
    result = predict(segmenter(), tmp_path / "photos", tmp_path / "out")
    assert result.done == 1
    assert "stands there twice, in two spellings of the same letters; rename one of them" in result.problems[0]
    tags = table(tmp_path / "tags.csv", "file,tags\né.jpg,green\n")
    with pytest.raises(UserError, match="in two spellings of the same letters"):
        open_tagged(tmp_path / "photos", tags)


def test_a_list_never_leads_outside(tmp_path: Path) -> None:
    """Absolute paths and links that stay below the list's folder are fine."""
    outside = write(tmp_path / "secret.png")
    write(tmp_path / "photos" / "good.png", BLUE)
    try:
        (tmp_path / "photos" / "link.png").symlink_to(outside)
        (tmp_path / "photos" / "inner.png").symlink_to(tmp_path / "photos" / "good.png")
        (tmp_path / "photos" / "folder").symlink_to(tmp_path, target_is_directory=True)
    except OSError:
        pytest.skip("this system makes no links")
    lines = [outside, "link.png", "folder/secret.png", tmp_path / "photos" / "good.png", "inner.png"]
    names = table(tmp_path / "photos" / "names.txt", "\n".join(map(str, lines)))
    with open_inputs([names], out=tmp_path / "out") as inputs:
        assert [photo.name for photo in inputs.photos] == ["good", "inner"]
        assert [problem.partition(": ")[0][-6:] for problem in inputs.problems] == ["line 1", "line 2", "line 3"]
        assert all("leads outside the list's folder" in problem for problem in inputs.problems)


def test_names_too_long_for_a_file_are_sentences(tmp_path: Path) -> None:
    write(tmp_path / "photos" / "good.png", BLUE)
    with pytest.raises(UserError, match="There is no photo, folder, list or zip file"):
        predict(segmenter(), "x" * 300 + ".jpg", tmp_path / "out")
    names = table(tmp_path / "photos" / "names.txt", "x" * 300 + ".jpg\ngood.png\n")
    result = predict(segmenter(), names, tmp_path / "out")
    assert result.done == 1
    assert len(result.problems) == 1


def test_photos_made_of_links_are_predicted(tmp_path: Path) -> None:
    write(tmp_path / "real" / "1.jpg", BLUE, (60, 40))
    write(tmp_path / "photos" / "0.jpg", BLUE, (60, 40))
    try:
        (tmp_path / "photos" / "link").symlink_to(tmp_path / "real", target_is_directory=True)
    except OSError:
        pytest.skip("this system makes no links")
    assert predict(segmenter(), tmp_path / "photos", tmp_path / "out").done == 2
    assert masks(tmp_path / "out") == {"0.png": 2, "link/1.png": 2}


def test_photos_of_several_pages_are_read_once(tmp_path: Path) -> None:
    pages = [Image.fromarray(np.full((30, 40, 3), BLUE, np.uint8)) for _ in range(3)]
    (tmp_path / "photos").mkdir()
    pages[0].save(tmp_path / "photos" / "a.tif", save_all=True, append_images=pages[1:])
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.write(tmp_path / "photos" / "a.tif", "a.tif")
    for number, source in enumerate((tmp_path / "photos", tmp_path / "photos.zip")):
        result = predict(segmenter(), source, tmp_path / f"out{number}")
        assert (result.done, result.notes) == (1, ["a.tif has 3 pages, of which one was read."])
