import io
import json

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from tagseg.data.mask_numbers import TagTable
from tagseg.data.palette import write_mask
from tagseg.errors import UserError
from tagseg.workflows.evaluate import evaluate, table, write_json

SIZE = (12, 16)


def mask(value, rows=slice(3, 9)):
    result = np.zeros(SIZE, np.uint8)
    result[rows, 4:12] = value
    return result


def write(folder, masks):
    for name, values in masks.items():
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_mask(path, values)
    return folder


@pytest.fixture
def truth(tmp_path):
    return write(tmp_path / "truth", {"a b": mask(1), "sub/c,d": mask(2), "猫": mask(1)})


@pytest.fixture
def masks(tmp_path):
    # The second misses the lower half of its object.
    return write(tmp_path / "masks", {"a b": mask(1), "sub/c,d": mask(2, slice(3, 6)), "猫": mask(1), "more": mask(1)})


def shown(result):
    console = Console(width=500, file=io.StringIO())
    console.print(table(result))
    return console.file.getvalue()


def test_folders(masks, truth):
    result = evaluate(masks, truth, classes=["cat", "[dog]"], labels_used="image-level tags only")
    assert result.classes == ("background", "cat", "[dog]")
    background = (3 * 12 * 16 - 3 * 48) / (3 * 12 * 16 - 3 * 48 + 24)
    assert result.scores.iou.tolist() == [background, 1, 0.5]
    assert result.photos["猫"] == 1
    assert result.photos["sub/c,d"] < 0.8
    text = shown(result)
    for words in ("mIoU 81.58", "[dog]", "50.00", "3 photos", "image-level tags only", "boundary IoU"):
        assert words in text


def test_classes_are_numbered_when_not_named(masks, truth):
    assert evaluate(masks, truth).classes == ("background", "class 1", "class 2")
    assert "not stated" in shown(evaluate(masks, truth))


@pytest.mark.parametrize("beside", ["masks", "truth"])
def test_a_list_beside_the_masks_names_their_numbers_and_not_the_table(tmp_path, masks, truth, beside):
    tags = TagTable(tmp_path / "tags.csv")
    tags.file.write_text("file,tags\na b,horse\n猫,horse\n", encoding="utf-8")
    (tmp_path / beside / "classes.txt").write_text("background\nhorse\ncow\n", encoding="utf-8")
    result = evaluate(masks, truth, tags=tags)
    assert result.classes == ("background", "horse", "cow")
    assert result.notes == ()
    assert evaluate(masks, truth, tags=tags, classes=["horse", "cat"]).classes == ("background", "horse", "cat")


@pytest.mark.parametrize("tagged", [False, True])
def test_lists_in_another_order_are_matched_by_name(tmp_path, truth, masks, tagged):
    expected = evaluate(masks, truth).scores.miou
    (truth / "classes.txt").write_text("background\ncat\ndog\n", encoding="utf-8")
    swapped = write(tmp_path / "swapped", {name: mask(2) for name in ("a b", "猫")} | {"sub/c,d": mask(1, slice(3, 6))})
    (swapped / "classes.txt").write_text("background\ndog\ncat\n", encoding="utf-8")
    tags = TagTable(tmp_path / "tags.csv") if tagged else None
    (tmp_path / "tags.csv").write_text(
        "file,tags\na b,cat\nsub/c.d,dog\n猫,cat\n".replace("c.d", '"sub/c,d"'), encoding="utf-8"
    )
    result = evaluate(swapped, truth, tags=tags)
    assert result.classes == ("background", "cat", "dog")
    assert result.scores.miou == expected
    for given in (["dog", "cat"], ["cat", "dog"]):  # one of the lists has another order
        with pytest.raises(UserError, match="leave --classes out"):
            evaluate(swapped, truth, classes=given)
    (swapped / "classes.txt").write_text("background\ndog\ncat\ncow\n", encoding="utf-8")
    write(swapped, {"a b": mask(3)})
    with pytest.raises(UserError, match=r"a b\.png holds the class cow, which is not among .* cat, dog"):
        evaluate(swapped, truth)


def test_a_list_beside_masks_is_followed_against_a_voc_folder(tmp_path):
    root = voc(tmp_path / "voc")
    masks = write(tmp_path / "masks", {"x": mask(2), "y": mask(1), "z": mask(3)})
    (masks / "classes.txt").write_text("background\ncrab\nant\nbee\n", encoding="utf-8")
    assert evaluate(masks, root, split="val").scores.miou == 1


def test_gaps_are_reported(tmp_path, truth, masks):
    write(masks, {"a b": np.where(mask(1) == 1, 255, 0).astype(np.uint8)})
    result = evaluate(masks, truth, classes=["cat", "dog"])
    assert result.scores.iou[1] == 0.5
    assert "leave 8.33 of the pixels open" in shown(result)


