import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassConfusionMatrix, MulticlassJaccardIndex

from tagseg.mask_values import IGNORE
from tagseg.scores import Scores

K = 5


def masks(seed, shape=(23, 31), k=K, ignore=True):
    """A truth and a prediction that agrees with it in about two thirds of the pixels, in blocks."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, k, (4, 5)).astype(np.uint8)
    truth = np.kron(coarse, np.ones((8, 8), dtype=np.uint8))[: shape[0], : shape[1]]
    prediction = np.where(rng.random(truth.shape) < 0.65, truth, rng.integers(0, k, truth.shape)).astype(np.uint8)
    if ignore:
        truth = np.where(rng.random(truth.shape) < 0.1, IGNORE, truth).astype(np.uint8)
    return prediction, truth


def counted(pairs, **settings):
    scores = Scores(K, **settings)
    for prediction, truth in pairs:
        scores.add(prediction, truth)
    return scores


def test_equals_torchmetrics():
    matrix = MulticlassConfusionMatrix(K, ignore_index=IGNORE)
    jaccard = MulticlassJaccardIndex(K, ignore_index=IGNORE, average="none")
    scores = Scores(K)
    for seed in range(6):
        prediction, truth = masks(seed)
        scores.add(prediction, truth)
        matrix.update(torch.from_numpy(prediction).long(), torch.from_numpy(truth).long())
        jaccard.update(torch.from_numpy(prediction).long(), torch.from_numpy(truth).long())
    assert np.array_equal(scores.confusion, matrix.compute().numpy())
    assert scores.iou == pytest.approx(jaccard.compute().numpy(), abs=1e-6)
    assert scores.photos == 6


def test_equals_counting_one_by_one():
    pairs = [masks(seed) for seed in range(3)]
    scores = counted(pairs)
    prediction = np.concatenate([p.ravel() for p, _ in pairs])
    truth = np.concatenate([t.ravel() for _, t in pairs])
    prediction, truth = prediction[truth != IGNORE], truth[truth != IGNORE]
    for k in range(K):
        both = np.sum((prediction == k) & (truth == k))
        assert scores.iou[k] == both / np.sum((prediction == k) | (truth == k))
        assert scores.precision[k] == both / np.sum(prediction == k)
        assert scores.recall[k] == both / np.sum(truth == k)
    assert scores.pixel_accuracy == np.mean(prediction == truth)
    assert scores.miou == np.mean(scores.iou)


@pytest.mark.parametrize("boundary", [False, True])
@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize("photos", range(1, 10))
def test_parts_add_up_exactly(photos, processes, boundary):
    pairs = [masks(seed) for seed in range(photos)]
    whole = counted(pairs, boundary=boundary)
    merged = Scores(K, boundary=boundary)
    for rank in range(processes):
        merged.merge(counted(pairs[rank::processes], boundary=boundary))
    names = [str(k) for k in range(K)]
    assert merged.as_dict(names, confusion=True) == whole.as_dict(names, confusion=True)
    assert merged.photos == photos


def test_one_matrix_is_not_the_mean_of_the_photos():
    pairs = [(np.array([[1, 0]], np.uint8), np.array([[1, 1]], np.uint8)), (np.zeros((9, 9), np.uint8),) * 2]
    scores = counted(pairs)
    assert scores.iou[:2].tolist() == [81 / 82, 1 / 2]
    assert scores.miou == (81 / 82 + 1 / 2) / 2


def test_absent_classes_are_left_out_but_false_alarms_are_not():
    truth = np.array([[0, 0, 1, 1]], np.uint8)
    scores = counted([(np.array([[0, 3, 1, 1]], np.uint8), truth)])
    assert scores.iou[[0, 1, 3]].tolist() == [0.5, 1.0, 0.0]
    assert np.isnan(scores.iou[[2, 4]]).all()
    assert scores.miou == 0.5
    assert scores.as_dict(list("abcde"))["iou"] == {"a": 50.0, "b": 100.0, "c": None, "d": 0.0, "e": None}


def test_a_gap_counts_as_missed_and_as_no_false_alarm():
    truth = np.array([[0, 0, 1, 1, IGNORE]], np.uint8)
    scores = counted([(np.array([[0, IGNORE, 1, IGNORE, IGNORE]], np.uint8), truth)])
    assert scores.iou[:2].tolist() == [0.5, 0.5]
    assert scores.recall[:2].tolist() == [0.5, 0.5]
    assert scores.precision[:2].tolist() == [1.0, 1.0]
    assert (scores.pixel_accuracy, scores.coverage) == (0.5, 0.5)
    assert scores.covered().miou == 1.0
    assert scores.covered().coverage == 1.0


def test_nothing_to_score():
    everything_ignored = np.full((3, 3), IGNORE, np.uint8)
    scores = counted([(np.zeros((3, 3), np.uint8), everything_ignored)], boundary=True)
    assert np.isnan(scores.miou)
    assert np.isnan(scores.boundary_miou)
    assert scores.as_dict(list("abcde"))["miou"] is None


@pytest.mark.parametrize(
    ("prediction", "truth", "sentence"),
    [
        (np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8), r"\(2, 3\), the truth \(3, 2\)"),
        (np.full((2, 2), 5, np.uint8), np.zeros((2, 2), np.uint8), "the prediction holds the value 5"),
        (np.zeros((2, 2), np.uint8), np.full((2, 2), 254, np.uint8), "the truth holds the value 254"),
    ],
)
def test_a_wrong_mask_is_refused_and_not_counted(prediction, truth, sentence):
    scores = Scores(K)
    with pytest.raises(ValueError, match=sentence):
        scores.add(prediction, truth)
    assert scores.photos == scores.confusion.sum() == 0


@pytest.mark.parametrize("k", [1, 2, 255])
def test_any_number_of_classes(k):
    _, truth = masks(0, k=k)
    scores = Scores(k)
    scores.add(truth.copy(), truth)
    assert scores.miou == 1
    assert scores.confusion.shape == (k, k)
    with pytest.raises(ValueError, match="1 to 255"):
        Scores(256)


def brute_force_band(mask, distance):
    """Pixels of the mask with one outside of it, or the frame, at most `distance` rows and columns away."""
    height, width = mask.shape
    band = np.zeros_like(mask)
    for y, x in zip(*np.nonzero(mask), strict=True):
        near = [(y + dy, x + dx) for dy in range(-distance, distance + 1) for dx in range(-distance, distance + 1)]
        band[y, x] = any(not (0 <= v < height and 0 <= u < width) or not mask[v, u] for v, u in near)
    return band


@pytest.mark.parametrize("seed", range(3))
def test_boundary_equals_brute_force(seed):
    rng = np.random.default_rng(seed)
    # 90 x 120 has a diagonal of 150 pixels: a band of 3.
    truth = np.kron(rng.integers(0, 3, (5, 6)), np.ones((18, 20))).astype(np.uint8)
    prediction = np.roll(truth, (2, -3), axis=(0, 1))
    truth[rng.random(truth.shape) < 0.002] = IGNORE
    scores = counted([(prediction, truth)], boundary=True)
    for k in range(3):
        found = brute_force_band((prediction == k) & (truth != IGNORE), 3)
        true = brute_force_band(truth == k, 3)
        assert scores.boundary_iou[k] == np.sum(found & true) / np.sum(found | true)
    assert np.isnan(scores.boundary_iou[3:]).all()


def test_boundary_sees_what_iou_hides():
    truth = np.zeros((200, 200), np.uint8)
    truth[20:180, 20:180] = 1
    shrunk = np.zeros_like(truth)
    shrunk[23:177, 23:177] = 1
    scores = counted([(shrunk, truth)], boundary=True)
    assert scores.iou[1] > 0.9
    assert scores.boundary_iou[1] < 0.5
    exact = counted([(truth, truth)], boundary=True)
    assert exact.boundary_iou[:2].tolist() == [1, 1]
