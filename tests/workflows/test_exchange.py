"""Masks out to labeling tools and back, and between all formats."""

import json
from contextlib import closing
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
from tagseg.review.proposals import FolderProposals, ModelProposals
from tagseg.review.session import Session
from tagseg.workflows.exchange import SOURCES, convert, export_tasks, import_masks
from tests.review.photos import SIZE, segmenter, write_masks, write_photos

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
    if tool == "label-studio":
        assert import_masks(tmp_path / "tasks", review, read_as=tool, images=photos).unannotated == 3
        assert read_verdicts(review) == {}, "predictions are nobody's corrections"
        file = tmp_path / "tasks" / "label-studio.json"
        tasks = json.loads(file.read_text(encoding="utf-8"))
        for task in tasks:
            task["annotations"] = task.pop("predictions")
        file.write_text(json.dumps(tasks), encoding="utf-8")
    assert import_masks(tmp_path / "tasks", review, read_as=tool, images=photos).done == 3
    same({name: read_mask(review / "masks" / f"{name}.png") for name in masks}, masks)
    assert {verdict.state for verdict in read_verdicts(review).values()} == {"accepted"}
    again = import_masks(tmp_path / "tasks", review, read_as=tool, images=photos)
    assert (again.done, again.unchanged) == (0, 3)


def test_tasks_take_the_classes_from_the_list_beside_the_masks(tmp_path, photos, masks) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match="--classes"):
        export_tasks(tmp_path / "masks", photos, tmp_path / "tasks", to="cvat")
    for tool, text in (("label-studio", "background\ncat\ndog\n"), ("cvat", "cat\ndog\n")):
        (tmp_path / "masks" / "classes.txt").write_text(text, encoding="utf-8")
        assert export_tasks(tmp_path / "masks", photos, tmp_path / tool, to=tool).done == 3
        stored = READERS[tool](tmp_path / tool)
        assert stored.classes == CLASSES
        same(dict(stored.masks), masks)


def test_a_list_beside_masks_names_their_values_in_every_command(tmp_path, photos, masks) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "masks" / "classes.txt").write_text("background\ndog\ncat\n", encoding="utf-8")
    assert convert(tmp_path / "masks", tmp_path / "coco", read_as="masks", to="coco").done == 3
    assert READERS["coco"](tmp_path / "coco").classes == ("background", "dog", "cat")
    Journal(tmp_path / "review", CLASSES).close()
    assert import_masks(tmp_path / "masks", tmp_path / "review", read_as="masks", images=photos).done == 3
    swapped = np.array([0, 2, 1], np.uint8)
    same({name: read_mask(tmp_path / "review" / "masks" / f"{name}.png") for name in masks},
         {name: swapped[mask] for name, mask in masks.items()})  # fmt: skip
    # names that are given go before the list's
    assert convert(tmp_path / "masks", tmp_path / "named", read_as="masks", to="cvat", classes=CLASSES).done == 3
    assert READERS["cvat"](tmp_path / "named").classes == CLASSES


def test_the_list_beside_masks_goes_before_the_order_of_a_table(tmp_path, photos, masks, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    Path("masks/classes.txt").write_text("background\ndog\ncat\n", encoding="utf-8")
    Path("tags.csv").write_text("file,tags\na.png,cat\nsub/b c.png,dog\nsub/d.png,cat\n", encoding="utf-8")
    app(["export-tasks", "masks", "--images", "photos", "--tags", "tags.csv"], standalone_mode=False)
    assert READERS["label-studio"](Path("tasks")).classes == ("background", "dog", "cat")


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


@pytest.mark.parametrize("address", ["https://host/photos/sub/1.jpg", "/data/upload/3/sub/1.jpg", "/data/x/1.jpg"])
def test_a_task_is_of_the_photo_that_its_whole_address_ends_with(tmp_path, address) -> None:  # type: ignore[no-untyped-def]
    for name in ("1", "sub/1"):
        path = tmp_path / "photos" / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 7)).save(path)
    mask = np.eye(7, 9, dtype=np.uint8)
    (tmp_path / "masks").mkdir()
    write_mask(tmp_path / "masks" / "1.png", mask)
    export_tasks(tmp_path / "masks", tmp_path / "photos", tmp_path / "tasks", to="label-studio", classes=CLASSES)
    file = tmp_path / "tasks" / "label-studio.json"
    (task,) = json.loads(file.read_text(encoding="utf-8"))
    task["data"] = {"image": address}
    task["annotations"] = [{"was_cancelled": False, "result": regions(mask, CLASSES)}]
    file.write_text(json.dumps([task]), encoding="utf-8")
    import_masks(tmp_path / "tasks", tmp_path / "review", read_as="label-studio", images=tmp_path / "photos")
    assert list(read_verdicts(tmp_path / "review")) == ["sub/1" if "sub" in address else "1"]


