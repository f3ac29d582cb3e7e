"""What a labeling tool's file may claim: sizes that are not there, runs that wrap, names that lie."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml

from tagseg.errors import UserError
from tagseg.outputs import OUTPUTS, READERS
from tagseg.outputs.polygons import fill
from tagseg.outputs.rle import decode_rle, decompress
from tests.limited import LIMITS, refused

SIDE = 100


def coco(folder: Path, counts: object) -> Path:
    content = {
        "categories": [{"id": 1, "name": "cat"}],
        "images": [{"id": 1, "file_name": "a.jpg", "height": SIDE, "width": SIDE}],
        "annotations": [{"image_id": 1, "category_id": 1, "segmentation": {"counts": counts}}],
    }
    path = folder / "annotations.json"
    path.write_text(json.dumps(content))
    return path


def code(value: int) -> str:
    text, more = "", True
    while more:
        chunk = value & 31
        value >>= 5
        more = value != (-1 if chunk & 16 else 0)
        text += chr((chunk | (32 if more else 0)) + 48)
    return text


@LIMITS
@pytest.mark.parametrize("kind", ["list", "string"])
def test_runs_whose_sum_goes_round_end_in_a_sentence_not_in_a_crash(tmp_path: Path, kind: str) -> None:
    wraps = [2**62, 2**62, 2**62, 2**62 + SIDE * SIDE]
    if kind == "list":
        assert int(np.array(wraps).sum()) == SIDE * SIDE  # what the sum of 64 bits says
        path = coco(tmp_path, wraps)
    else:
        # Differences of 35 bits that add up: the odd runs are 2^33, 2^34, 3 * 2^33 ..., the even ones all alike.
        count = 65_535
        odd = 2**33 * count * (count + 1) // 2
        even, rest = divmod(2**64 - odd, count)
        path = coco(
            tmp_path, code(rest + SIDE * SIDE) + code(2**33) + code(even) + (code(2**33) + code(0)) * (count - 1)
        )
        runs = decompress(json.loads(path.read_text())["annotations"][0]["segmentation"]["counts"])
        assert int(runs.sum()) == SIDE * SIDE  # what the sum of 64 bits says
        assert sum(runs.tolist()) == 2**64 + SIDE * SIDE
    sentence = refused(
        f"list(READERS['coco'](Path({str(path)!r})).masks)", imports="from tagseg.outputs import READERS"
    )
    assert "annotations.json" in sentence
    assert "the runs" in sentence


@pytest.mark.parametrize(
    "counts",
    [
        [[1, 2], [3, 4]],
        [1.5, 9998.5],
        [True, False],
        [2**70, 1],
        "ab\ud800",
        {"a": 1},
        None,
        [None],
        [10001],
        [-1, 10001],
    ],
    ids=repr,
)
def test_counts_of_every_other_kind_are_refused_by_name(tmp_path: Path, counts: object) -> None:
    with pytest.raises(UserError, match=r"annotations\.json: the mask of a\.jpg cannot be read as RLE"):
        list(READERS["coco"](coco(tmp_path, counts)).masks)


def test_runs_of_no_pixel_are_read_wherever_they_stand() -> None:
    mask = decode_rle(np.array([1, 0, 1, 2, 0, 2]), 2, 3)
    assert mask.tolist() == [[False, True, True], [False, True, True]]
    assert decompress(code(0) + code(6)).tolist() == [0, 6]


@LIMITS
def test_a_stroke_that_is_a_number_takes_no_memory(tmp_path: Path) -> None:
    with OUTPUTS["label-studio"](tmp_path, ("background", "cat")) as writer:
        writer.add("a", np.zeros((4, 4, 3), np.uint8), np.ones((4, 4), np.uint8))
    path = tmp_path / "label-studio.json"
    tasks = json.loads(path.read_text())
    for rle in (3_000_000_000, "x" * 100, [0] * 1000, [256], [-1], [1.5], None):
        tasks[0]["predictions"][0]["result"][0]["value"]["rle"] = rle
        path.write_text(json.dumps(tasks))
        with pytest.raises(UserError, match=r"label-studio\.json: the task"):
            list(READERS["label-studio"](tmp_path).masks)
        if rle == 3_000_000_000:
            refused(
                f"list(READERS['label-studio'](Path({str(tmp_path)!r})).masks)",
                imports="from tagseg.outputs import READERS",
            )


def test_more_labels_than_a_mask_holds_are_refused(tmp_path: Path) -> None:
    labels = "".join(f'<Label value="{number}"/>' for number in range(300))
    (tmp_path / "label-studio.xml").write_text(f"<View><BrushLabels>{labels}</BrushLabels></View>")
    (tmp_path / "label-studio.json").write_text("[]")
    with pytest.raises(UserError, match=r"label-studio\.xml has 300 labels"):
        READERS["label-studio"](tmp_path)


@LIMITS
def test_a_polygon_of_very_many_sides_is_filled_in_blocks_or_refused() -> None:
    imports = "from tagseg.outputs.polygons import fill"
    refused(
        """
        zigzag = np.stack([np.arange(400_000) % 7, np.arange(400_000) % 2 * 9000.0], 1)
        try:
            fill([zigzag], 9000, 9000)
        except ValueError as error:
            raise UserError(str(error))
        """,
        above=2 << 30,
        imports=imports,
    )
    # as many crossings as one block and a half, against the sum of both halves
    zigzag = np.stack([np.arange(300) * 0.7 % 53, np.arange(300) % 2 * 5000.0], 1)
    whole = fill([zigzag], 5000, 60)
    parts = [np.stack([zigzag[i], zigzag[(i + 1) % 300], zigzag[0]]) for i in range(300)]
    assert np.array_equal(whole, np.logical_xor.reduce([fill([part], 5000, 60) for part in parts]))


@pytest.mark.parametrize("corner", [1e308, -1e308, np.inf, np.nan, 1e10])
def test_a_corner_beyond_all_pixels_is_refused(corner: float) -> None:
    with pytest.raises(ValueError, match="too far away"):
        fill([np.array([[0, 0], [corner, 5], [5, corner]])], 10, 10)


def test_yolo_lines_far_outside_are_named(tmp_path: Path) -> None:
    with OUTPUTS["yolo"](tmp_path, ("background", "cat")) as writer:
        writer.add("a", np.zeros((4, 4, 3), np.uint8), np.ones((4, 4), np.uint8))
    for line in ("0 1e300 0 1 0 1 1", "0 0 -1e300 1 1e300 1 1", "9" * 5000 + " 0 0 1 0 1 1"):
        (tmp_path / "labels/a.txt").write_text(line)
        with pytest.raises(UserError, match=r"a\.txt, line 1, cannot be read") as caught:
            list(READERS["yolo"](tmp_path).masks)
        assert len(str(caught.value)) < len(str(tmp_path)) + 300


def test_the_names_of_a_yolo_set_may_not_multiply(tmp_path: Path) -> None:
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n"
    for above, name in zip("abcdefgh", "bcdefghi", strict=True):
        bomb += f"{name}: &{name} [{', '.join(['*' + above] * 9)}]\n"
    (tmp_path / "data.yaml").write_text(bomb + "names: {0: *i}\n")
    with pytest.raises(UserError, match="alias") as caught:
        READERS["yolo"](tmp_path)
    assert len(str(caught.value)) < len(str(tmp_path)) + 300
    (tmp_path / "data.yaml").write_text(f"names: {{0: {[['x' * 1000] * 100] * 10}}}\n")
    with pytest.raises(UserError, match="is no text") as caught:
        READERS["yolo"](tmp_path)
    assert len(str(caught.value)) < len(str(tmp_path)) + 300


@pytest.mark.parametrize("line", ["cat", "cat:1,2", "cat:300,0,0", "cat:-1,0,0", "cat:" + "9" * 5000 + ",0,0"])
def test_a_bad_line_of_the_map_of_colors_is_named(tmp_path: Path, line: str) -> None:
    with zipfile.ZipFile(tmp_path / "cvat.zip", "w") as archive:
        archive.writestr("labelmap.txt", f"background:0,0,0::\n{line}\n")
    with pytest.raises(UserError, match=r"cvat\.zip: labelmap\.txt cannot be read: .* is not `name:r,g,b::`"):
        READERS["cvat"](tmp_path)


def test_a_zip_of_a_packing_nobody_reads_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cvat.zip"
    for method in (zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2):
        with zipfile.ZipFile(path, "w", method) as archive:
            archive.writestr("labelmap.txt", "background:0,0,0::\n" * 50)
        content = bytearray(path.read_bytes())
        content[45:60] = b"\xff" * 15  # inside the packed bytes
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"cvat\.zip"):
            READERS["cvat"](tmp_path)


NAMES = ["a", "images/b", "train/images/c", "images/images/d", "my-images/e", "x/labels/f", "images/train/images/g/h"]


def yolo_set(out: Path) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    masks = {}
    with OUTPUTS["yolo"](out, ("background", "cat", "dog")) as writer:
        for name in NAMES:
            masks[name] = np.zeros((40, 60), np.uint8)
            y, x = rng.integers(2, 15, 2)
            masks[name][y : y + 20, x : x + 25] = rng.integers(1, 3)
            writer.add(name, np.zeros((40, 60, 3), np.uint8), masks[name])
    return masks


def test_labels_lie_where_ultralytics_looks_for_them_and_come_back(tmp_path: Path) -> None:
    masks = yolo_set(tmp_path)
    assert "path" not in yaml.safe_load((tmp_path / "data.yaml").read_text())
    photos = sorted((tmp_path / "images").rglob("*.jpg"))
    assert len(photos) == len(NAMES)
    for photo in photos:
        # Ultralytics' img2label_paths: the last /images/ of the path becomes /labels/
        label = Path("/labels/".join(str(photo).rsplit("/images/", 1)).rsplit(".", 1)[0] + ".txt")
        assert label.read_text().startswith(("0 ", "1 "))
    stored = dict(READERS["yolo"](tmp_path).masks)
    assert stored.keys() == masks.keys()
    assert all(np.array_equal(stored[name], masks[name]) for name in masks)
    assert all((tmp_path / path).is_file() for name in NAMES for path in OUTPUTS["yolo"].paths(name))


def test_a_set_with_labels_in_the_former_place_is_still_read(tmp_path: Path) -> None:
    masks = yolo_set(tmp_path)
    for new, former in (("images/train/labels/c", "labels/train/images/c"), ("images/labels/b", "labels/images/b")):
        (tmp_path / former).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{new}.txt").rename(tmp_path / f"{former}.txt")
    stored = dict(READERS["yolo"](tmp_path).masks)
    assert all(np.array_equal(stored[name], masks[name]) for name in masks)


@pytest.mark.slow
def test_ultralytics_opens_the_set_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ultralytics")  # not among the development packages: it brings its own OpenCV
    from ultralytics.data import YOLODataset
    from ultralytics.data.utils import check_det_dataset

    masks = yolo_set(tmp_path / "set")
    for place in (tmp_path, tmp_path / "set", tmp_path / "set/images"):
        monkeypatch.chdir(place)
        data = check_det_dataset(str(tmp_path / "set/data.yaml"), autodownload=False)
        assert data["names"] == {0: "cat", 1: "dog"}
        found = YOLODataset(img_path=data["train"], data=data, task="segment", augment=False)
        assert len(found.labels) == len(masks)
        for label in found.labels:
            name = Path(label["im_file"]).relative_to(tmp_path / "set/images").with_suffix("").as_posix()
            (k,) = label["cls"].ravel()
            assert k + 1 == masks[name].max(), name
            (polygon,) = label["segments"]
            filled = fill([polygon * [60, 40]], 40, 60)
            assert np.array_equal(filled, masks[name] > 0), name
