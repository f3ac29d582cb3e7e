"""A photo as a caller may hold it: taken as the file would be, or refused with what to do."""

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tagseg.data.given import as_photo
from tagseg.data.photo import read_photo
from tagseg.errors import UserError
from tagseg.prediction.settings import PredictSettings
from tagseg.segmenter import Segmenter
from tests.colors import Colors
from tests.refine.test_crf_arrays import Foreign, read_only

PHOTO = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
BGR = np.ascontiguousarray(PHOTO[..., ::-1])


def packed(image: np.ndarray | Image.Image = PHOTO, **settings: Any) -> bytes:
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, format="PNG", **settings)
    return buffer.getvalue()


TAKEN = {
    "the OpenCV idiom": BGR[..., ::-1],
    "upside down twice": np.ascontiguousarray(PHOTO[::-1])[::-1],
    "Fortran order": np.asfortranarray(PHOTO),
    "a crop of a larger photo": np.pad(PHOTO, ((3, 3), (4, 4), (0, 0)))[3:-3, 4:-4],
    "read-only": read_only(PHOTO),
    "of another library": Foreign(PHOTO),
    "tensor": torch.from_numpy(PHOTO),
    "tensor as torchvision has it": torch.from_numpy(PHOTO).permute(2, 0, 1).contiguous(),
    "PIL": Image.fromarray(PHOTO),
    "PIL with transparency": Image.fromarray(PHOTO).convert("RGBA"),
    "bytes": packed(),
    "bytearray": bytearray(packed()),
    "memoryview": memoryview(packed()),
    "BytesIO": io.BytesIO(packed()),
}


@pytest.mark.parametrize("given", TAKEN.values(), ids=TAKEN)
def test_every_kind_gives_the_same_photo(given: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = as_photo(given)
        torch.from_numpy(found)  # says aloud where memory is read-only, and raises for negative strides
    assert np.array_equal(found, PHOTO)
    assert found.flags.c_contiguous


def test_paths_and_streams(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(packed())
    for given in (path, str(path), path.open("rb")):
        assert np.array_equal(as_photo(given), PHOTO)


def test_gray_is_taken_as_gray_files_are() -> None:
    gray = PHOTO[..., 0]
    expected = as_photo(packed(gray))
    for given in (
        gray,
        gray[..., None],
        torch.from_numpy(gray.copy()),
        torch.from_numpy(gray.copy())[None],
        Image.fromarray(gray),
    ):
        assert np.array_equal(as_photo(given), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_pil_image_is_turned_upright_as_its_file_is(tmp_path: Path, orientation: int) -> None:
    path = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(PHOTO).save(path, exif=exif)
    with Image.open(path) as opened:
        assert np.array_equal(as_photo(opened), read_photo(path))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (PHOTO / 255, "scale it to 0..255"),
        (PHOTO.astype(np.uint16), "make it uint8"),
        (torch.rand(3, 20, 30), "scale it to 0..255"),
        (torch.rand(3, 20, 30).bfloat16(), "bfloat16"),
        (np.dstack([PHOTO, PHOTO[..., :1]]), "leave the fourth channel out"),
        (PHOTO.transpose(2, 0, 1), "move the channels to the end"),
        (PHOTO[None], "predict_many"),
        (PHOTO[:0], "not \\(0, 30, 3\\)"),
        (PHOTO.astype(object), "not \\(20, 30, 3\\) object"),
        (np.zeros(()), "float64"),
        (torch.from_numpy(PHOTO).to_sparse(), "dense tensor"),
        ([PHOTO], "many photos: predict_many"),
        (PHOTO.tolist(), "not list"),
        (None, "not NoneType"),
        (3, "not int"),
        (b"", "is empty|none of"),
        (b"no picture", "none of"),
        (packed()[:100], "cannot be read"),
        (io.StringIO("text"), "mode 'rb'"),
        ("nowhere.jpg", "does not exist"),
        ("", "folder"),
        ("a\0b", "cannot be read"),
        ("x" * 5000, "cannot be read"),
        (Image.new("F", (4, 4)), "floating-point"),
        (Image.open(io.BytesIO(packed()[:150])), "cannot be read"),
    ],
    ids=range(25),
)
def test_what_is_no_photo_is_refused_with_what_to_do(given: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        as_photo(given)


def test_predict_and_predict_many_take_them_all() -> None:
    model = Segmenter(Colors(), PredictSettings())
    expected = model.predict(PHOTO).mask
    for given in TAKEN.values():
        if isinstance(given, io.BytesIO):
            given.seek(0)
        assert np.array_equal(model.predict(given).mask, expected)
    photos = [PHOTO, (BGR[..., ::-1], None), (Image.fromarray(PHOTO), ["green"]), packed()]
    masks = [result.mask for result in model.predict_many(photos)]
    assert all(np.array_equal(masks[i], expected) for i in (0, 1, 3))
    assert np.array_equal(masks[2], model.predict(PHOTO, tags=["green"]).mask)
    for wrong in ([PHOTO / 255], [(PHOTO,)], [(PHOTO, None, None)], [[PHOTO, None]], ["nowhere.jpg"], [None]):
        with pytest.raises(UserError):
            list(model.predict_many(wrong))