def test_photos_are_found_by_names_whose_accents_stand_apart(tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (9, 7)).save(tmp_path / "photos" / "caf\xe9.png")
    with OUTPUTS["coco"](tmp_path / "coco", CLASSES) as writer:
        writer.add("x", np.zeros((7, 9, 3), np.uint8), np.eye(7, 9, dtype=np.uint8), file_name="cafe\u0301.png")
    done = convert(tmp_path / "coco", tmp_path / "png", read_as="coco", to="png", images=tmp_path / "photos")
    assert (done.done, done.problems) == (1, [])
    assert (tmp_path / "png" / "caf\xe9.png").is_file()
    assert (tmp_path / "png" / "classes.txt").read_text(encoding="utf-8") == "background\ncat\ndog\n"


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


def tasks_of(folder: Path, *tasks: dict[str, object]) -> Path:
    """Tasks as Label Studio exports them, beside the interface."""
    OUTPUTS["label-studio"](folder, CLASSES).close()
    (folder / "label-studio.json").write_text(json.dumps(tasks), encoding="utf-8")
    return folder


def task(file: str, *results: dict[str, object], **data: object) -> dict[str, object]:
    return {"data": {"image": f"/data/local-files/?d={file}", **data}, "annotations": [{"result": list(results)}]}


def test_a_task_that_is_no_mask_is_named_and_the_others_are_taken(tmp_path, photos, masks) -> None:  # type: ignore[no-untyped-def]
    polygon = {"type": "polygonlabels", "value": {"points": [], "polygonlabels": ["cat"]}}
    tasks = tasks_of(
        tmp_path / "tasks",
        task("photos/sub/d.png", polygon, name="sub/d", width=11, height=7),
        task("photos/a.png"),  # nothing in it, and no size: that of the photo whose name ends the address
        task("photos/sub/b%20c.png", *regions(masks["sub/b c"], CLASSES)),
    )
    result = import_masks(tasks, tmp_path / "review", read_as="label-studio", images=photos)
    assert result.done == 2
    (problem,) = result.problems
    assert "sub/d has a region of the kind 'polygonlabels'" in problem
    assert sorted(read_verdicts(tmp_path / "review")) == ["a", "sub/b c"]
    assert not read_mask(tmp_path / "review" / "masks" / "a.png").any()


def test_ticks_of_another_control_are_no_tags(tmp_path, photos, masks) -> None:  # type: ignore[no-untyped-def]
    good = choices(["good"], id="q", from_name="quality")
    tasks = tasks_of(
        tmp_path / "tasks",
        task("photos/a.png", *regions(masks["a"], CLASSES), good),
        task("photos/sub/d.png", *regions(masks["sub/d"], CLASSES), choices(["dog"], id="t"), good),
        task("photos/sub/b%20c.png", *regions(masks["sub/b c"], CLASSES), choices(["cow"], id="t")),
    )
    result = import_masks(tasks, tmp_path / "review", read_as="label-studio", images=photos)
    verdicts = read_verdicts(tmp_path / "review")
    assert {name: verdict.tags for name, verdict in verdicts.items()} == {"a": None, "sub/d": ("dog",)}
    assert "sub/b c has the tag cow, which the review of cat, dog does not know" in result.problems[0]


def test_choices_that_are_no_tags_lose_no_mask(tmp_path, photos, masks) -> None:  # type: ignore[no-untyped-def]
    kept = regions(masks["a"], CLASSES)
    for name, asked, ticked, tags in (
        ("quality", ("blurry", "sharp"), ["blurry"], None),  # under tagseg's name, of another question
        ("none", ("cat", "dog", "none"), ["none"], ()),
        ("some", ("cat", "dog", "none"), ["dog", "none"], ("dog",)),
    ):
        tasks = tasks_of(tmp_path / name, task("photos/a.png", *kept, choices(ticked, id="t")))
        interface = tasks / "label-studio.xml"
        own = "".join(f'<Choice value="{value}"/>' for value in asked)
        question = f'<Choices name="tags" toName="image">{own}</Choices></View>'
        interface.write_text(interface.read_text(encoding="utf-8").replace("</View>", question), encoding="utf-8")
        review = tmp_path / f"review-{name}"
        result = import_masks(tasks, review, read_as="label-studio", images=photos)
        assert (result.done, result.problems) == (1, [])
        assert read_verdicts(review)["a"].tags == tags


