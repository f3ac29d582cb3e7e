"""The test that paints over what sticks out of a mask, on drawn tiles whose holes are known."""

import numpy as np
import pytest
from numpy.typing import NDArray

from tagseg.cues.erasing import FALLS, erase, painted_over, sticking_out

SIZE = 96


def tile(seed: int = 0) -> NDArray[np.uint8]:
    """A gray tile with a dark hole of 6 x 4 pixels."""
    rng = np.random.default_rng(seed)
    photo_HW = rng.normal(150, 3, (SIZE, SIZE))
    photo_HW[40:44, 50:56] = 40
    return np.repeat(photo_HW.clip(0, 255).astype(np.uint8)[..., None], 3, 2)


@pytest.fixture
def mask() -> NDArray[np.uint8]:
    """What a CAM paints around the hole: two cells of sixteen pixels."""
    mask_HW = np.zeros((SIZE, SIZE), np.uint8)
    mask_HW[32:48, 40:72] = 1
    return mask_HW


def darkest(photo_HW3: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A classifier that sees the hole: sure where something is dark."""
    return np.array([0.9 if photo_HW3.min() < 80 else 0.1], np.float32)


def test_what_the_classifier_needs_is_the_object(mask: NDArray[np.uint8]) -> None:
    test = erase(darkest, tile(), mask, 1)
    assert test is not None
    assert test.falls
    assert test.left == pytest.approx(0.1 / 0.9)
    true_HW = np.zeros_like(mask, bool)
    true_HW[40:44, 50:56] = True
    assert test.pixels[true_HW].all()
    assert test.pixels.sum() <= 4 * true_HW.sum()  # the mask has 21 times as many
    assert not test.pixels[mask == 0].any()


def test_a_classifier_that_looks_elsewhere_keeps_its_tag(mask: NDArray[np.uint8]) -> None:
    test = erase(lambda photo_HW3: np.array([0.8], np.float32), tile(), mask, 1)
    assert test is not None
    assert (test.left, test.falls) == (1.0, False)
    assert FALLS < 1


def test_a_mask_without_surroundings_is_not_tested() -> None:
    assert erase(darkest, tile(), np.ones((SIZE, SIZE), np.uint8), 1) is None


def test_a_mask_that_misses_the_hole_holds_nothing_that_sticks_out(mask: NDArray[np.uint8]) -> None:
    elsewhere = np.roll(mask, 40, axis=0)
    inside, outside = elsewhere == 1, elsewhere == 0
    assert not sticking_out(tile(), inside, outside, 99.5).any()


def test_what_is_painted_over_looks_like_its_surroundings(mask: NDArray[np.uint8]) -> None:
    photo = tile()
    gone = np.zeros_like(mask, bool)
    gone[40:44, 50:56] = True
    filled = painted_over(photo, gone)
    assert abs(float(filled[40:44, 50:56].mean()) - 150) < 5
    far = np.ones_like(gone)
    far[30:54, 40:66] = False
    np.testing.assert_array_equal(filled[far], photo[far])
