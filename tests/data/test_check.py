"""`check` reads everything once and tells everything at once."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from tagseg.data.check import CheckResult, check_photos, check_tagged, table
from tagseg.data.scenes import SCENE_CLASSES, write_scenes
from tagseg.data.tagged import open_tagged
from tagseg.data.voc import open_voc
from tagseg.errors import UserError

Make = Callable[..., Path]


def kinds(result: CheckResult) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for problem in result.problems:
        found.setdefault(problem.kind, []).append(problem.file)
    return found


def printed(result: CheckResult, **options: int) -> str:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(table(result, **options))
    return console.export_text()


def test_counts_and_sizes(photos: Make, tmp_path: Path) -> None:
    images = photos("a.png", "b.png", "c.png")
    photos("d.png", "e.png", size=(100, 60))
    tags = tmp_path / "tags.csv"
    tags.write_text("file,tags\na.png,cat\nb.png,cat dog\nc.png,dog cat\nd.png,\ne.png,cow\n", encoding="utf-8")
    seen = []
    result = check_photos(images, tags, progress=lambda done, total: seen.append((done, total)))
    assert result.photos == 5
    assert result.per_class == {"cat": 3, "dog": 2, "cow": 1}
    assert result.per_combination == {"cat + dog": 2, "cat": 1, "no tag": 1, "cow": 1}
    assert result.short_side == (40, 40, 60)
    assert result.long_side == (48, 48, 100)
    assert result.problems == []
    assert result.ok
    assert seen == [(i, 5) for i in range(1, 6)]
    text = printed(result)
    for words in ("5 photos, 3 classes", "cat + dog", "no tag", "min 40 · median 40 · max 60 px", "no problems"):
        assert words in text


def test_two_masks_of_one_name_are_told(photos: Make, tmp_path: Path) -> None:
    images, masks = photos("a.png", "b.png"), photos("a.bmp", "a.jpg", "a.png", "b.png", folder="masks")
    tags = tmp_path / "tags.csv"
    tags.write_text("file,tags\na.png,cat\nb.png,cat\n", encoding="utf-8")
    problems = [problem for problem in check_photos(images, tags, masks=masks).problems if problem.fatal]
    assert [problem.text for problem in problems if problem.kind == "duplicate name"] == [
        f"{masks} holds two masks called a (a.bmp, a.png); remove one"
    ]


def test_everything_wrong_is_told_at_once(photos: Make, tmp_path: Path) -> None:
    images = photos(
        "good.png", "copy.png", "twin.png", "twin.gif", "short.png", "unlisted.png", "odd.png", "masked.png", "bad.png"
    )
    photos("tiny.png", size=(1, 1))
    shutil.copy(images / "good.png", images / "copy.png")
    (images / "empty.jpg").touch()
    (images / "text.jpg").write_text("no photo", encoding="utf-8")
    (images / "short.png").write_bytes((images / "short.png").read_bytes()[:200])
    masks = tmp_path / "masks"
    masks.mkdir()
    Image.fromarray(np.zeros((40, 47), np.uint8)).save(masks / "masked.png")
    Image.fromarray(np.full((40, 48), 9, np.uint8)).save(masks / "good.png")
    Image.fromarray(np.zeros((40, 48, 3), np.uint8)).save(masks / "odd.png")
    Image.fromarray(np.ones((40, 48), np.uint8)).save(masks / "copy.png")
    Image.fromarray(np.ones((40, 48), np.uint8)).save(masks / "lost.png")
    rows = """good.png,cat\ncopy.png,dog\ntwin.png,cat\nshort.png,cat\nodd.png,dog\nmasked.png,cat\ntiny.png,cat
