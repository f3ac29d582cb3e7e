"""Masks keep their numbers, whatever their files look like; numbers that mean something else are named."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from tagseg.data.check import check_photos
from tagseg.data.mask_numbers import TagTable
from tagseg.data.masks import read_mask
from tagseg.data.palette import PALETTE, write_mask
from tagseg.data.sources import DataSettings, open_sources
from tagseg.data.tagged import open_tagged
from tagseg.data.voc import open_voc
from tagseg.errors import UserError
from tagseg.workflows.evaluate import evaluate
from tagseg.workflows.refine import Refinement, refine_folder

Make = Callable[..., Path]
BANDS = np.repeat(np.arange(4, dtype=np.uint8), 12)[:, None].repeat(32, axis=1)  # (48, 32): 0, 1, 2, 3


def png(path: Path, values: np.ndarray, depth: int) -> Path:
    """A gray PNG of `depth` bits a pixel, which Pillow itself does not write."""
    bits = np.unpackbits(values[..., None], axis=-1)[..., 8 - depth :].reshape(len(values), -1)
    rows = b"".join(b"\0" + row.tobytes() for row in np.packbits(bits, axis=1))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], depth, 0, 0, 0, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )
    return path


def palette_png(path: Path, indices: np.ndarray, colors: object) -> Path:
    image = Image.fromarray(indices.astype(np.uint8), mode="P")
    image.putpalette(np.asarray(colors, np.uint8).tobytes())
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_gray_of_few_bits_is_not_stretched(tmp_path: Path, depth: int) -> None:
    values = BANDS % 2**depth if depth < 8 else BANDS
    assert np.array_equal(read_mask(png(tmp_path / "a.png", values, depth)), values)
    fifteen = np.arange(16, dtype=np.uint8)[None].repeat(2, axis=0)
    assert np.array_equal(read_mask(png(tmp_path / "b.png", fifteen, 4)), fifteen)


@pytest.mark.parametrize("photometric", ["miniswhite", "minisblack"])
def test_tiffs_store_numbers_whatever_white_is(tmp_path: Path, photometric: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", BANDS, photometric=photometric)
    assert np.array_equal(read_mask(tmp_path / "a.tif"), BANDS)
    tifffile.imwrite(tmp_path / "b.tif", BANDS > 1, photometric=photometric)
    assert np.array_equal(read_mask(tmp_path / "b.tif"), (BANDS > 1).astype(int))


def test_a_palette_of_grays_that_a_program_renumbered(tmp_path: Path) -> None:
    order = np.array([2, 0, 3, 1])  # the place of each number in the palette
    grays = np.zeros(4, np.uint8)
    grays[order] = range(4)
    path = palette_png(tmp_path / "a.png", order[BANDS], np.repeat(grays[:, None], 3, 1))
    assert np.array_equal(read_mask(path), BANDS)
    with_255 = palette_png(tmp_path / "b.png", BANDS.clip(0, 2), [[0] * 3, [7] * 3, [255] * 3])
    assert np.unique(read_mask(with_255)).tolist() == [0, 7, 255]


def test_palettes_that_only_show_classes_keep_their_indices(tmp_path: Path) -> None:
    for name, colors in {
        "from dark to light": [[v] * 3 for v in (0, 85, 170, 255)],
        "colors": [[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]],
        "voc": PALETTE,
        "voc with one entry changed": [[0, 0, 0], [0, 128, 0], [128, 0, 0], [1, 2, 3]],
    }.items():
        assert np.array_equal(read_mask(palette_png(tmp_path / f"{name}.png", BANDS, colors)), BANDS), name
    black_white = palette_png(tmp_path / "bw.png", BANDS > 0, [[0] * 3, [255] * 3])
    assert np.array_equal(read_mask(black_white), (BANDS > 0).astype(int))


def test_a_palette_of_voc_s_colors_that_a_program_renumbered(tmp_path: Path) -> None:
    meant = np.array([0, 8, 15, 255])  # background, cat, person, outline
    path = palette_png(tmp_path / "a.png", BANDS, PALETTE[meant])
    assert np.array_equal(read_mask(path), meant[BANDS])
    path = palette_png(tmp_path / "b.png", BANDS > 1, [[0, 0, 0], [0, 0, 128]])  # navy: VOC's 4, or someone's own 1
    with pytest.raises(UserError, match=r"has VOC's colors of 0, 4 under the numbers 0, 1; save it as 8-bit gray"):
        read_mask(path)


def test_grays_in_disorder_are_refused(tmp_path: Path) -> None:
    path = palette_png(tmp_path / "a.png", BANDS, [[v] * 3 for v in (0, 200, 100, 255)])
    with pytest.raises(UserError, match=r"palette of grays \(0, 200, 100, 255\) unlike its indices \(0, 1, 2, 3\)"):
        read_mask(path)


def test_evaluate_reads_masks_of_few_bits_and_renumbered_palettes(tmp_path: Path) -> None:
    png(tmp_path / "truth" / "a.png", BANDS, 2)
    order = np.array([3, 1, 2, 0])
    palette_png(tmp_path / "masks" / "a.png", order[BANDS], [[3] * 3, [1] * 3, [2] * 3, [0] * 3])
    result = evaluate(tmp_path / "masks", tmp_path / "truth", classes=("a", "b", "c"))
    assert result.scores.miou == 1
    assert evaluate(tmp_path / "masks", tmp_path / "truth").classes == ("background", "class 1", "class 2", "class 3")


@pytest.fixture
def objects_as_255(photos: Make, table: Make, tmp_path: Path) -> tuple[Path, Path, Path]:
    images = photos("a.png", "b.png")
    (tmp_path / "masks").mkdir()
    for name in ("a", "b"):
        mask = np.zeros((40, 48), np.uint8)
        mask[5:20, 5:20] = 255
        Image.fromarray(mask).save(tmp_path / "masks" / f"{name}.png")
    return images, table("file,tags\na,cat\nb,cat\n"), tmp_path / "masks"


def test_objects_stored_as_255_are_refused_everywhere(objects_as_255: tuple[Path, Path, Path], tmp_path: Path) -> None:
    images, tags, masks = objects_as_255
    sentence = "hold only 0 and 255, and 255 means ignored; if it stands for objects, store the number"
    [problem] = [p for p in check_photos(images, tags, masks=masks).problems if p.fatal]
    assert sentence in problem.text
    with pytest.raises(UserError, match=sentence):  # what supervised training and scores read
        open_sources(DataSettings(format="tagged", root=images, tags=tags, masks=masks), tmp_path)
    (tmp_path / "empty").mkdir()
    for name in ("a", "b"):
        write_mask(tmp_path / "empty" / f"{name}.png", np.zeros((40, 48), np.uint8))
    with pytest.raises(UserError, match=sentence):
        refine_folder(masks, images, tmp_path / "refined", Refinement(iterations=1), workers=1)
    assert not (tmp_path / "refined").exists()
    for masks_of, truth in ((tmp_path / "empty", masks), (masks, tmp_path / "empty")):
        with pytest.raises(UserError, match=sentence):
            evaluate(masks_of, truth, classes=("cat",))


def test_outlines_of_255_beside_classes_are_as_ever(objects_as_255: tuple[Path, Path, Path], tmp_path: Path) -> None:
    images, tags, masks = objects_as_255
    mask = np.zeros((40, 48), np.uint8)
    mask[5:20, 5:20], mask[6:19, 6:19] = 255, 1
    Image.fromarray(mask).save(masks / "b.png")
    assert check_photos(images, tags, masks=masks).problems == []
    opened = open_sources(DataSettings(format="tagged", root=images, tags=tags, masks=masks), tmp_path)
    assert opened.train.notes == ()


def test_a_class_that_tags_promise_and_no_mask_holds(photos: Make, table: Make, tmp_path: Path) -> None:
    images, tags = photos("a.png", "b.png", "c.png"), table("file,tags\na,cat\nb,dog\nc,dog\n")
    (tmp_path / "masks").mkdir()
    for name in ("a", "b", "c"):
        write_mask(tmp_path / "masks" / f"{name}.png", np.ones((40, 48), np.uint8))
    sentence = "no mask of the 2 photos tagged dog holds that class; check the order of the classes"
    result = check_photos(images, tags, masks=tmp_path / "masks")
    assert [sentence in problem.text for problem in result.problems] == [True]
    assert result.ok
    opened = open_sources(DataSettings(format="tagged", root=images, tags=tags, masks=tmp_path / "masks"), tmp_path)
    assert sentence in opened.train.notes[0]


@pytest.fixture
def without_dogs(photos: Make, table: Make, tmp_path: Path) -> Path:
    """Photos of which two are tagged dog, and masks that hold a cat alone; the table names the photos with suffixes."""
    photos("a.png", "b.png", "c.png")
    table("file,tags\na.png,cat\nmasks/b.png,dog\nc.jpg,dog\n")
    (tmp_path / "masks").mkdir()
    for name in ("a", "b", "c"):
        mask = np.zeros((40, 48), np.uint8)
        mask[5:20, 5:20] = 1
        write_mask(tmp_path / "masks" / f"{name}.png", mask)
    return tmp_path


def test_evaluate_names_a_class_that_tags_promise_and_no_truth_holds(without_dogs: Path) -> None:
    masks, tags = without_dogs / "masks", TagTable(without_dogs / "tags.csv")
    sentence = "no mask of the 2 photos tagged dog holds that class; check the order of the classes"
    result = evaluate(masks, masks, tags=tags)
    assert result.classes == ("background", "cat", "dog")
    assert [sentence in note for note in result.notes] == [True]
    assert (
        sentence.replace("dog", "cat").replace("2 photos", "1 photo")
        in evaluate(masks, masks, classes=("dog", "cat"), tags=tags).notes[0]
    )
    named = evaluate(masks, masks, classes=("cat", "dog", "cow")).notes
    assert [note.split("; where")[0] for note in named] == [f"no mask of {masks} holds dog, cow"]
    assert evaluate(masks, masks, classes=("cat",)).notes == evaluate(masks, masks).notes == ()


def test_refine_names_a_class_that_tags_promise_and_no_mask_holds(without_dogs: Path) -> None:
    said: list[object] = []

    def refined(out: str, tags: TagTable | None) -> int:
        return refine_folder(
            without_dogs / "masks", without_dogs / "images", without_dogs / out, Refinement(iterations=1),
            workers=1, tags=tags, say=said.append,
        )  # fmt: skip

    assert refined("one", None) == 3
    assert said == []
    assert refined("two", TagTable(without_dogs / "tags.csv")) == 3
    assert ["no mask of the 2 photos tagged dog holds that class" in str(text) for text in said] == [True]
    (without_dogs / "two" / "b.png").unlink()
    assert refined("two", TagTable(without_dogs / "tags.csv")) == 1
    assert len(said) == 1, "of some of the masks nothing can be said"
    (without_dogs / "masks" / "classes.txt").write_text("background\ndog\ncat\n", encoding="utf-8")
    assert refined("three", TagTable(without_dogs / "tags.csv")) == 3
    assert "no mask of the 1 photo tagged cat holds that class" in str(said[-1]), (
        "the list beside the masks has the order"
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("file,tags\nx,cat\n", "names none of the masks"),
        ("file,tags\na,cat\na,cat dog\n", "stands in row 2 already"),
        ("file,tags\n../a,cat\n", "leads outside|names none of the masks"),
    ],
)
def test_a_table_that_does_not_fit_the_masks_is_named(without_dogs: Path, text: str, sentence: str) -> None:
    (without_dogs / "tags.csv").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=sentence):
        evaluate(without_dogs / "masks", without_dogs / "masks", tags=TagTable(without_dogs / "tags.csv"))


def test_masks_of_which_none_has_a_photo_s_name(photos: Make, table: Make, tmp_path: Path) -> None:
    images, tags = photos("0.png", "1.png"), table("file,tags\n0,cat\n1,dog\n")
    (tmp_path / "masks").mkdir()
    for name in ("0_mask", "1_mask"):
        write_mask(tmp_path / "masks" / f"{name}.png", np.ones((40, 48), np.uint8))
    with pytest.raises(UserError, match=r"no mask of any photo; .* such as 0\.png; it holds 0_mask\.png, 1_mask\.png"):
        open_tagged(images, tags, masks=tmp_path / "masks")


def voc(root: Path, stored: dict[str, np.ndarray]) -> Path:
    (root / "ImageSets" / "Segmentation").mkdir(parents=True)
    (root / "ImageSets" / "Segmentation" / "train.txt").write_text("\n".join(stored), encoding="utf-8")
    for folder in ("JPEGImages", "SegmentationClass"):
        (root / folder).mkdir()
    for seed, (name, mask) in enumerate(stored.items()):
        noise = np.random.default_rng(seed).integers(0, 256, (*mask.shape[:2], 3), np.uint8)
        Image.fromarray(noise).save(root / "JPEGImages" / f"{name}.jpg")
        if mask.ndim == 2:
            write_mask(root / "SegmentationClass" / f"{name}.png", mask)
        else:
            Image.fromarray(mask).save(root / "SegmentationClass" / f"{name}.png")
    return root


def tags_of(root: Path) -> list[list[str]]:
    data = open_voc(root, "train")
    return [[data.classes[tag - 1] for tag in photo.tags] for photo in data.photos]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labels.txt", "__ignore__\n_background_\ncat\ndog\n"),  # labelme
        ("class_names.txt", "_background_\ncat\ndog\n"),  # what labelme2voc writes
        ("labels.txt", "cat\ndog\n"),
        ("classes.txt", "\ufeffBackground\r\ncat\r\ndog\r\n"),
        ("labels.txt", "0 background\n1 cat\n2 dog\n"),
        ("labels.txt", "1: cat\n2: dog\n"),
        ("labelmap.txt", "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:128,0,0::\ndog:0,128,0::\n"),  # CVAT
    ],
)
def test_lists_of_classes_give_the_numbers_their_names(tmp_path: Path, name: str, text: str) -> None:
    root = voc(tmp_path / "voc", {"a": np.full((40, 40), 1, np.uint8), "b": np.full((40, 40), 2, np.uint8)})
    (root / name).write_text(text, encoding="utf-8")
    assert open_voc(root, "train").classes == ("cat", "dog")
    assert tags_of(root) == [["cat"], ["dog"]]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("unlabeled\ncat\ndog\n", "begins with 'unlabeled'; if masks store it as 0, call it background"),
        ("bg\ncat\n", "begins with 'bg'"),
        ("cat\ndog\nbackground\n", "has 'background' in place 3, but masks store background as 0; put it first"),
        ("0 cat\n1 dog\n", "gives the number 0 to 'cat', but masks store background as 0"),
        ("background\n", "is empty; write one class a line"),
    ],
)
def test_lists_that_leave_numbers_open_are_refused(tmp_path: Path, text: str, sentence: str) -> None:
    root = voc(tmp_path / "voc", {"a": np.full((40, 40), 1, np.uint8)})
    (root / "labels.txt").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=sentence):
        open_voc(root, "train")


def test_cvat_s_masks_in_the_colors_of_its_labelmap(tmp_path: Path) -> None:
    """CVAT and Datumaro export masks as RGB, in an order of classes of their own."""
    mask = np.zeros((40, 40, 3), np.uint8)
    mask[10:20], mask[20:30] = (250, 50, 83), (0, 128, 0)
    root = voc(tmp_path / "voc", {"a": mask})
    text = "# label:color_rgb:parts:actions\ncat:250,50,83::\nbackground:0,0,0::\ndog:0,128,0::\n"
    (root / "labelmap.txt").write_text(text, encoding="utf-8")
    data = open_voc(root, "train")
    assert data.classes == ("cat", "dog")
    assert tags_of(root) == [["cat", "dog"]]
    stored = data.mask(0)
    assert stored is not None
    assert stored[[0, 15, 25], 0].tolist() == [0, 1, 2]
    assert evaluate(_predicted(tmp_path, stored), root, split="train").scores.miou == 1
    mask[0] = (1, 2, 3)
    Image.fromarray(mask).save(root / "SegmentationClass" / "a.png")
    with pytest.raises(UserError, match="holds the color 1, 2, 3, which no class has"):
        open_voc(root, "train")


def _predicted(tmp_path: Path, mask: np.ndarray) -> Path:
    (tmp_path / "predicted").mkdir()
    write_mask(tmp_path / "predicted" / "a.png", mask)
    return tmp_path / "predicted"


@pytest.mark.parametrize("outline", [False, True])
def test_palettes_in_the_colors_of_a_labelmap_are_read_by_color_with_an_outline_too(
    tmp_path: Path, outline: bool
) -> None:
    mask = np.zeros((40, 40), np.uint8)
    mask[10:20] = 1
    if outline:
        mask[9] = mask[20] = 255
    root = voc(tmp_path / "voc", {"a": np.zeros((40, 40), np.uint8)})
    write_mask(root / "SegmentationClass" / "a.png", mask)  # 1 is 128,0,0 in VOC's palette
    (root / "labelmap.txt").write_text("background:0,0,0::\ncat:0,128,0::\ndog:128,0,0::\n", encoding="utf-8")
    data = open_voc(root, "train")
    assert tags_of(root) == [["dog"]]
    stored = data.mask(0)
    assert stored is not None
    assert stored[[0, 9, 15], 0].tolist() == [0, 255 if outline else 0, 2]
    mask[30:] = 3  # 128,128,0
    write_mask(root / "SegmentationClass" / "a.png", mask)
    with pytest.raises(UserError, match="holds the color 128, 128, 0, which no class has"):
        open_voc(root, "train")


@pytest.mark.parametrize("white", [(255, 255, 255), (90, 90, 90), (255, 0, 0)])
def test_the_index_255_is_ignored_whatever_its_color(tmp_path: Path, white: tuple[int, int, int]) -> None:
    palette = PALETTE.copy()
    palette[[1, 2, 255]] = (250, 50, 83), (50, 183, 250), white
    mask = np.zeros((40, 40), np.uint8)
    mask[10:20], mask[20:30], mask[30] = 1, 2, 255
    root = voc(tmp_path / "voc", {"a": np.zeros((40, 40), np.uint8)})
    write_mask(root / "SegmentationClass" / "a.png", mask, palette=palette)
    lines = "background:0,0,0::\ncat:250,50,83::\ndog:50,183,250::\nvoid:255,255,255::\n"
    (root / "labelmap.txt").write_text(lines, encoding="utf-8")
    stored = open_voc(root, "train").mask(0)
    assert stored is not None
    assert stored[[0, 15, 25, 30], 0].tolist() == [0, 1, 2, 255]


def test_a_palette_that_shares_a_color_with_a_labelmap_by_its_number_counts_by_index(tmp_path: Path) -> None:
    mask = np.zeros((40, 40), np.uint8)
    mask[10:20], mask[20:30] = 1, 2
    root = voc(tmp_path / "voc", {"a": mask})
    (root / "labelmap.txt").write_text("background:0,0,0::\ncat:128,0,0::\ndog:50,183,250::\n", encoding="utf-8")
    stored = open_voc(root, "train").mask(0)
    assert stored is not None
    assert stored[[0, 15, 25], 0].tolist() == [0, 1, 2]


@pytest.mark.parametrize("values", [(0, 7, 56), (7, 56), (0, 7, 56, 63)])
def test_masks_whose_colors_are_grays_are_read_as_they_were_written(tmp_path: Path, values: tuple[int, ...]) -> None:
    mask = np.resize(np.array(values, np.uint8), (8, 8))
    write_mask(tmp_path / "a.png", mask)
    assert np.array_equal(read_mask(tmp_path / "a.png"), mask)