def test_json_round_trip(tmp_path, masks, truth):
    result = evaluate(masks, truth, classes=["cat", "dog"], boundary=False)
    write_json(result, tmp_path / "scores.json")
    stored = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert stored["miou"] == round(100 * result.scores.miou, 4)
    assert stored["confusion"] == result.scores.confusion.tolist()
    assert stored["photo_miou"]["猫"] == 100
    assert [path.name for path in tmp_path.glob("*.tmp")] == []


def voc(root):
    """Two photos of three classes, in the VOC layout, lists apart."""
    (root / "JPEGImages").mkdir(parents=True)
    for name in ("x", "y", "z"):
        Image.new("RGB", SIZE[::-1]).save(root / "JPEGImages" / f"{name}.jpg")
    with_border = mask(3)
    with_border[2] = 255
    write(root / "SegmentationClass", {"x": mask(1), "y": with_border, "z": mask(2)})
    (root / "labels.txt").write_text("ant\nbee\ncrab\n", encoding="utf-8")
    (root / "ImageSets" / "Segmentation").mkdir(parents=True)
    (root / "ImageSets" / "Segmentation" / "val.txt").write_text("x\ny\nz\n", encoding="utf-8")
    (root / "ImageSets" / "Segmentation" / "one.txt").write_text("y\n", encoding="utf-8")
    return root


def test_voc_with_a_class_subset(tmp_path):
    root = voc(tmp_path / "voc")
    # In the run's order crab is 1 and ant is 2; bee counts as background.
    masks = write(tmp_path / "masks", {"x": mask(2), "y": mask(1), "z": mask(0)})
    result = evaluate(masks, root, split="val", classes=["crab", "ant"])
    assert result.classes == ("background", "crab", "ant")
    assert result.scores.miou == 1
    assert evaluate(masks, root, split="one", classes=["crab", "ant"]).scores.photos == 1
    with pytest.raises(UserError, match="--split"):
        evaluate(masks, root)


def refused(sentence, *args, **kwargs):
    with pytest.raises(UserError, match=sentence):
        evaluate(*args, **kwargs)


def test_mistakes_are_named(tmp_path, masks, truth):
    refused("nowhere does not exist", tmp_path / "nowhere", truth)
    (tmp_path / "empty").mkdir()
    refused("empty holds no true masks", masks, tmp_path / "empty")
    refused("the value 2, but there are 2 classes", masks, truth, classes=["cat"])
    refused("twice", masks, truth, classes=["cat", "cat"])
    (masks / "a b.png").unlink()
    refused("lacks the masks of 1 of 3 photos: a b;", masks, truth)
    write(masks, {"a b": np.zeros((5, 6), np.uint8)})
    refused("a b.png is 6 x 5 pixels, but its truth .* is 16 x 12 pixels", masks, truth)
    Image.new("RGB", SIZE[::-1]).save(masks / "a b.png")
    refused("has mode RGB", masks, truth)


def test_a_stray_value_in_voc_truth_is_named(tmp_path):
    root = voc(tmp_path / "voc")
    masks = write(tmp_path / "masks", {"x": mask(1)})
    (root / "tags.csv").write_text("file,tags\nx.jpg,ant\n", encoding="utf-8")
    (root / "ImageSets" / "Segmentation" / "val.txt").write_text("x\n", encoding="utf-8")
    write(root / "SegmentationClass", {"x": mask(9)})
    refused("the value 9", masks, root, split="val")


def test_false_alarms_in_photos_without_an_object_are_counted(tmp_path):
    nothing, ignored = mask(0), np.where(mask(1) > 0, np.uint8(255), np.uint8(0))
    truth = write(tmp_path / "truth", {"a": mask(1), "b": nothing, "c": nothing, "d": ignored, "e": mask(2)})
    masks = write(tmp_path / "masks", {"a": mask(1), "b": nothing, "c": mask(2), "d": ignored, "e": nothing})
    result = evaluate(masks, truth)
    assert (result.bare, result.left_bare) == (3, 2)
    assert "Photos without an object: 3, of which 2 have an empty mask." in shown(result)
    assert result.classes_miou == np.mean(result.scores.iou[1:])
    facts = result.as_dict()
    assert (facts["bare"], facts["left_bare"]) == (3, 2)
    assert facts["classes_miou"] == pytest.approx(100 * result.classes_miou, abs=1e-4)
    assert "without an object" not in shown(
        evaluate(write(tmp_path / "one", {"a": mask(1)}), write(tmp_path / "t", {"a": mask(1)}))
    )