def test_an_imported_mask_is_a_persons_as_a_whole(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 2)
    proposed = write_masks(tmp_path / "proposed", photos)
    corrected, fixed = tmp_path / "corrected", np.full(SIZE, 2, np.uint8)
    corrected.mkdir()
    for photo in photos:
        write_mask(corrected / f"{photo.name}.png", fixed)
    names, folder = ("background", "green", "blue"), tmp_path / "review"

    def opened() -> Session:
        proposals = FolderProposals(proposed, names, {}, ModelProposals(segmenter(), folder / "proposed", names))
        return Session(folder, photos, proposals)

    with closing(opened()) as session:  # a stroke from before the import
        stroke = np.zeros(SIZE, np.uint8)
        stroke[:5] = 1
        session.paint(1, np.where(stroke > 0, 1, session.mask(1)[0]).astype(np.uint8), stroke, 0)
    assert import_masks(corrected, folder, read_as="masks", images=tmp_path / "photos", classes=names).done == 2
    with closing(opened()) as session:
        for number in range(2):
            session.look(number)
            session.retag(number, ["blue"], session.mask(number)[2])
            assert (read_mask(folder / "masks" / f"p{number}.png") == fixed).all()


@pytest.mark.parametrize("to", ["png", "folders", "yolo"])
def test_masks_of_other_classes_are_not_mixed_in_a_folder(tmp_path, photos, masks, to) -> None:  # type: ignore[no-untyped-def]
    given = {"read_as": "masks", "to": to, "images": photos}
    for _ in range(2):
        convert(tmp_path / "masks", tmp_path / "out", classes=CLASSES, **given)
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=f"{tmp_path / 'out'} holds masks of other classes"):
        convert(tmp_path / "masks", tmp_path / "out", classes=("background", "dog", "cat"), **given)
    assert before == {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}


@pytest.mark.parametrize("to", ["coco", "label-studio", "cvat"])
def test_what_an_earlier_call_wrote_outlasts_one_that_fails(tmp_path, photos, masks, to) -> None:  # type: ignore[no-untyped-def]
    out = tmp_path / "out"
    convert(tmp_path / "masks", out, read_as="masks", to=to, images=photos, classes=CLASSES)
    before = {path.name: path.read_bytes() for path in out.glob("[!.]*")}
    (tmp_path / "empty").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "empty" / "other.png")
    other = ("background", "dog", "cat")
    with pytest.raises(UserError, match="No mask could be written"):
        convert(tmp_path / "masks", out, read_as="masks", to=to, images=tmp_path / "empty", classes=other)
    (tmp_path / "masks" / "sub" / "d.png").write_bytes(b"broken")
    with pytest.raises(UserError, match=r"d\.png"):
        convert(tmp_path / "masks", out, read_as="masks", to=to, images=photos, classes=other)
    assert before == {path.name: path.read_bytes() for path in out.glob("[!.]*")}


def test_folders_of_other_tools_may_list_their_classes_without_background(tmp_path, photos, masks) -> None:  # type: ignore[no-untyped-def]
    convert(tmp_path / "masks", tmp_path / "out", read_as="masks", to="folders", images=photos, classes=CLASSES)
    for text in ("cat\ndog\n", "__background__\ncat\ndog\n"):
        (tmp_path / "out" / "classes.txt").write_text(text, encoding="utf-8")
        stored = READERS["folders"](tmp_path / "out")
        assert stored.classes == CLASSES
        same(dict(stored.masks), masks)
    (tmp_path / "out" / "labels.txt").write_text("dog\ncat\n", encoding="utf-8")  # of something else
    (tmp_path / "out" / "classes.txt").write_text("cat\ndog\n", encoding="utf-8")
    assert READERS["folders"](tmp_path / "out").classes == CLASSES


