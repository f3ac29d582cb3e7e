"""Doubt against its formulas, and the order of proposals against the sums that it maximizes."""

import itertools

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


def test_doubt_is_the_expected_iou_s_complement() -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[5:15, 5:20] = 1
    p = certain(mask, 0.8)
    doubt = doubt_of_probabilities(p, mask, CLASSES, ["cat"])
    inside, all_of_it = 0.8 * 150, 0.8 * 150 + 0.1 * 450
    dice = 2 * inside / (all_of_it + 150)
    expected = dice / (2 - dice)
    # Before and after the CRF are the same here; a dog, of which every patch has a tenth, counts as a tenth, with IoU 0.
    assert doubt.value == pytest.approx(1 - np.sqrt(expected) / 1.1, abs=1e-6)
    assert doubt.reason == f"cat: expected IoU {expected:.2f}"
    assert doubt_of_probabilities(certain(mask, 0.99), mask, CLASSES, ["cat"]).value < doubt.value


def test_what_contradicts_the_tags_comes_first() -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[:10] = 1
    contradiction = doubt_of_probabilities(certain(mask, 0.99), mask, CLASSES, ["cat", "dog"])
    assert contradiction.value > 1
    assert contradiction.reason == "dog is tagged, but not found"
    unsure = doubt_of_probabilities(certain(mask, 0.34), mask, CLASSES, ["cat"])
    assert unsure.value < 1
    free = certain(np.where(np.arange(30) < 6, 2, mask).astype(np.uint8), 0.9)
    extra = doubt_of_probabilities(certain(mask, 0.99), mask, CLASSES, ["cat"], free)
    assert extra.reason == "dog is not tagged, but looks like 20 % of the photo"
    assert doubt_of_mask(mask, CLASSES, ["cat"], Sureness(0.75)).value == 0.25
    assert doubt_of_mask(mask, CLASSES, ["cat"], Sureness(0.75, 0.5)).reason == "expected IoU 0.50"
    assert doubt_of_mask(mask, CLASSES, ["dog"]).reason.startswith("dog is tagged, but not found; cat is not tagged")


def test_the_doubtful_spot_is_where_two_classes_are_equal() -> None:
    mask = np.zeros((60, 120), np.uint8)
    p = certain(mask, 0.98)
    p[:, 30:36, 90:99] = 1 / 3
    left, top, width, height = doubt_of_probabilities(p, mask, CLASSES, []).spots[0]
    assert left <= 93 / 120 <= left + width
    assert top <= 33 / 60 <= top + height


def covered(features: np.ndarray, weights: np.ndarray, chosen: tuple[int, ...]) -> float:
    unit = features - features.mean(0)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    return float(weights @ np.clip(unit @ unit[list(chosen)].T, 0, None).max(1))


def test_proposals_are_typical_and_diverse() -> None:
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((4, 8)) * 4
    features = np.concatenate([centers[k] + rng.standard_normal((20, 8)) * 0.3 for k in range(4)])
    doubts = np.full(80, 0.5)
    first = [photo for photo, _ in propose(features, doubts, 4)]
    assert sorted(photo // 20 for photo in first) == [0, 1, 2, 3]  # one of each kind
    # Greedy choices of such a sum reach at least 1 - 1/e of the best, here found by trying all of a small set.
    small, weights = features[::8], np.linspace(1, 0.1, 10)
    greedy = tuple(photo for photo, _ in propose(small, np.full(10, 0.5), 3))
    best = max(covered(small, weights, pick) for pick in itertools.combinations(range(10), 3))
    assert covered(small, weights, greedy) >= (1 - 1 / np.e) * best


def test_doubtful_photos_go_before_sure_ones_and_some_are_drawn_at_random() -> None:
    rng = np.random.default_rng(1)
    features = rng.standard_normal((4000, 6))
    doubts = np.where(np.arange(4000) % 2 == 0, 0.9, 0.01)
    chosen = propose(features, doubts, 40)
    assert len({photo for photo, _ in chosen}) == 40
    drawn = [photo for photo, at_random in chosen if at_random]
    assert len(drawn) == 40 // RANDOM_EVERY
    assert any(photo % 2 for photo in drawn)
    assert all(photo % 2 == 0 for photo, at_random in chosen if not at_random)
    assert chosen == propose(features, doubts, 40)
    assert len(propose(features[:3], doubts[:3], 10)) == 3
