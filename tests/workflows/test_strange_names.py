"""One photo's strange name costs no other photo its result: names not UTF-8, too long, or against a format's rules."""

import os
import shutil
import sys
from pathlib import Path

import pytest

import tagseg
from tagseg.errors import UserError
from tagseg.outputs import OUTPUTS, READERS
from tagseg.outputs.summary import read_summaries
from tests.workflows.small_project import Project, command

LATIN = os.fsdecode(b"caf\xe9")
LONGEST = "n" * 251  # with .png as long as a name may be
needs_bytes = pytest.mark.skipif(sys.platform != "linux", reason="the system takes names of UTF-8 alone")


def photos_of(project: Project, folder: Path, *names: str) -> Path:
    """A folder with a photo of each name."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(project.photos / "0.png", folder / f"{name}.png")
    return folder


def read_back(format: str, out: Path) -> set[str]:
    """The names that a folder of results holds."""
    if format in READERS:
        return {name for name, _ in READERS[format](out).masks}
    if format == "json":
        return set(read_summaries(out))
    return {
        path.relative_to(out).with_suffix("").as_posix() for path in out.rglob("*") if path.suffix in (".jpg", ".png")
    }


def predicted(project: Project, photos: Path | list[Path], out: Path, format: str) -> list[str]:
    """The problems of a call, which must be sentences that UTF-8 and a terminal can hold."""
    return tagseg.predict(tagseg.load(project.run), photos, out, format=format, crf=False).problems


@needs_bytes
@pytest.mark.parametrize("format", OUTPUTS)
def test_a_name_that_is_not_utf8_leaves_the_others_done(format: str, untouched: Project, tmp_path: Path) -> None:
    photos = photos_of(untouched, tmp_path / "photos", "a", LATIN, f"{LATIN}/b", "z")
    problems = predicted(untouched, photos, tmp_path / "out", format)
    found = read_back(format, tmp_path / "out")
    assert {"a", "z"} <= found
    assert len(found) + len(problems) == 4, (found, problems)
    assert all("caf" in problem for problem in problems), problems
    assert not problems or format == "cvat", "its list of names is UTF-8; no other format needs that"


@needs_bytes
def test_names_that_are_not_utf8_in_an_evaluation(untouched: Project, tmp_path: Path) -> None:
    masks = tmp_path / LATIN
    shutil.copytree(untouched.masks, masks)
    (masks / "0.png").rename(masks / f"{LATIN}.png")
    command("evaluate", masks, masks, "--out", tmp_path / "scores.json")
    assert (tmp_path / "scores.json").read_bytes().decode("utf-8")
    command("refine", masks, photos_of(untouched, tmp_path / "p", LATIN, "1", "2", "3"), "--out", tmp_path / "r")
    assert len(list((tmp_path / "r").rglob("*.png"))) == 4


@needs_bytes
def test_a_class_folder_whose_name_is_not_utf8_is_refused_before_training(untouched: Project, tmp_path: Path) -> None:
    photos = photos_of(untouched, tmp_path / "photos", f"{LATIN}/1", "dog/2")
    with pytest.raises(UserError, match="is not valid Unicode"):
        command("train", "--images", photos, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("format", OUTPUTS)
def test_the_longest_name_leaves_the_others_done(format: str, untouched: Project, tmp_path: Path) -> None:
    photos = photos_of(untouched, tmp_path / "photos", "a", LONGEST, "z")
    problems = predicted(untouched, photos, tmp_path / "out", format)
    found = read_back(format, tmp_path / "out")
    assert {"a", "z"} <= found
    assert (LONGEST in found) != bool(problems), (found, problems)
    assert all(f"longer than {255} bytes" in problem for problem in problems)
    assert bool(problems) == (format == "json"), "its suffix alone is longer than the photo's"


def test_a_source_and_a_line_of_a_list_that_no_file_can_have(untouched: Project, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no photo, folder, list or zip file"):
        predicted(untouched, tmp_path / ("x" * 300), tmp_path / "out", "png")
    with pytest.raises(UserError, match="There is no photo, folder, list or zip file"):
        predicted(untouched, tmp_path.joinpath(*["deep" * 50] * 30), tmp_path / "out", "png")
    photos_of(untouched, tmp_path / "photos", "a", "z")
    listed = tmp_path / "photos.txt"
    listed.write_text(f"photos/a.png\nphotos/{'x' * 300}.png\n{'d/' * 3000}y.png\nphotos/z.png\n", encoding="utf-8")
    problems = predicted(untouched, [listed], tmp_path / "out", "png")
    assert read_back("png", tmp_path / "out") == {"photos/a", "photos/z"}
    assert len(problems) == 2, problems
    assert all(len(problem) < 1500 for problem in problems)


AGAINST_CVAT = ("#c", "c ", " c", "c\td", "c\nd", "c\u2028d")
"""Names that cannot stand on a line of CVAT's list."""


@pytest.mark.parametrize("format", ["cvat", "coco", "yolo", "label-studio"])
@pytest.mark.skipif(sys.platform == "win32", reason="the system takes no such names")
def test_names_that_a_format_cannot_hold_leave_the_others_done(format: str, untouched: Project, tmp_path: Path) -> None:
    photos = photos_of(untouched, tmp_path / "photos", "a", *AGAINST_CVAT, "z")
    problems = predicted(untouched, photos, tmp_path / "out", format)
    held = () if format == "cvat" else AGAINST_CVAT
    assert read_back(format, tmp_path / "out") == {"a", "z", *held}
    assert len(problems) == len(AGAINST_CVAT) - len(held)
