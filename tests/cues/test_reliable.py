"""Reliable labels against a slow version that follows RRM step by step, with pydensecrf as its CRF."""

import numpy as np
import pytest
import torch

from tagseg.cues import ReliableSettings, reliable_labels
from tagseg.cues.reliable_batched import left_out, reliable_labels_batched
from tests.single_precision import SinglePrecision

pydcrf = pytest.importorskip("pydensecrf.densecrf")
unary_from_softmax = pytest.importorskip("pydensecrf.utils").unary_from_softmax


def crf(photo_HW3: np.ndarray, score_LHW: np.ndarray, settings: ReliableSettings) -> np.ndarray:
    labels, height, width = score_LHW.shape
    if labels == 1:  # pydensecrf gives the only label everywhere
        return np.ones_like(score_LHW)
    field = pydcrf.DenseCRF2D(width, height, labels)
    field.setUnaryEnergy(np.ascontiguousarray(unary_from_softmax(score_LHW)))
    field.addPairwiseGaussian(sxy=settings.crf.gaussian[0], compat=settings.crf.gaussian[1])
    sxy, srgb, weight = settings.crf.bilateral
    field.addPairwiseBilateral(sxy=sxy, srgb=srgb, rgbim=np.ascontiguousarray(photo_HW3), compat=weight)
    return np.array(field.inference(settings.crf.iterations)).reshape(labels, height, width)


def slow(photo_HW3: np.ndarray, cam_CHW: np.ndarray, tags: list[int], s: ReliableSettings) -> np.ndarray:
    present = cam_CHW[tags]
    largest = present.max(0) if tags else np.zeros(cam_CHW.shape[1:])
    background = (1 - largest) ** s.alpha_high
    winner = np.concatenate([background[None], cam_CHW]).argmax(0)
    marginals = {}
    for alpha in (s.alpha_low, s.alpha_high):
        score = np.concatenate([((1 - largest) ** alpha)[None], present]).astype(np.float32)
        whole = np.zeros((len(cam_CHW) + 1, *largest.shape))
        whole[[0, *(tag + 1 for tag in tags)]] = crf(photo_HW3, score, s)
        marginals[alpha] = whole
    low, high = marginals[s.alpha_low], marginals[s.alpha_high]
    label_low, label_high = low.argmax(0), high.argmax(0)
    label = np.where(label_low != 0, label_low, 255)
    label[label_high == 0] = 0
    sure = np.zeros(largest.shape, dtype=bool)
    for k in np.unique(label_low):
        if k == 0:
            sure |= np.where(winner == 0, background, 0) > s.background_sure
            continue
        values = np.where(winner == k, cam_CHW[k - 1], 0)
        above = np.sort(values[values > 0.1])
        if above.size:
            sure |= values > above[int((1 - s.keep) * above.size)]
    crf_sure = np.concatenate([high[:1], low[1:]]).max(0) >= s.crf_sure
    label[~(sure & crf_sure)] = 255
    return label


def example(tags: list[int], seed: int = 0, size: int = 44) -> tuple[np.ndarray, np.ndarray]:
    """A photo of two blobs on noise, and CAMs that find them roughly; the pixel count is a multiple of 4, as pydensecrf pads."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    photo = rng.integers(60, 90, (size, size, 3))
    cam = np.zeros((4, size, size))
    for order, tag in enumerate(tags):
        center_y, center_x = 0.3 + 0.4 * (order % 2), 0.3 + 0.4 * (order // 2)
        distance = (y - center_y) ** 2 + (x - center_x) ** 2
        photo[distance < 0.04] = rng.integers(120, 255, 3)
        cam[tag] = np.exp(-distance / 0.03) * 0.999
    return photo.astype(np.uint8), cam.astype(np.float32)


@pytest.mark.parametrize("tags", [[], [2], [0, 3], [0, 1, 2]])
@pytest.mark.parametrize(
    "settings", [ReliableSettings(), ReliableSettings(alpha_low=1, alpha_high=8, background_sure=0.5)]
)
def test_labels_equal_the_slow_version(tags: list[int], settings: ReliableSettings) -> None:
    photo, cam = example(tags)
    tag_BC = torch.zeros(1, 4)
    tag_BC[0, tags] = 1
    fast = reliable_labels(
        torch.from_numpy(photo).permute(2, 0, 1)[None], torch.from_numpy(cam)[None], tag_BC, settings
    )
    expected = slow(photo, cam.astype(np.float64), tags, settings)
    assert (fast[0].numpy() == expected).mean() > 0.999
    assert set(np.unique(fast[0].numpy()).tolist()) <= {0, 255, *(tag + 1 for tag in tags)}


def test_photos_of_a_batch_do_not_touch_each_other() -> None:
    examples = [example([0], 1), example([1, 2], 2)]
    photos = torch.stack([torch.from_numpy(photo).permute(2, 0, 1) for photo, _ in examples])
    cams = torch.stack([torch.from_numpy(cam) for _, cam in examples])
    tags = torch.tensor([[1.0, 0, 0, 0], [0, 1.0, 1.0, 0]])
    together = reliable_labels(photos, cams, tags)
    for i in range(2):
        assert torch.equal(together[i : i + 1], reliable_labels(photos[i : i + 1], cams[i : i + 1], tags[i : i + 1]))


def test_a_photo_without_tags_is_background() -> None:
    photo, _ = example([])
    label = reliable_labels(
        torch.from_numpy(photo).permute(2, 0, 1)[None], torch.zeros(1, 4, 44, 44), torch.zeros(1, 4)
    )
    assert (label == 0).all()


def test_a_dead_cam_gives_no_foreground() -> None:
    photo, _ = example([1])
    label = reliable_labels(torch.from_numpy(photo).permute(2, 0, 1)[None], torch.zeros(1, 4, 44, 44), torch.ones(1, 4))
    assert set(label.unique().tolist()) <= {0, 255}


@pytest.mark.parametrize("keep", [0.1, 0.3, 0.4, 0.41, 0.7, 1.0])
def test_what_is_left_out_of_a_batch_is_counted_as_of_one_photo(keep: float) -> None:
    counted = left_out(keep, 50_000, torch.device("cpu"))
    assert counted.tolist() == [int((1 - keep) * n) for n in range(50_001)]


def test_labels_of_a_batch_need_no_double_precision_of_a_device() -> None:
    examples = [example([0], 1), example([1, 2], 2)]
    photos = torch.stack([torch.from_numpy(photo).permute(2, 0, 1) for photo, _ in examples])
    cams, tags, settings = (
        torch.stack([torch.from_numpy(cam) for _, cam in examples]),
        [[0], [1, 2]],
        ReliableSettings(),
    )
    first = reliable_labels_batched(photos, cams, tags, settings)  # the host has counted
    with SinglePrecision():
        assert torch.equal(reliable_labels_batched(photos, cams, tags, settings), first)
