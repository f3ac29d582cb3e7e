"""The expected IoU against its formula in float64, and against the IoU of truths drawn from the probabilities."""

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import spearmanr

from tagseg.prediction.expected import Expected, edges


def photo_of(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A gray photo (H, W, 3) whose one edge is the mask's."""
    return np.repeat(np.where(mask > 0, 200, 50).astype(np.uint8)[..., None], 3, axis=-1)


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
    gray = np.random.default_rng(1).integers(0, 200, (40, 40, 1)) + 40 * (before > 0).numpy()[..., None]
    photo = np.repeat(gray, 3, axis=-1).astype(np.uint8)
    found = Expected.of(probability, after.numpy().astype(np.uint8), photo)
    p, inside, first = probability[1].numpy(), after.numpy() == 1, before.numpy() == 1
    dice = 2 * p[inside].sum() / (p.sum() + inside.sum())
    kept = (inside & first).sum() / (inside | first).sum()
    np.testing.assert_allclose(found.iou_K[1], dice / (2 - dice), rtol=1e-5)
    np.testing.assert_allclose(found.kept_K[1], kept, rtol=1e-6)
    np.testing.assert_allclose(found.presence_K, [0.89, 0.8, 0.01], rtol=1e-5)
    edge = by_loops(photo[..., 0].astype(float), after.numpy() == 1)
    np.testing.assert_allclose(found.edge_K, [1, edge, 1], rtol=1e-4)
    assert 0 < edge < 1
    np.testing.assert_allclose(found.photo, np.sqrt(dice / (2 - dice) * kept * edge) / 1.01, rtol=1e-4)


def by_loops(gray: NDArray[np.float64], mask: NDArray[np.bool_]) -> float:
    """`edges` of one class, pixel by pixel: 5 x 5 means, differences of neighbors, a rim of 5 and surroundings of 33 pixels."""
    height, width = gray.shape

    def at(values: NDArray[np.float64], y: int, x: int) -> float:
        return float(values[min(max(y, 0), height - 1), min(max(x, 0), width - 1)])

    def window(y: int, x: int, half: int) -> NDArray[np.bool_]:
        return mask[max(y - half, 0) : y + half + 1, max(x - half, 0) : x + half + 1]

    reach, places = range(-2, 3), [(y, x) for y in range(height) for x in range(width)]
    mean = np.array([np.mean([at(gray, y + i, x + j) for i in reach for j in reach]) for y, x in places])
    mean = mean.reshape(height, width)
    steep = {
        (y, x): np.hypot(at(mean, y + 1, x) - at(mean, y - 1, x), at(mean, y, x + 1) - at(mean, y, x - 1))
        for y, x in places
    }
    rim = [steep[place] for place in places if window(*place, 2).any() and not window(*place, 2).all()]
    around = [steep[place] for place in places if window(*place, 16).any()]
    return float(min(np.mean(rim) / (np.mean(around) + 1e-3) / 2, 1))


def test_a_mask_that_ends_at_an_edge_is_told_from_one_that_ends_anywhere() -> None:
    rows, columns = np.mgrid[:400, :600]
    disc = ((rows - 200) ** 2 + (columns - 300) ** 2 < 80**2).astype(np.uint8)
    wide = ((rows - 200) ** 2 + (columns - 300) ** 2 < 140**2).astype(np.uint8)
    photo = photo_of(disc)
    (_, right, none), (_, _, wrong) = edges(photo, disc, 3), edges(photo, 2 * wide, 3)
    assert right == none == 1, "nothing is said against a class that is not found"
    assert wrong < 0.25
    half = [np.asarray(Image.fromarray(of).resize((300, 200), Image.Resampling.NEAREST)) for of in (photo, wide)]
    np.testing.assert_allclose(edges(*half, 2)[1], wrong, atol=0.02)
    whole = np.ones_like(disc)
    assert edges(photo, whole, 2)[1] == 1, "a class that fills the photo has no rim"
    assert edges(np.full_like(photo, 90), disc, 2)[1] == 0
    one = np.zeros_like(disc)
    one[3, 3] = 1  # lost when the photo is made small
    assert edges(photo, one, 2)[1] == 1


def test_nothing_found_is_good_where_nothing_is_likely() -> None:
    nothing = np.zeros((30, 50), np.uint8)

    def photo(one: float) -> float:
        probability = torch.stack([torch.full((30, 50), 1 - one), torch.full((30, 50), one)])
        return float(Expected.of(probability, nothing, photo_of(nothing)).photo)

    np.testing.assert_allclose([photo(0.0), photo(0.1), photo(0.45)], [1, 0.9, 0.55], rtol=1e-5)


def test_it_orders_photos_as_their_true_iou_does() -> None:
    """Truths drawn disc by disc: whether a disc is there follows its probability, so surer photos have better masks."""
    rng = np.random.default_rng(1)
    expected, true = [], []
    for sure in rng.uniform(0.5, 0.99, 200):
        probability = blob(rng, sure)
        mask = probability.argmax(0)
        found = mask.numpy().astype(np.uint8)
        expected.append(float(Expected.of(probability, found, photo_of(found)).photo))
        drawn = torch.rand(40, 40, generator=torch.Generator().manual_seed(len(true))) < probability[1]
        true.append(float(((mask == 1) & drawn).sum() / ((mask == 1) | drawn).sum()))
    assert spearmanr(expected, true)[0] > 0.9
