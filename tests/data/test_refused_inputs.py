"""Foreign data sets: nothing is believed, nothing is quadratic before its limit, nothing is printed raw."""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from tagseg.data.check import check_photos, table, write_problems
from tagseg.data.paths import inside, lies_inside
from tagseg.data.tagged import check_classes, open_tagged
from tagseg.data.text import clean, name_flaw
from tagseg.data.voc import open_voc
from tagseg.data.voc_xml import object_names
from tagseg.errors import UserError
from tests.limited import LIMITS, refused

Make = Callable[..., Path]


def cpu(what: Callable[[], object]) -> float:
    start = time.process_time()
    what()
    return time.process_time() - start


def test_many_different_tags_are_refused_at_once(photos: Make, table: Make) -> None:
    """A column of captions: the number of classes is looked at before anything that grows with its square."""
    names = [f"caption {i}" for i in range(200_000)]

    def refuse() -> None:
        with pytest.raises(UserError, match="there are 200,000 classes, but masks hold at most 253; they begin with"):
            check_classes(names)

    assert cpu(refuse) < 1
    images = photos("a.png")
    path = table("file,tags\n" + "a.png," + ";".join(names[:40_000]) + "\n")

    def read() -> None:
        with pytest.raises(UserError, match="there are 40,000 classes"):
            open_tagged(images, path)

    assert cpu(read) < 5


def test_many_unknown_tags_are_compared_at_once(photos: Make, table: Make) -> None:
    images = photos(*(f"{i}.png" for i in range(50)))
    classes = tuple(f"class {i}" for i in range(250))
    path = table("file,tags\n" + "".join(f"{i}.png,{';'.join(['clas'] * 2000)};clas{i}x\n" for i in range(50)))
    found: list[object] = []
    assert cpu(lambda: found.extend(check_photos(images, path, classes=classes).problems)) < 20
    assert len(found) > 50


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("<a>" * 1_000_000, "is nested more than 20 deep"),
        ("<annotation><object><name>" + "\n" * 2_000_000 + "cat</name>", "has a name of more than 1000 characters"),
        ("<annotation><object><name>" + "x" * 2_000_000 + "</name>", "has a name of more than 1000 characters"),
        ("<annotation>" + "<object>" * 30, "is nested more than 20 deep"),
        ("", "cannot be read as an annotation of PASCAL VOC"),
        ("\0" * 100, "cannot be read as an annotation of PASCAL VOC"),
    ],
)
def test_annotations_that_take_for_ever(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "a.xml").write_text(text, encoding="utf-8")

    def read() -> None:
        with pytest.raises(UserError, match=sentence):
            object_names(tmp_path / "a.xml")

    assert cpu(read) < 3


def test_names_of_objects_and_of_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(
        "<annotation><filename>a</filename><object><name>\n cat&amp;dog </name><part><name>head</name></part></object>"
        "<object><pose/><name>cow</name></object><name>none</name><object><name>cow</name></object></annotation>",
        encoding="utf-8",
    )
    assert object_names(tmp_path / "a.xml") == ("cat&dog", "cow")


@LIMITS
@pytest.mark.parametrize("what", ["tags", "list", "annotation", "labels"])
def test_endless_files_are_refused(tmp_path: Path, what: str) -> None:
    """Links to /dev/zero in a data set of someone else would be read until memory ends."""
    root = tmp_path / "voc"
    for folder in ("JPEGImages", "ImageSets/Segmentation", "Annotations"):
        (root / folder).mkdir(parents=True)
    (root / "JPEGImages" / "a.jpg").write_bytes(b"x")
    (root / "ImageSets" / "Segmentation" / "train.txt").write_text("a\n")
    place = {
        "tags": root / "tags.csv",
        "list": root / "ImageSets" / "Segmentation" / "train.txt",
        "annotation": root / "Annotations" / "a.xml",
        "labels": root / "labels.txt",
    }[what]
    place.unlink(missing_ok=True)
    place.symlink_to("/dev/zero")
    code = f"""
    from tagseg.data.voc import open_voc
    open_voc(Path({str(root)!r}), "train", tags={str(place) if what == "tags" else None!r})
    """
    said = refused(code, imports="import tagseg.data.voc", seconds=90)
    assert ("train.txt does not exist" if what == "list" else "is no regular file") in said, said


@pytest.mark.parametrize(
    "written",
    [
        "../a",
        "a/../../b",
        "..\\a",
        "/etc/passwd",
        "C:\\a",
        "C:a",
        "\\\\host\\share\\a",
        "//host/a",
        "a\0b",
        "~root/../a",
    ],
)
def test_what_leads_outside(tmp_path: Path, written: str) -> None:
    assert inside(written) is None
    assert inside(written, [tmp_path]) is None


def test_what_stays_inside(tmp_path: Path) -> None:
    assert inside(" ./a//b\\c ") == "a/b/c"
    assert inside("cafe\u0301") == "caf\u00e9"
    assert inside(f"{tmp_path}/a/b.jpg", [tmp_path]) == "a/b.jpg"
    assert inside(f"{tmp_path}x/b.jpg", [tmp_path]) is None
    assert inside("...") == "..."
    assert lies_inside(tmp_path / "absent" / "b", tmp_path)
    assert not lies_inside(tmp_path.parent / "b", tmp_path)