def test_the_mask_of_a_photos_very_name_goes_before_one_in_a_folder(tmp_path, photos, masks) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "masks" / "a-before").mkdir()
    write_mask(tmp_path / "masks" / "a-before" / "a.png", np.zeros((7, 9), np.uint8))
    (tmp_path / "masks" / "1-before").mkdir()
    write_mask(tmp_path / "masks" / "1-before" / "a.png", np.zeros((7, 9), np.uint8))
    result = import_masks(tmp_path / "masks", tmp_path / "review", read_as="masks", images=photos, classes=CLASSES)
    assert result.done == 3
    assert [problem.partition(" is ")[0] for problem in result.problems] == ["1-before/a", "a-before/a"]
    assert (read_mask(tmp_path / "review" / "masks" / "a.png") == masks["a"]).all()


def test_names_that_no_training_takes_make_no_review(tmp_path, photos, masks) -> None:  # type: ignore[no-untyped-def]
    convert(tmp_path / "masks", tmp_path / "coco", read_as="masks", to="coco", classes=CLASSES)
    path = tmp_path / "coco" / "annotations.json"
    for name in ("none", "dog"):
        path.write_text(
            path.read_text(encoding="utf-8").replace('"name": "cat"', f'"name": "{name}"'), encoding="utf-8"
        )
        with pytest.raises(UserError, match=name):
            import_masks(tmp_path / "coco", tmp_path / "review", read_as="coco", images=photos)
        assert not (tmp_path / "review").exists()
        path.write_text(
            path.read_text(encoding="utf-8").replace(f'"name": "{name}"', '"name": "cat"', 1), encoding="utf-8"
        )


def test_a_photo_has_one_mask_and_a_mask_one_photo(tmp_path, photos, masks) -> None:  # type: ignore[no-untyped-def]
    first, second = np.zeros((7, 9), np.uint8), np.ones((7, 9), np.uint8)
    # two tasks of one photo
    tasks = tasks_of(
        tmp_path / "tasks",
        task("photos/a.png", *regions(first, CLASSES), name="a", width=9, height=7),
        task("other/a.png", *regions(second, CLASSES), choices(["dog"], id="t")),
    )
    for found in (
        import_masks(tasks, tmp_path / "review", read_as="label-studio", images=photos),
        convert(tasks, tmp_path / "from-tasks", read_as="label-studio", to="coco", images=photos),
    ):
        assert found.done == 1
        assert found.problems == ["other/a is a second mask of a, which has the mask a; keep one of the two"]
    assert not read_mask(tmp_path / "review" / "masks" / "a.png").any()
    assert read_verdicts(tmp_path / "review")["a"].tags is None
    # two images whose names differ in their suffix
    with OUTPUTS["coco"](tmp_path / "coco", CLASSES) as writer:
        for file, mask in (("a.jpg", first), ("a.png", second)):
            writer.add("a", np.zeros((7, 9, 3), np.uint8), mask, file_name=file)
    result = convert(tmp_path / "coco", tmp_path / "png", read_as="coco", to="png")
    assert (result.done, len(result.problems)) == (1, 1)
    same(dict(READERS["png"](tmp_path / "png").masks), {"a": first})
    # two photos of one name
    Image.new("RGB", (9, 7)).save(photos / "a.jpg")
    result = import_masks(tmp_path / "masks", tmp_path / "other", read_as="masks", images=photos, classes=CLASSES)
    assert result.done == 2
    assert "a has two photos, a.jpg and a.png, in" in result.problems[0]


def test_a_value_without_a_class_is_named(tmp_path, masks) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match=r"holds the value 2, but there are 2 classes .* --classes"):
        convert(tmp_path / "masks", tmp_path / "coco", read_as="masks", to="coco", classes=CLASSES[:2])


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

    def left(folder: Path) -> list[str]:
        return export_tasks(folder, tmp_path / "photos", tmp_path / "few", to="label-studio").problems

    assert sent() == ["p0", "p1", "p2", "p3"]
    assert sent("later", "rejected") == ["p1", "p2"]
    with pytest.raises(UserError, match="no state 'done'"):
        sent("done")
    assert sent("later") == ["p1"]
    (task,) = json.loads((tmp_path / "tasks" / "label-studio.json").read_text())
    assert task["predictions"][0]["result"][-1]["value"] == {"choices": ["blue"]}
    # of a folder of masks without a model, what was not accepted lies in that folder alone
    masks = write_masks(tmp_path / "made", photos)
    session = Session(tmp_path / "other", photos, FolderProposals(masks, session.classes, {}))
    session.decide(0, "accepted", 0)
    session.decide(1, "later", 0)
    session.close()
    (problem,) = left(tmp_path / "other")
    assert problem.startswith(f"p1 is later, and {tmp_path / 'other'} has no mask of it")


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