empty.jpg,cat\ntext.jpg,dog\nabsent.png,cat\ngood.png,dog\n../good.png,cat\ntwin,cat\nbad.png,cta\n,cat"""
    tags = tmp_path / "tags.csv"
    tags.write_text("file,tags\n" + rows, encoding="utf-8")
    result = check_photos(images, tags, classes=("cat", "dog", "horse"), masks=masks)
    assert kinds(result) == {
        "bad row": [""],
        "missing photo": ["absent.png"],
        "read as": [""],
        "path outside": ["../good.png"],
        "duplicate name": ["twin", "twin.gif"],
        "unknown tag": ["bad.png"],
        "photo without tags": ["unlisted.png"],
        "mask without photo": ["lost.png"],
        "mask numbers": [""],
        "class without photos": [""],
        "broken photo": ["empty.jpg", "short.png", "text.jpg"],
        "tiny photo": ["tiny.png"],
        "mask that doesn't fit": ["good.png", "masked.png", "odd.png"],
        "duplicate photo": ["good.png"],
    }
    assert not result.ok
    assert result.masks == 4
    assert result.photos == 9
    sentences = " ".join(problem.text for problem in result.problems)
    for words in (
        "good.png is the same file as copy.png, with different tags; keep one of them",
        "bad.png has the tag 'cta', which is not among the classes; did you mean 'cat'?",
        "holds the value 9, which none of the 3 classes has",
        "is 47 x 40 pixels, but its photo masked.png is 48 x 40",
        "odd.png has mode RGB, not class indices",
        "empty.jpg is empty",
        "tiny.png is only 1 x 1 pixels",
    ):
        assert words in sentences
    text = " ".join(printed(result).split())
    for kind in kinds(result):
        assert kind in text


def test_the_first_fatal_problem_is_what_training_says(photos: Make, tmp_path: Path) -> None:
    images = photos("a.png", "b.png")
    tags = tmp_path / "tags.csv"
    tags.write_text("file,tags\na.png,cat\nc.png,cat\nd.png,cat\n", encoding="utf-8")
    result = check_photos(images, tags)
    assert [problem.fatal for problem in result.problems] == [True, True, False]
    with pytest.raises(UserError) as error:
        open_tagged(images, tags)
    assert str(error.value) == result.problems[0].text + " (1 more problem: `tagseg check` lists all)"


def test_what_is_only_worth_a_look_is_ok(photos: Make, tmp_path: Path) -> None:
    images = photos("a.png", "b.png", "unlisted.png")
    shutil.copy(images / "a.png", images / "b.png")
    tags = tmp_path / "tags.csv"
    tags.write_text("file,tags\na.png,cat\nb.png,cat\n", encoding="utf-8")
    result = check_photos(images, tags)
    assert kinds(result) == {"photo without tags": ["unlisted.png"], "duplicate photo": ["b.png"]}
    assert result.ok
    assert len(open_tagged(images, tags)) == 2


def test_long_lists_are_cut_in_print_only(photos: Make, tmp_path: Path) -> None:
    images = photos("a.png")
    tags = tmp_path / "tags.csv"
    tags.write_text("file,tags\na.png,[b]cat[/b]\n" + "".join(f"x{i}.png,cat\n" for i in range(30)), encoding="utf-8")
    result = check_photos(images, tags)
    assert len(result.problems) == 30
    text = printed(result, limit=4)
    assert "x3.png" in text
    assert "x4.png" not in text
    assert "and 26 more" in text
    assert "[b]cat[/b]" in text


def test_nothing_but_missing_folders_is_raised(photos: Make, tmp_path: Path) -> None:
    images = photos("a.png")
    with pytest.raises(UserError, match="does not exist"):
        check_photos(tmp_path / "absent")
    with pytest.raises(UserError, match="does not exist"):
        check_photos(images, tmp_path / "absent.csv")
    (tmp_path / "empty").mkdir()
    result = check_photos(tmp_path / "empty")
    assert kinds(result) == {"no photos": [""]}
    assert not result.ok
    assert result.short_side is None
    assert "0 photos" in printed(result)


def test_a_voc_folder(tmp_path: Path) -> None:
    write_scenes(tmp_path / "scenes", train=12, val=1, size=(64, 80))
    data = open_voc(tmp_path / "scenes", "train")
    result = check_tagged(data)
    assert result.ok
    assert result.photos == result.masks == 12
    assert set(result.per_class) == set(SCENE_CLASSES)
    assert sum(result.per_class.values()) == sum(len(photo.tags) for photo in data.photos)
    assert result.short_side == (64, 64, 64)


def test_fifteen_photos_in_three_classes(tmp_path: Path) -> None:
    """A person's first try: photos of generated scenes in a folder of their own, a table made by hand."""
    write_scenes(tmp_path / "scenes", train=60, val=1, size=(64, 80))
    scenes = open_voc(tmp_path / "scenes", "train", classes=("banded", "dotted", "ringed"))
    chosen = [photo for photo in scenes.photos if photo.tags][:15]
    (tmp_path / "mine").mkdir()
    lines = ["Image,Labels"]
    for photo in chosen:
        shutil.copy(photo.photo, tmp_path / "mine" / f"my {photo.name}.JPG")
        lines.append(f"my {photo.name}.JPG,{'; '.join(scenes.classes[tag - 1] for tag in photo.tags)}")
    (tmp_path / "tags.csv").write_text("\r\n".join(lines), encoding="utf-8-sig")
    result = check_photos(tmp_path / "mine", tmp_path / "tags.csv")
    assert result.ok
    assert result.problems == []
    assert result.photos == 15
    data = open_tagged(tmp_path / "mine", tmp_path / "tags.csv")
    assert data.classes == ("banded", "dotted", "ringed")
    assert [photo.tags for photo in data.photos] == [photo.tags for photo in chosen]
