"""The dense CRF over a folder."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tagseg.data.palette import write_mask
from tagseg.data.photo import read_mask
from tagseg.errors import UserError
from tagseg.refine import dense_crf, probabilities_from_labels
from tagseg.workflows.refine import Refinement, refine_folder
from tests.refine.test_lattice import photo_like

HOW = Refinement((3.0, 3.0), (30.0, 10.0, 4.0), 5)


def folders(root: Path, count: int = 3) -> tuple[Path, Path, Path]:
    masks, images = root / "masks", root / "images"
    for i in range(count):
        folder = "deep" if i == 1 else "."
        (masks / folder).mkdir(parents=True, exist_ok=True)
        (images / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo_like(24, 30, i)).save(images / folder / f"{i}.png")
        mask = np.zeros((24, 30), np.uint8)
        mask[8 + i : 18, 10:22] = 7
        mask[0, 0] = 255
        write_mask(masks / folder / f"{i}.png", mask)
    return masks, images, root / "out"


def test_masks_are_refined_as_by_hand(tmp_path: Path) -> None:
    masks, images, out = folders(tmp_path)
    assert refine_folder(masks, images, out, HOW) == 3
    mask = read_mask(masks / "deep/1.png")
    compact = np.select([mask == 0, mask == 7], [0, 1], 255)
    marginals = dense_crf(photo_like(24, 30, 1), probabilities_from_labels(compact, 2), **HOW.kernels())
    np.testing.assert_array_equal(read_mask(out / "deep/1.png"), 7 * marginals.argmax(0))


def test_probabilities_are_refined(tmp_path: Path) -> None:
    _, images, out = folders(tmp_path, 1)
    maps = np.random.default_rng(0).random((3, 24, 30), np.float32)
    (tmp_path / "maps").mkdir()
    np.save(tmp_path / "maps/0.npy", maps)
    assert refine_folder(tmp_path / "maps", images, out, HOW) == 1
    marginals = dense_crf(photo_like(24, 30, 0), maps, **HOW.kernels())
    np.testing.assert_array_equal(read_mask(out / "0.png"), marginals.argmax(0))


@pytest.mark.parametrize("what", ["masks", "images"])
def test_masks_of_other_masks_or_photos_are_refined_anew(what: str, tmp_path: Path) -> None:
    masks, images, out = folders(tmp_path)
    refine_folder(masks, images, out, HOW)
    shutil.copytree(tmp_path / what, tmp_path / "other", copy_function=shutil.copyfile)
    place = {"masks": masks, "images": images} | {what: tmp_path / "other"}
    assert refine_folder(place["masks"], place["images"], out, HOW) == 0, "copies are the same"
    file = tmp_path / "other" / "0.png"
    file.write_bytes((tmp_path / what / "2.png").read_bytes())
    assert refine_folder(place["masks"], place["images"], out, HOW) == 1
    refine_folder(place["masks"], place["images"], tmp_path / "fresh", HOW)
    np.testing.assert_array_equal(read_mask(out / "0.png"), read_mask(tmp_path / "fresh" / "0.png"))
    mask = read_mask(out / "0.png")
    write_mask(out / "0.png", np.zeros_like(mask))  # by hand
    file.write_bytes((tmp_path / what / "deep/1.png").read_bytes())
    with pytest.raises(UserError, match=r"0\.png has been changed since tagseg wrote it"):
        refine_folder(place["masks"], place["images"], out, HOW)


def test_finished_masks_are_left_alone(tmp_path: Path) -> None:
    masks, images, out = folders(tmp_path)
    refine_folder(masks, images, out, HOW)
    before = (out / "2.png").stat().st_mtime_ns
    (out / "0.png").unlink()
    assert refine_folder(masks, images, out, HOW, workers=2) == 1
    assert (out / "2.png").stat().st_mtime_ns == before
    assert refine_folder(masks, images, out, HOW, overwrite=True) == 3


def test_a_mask_of_one_label_or_none_stays(tmp_path: Path) -> None:
    masks, images, out = folders(tmp_path, 3)
    unsure = np.where(np.arange(30) < 12, 255, np.zeros((24, 1), np.uint8)).astype(np.uint8)
    write_mask(masks / "2.png", unsure)
    write_mask(masks / "0.png", np.full((24, 30), 4, np.uint8))
    write_mask(masks / "deep/1.png", np.full((24, 30), 255, np.uint8))
    refine_folder(masks, images, out, HOW)
    assert (read_mask(out / "0.png") == 4).all()
    assert (read_mask(out / "deep/1.png") == 255).all()
    assert np.array_equal(read_mask(out / "2.png"), unsure)  # what nobody knows does not become background


def test_bad_files_are_named_and_the_rest_is_done(tmp_path: Path) -> None:
    masks, images, out = folders(tmp_path)
    (images / "0.png").unlink()
    with pytest.raises(UserError, match=r"1 of 3 files.*no photo"):
        refine_folder(masks, images, out, HOW)
    assert (out / "2.png").is_file()
    (masks / "0.png").unlink()
    write_mask(masks / "2.png", np.zeros((5, 5), np.uint8))
    with pytest.raises(UserError, match="5 x 5"):
        refine_folder(masks, images, out, HOW, overwrite=True)


@pytest.mark.parametrize("content", [b"", b"not an array", None])
def test_arrays_that_are_none_are_refused(tmp_path: Path, content: bytes | None) -> None:
    _, images, out = folders(tmp_path, 1)
    (tmp_path / "maps").mkdir()
    if content is None:
        np.save(tmp_path / "maps/0.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    else:
        (tmp_path / "maps/0.npy").write_bytes(content)
    with pytest.raises(UserError, match="cannot be read as an array"):
        refine_folder(tmp_path / "maps", images, out, HOW)


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    with pytest.raises(UserError, match=r"no \.png masks"):
        refine_folder(tmp_path / "masks", tmp_path / "images", tmp_path / "out", HOW)
    with pytest.raises(UserError, match="not a folder"):
        refine_folder(tmp_path / "nothing", tmp_path / "images", tmp_path / "out", HOW)


def npy(header: str, data: bytes = b"\0" * 64, version: bytes = b"\x01\x00") -> bytes:
    text = header.encode().ljust(118 - 1) + b"\n"
    return b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text + data


MAPS = np.random.default_rng(0).random((3, 24, 30), np.float32)
WRONG = {
    "logits": (np.log(MAPS), "take the softmax of logits"),
    "percent": (MAPS * 100, "divide them by 100"),
    "negative": (-MAPS, "from 0 to 1"),
    "not a number": (MAPS * np.nan, "NaN"),
    "bytes": ((MAPS * 255).astype(np.uint8), "must be floats"),
    "objects": (np.array([{}], dtype=object), "Python objects"),
    "36 TiB": (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 1000000, 3300000), }"), "announces"),
    "overflowing": (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4, 0), }"), "read as"),
    "negative sides": (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, -24, 30), }"), "read as|shape"),
    "code": (npy("{'descr': __import__('os').system('true'), 'fortran_order': False, 'shape': (1,), }"), "read as"),
    "another version": (npy("{}", version=b"\x09\x00"), "version"),
    "cut": (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 24, 30), }"), "announces"),
    "empty": (b"", "read as"),
    "an .npz": (None, "read as"),
}


@pytest.mark.parametrize(("content", "words"), WRONG.values(), ids=WRONG)
def test_one_wrong_array_costs_itself_alone(tmp_path: Path, content: object, words: str) -> None:
    _, images, out = folders(tmp_path)
    maps = tmp_path / "maps"
    (maps / "deep").mkdir(parents=True)
    np.save(maps / "deep/1.npy", np.asfortranarray(MAPS.astype(">f8")))
    path = maps / "0.npy"
    if isinstance(content, np.ndarray):
        np.save(path, content, allow_pickle=True)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.savez(maps / "0.npz", MAPS)
        (maps / "0.npz").rename(path)
    with pytest.raises(UserError, match=rf"1 of 2 .*0\.npy.*({words})"):
        refine_folder(maps, images, out, HOW)
    marginals = dense_crf(photo_like(24, 30, 1), MAPS, **HOW.kernels())
    np.testing.assert_array_equal(read_mask(out / "deep/1.png"), marginals.argmax(0))


def test_a_label_is_likelier_than_another() -> None:
    for confidence in (0.5, 0.2, 1.0):
        with pytest.raises(UserError, match=r"--label-probability should lie between 0\.5 and 1"):
            Refinement(confidence=confidence)
