"""Doubt against its formulas, and the order of proposals against the sums that it maximizes."""

import numpy as np
import pytest
import torch

from tagseg.outputs.confidence import Sureness
from tagseg.review.doubt import doubt_of_mask, doubt_of_probabilities
from tagseg.review.gain import RANDOM_EVERY, propose

CLASSES = ("background", "cat", "dog")


def certain(mask: np.ndarray, sure: float) -> torch.Tensor:
    probabilities = np.full((3, *mask.shape), (1 - sure) / 2, np.float32)
    np.put_along_axis(probabilities, mask[None].astype(np.int64), sure, axis=0)
    return torch.from_numpy(probabilities)


def photo_of(mask: np.ndarray) -> np.ndarray:
    """A photo (H, W, 3) whose edges are the mask's."""
    return np.repeat((50 + 100 * mask)[..., None], 3, axis=-1).astype(np.uint8)


def test_doubt_is_the_expected_iou_s_complement() -> None:
    mask = np.zeros((40, 60), np.uint8)
    mask[15:25, 15:35] = 1
    p = certain(mask, 0.8)
    doubt = doubt_of_probabilities(photo_of(mask), p, mask, CLASSES, ["cat"])
    inside, all_of_it = 0.8 * 200, 0.8 * 200 + 0.1 * 2200
    dice = 2 * inside / (all_of_it + 200)
    expected = dice / (2 - dice)
    # Before and after the CRF are the same here, and the photo's edges are the mask's.
    # A dog, of which every patch has a tenth, counts as a tenth, with IoU 0.
    assert doubt.value == pytest.approx(1 - np.sqrt(expected) / 1.1, abs=1e-6)
    assert doubt.reason == f"cat: expected IoU {expected:.2f}"
    sure = certain(mask, 0.99)
    assert doubt_of_probabilities(photo_of(mask), sure, mask, CLASSES, ["cat"]).value < doubt.value
    flat = doubt_of_probabilities(np.full((40, 60, 3), 90, np.uint8), sure, mask, CLASSES, ["cat"])
    assert flat.value == 1
    assert flat.reason == "cat: the mask ends where the photo shows hardly an edge"


def test_what_contradicts_the_tags_comes_first() -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[:10] = 1
    contradiction = doubt_of_probabilities(photo_of(mask), certain(mask, 0.99), mask, CLASSES, ["cat", "dog"])
    assert contradiction.value > 1
    assert contradiction.reason == "dog is tagged, but not found"
    unsure = doubt_of_probabilities(photo_of(mask), certain(mask, 0.34), mask, CLASSES, ["cat"])
    assert unsure.value < 1
    free = certain(np.where(np.arange(30) < 6, 2, mask).astype(np.uint8), 0.9)
    extra = doubt_of_probabilities(photo_of(mask), certain(mask, 0.99), mask, CLASSES, ["cat"], free)
    assert extra.reason == "dog is not tagged, but looks like 20 % of the photo"
    assert doubt_of_mask(mask, CLASSES, ["cat"], Sureness(0.75)).value == 0.25
    assert doubt_of_mask(mask, CLASSES, ["cat"], Sureness(0.75, 0.5)).reason == "expected IoU 0.50"
    assert doubt_of_mask(mask, CLASSES, ["dog"]).reason.startswith("dog is tagged, but not found; cat is not tagged")


def test_the_doubtful_spot_is_where_two_classes_are_equal() -> None:
    mask = np.zeros((60, 120), np.uint8)
    p = certain(mask, 0.98)
    p[:, 30:36, 90:99] = 1 / 3
    left, top, width, height = doubt_of_probabilities(photo_of(mask), p, mask, CLASSES, []).spots[0]
    assert left <= 93 / 120 <= left + width
    assert top <= 33 / 60 <= top + height


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (7, 2), (11, 11)])
def test_photos_of_a_few_pixels_have_spots_too(size: tuple[int, int]) -> None:
    mask = np.zeros(size, np.uint8)
    p = certain(mask, 0.98)
    p[:, -1, -1] = 1 / 3
    left, top, width, height = doubt_of_probabilities(photo_of(mask), p, mask, CLASSES, []).spots[0]
    assert left <= 1 - 0.5 / size[1] <= left + width
    assert top <= 1 - 0.5 / size[0] <= top + height


def test_photos_that_hold_much_of_a_class_go_first_where_they_are_doubtful() -> None:
    features = np.random.default_rng(0).standard_normal((6, 8))
    # Of class 1 photo 0 holds half, 1 and 2 a quarter each; class 2 is small everywhere, and 3 holds nearly all of it.
    areas = np.array([[0.4, 0], [0.2, 0], [0.2, 0], [0, 0.018], [0, 0.002], [0, 0]])
    doubts = np.array([0.2, 0.9, 0.1, 0.5, 0.5, 1.0])
    # Expected loss of the classes' IoU: 0.2 / 2, 0.9 / 4, 0.1 / 4, 0.5 * 0.9, 0.5 * 0.1, none.
    assert [photo for photo, _ in propose(features, doubts, areas, 6)] == [3, 1, 0, 4, 2, 5]
    doubts[2] = 7.0  # tags and mask contradict each other: no more than a whole mask that is wrong
    assert [photo for photo, _ in propose(features, doubts, areas, 3)] == [3, 2, 1]
    # Where no mask holds a class, doubt alone decides.
    assert [photo for photo, _ in propose(features, doubts[:6].clip(0, 1), areas * 0, 3)] == [2, 5, 1]


def test_copies_of_a_chosen_photo_wait() -> None:
    rng = np.random.default_rng(0)
    films = rng.standard_normal((4, 8)) * 4
    features = np.concatenate([films[k] + rng.standard_normal((20, 8)) * 0.1 for k in range(4)])
    areas = np.linspace(0.4, 0.1, 80)[:, None]  # the frames of the first film would all come first
    first = [photo for photo, _ in propose(features, np.full(80, 0.5), areas, 4)]
    assert sorted(photo // 20 for photo in first) == [0, 1, 2, 3]  # one of each film


def test_doubtful_photos_go_before_sure_ones_and_some_are_drawn_at_random() -> None:
    rng = np.random.default_rng(1)
    features = rng.standard_normal((4000, 6))
    doubts = np.where(np.arange(4000) % 2 == 0, 0.9, 0.01)
    areas = np.full((4000, 2), 0.1)
    chosen = propose(features, doubts, areas, 40)
    assert len({photo for photo, _ in chosen}) == 40
    drawn = [photo for photo, at_random in chosen if at_random]
    assert len(drawn) == 40 // RANDOM_EVERY
    assert any(photo % 2 for photo in drawn)
    assert all(photo % 2 == 0 for photo, at_random in chosen if not at_random)
    assert chosen == propose(features, doubts, areas, 40)
    assert len(propose(features[:3], doubts[:3], areas[:3], 10)) == 3
