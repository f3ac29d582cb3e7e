"""The lattice against a direct float64 one, on both backends."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tagseg.errors import UserError
from tagseg.refine import Lattice
from tests.refine.direct_lattice import direct_filter

BACKENDS = ("numba", "torch")


def photo_like(height: int, width: int, seed: int = 0, channels: int = 3) -> np.ndarray:
    """A disc on a smooth ground with some noise, uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    ground = np.stack([120 + 70 * np.sin(x / (9 + c) + y / (13 - c)) for c in range(channels)], -1)
    ground[(x - width / 2) ** 2 + (y - height / 2) ** 2 < (min(height, width) / 4) ** 2] = 40
    return np.clip(ground + rng.normal(0, 5, ground.shape), 0, 255).astype(np.uint8)


def bilateral_features(image: np.ndarray, sxy: float, srgb: float) -> np.ndarray:
    image = image if image.ndim == 3 else image[..., None]
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    columns = [x / np.float32(sxy), y / np.float32(sxy)]
    columns += [image[..., c].astype(np.float32) / np.float32(srgb) for c in range(image.shape[2])]
    return np.stack(columns, -1).reshape(-1, 2 + image.shape[2]).astype(np.float32)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("height", "width", "channels", "sxy", "srgb"),
    [(17, 23, 3, 20, 30), (16, 16, 1, 5, 13), (9, 31, 4, 80, 13), (1, 40, 3, 5, 5), (31, 1, 3, 3, 9), (1, 1, 3, 3, 9)],
)
def test_bilateral_filter_is_the_direct_one(
    backend: str, height: int, width: int, channels: int, sxy: float, srgb: float
) -> None:
    image = photo_like(height, width, channels=channels)
    maps = np.random.default_rng(1).random((3, height, width), np.float32)
    direct = direct_filter(bilateral_features(image, sxy, srgb), maps.reshape(3, -1).T).T.reshape(maps.shape)
    filtered = Lattice.bilateral(image, sxy, srgb, backend=backend).filter(maps)
    assert filtered.dtype == np.float32
    np.testing.assert_allclose(filtered, direct, rtol=1e-5, atol=1e-5 * direct.max())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("height", "width", "sxy"), [(20, 31, 3.0), (11, 8, 1.0), (1, 1, 3.0), (1, 50, 2.0)])
def test_gaussian_filter_is_the_direct_one(backend: str, height: int, width: int, sxy: float) -> None:
    maps = np.random.default_rng(2).random((5, height, width), np.float32)
    y, x = np.mgrid[:height, :width]
    feature_ND = np.stack([x / np.float32(sxy), y / np.float32(sxy)], -1).reshape(-1, 2).astype(np.float32)
    direct = direct_filter(feature_ND, maps.reshape(5, -1).T).T.reshape(maps.shape)
    filtered = Lattice.gaussian(height, width, sxy, backend=backend).filter(maps)
    np.testing.assert_allclose(filtered, direct, rtol=1e-5, atol=1e-5 * direct.max())


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 9, 21, 37, 81])
def test_every_number_of_maps_is_filtered_alike(count: int) -> None:
    image = photo_like(13, 19)
    maps = np.random.default_rng(3).random((count, 13, 19), np.float32)
    lattice = Lattice.bilateral(image, 10, 20)
    together = lattice.filter(maps)
    torch_way = Lattice.bilateral(image, 10, 20, backend="torch").filter(maps)
    np.testing.assert_allclose(together, torch_way, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(lattice.filter(maps[-1:]), together[-1:], rtol=1e-6)


def test_a_sigma_for_each_direction_and_channel() -> None:
    image = photo_like(12, 18)
    maps = np.random.default_rng(4).random((2, 12, 18), np.float32)
    feature_ND = bilateral_features(image, 1, 1) / np.array([6, 9, 10, 20, 30], np.float32)
    direct = direct_filter(feature_ND, maps.reshape(2, -1).T).T.reshape(maps.shape)
    filtered = Lattice.bilateral(image, (6, 9), (10, 20, 30)).filter(maps)
    np.testing.assert_allclose(filtered, direct, rtol=1e-5, atol=1e-5)


def test_float_image_equals_uint8_image_in_the_same_units() -> None:
    image = photo_like(14, 15)
    maps = np.random.default_rng(5).random((2, 14, 15), np.float32)
    whole = Lattice.bilateral(image, 10, 16).filter(maps)
    np.testing.assert_allclose(Lattice.bilateral(image.astype(np.float64), 10, 16).filter(maps), whole, rtol=1e-6)
    np.testing.assert_allclose(Lattice.bilateral(image[:, ::-1], 10, 16).filter(maps[..., ::-1]).shape, whole.shape)
    halved = Lattice.bilateral(image.astype(np.float32) / 16, 10, 1.0).filter(maps)
    np.testing.assert_allclose(halved, whole, rtol=1e-5)


def test_torch_tensors_come_back_as_tensors() -> None:
    image = torch.from_numpy(photo_like(10, 12)).permute(2, 0, 1).contiguous().permute(1, 2, 0)
    maps = torch.rand(3, 10, 12)
    filtered = Lattice.bilateral(image, 10, 16).filter(maps)
    assert isinstance(filtered, torch.Tensor)
    plain = Lattice.bilateral(image.numpy(), 10, 16).filter(maps.numpy())
    np.testing.assert_array_equal(filtered.numpy(), plain)


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 14),
    width=st.integers(1, 14),
    sxy=st.floats(0.3, 300),
    srgb=st.floats(0.3, 300),
    seed=st.integers(0, 99),
)
def test_both_backends_agree_anywhere(height: int, width: int, sxy: float, srgb: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
    maps = rng.random((2, height, width), np.float32)
    ours = Lattice.bilateral(image, sxy, srgb).filter(maps)
    np.testing.assert_allclose(Lattice.bilateral(image, sxy, srgb, backend="torch").filter(maps), ours, rtol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_keys_that_do_not_fit_are_refused(backend: str) -> None:
    image = photo_like(30, 30)
    with pytest.raises(UserError, match="sigma"):
        Lattice.bilateral(image, 1e-3, 1e-3, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("value", [0.001, 1e9])
def test_extreme_sigmas_stay_finite(backend: str, value: float) -> None:
    maps = np.ones((1, 5, 6), np.float32)
    filtered = Lattice.gaussian(5, 6, value, backend=backend).filter(maps)
    assert np.isfinite(filtered).all()
    assert filtered.min() > 0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Lattice.bilateral(np.zeros((4, 4, 3), np.uint8), 0, 5), "sxy"),
        (lambda: Lattice.bilateral(np.zeros((4, 4, 3), np.uint8), 5, (1, 2)), "srgb"),
        (lambda: Lattice.bilateral(np.full((4, 4, 3), np.nan), 5, 5), "NaN"),
        (lambda: Lattice.bilateral(np.zeros((0, 4, 3), np.uint8), 5, 5), "shape"),
        (lambda: Lattice.bilateral(np.zeros((4, 4, 3), np.uint8), 5, 5, backend="cuda"), "backend"),
        (lambda: Lattice.gaussian(0, 4, 3), "pixel"),
        (lambda: Lattice.gaussian(4, 4, float("nan")), "sxy"),
        (lambda: Lattice.gaussian(4, 4, 3).filter(np.zeros((2, 4, 5), np.float32)), "shape"),
    ],
)
def test_mistakes_are_named(call, words: str) -> None:
    with pytest.raises(UserError, match=words):
        call()


def test_lattices_of_one_size_are_shared() -> None:
    assert Lattice.gaussian(21, 22, 3) is Lattice.gaussian(21, 22, 3.0)