@pytest.mark.parametrize(
    ("name", "flaw"),
    [
        ("", "is empty"),
        ("Background", "means a photo without tags"),
        ("(ignore)", "is what masks call ignored pixels"),
        ("cat\ndog", "holds a line break"),
        ("\x1b]0;title\x07", "holds a line break or another control character"),
        ("caf\udce9", "is not valid Unicode"),
        ("x" * 201, "has 201 characters"),
    ],
)
def test_names_that_no_class_can_have(name: str, flaw: str) -> None:
    assert flaw in str(name_flaw(name))
    with pytest.raises(UserError):
        check_classes(("dog", name))


@pytest.mark.parametrize("name", ["[/red]", "[bold]", "a:b", "#1", "katze & hund", "고양이", "nan", "0", "cat's", "🐱"])
def test_names_that_a_class_may_have(name: str) -> None:
    assert name_flaw(clean(name)) is None
    assert check_classes((name, "dog")) == (name, "dog")


def test_names_that_one_format_alone_refuses_are_said(photos: Make, table: Make) -> None:
    result = check_photos(photos("a.png", "b.png"), table("file,tags\na.png,car:red\nb.png,#1\n"))
    assert result.ok
    assert [problem.text[:46] for problem in result.problems] == [
        "class '#1' cannot be exported to CVAT, whose l",
        "class 'car:red' cannot be exported to CVAT, wh",
    ]


def test_one_form_of_names() -> None:
    written = ["caf\u00e9", "cafe\u0301", " caf\u00e9\u00a0", "caf\u00e9\u200b", "\ufeffcaf\u00e9", "ca\u00adf\u00e9"]
    assert {clean(name) for name in written} == {"caf\u00e9"}
    assert clean("traffic\u3000\u2003light") == clean("traffic\u2028light") == "traffic light"
    with pytest.raises(UserError, match="stands twice"):
        check_classes(("caf\u00e9", "cafe\u0301"))


def test_folders_whose_names_are_no_text(tmp_path: Path, photos: Make) -> None:
    images = photos("cat/1.png", "x/2.png")
    try:
        (images / "x").rename(os.fsdecode(os.fsencode(images) + b"/K\xfche"))
    except OSError:
        pytest.skip("this disk takes no such names")
    for read in (open_tagged, check_photos):
        with pytest.raises(UserError, match="is not valid Unicode text; rename it"):
            read(images)


def test_control_characters_of_names_never_reach_the_terminal(photos: Make, tmp_path: Path) -> None:
    images = photos("a.png")
    try:
        (images / "b\x1b[31m.png").write_bytes(b"x")
    except OSError:
        pytest.skip("this disk takes no such names")
    (images / "tags.csv").write_text("file,tags\na.png,cat\nb\x1b[31m.png,dog\n", encoding="utf-8")
    console = Console(record=True, width=200, file=open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123
    result = check_photos(images, images / "tags.csv")
    console.print(table(result))
    assert "\x1b" not in console.export_text(styles=False)
    assert all("\x1b" not in problem.text for problem in result.problems)


def test_all_problems_go_to_a_file(photos: Make, tmp_path: Path) -> None:
    images = photos("a.png", *(f"x{i}.png" for i in range(9)))
    (tmp_path / "tags.csv").write_text(
        "file,tags\na.png,cat\n" + "".join(f"=1+{i}.png,cat\n" for i in range(30)), encoding="utf-8"
    )
    result = check_photos(images, tmp_path / "tags.csv")
    console = Console(record=True, width=200, file=open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123
    console.print(table(result))
    shown = console.export_text(styles=False)
    assert "and 25 more (list: --out problems.csv)" in shown
    assert "x0.png, x1.png, x2.png, x3.png, x4.png and 4 more have no row among the tags" in shown
    write_problems(result, tmp_path / "problems.csv")
    with (tmp_path / "problems.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert len(rows) == 1 + len(result.problems) == 32
    assert all(not cell.startswith(("=", "+", "-", "@")) for row in rows for cell in row)
    write_problems(result, tmp_path / "problems.csv")  # its own list may be renewed
    before = (tmp_path / "tags.csv").read_bytes()
    with pytest.raises(UserError, match="holds something else than a list of problems"):
        write_problems(result, tmp_path / "tags.csv")
    assert (tmp_path / "tags.csv").read_bytes() == before


def test_files_of_one_name_in_two_folders_are_told_apart(photos: Make) -> None:
    images = photos("cat/1.png", "dog/1.png")
    (images / "dog" / "1.png").write_bytes((images / "cat" / "1.png").read_bytes())
    [problem] = check_photos(images).problems
    assert problem.text == "dog/1.png is the same file as cat/1.png, with different tags; keep one of them"


def test_a_list_of_voc_never_leads_outside(tmp_path: Path) -> None:
    root = tmp_path / "voc"
    (root / "ImageSets" / "Segmentation").mkdir(parents=True)
    (root / "JPEGImages").mkdir()
    for line in ("../secret", "C:\\secret", "//host/secret", "a/../../secret"):
        (root / "ImageSets" / "Segmentation" / "train.txt").write_text(line + "\n", encoding="utf-8")
        with pytest.raises(UserError, match=r"train\.txt, line 1: .* leads outside the folder"):
            open_voc(root, "train")


def test_every_command_that_reads_tags_has_the_same_options() -> None:
    from typer.main import get_command

    from tagseg.cli import app

    commands = get_command(app).commands  # type: ignore[attr-defined]
    wanted = {"--tags", "--classes", "--separator", "--file-column", "--tags-column"}
    for name in ("check", "train", "run", "label", "predict"):
        assert wanted <= {option for param in commands[name].params for option in param.opts}, name
