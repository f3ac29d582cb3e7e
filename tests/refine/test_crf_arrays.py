"""The dense CRF takes arrays of every layout and kind, or says what to do."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tagseg.errors import UserError
from tagseg.refine import dense_crf
from tests.refine.test_dense_crf import random_maps
from tests.refine.test_lattice import photo_like

IMAGE, MAPS = photo_like(21, 26), random_maps(3, 21, 26)
SETTINGS: dict[str, Any] = {"bilateral": (20, 13, 5), "iterations": 3}


class Foreign:
    """An array of another library."""

    def __init__(self, value: np.ndarray) -> None:
        self.value = value

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.value


def read_only(value: np.ndarray) -> np.ndarray:
    value = value.copy()
    value.flags.writeable = False
    return value


def unaligned(value: np.ndarray) -> np.ndarray:
    raw = np.zeros(value.nbytes + 1, np.uint8)
    view = raw[1:].view(value.dtype).reshape(value.shape)
    view[:] = value
    return view


LAYOUTS = {
    "negative strides": lambda v: np.ascontiguousarray(v[::-1, ::-1])[::-1, ::-1],
    "last axis reversed": lambda v: np.ascontiguousarray(v[..., ::-1])[..., ::-1],
    "Fortran order": np.asfortranarray,
    "transposed": lambda v: np.ascontiguousarray(v.transpose(2, 0, 1)).transpose(1, 2, 0),
    "every other": lambda v: np.repeat(v, 2, axis=1)[:, ::2],
    "read-only": read_only,
    "big-endian": lambda v: v.astype(v.dtype.newbyteorder(">")),
    "unaligned": unaligned,
    "of another library": Foreign,
}


@pytest.mark.parametrize("backend", ["numba", "torch"])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_the_layout_changes_no_bit(layout, backend: str) -> None:
    expected = dense_crf(IMAGE, MAPS, **SETTINGS, backend=backend)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for image in (IMAGE, IMAGE.astype(np.float32), IMAGE.astype(np.int64)):
            result = dense_crf(layout(image), layout(MAPS), **SETTINGS, backend=backend)
            np.testing.assert_allclose(result, expected, atol=1e-5)
        assert np.array_equal(dense_crf(layout(IMAGE), layout(MAPS), **SETTINGS, backend=backend), expected)


@pytest.mark.parametrize("backend", ["numba", "torch"])
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float64, torch.float32])
def test_tensors_of_every_kind_of_float(kind: torch.dtype, backend: str) -> None:
    image, maps = torch.from_numpy(IMAGE), torch.from_numpy(MAPS).to(kind)
    result = dense_crf(image, maps, **SETTINGS, backend=backend)
    assert (type(result), result.dtype) == (torch.Tensor, torch.float32)
    expected = dense_crf(IMAGE, maps.float().numpy(), **SETTINGS, backend=backend)
    np.testing.assert_allclose(result.numpy(), expected, atol=1e-5)
    turned = maps.permute(1, 2, 0).contiguous().permute(2, 0, 1).requires_grad_()
    np.testing.assert_allclose(dense_crf(image, turned, **SETTINGS, backend=backend).numpy(), expected, atol=1e-5)


def test_halves_long_doubles_and_yes_or_no() -> None:
    sure = (MAPS.max(0) == MAPS).astype(np.float32)
    for kind in (np.float16, np.longdouble, bool, np.uint8, np.int64):
        result = dense_crf(IMAGE, sure.astype(kind), **SETTINGS)
        np.testing.assert_allclose(result, dense_crf(IMAGE, sure, **SETTINGS), atol=1e-5)
    assert dense_crf(IMAGE, torch.from_numpy(sure).bool(), **SETTINGS, backend="torch").shape == MAPS.shape


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "CMYK", "1", "F", "I"])
def test_pil_images(mode: str) -> None:
    picture = Image.fromarray(IMAGE).convert(mode)
    as_array = np.array(picture if mode in ("RGB", "L", "F", "I") else picture.convert("RGB"))
    assert np.array_equal(dense_crf(picture, MAPS, **SETTINGS), dense_crf(as_array, MAPS, **SETTINGS))


def test_a_pil_image_is_taken_upright() -> None:
    picture = Image.fromarray(IMAGE.transpose(1, 0, 2)[:, ::-1])  # lies on its side
    picture.getexif()[0x0112] = 8
    assert np.array_equal(dense_crf(picture, MAPS, **SETTINGS), dense_crf(IMAGE, MAPS, **SETTINGS))


def test_an_image_given_twice_is_turned_into_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from tagseg.refine.lattice import Lattice

    built = []
    bilateral = Lattice.bilateral
    monkeypatch.setattr(Lattice, "bilateral", lambda *args, **more: built.append(1) or bilateral(*args, **more))
    image = IMAGE[::-1]
    first, second = dense_crf([image, image], [MAPS, MAPS[:2]], **SETTINGS)
    assert len(built) == 1
    assert np.array_equal(first, dense_crf(image, MAPS, **SETTINGS))
    assert len(second) == 2


@pytest.mark.parametrize(
    ("image", "maps", "words"),
    [
        (IMAGE, (MAPS * 255).astype(np.uint8), "divide them by 255"),
        (IMAGE, MAPS * 100, "divide them by 100"),
        (IMAGE, np.log(MAPS + 1e-3), 'unary="logits"'),
        (IMAGE, MAPS * 2000, 'unary="logits"'),
        (IMAGE, -MAPS, 'unary="logits"'),
        (torch.from_numpy(IMAGE), torch.from_numpy(MAPS) * 100, "divide them by 100"),
        (IMAGE, MAPS.astype(str), "must hold numbers"),
        (IMAGE, MAPS.astype(complex), "must hold numbers"),
        (IMAGE, torch.from_numpy(MAPS).to_sparse(), "dense tensor"),
        (IMAGE, torch.from_numpy(MAPS) * 1j, "real numbers"),
        (IMAGE.tolist(), MAPS, "images came with"),
        (IMAGE, MAPS.tolist(), "must be a numpy array"),
        ("photo.jpg", MAPS, "must be a numpy array, a torch tensor or a PIL image, not str"),
        (None, MAPS, "not NoneType"),
        (IMAGE, None, "not NoneType"),
        (b"bytes", MAPS, "not bytes"),
        (IMAGE, Image.fromarray(IMAGE), "shape"),
        (IMAGE.astype("datetime64[s]"), MAPS, "must hold numbers"),
        (IMAGE[None], MAPS, "shape"),
    ],
    ids=range(19),
)
def test_what_is_no_image_or_no_probabilities_is_refused(image: Any, maps: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        dense_crf(image, maps)


def test_what_rounding_leaves_is_taken_and_other_unaries_reach_anywhere() -> None:
    assert np.isfinite(dense_crf(IMAGE, MAPS * np.float32(1.0005) - np.float32(1e-4), **SETTINGS)).all()
    for unary in ("logits", "energies"):
        assert np.isfinite(dense_crf(IMAGE, MAPS * 300 - 100, unary=unary, **SETTINGS)).all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"gaussian": 3}, {"gaussian": "ab"}, {"gaussian": ("a", 3)}, {"gaussian": (3, "b")}, {"gaussian": (None, 3)},
        {"bilateral": (80, "x", 10)}, {"bilateral": ((80, 60, 40), 13, 10)}, {"bilateral": (1e-300, 13, 10)},
        {"bilateral": (80, 1e-300, 10)}, {"bilateral": (1e300, 13, 10)}, {"bilateral": (80, (1, 2), 10)},
        {"iterations": 2.5}, {"iterations": "3"}, {"iterations": None}, {"tags": "cat"}, {"tags": 1}, {"tags": [1.5]},
        {"tags": [[1]]}, {"normalization": 3}, {"normalization": None}, {"normalization": ("after", ["before"])},
        {"normalization": ("after",) * 3}, {"compatibility": "x"}, {"compatibility": [[1, 2], [3]]},
        {"compatibility": [[1]]}, {"compatibility": [1, 2, 3]}, {"threads": 1.5}, {"threads": "all"}, {"backend": ["numba"]},
        {"backend": None}, {"unary": None}, {"unary": ["logits"]}, {"lattice": 3},
    ],
    ids=repr,
)  # fmt: skip
def test_settings_of_every_wrong_kind_are_one_sentence(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError) as caught:
        dense_crf(IMAGE, MAPS, **wrong)
    assert len(str(caught.value)) < 300
