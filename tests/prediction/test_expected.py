"""The expected IoU against its formula in float64, and against the IoU of truths drawn from the probabilities."""

import numpy as np
import torch
from scipy.stats import spearmanr

from tagseg.prediction.expected import Expected


def blob(rng: np.random.Generator, sure: float) -> torch.Tensor:
    """Probabilities (3, 40, 40): a disc of class 1, as sure as told, in background."""
    rows, columns = np.mgrid[:40, :40]
    inside = (rows - rng.integers(12, 28)) ** 2 + (columns - rng.integers(12, 28)) ** 2 < rng.integers(5, 12) ** 2
    one = np.where(inside, sure, 0.5 * (1 - sure))
    return torch.from_numpy(np.stack([1 - one - 0.01, one, np.full((40, 40), 0.01)]))


def test_formula() -> None:
    probability = blob(np.random.default_rng(0), 0.8)
    before = probability.argmax(0)
    after = before.clone()
    after[:20] = 0  # what a CRF has taken away
    found = Expected.of(probability, after)
    p, inside, first = probability[1].numpy(), after.numpy() == 1, before.numpy() == 1
    dice = 2 * p[inside].sum() / (p.sum() + inside.sum())
    kept = (inside & first).sum() / (inside | first).sum()
    np.testing.assert_allclose(found.iou_K[1], dice / (2 - dice), rtol=1e-5)
    np.testing.assert_allclose(found.kept_K[1], kept, rtol=1e-6)
    np.testing.assert_allclose(found.presence_K, [0.89, 0.8, 0.01], rtol=1e-5)
    np.testing.assert_allclose(found.photo, np.sqrt(dice / (2 - dice) * kept) / 1.01, rtol=1e-5)


def test_nothing_found_is_good_where_nothing_is_likely() -> None:
    def photo(one: float) -> float:
        probability = torch.stack([torch.full((30, 50), 1 - one), torch.full((30, 50), one)])
        return float(Expected.of(probability, torch.zeros(30, 50, dtype=torch.uint8)).photo)

    np.testing.assert_allclose([photo(0.0), photo(0.1), photo(0.45)], [1, 0.9, 0.55], rtol=1e-5)


def test_it_orders_photos_as_their_true_iou_does() -> None:
    """Truths drawn disc by disc: whether a disc is there follows its probability, so surer photos have better masks."""
    rng = np.random.default_rng(1)
    expected, true = [], []
    for sure in rng.uniform(0.5, 0.99, 200):
        probability = blob(rng, sure)
        mask = probability.argmax(0)
        expected.append(float(Expected.of(probability, mask).photo))
        drawn = torch.rand(40, 40, generator=torch.Generator().manual_seed(len(true))) < probability[1]
        true.append(float(((mask == 1) & drawn).sum() / ((mask == 1) | drawn).sum()))
    assert spearmanr(expected, true)[0] > 0.9
