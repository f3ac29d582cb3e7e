"""Masks out to labeling tools and back, and between all formats."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tagseg.cli import app
from tagseg.data.palette import write_mask
from tagseg.data.photo import read_mask
from tagseg.data.review_journal import Journal, read_verdicts
from tagseg.errors import UserError
from tagseg.outputs import OUTPUTS, READERS
from tagseg.outputs.label_studio import choices, regions
from tagseg.review.proposals import ModelProposals
from tagseg.review.session import Session
from tagseg.workflows.exchange import SOURCES, convert, export_tasks, import_masks
from tests.review.photos import segmenter, write_photos

CLASSES = ("background", "cat", "dog")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for number, name in enumerate(("a", "sub/b c", "sub/d")):
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9 + number, 7)).save(path)
    return folder


@pytest.fixture
def masks(tmp_path: Path) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    found = {}
    for number, name in enumerate(("a", "sub/b c", "sub/d")):
        found[name] = rng.integers(0, 3, (7, 9 + number)).astype(np.uint8)
        path = tmp_path / "masks" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_mask(path, found[name])
    return found


def same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert sorted(found) == sorted(expected)
    for name, mask in expected.items():
        assert np.array_equal(found[name], mask), name


@pytest.mark.parametrize("through", sorted(SOURCES))
@pytest.mark.parametrize("to", ["png", "folders", "coco", "yolo", "label-studio", "cvat"])
def test_every_format_becomes_every_other(tmp_path, photos, masks, through, to) -> None:  # type: ignore[no-untyped-def]
    first = {"masks": "png"}.get(through, through)
    convert(tmp_path / "masks", tmp_path / "one", read_as="masks", to=first, images=photos, classes=CLASSES)
    result = convert(tmp_path / "one", tmp_path / "two", read_as=through, to=to, images=photos, classes=CLASSES)
    assert (result.done, result.problems) == (3, [])
    stored = READERS[to](tmp_path / "two")
    assert stored.classes in ((), CLASSES)
    same(dict(stored.masks), masks)


@pytest.mark.parametrize("tool", ["label-studio", "cvat"])
def test_masks_go_to_a_tool_and_come_back(tmp_path, photos, masks, tool) -> None:  # type: ignore[no-untyped-def]
    result = export_tasks(tmp_path / "masks", photos, tmp_path / "tasks", to=tool, classes=CLASSES)
    assert result.done == 3
    review = tmp_path / "review"
    assert import_masks(tmp_path / "tasks", review, read_as=tool, images=photos).done == 3
    same({name: read_mask(review / "masks" / f"{name}.png") for name in masks}, masks)
    assert {verdict.state for verdict in read_verdicts(review).values()} == {"accepted"}
    again = import_masks(tmp_path / "tasks", review, read_as=tool, images=photos)
    assert (again.done, again.unchanged) == (0, 3)


def test_tasks_take_the_classes_from_the_list_beside_the_masks(tmp_path, photos, masks) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match="--classes"):
        export_tasks(tmp_path / "masks", photos, tmp_path / "tasks", to="cvat")
    (tmp_path / "masks" / "classes.txt").write_text("\n".join(["background", *CLASSES]) + "\n", encoding="utf-8")
    assert export_tasks(tmp_path / "masks", photos, tmp_path / "tasks", to="cvat").done == 3


def test_a_table_ticks_tags_and_never_orders_the_classes(tmp_path, photos, masks, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    Path("tags.csv").write_text("file,tags\na.png,horse\nsub/d.png,cow;horse\n", encoding="utf-8")
    words = ["export-tasks", "masks", "--images", "photos", "--tags", "tags.csv", "--out", "tasks"]
    with pytest.raises(UserError, match="--classes"):
        app(words, standalone_mode=False)
    Path("masks/classes.txt").write_text("background\nhorse\ncow\n", encoding="utf-8")
    app(words, standalone_mode=False)
    stored = READERS["label-studio"](tmp_path / "tasks")
    assert stored.classes == ("background", "horse", "cow")
    same(dict(stored.masks), masks)
    ticked = [
        task["predictions"][0]["result"][-1]["value"]
        for task in json.loads(Path("tasks/label-studio.json").read_text())
    ]
    assert ticked[0] == {"choices": ["horse"]}
    Path("tags.csv").write_text("file,tags\na.png,hen\n", encoding="utf-8")
    with pytest.raises(UserError, match="hen"):
        app(words, standalone_mode=False)


def test_label_studio_s_export_comes_back_with_tags_and_without_skipped_tasks(tmp_path, photos, masks) -> None:  # type: ignore[no-untyped-def]
    export_tasks(
        tmp_path / "masks", photos, tmp_path / "tasks", to="label-studio", classes=CLASSES, tags={"a": ["cat"]}
    )
    file = tmp_path / "tasks" / "label-studio.json"
    tasks = json.loads(file.read_text(encoding="utf-8"))
    assert [task["data"]["image"].partition("?d=")[2] for task in tasks] == [
        "photos/a.png", "photos/sub/b%20c.png", "photos/sub/d.png"
    ]  # fmt: skip
    corrected = 2 - masks["a"]
    for task in tasks:  # as exported: no name of ours, predictions by number
        del task["data"]["name"]
        task["predictions"] = [1]
    tasks[0]["annotations"] = [
        {"was_cancelled": False, "result": [*regions(corrected, CLASSES), choices(["dog"], id="t")]}
    ]
    tasks[1]["annotations"] = [{"was_cancelled": True, "result": []}]
    tasks[2]["annotations"] = [{"was_cancelled": False, "result": regions(masks["sub/d"], CLASSES)}]
    file.write_text(json.dumps(tasks), encoding="utf-8")
    review = tmp_path / "review"
    assert import_masks(tmp_path / "tasks", review, read_as="label-studio", images=photos).done == 2
    verdicts = read_verdicts(review)
    assert sorted(verdicts) == ["a", "sub/d"]
    assert verdicts["a"].tags == ("dog",)
    assert verdicts["sub/d"].tags is None
    assert np.array_equal(read_mask(review / "masks" / "a.png"), corrected)


def test_what_does_not_fit_is_named_and_the_rest_taken(tmp_path, photos, masks) -> None:  # type: ignore[no-untyped-def]
    with OUTPUTS["coco"](tmp_path / "coco", ("background", "dog", "cow", "cat")) as writer:
        for name, mask in {
            "a": np.where(masks["a"] == 1, 3, np.where(masks["a"] == 2, 1, 0)).astype(np.uint8),
            "nowhere": masks["a"],
            "sub/d": masks["a"],
            "sub/b c": np.full((7, 10), 2, np.uint8),
        }.items():
            writer.add(name, np.zeros((*mask.shape, 3), np.uint8), mask)
    Journal(tmp_path / "review", CLASSES).close()
    result = import_masks(tmp_path / "coco", tmp_path / "review", read_as="coco", images=photos)
    assert result.done == 1
    text = "\n".join(result.problems)
    assert "nowhere is the name of no photo" in text
    assert "sub/d has 9 x 7 pixels, but its photo 11 x 7" in text
    assert "sub/b c has the class cow" in text
    # classes go by their names, not by their numbers
    assert np.array_equal(read_mask(tmp_path / "review" / "masks" / "a.png"), masks["a"])


def test_photos_of_a_review_go_to_a_tool_by_their_state(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 4)
    folder = tmp_path / "review"
    session = Session(folder, photos, ModelProposals(segmenter(), folder / "proposed"))
    for number in range(4):
        session.look(number)
    session.decide(0, "accepted", 0)
    session.retag(1, ["blue"], 0)
    session.decide(1, "later", 1)
    session.decide(2, "rejected", 0)
    session.close()

    def sent(*states: str) -> list[str]:
        export_tasks(folder, tmp_path / "photos", tmp_path / "tasks", to="label-studio", states=states)
        return sorted(dict(READERS["label-studio"](tmp_path / "tasks").masks))

    assert sent() == ["p0", "p1", "p2", "p3"]
    assert sent("later", "rejected") == ["p1", "p2"]
    with pytest.raises(UserError, match="no state 'done'"):
        sent("done")
    assert sent("later") == ["p1"]
    (task,) = json.loads((tmp_path / "tasks" / "label-studio.json").read_text())
    assert task["predictions"][0]["result"][-1]["value"] == {"choices": ["blue"]}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["export-tasks", "masks", "--images", "photos", "--to", "paper"], "no tool 'paper'"),
        (["export-tasks", "masks", "--images", "photos"], "--classes"),
        (["export-tasks", "masks", "--images", "photos", "--classes", "cat,dog", "--state", "later"], "no folder of a review"),
        (["import", "masks", "--images", "photos", "--from", "masks"], "--classes"),
        (["import", "nothing", "--images", "photos", "--from", "masks"], "does not exist"),
        (["convert", "masks", "--from", "paper", "--to", "coco"], "no format 'paper'"),
        (["convert", "masks", "--from", "masks", "--to", "yolo", "--classes", "cat,dog"], "--images"),
        (["convert", "photos", "--from", "masks", "--to", "coco", "--classes", "cat"], "class indices"),
    ],
)  # fmt: skip
def test_mistakes_are_said(tmp_path, photos, masks, monkeypatch, arguments, said) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=said):
        app(arguments, standalone_mode=False)
    assert not (tmp_path / "review").exists()


def test_the_commands(tmp_path, photos, masks, monkeypatch, capsys) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    names = ["--classes", "cat,dog"]
    app(
        ["export-tasks", "masks", "--images", "photos", "--to", "cvat", "--out", "tasks", *names], standalone_mode=False
    )
    app(["import", "tasks", "--images", "photos", "--from", "cvat"], standalone_mode=False)
    app(["convert", "tasks", "--from", "cvat", "--to", "coco"], standalone_mode=False)
    assert "3 masks taken into review" in " ".join(capsys.readouterr().out.split())
    same(dict(READERS["coco"](tmp_path / "converted").masks), masks)
