import numpy as np
import pytest

from tagseg.outputs.polygons import fill, trace


def regions(mask):
    """How many 4-connected regions a mask has, by flooding."""
    open_pixels = set(zip(*(axis.tolist() for axis in np.nonzero(mask)), strict=True))
    count = 0
    while open_pixels:
        count += 1
        front = [open_pixels.pop()]
        while front:
            y, x = front.pop()
            near = {(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)} & open_pixels
            open_pixels -= near
            front += near
    return count


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.7, 0.9, 1.0])
def test_every_mask_comes_back_from_one_polygon_a_region(share):
    rng = np.random.default_rng(int(share * 10))
    for _ in range(60):
        mask = rng.random(rng.integers(1, 16, 2)) < share
        polygons = trace(mask)
        assert len(polygons) == regions(mask)
        assert np.array_equal(fill(polygons, *mask.shape), mask)
        for polygon in polygons:
            sides = np.roll(polygon, -1, axis=0) - polygon
            assert ((sides != 0).sum(axis=1) == 1).all()  # along the pixels' edges
            assert np.array_equal(fill([polygon], *mask.shape) & mask, fill([polygon], *mask.shape))


def test_a_square_has_four_corners_clockwise():
    mask = np.zeros((5, 6), bool)
    mask[1:3, 2:5] = True
    assert trace(mask)[0].tolist() == [[2, 1], [5, 1], [5, 3], [2, 3]]


def test_rings_within_rings():
    mask = np.ones((11, 11), bool)
    for start in range(1, 5):
        mask[start:-start, start:-start] = start % 2 == 0
    polygons = trace(mask)
    assert len(polygons) == 3
    assert np.array_equal(fill(polygons, 11, 11), mask)


def test_slanted_polygons_cover_the_centers_inside():
    triangle = np.array([[0.0, 0.0], [8.0, 0.0], [0.0, 8.0]])
    y, x = np.mgrid[:8, :8] + 0.5
    assert np.array_equal(fill([triangle], 8, 8), x + y < 8)
    shifted = triangle - [3.0, 2.0]  # partly outside
    assert np.array_equal(fill([shifted], 8, 8), (x + 3) + (y + 2) < 8)
    assert not fill([], 8, 8).any()
