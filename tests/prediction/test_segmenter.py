"""The segmenter on photos of all sizes, with a method whose answers are known."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tagseg.errors import UserError
from tagseg.prediction import maps
from tagseg.prediction.maps import class_mask, resized_window
from tagseg.prediction.settings import PredictSettings
from tagseg.prediction.tiling import Window, blend_tiles
from tagseg.segmenter import Request, Segmenter
from tagseg.threads import ordered_map
from tests.colors import Colors


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def segmenter(**settings: object) -> Segmenter:
    return Segmenter(Colors(), PredictSettings.model_validate({"crf": None} | settings))


class Left(Colors):
    """Surer of green the farther left a pixel lies: not the same for a mirrored photo."""

    def segment(self, image_B3HW: Tensor) -> Tensor:
        slope = torch.linspace(1, 0, image_B3HW.shape[-1]).expand(image_B3HW[:, :1].shape)
        return torch.cat([1 - slope, slope, 0 * slope], 1)


@pytest.mark.parametrize("size", [(1, 1), (50, 60), (128, 128), (129, 128), (301, 523), (90, 700), (260, 140)])
def test_tiles_cover_every_pixel_once_and_their_weights_sum_to_one(size: tuple[int, int]) -> None:
    whole_KHW = torch.rand(2, *size)
    blended_KHW = torch.zeros_like(whole_KHW)
    count_HW = torch.zeros(size)
    read = lambda window: whole_KHW[:, *window.slices]  # noqa: E731
    for window, block in blend_tiles(*size, 2, 128, read, workers=2):
        blended_KHW[:, *window.slices] = block
        count_HW[window.slices] += 1
    assert (count_HW == 1).all()
    torch.testing.assert_close(blended_KHW, whole_KHW)


def test_a_seam_fades_from_one_tile_into_the_next() -> None:
    number = iter(range(100))
    read = lambda window: torch.full((1, window.bottom - window.top, window.right - window.left), float(next(number)))  # noqa: E731
    row_W = torch.cat([block[0, 0] for _, block in blend_tiles(40, 230, 1, 128, read)])
    steps = row_W.diff()
    assert row_W[0] == 0
    assert row_W[-1] == 1
    assert (steps >= 0).all()
    assert steps.max() < 0.1


def test_very_many_classes_get_smaller_tiles() -> None:
    seen: list[Window] = []

    def read(window: Window) -> Tensor:
        seen.append(window)
        return torch.zeros(254, window.bottom - window.top, window.right - window.left)

    next(blend_tiles(2000, 2000, 254, 1024, read))
    assert 254 * 4 * (seen[0].bottom - seen[0].top) * (seen[0].right - seen[0].left) <= 1 << 27


def test_a_window_of_a_resized_map_is_part_of_the_whole() -> None:
    map_Khw = torch.rand(3, 7, 11)
    for size in ((40, 33), (5, 11), (7, 90)):
        whole = F.interpolate(map_Khw[None], size, mode="bilinear", align_corners=False)[0]
        window = Window(1, size[0], 2, size[1] - 1)
        torch.testing.assert_close(resized_window(map_Khw, size, window), whole[:, *window.slices])


@pytest.mark.parametrize("tags", [None, ["blue"]])
def test_a_large_photo_is_done_in_tiles_with_the_same_result(tags: list[str] | None) -> None:
    large = photo(401, 300)
    whole = segmenter().predict(large, tags=tags)
    tiled = segmenter()
    tiled.tile = 128
    assert tiled.is_tiled(large)
    result = tiled.predict(large, tags=tags)
    assert np.array_equal(result.mask, whole.mask)
    np.testing.assert_allclose(result.probabilities, whole.probabilities, atol=1e-5)
    torch.testing.assert_close(tiled.probabilities(large), segmenter().probabilities(large))
    assert max(max(shape[2:]) for shape in tiled.method.seen) <= 128 + 32


def test_probabilities_beyond_the_limit_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tagseg.prediction.segmenter.KEPT_BYTES", 1000)
    tiled = segmenter()
    tiled.tile = 128
    result = tiled.predict(photo(300, 300))
    assert result.probabilities is None
    assert np.array_equal(result.mask, segmenter().predict(photo(300, 300)).mask)


def test_the_dense_crf_of_a_large_photo_runs_within_its_tiles() -> None:
    flat = np.zeros((300, 280, 3), np.uint8)
    flat[:, 140:, 1] = 255
    flat[:, :140, 0] = 255
    flat[50, 50] = (90, 100, 90)  # a lone pixel that the CRF gives to its surroundings
    tiled = Segmenter(Colors())
    tiled.tile = 128
    assert tiled.predict(flat, crf=False).mask[50, 50] == 1
    mask = tiled.predict(flat).mask
    assert (mask[:, :138] == 0).all()
    assert (mask[:, 142:] == 1).all()


def test_a_long_side_is_read_small_and_given_back_large() -> None:
    small = segmenter(long_side=64)
    result = small.predict(photo(200, 100))
    assert small.method.seen == [(1, 3, 64, 32)]
    assert result.mask.shape == (200, 100)
    small.tile = 128
    tall = photo(700, 128)
    assert small.is_tiled(tall)
    np.testing.assert_allclose(
        small.predict(tall).probabilities, segmenter(long_side=64).predict(tall).probabilities, atol=1e-5
    )
    assert small.method.seen[-1] == (1, 3, 64, 12)


def test_flips_make_the_result_symmetric() -> None:
    model = Segmenter(Left(), PredictSettings(crf=None, flip=True))
    np.testing.assert_allclose(model.predict(photo(5, 9)).probabilities[1], 0.5, atol=1e-6)


def test_scales_are_merged_by_their_mean() -> None:
    class BySize(Colors):
        def segment(self, image_B3HW: Tensor) -> Tensor:
            super().segment(image_B3HW)
            sure = torch.tensor([0.8, 0.2, 0.0] if image_B3HW.shape[-1] < 20 else [0.2, 0.8, 0.0])
            return sure.view(1, 3, 1, 1).expand(len(image_B3HW), -1, *image_B3HW.shape[2:])

    model = Segmenter(BySize(), PredictSettings(crf=None, scales=(1.0, 0.5)))
    probabilities = model.predict(photo(20, 20)).probabilities
    np.testing.assert_allclose(probabilities.mean((1, 2)), [0.5, 0.5, 0.0], atol=1e-6)
    assert model.method.seen == [(1, 3, 20, 20), (1, 3, 10, 10)]


def test_background_counts_less_where_tags_are_given() -> None:
    plain, weighted = (Segmenter(Colors(), PredictSettings(crf=None, tagged_background=w)) for w in (1.0, 0.25))
    image = photo(9, 7)
    before, after = (model.predict(image, tags=["green"]).probabilities for model in (plain, weighted))
    expected = before * np.array([0.25, 1, 1], np.float32)[:, None, None]
    np.testing.assert_allclose(after, expected / expected.sum(0), atol=1e-6)
    assert (after[2] == 0).all(), "blue is absent"
    np.testing.assert_array_equal(weighted.predict(image).probabilities, plain.predict(image).probabilities)
    assert (weighted.predict(image, tags=[]).mask == 0).all(), "without a class there is background alone"
    with pytest.raises(UserError, match=r"tagged_background: .*greater than 0 \(given: 0"):
        plain.set(tagged_background=0)


def test_the_maximum_over_scales_differs_from_the_mean() -> None:
    class BySize(Colors):
        def segment(self, image_B3HW: Tensor) -> Tensor:
            sure = torch.tensor([0.9, 0.1, 0.0] if image_B3HW.shape[-1] < 20 else [0.2, 0.2, 0.6])
            return sure.view(1, 3, 1, 1).expand(len(image_B3HW), -1, *image_B3HW.shape[2:])

    highest = Segmenter(BySize(), PredictSettings(crf=None, scales=(1.0, 0.5), merge="max")).predict(photo(20, 20))
    np.testing.assert_allclose(highest.probabilities[:, 0, 0], np.array([0.9, 0.2, 0.6]) / 1.7, rtol=1e-5)


SIZES = [(20, 30), (40, 40), (20, 30), (1, 1), (300, 280), (40, 40), (20, 30)]


def test_many_photos_come_back_in_order_and_equal_to_one_by_one() -> None:
    model = Segmenter(Colors())
    model.tile = 128
    tags = [None, ["blue"], ["green"], None, None, [], None]
    requests = [(photo(*size, seed=i), tags[i]) for i, size in enumerate(SIZES)]
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        together = list(model.predict_many(requests))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    for (image, given), result in zip(requests, together, strict=True):
        alone = model.predict(image, tags=given)
        assert np.array_equal(result.mask, alone.mask)
        np.testing.assert_allclose(result.probabilities, alone.probabilities, atol=1e-6)


def test_photos_of_one_size_go_through_the_model_together() -> None:
    model = segmenter()
    requests: list[Request] = [(photo(*size, seed=i), None) for i, size in enumerate(SIZES)]
    results = model.predict_batch(requests, crf=False)
    assert sorted(shape[0] for shape in model.method.seen) == [1, 1, 2, 3]
    for (image, _), result in zip(requests, results, strict=True):
        assert np.array_equal(result.mask, segmenter().predict(image).mask)


def test_photos_are_taken_as_they_are_needed() -> None:
    taken = []

    def requests() -> Iterator[Request]:
        for i in range(100):
            taken.append(i)
            yield photo(8, 8), None

    results = segmenter().predict_many(requests())
    next(results)
    assert len(taken) < 10


def test_an_error_of_one_photo_ends_all_threads() -> None:
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        list(ordered_map(lambda number: 1 // number, [3, 2, 1, 0, 1, 2], 2))
    assert threading.active_count() == before


def test_bfloat16_gives_nearly_the_same_probabilities(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tagseg.precision.computes_bfloat16", lambda device: True)
    image = photo(60, 40)
    exact, rounded = (segmenter(precision=precision, flip=True).predict(image) for precision in ("fp32", "bf16"))
    assert exact.probabilities is not None
    assert rounded.probabilities is not None
    assert rounded.probabilities.dtype == np.float32
    assert 1e-4 < np.abs(rounded.probabilities - exact.probabilities).max() < 0.05
    assert (rounded.mask == exact.mask).mean() > 0.97


def test_settings_are_changed_by_name() -> None:
    model = segmenter().set(scales="0.5, 1", flip=True, merge=None, long_side=None)
    assert (model.settings.scales, model.settings.flip, model.settings.merge) == ((0.5, 1.0), True, "mean")
    for wrong in ({"scales": "1,x"}, {"scales": "0"}, {"merge": "median"}, {"long_side": 3}, {"precision": "fp8"}):
        with pytest.raises(UserError, match=next(iter(wrong))):
            segmenter().set(**wrong)


def test_the_side_that_is_given_takes_the_place_of_the_other() -> None:
    model = segmenter().set(long_side=64)
    assert model.set(short_side=32, long_side=None).settings.working_size(100, 50) == (64, 32)
    assert model.set(long_side=50).settings.working_size(100, 50) == (50, 25)
    assert model.set(flip=True).settings.long_side == 50
    with pytest.raises(UserError, match="not both"):
        model.set(long_side=64, short_side=32)


def test_arrays_that_are_no_photos_and_unknown_tags_are_refused() -> None:
    for wrong in (np.zeros((4, 4)), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(UserError, match="uint8 array"):
            segmenter().predict(wrong)
    with pytest.raises(UserError, match="does not know the tag 'red'"):
        segmenter().predict(photo(4, 4), tags=["red"])


def test_a_mask_is_the_first_of_the_likeliest_classes():
    probability = torch.rand(5, 40, 30).mul(4).round()  # many are equal
    assert (class_mask(probability) == probability.numpy().argmax(0)).all()
    assert class_mask(probability).dtype == np.uint8


class Logits(Colors):
    """Logits that differ by scale: 3, 0, 0 at scale 1 and 0, 4, 0 at half of it."""

    def segment_logits(self, image_B3HW: Tensor) -> Tensor:
        logits = torch.tensor([0.0, 4.0, 0.0] if image_B3HW.shape[-1] < 20 else [3.0, 0.0, 0.0])
        return logits.view(1, 3, 1, 1).expand(len(image_B3HW), -1, *image_B3HW.shape[2:])

    def segment(self, image_B3HW: Tensor) -> Tensor:
        return self.segment_logits(image_B3HW).softmax(1)


def test_the_maximum_of_logits_is_that_of_the_released_codes() -> None:
    settings = PredictSettings(crf=None, scales=(1.0, 0.5), merge="max_logits", flip=True)
    model = Segmenter(Logits(), settings)
    expected = np.exp([3.0, 4.0, 0.0]) / np.exp([3.0, 4.0, 0.0]).sum()
    np.testing.assert_allclose(model.predict(photo(20, 20)).probabilities[:, 0, 0], expected, rtol=1e-5)
    told = model.predict(photo(20, 20), tags=["blue"]).probabilities[:, 0, 0]
    np.testing.assert_allclose(told, expected * [1, 0, 1] / (expected[0] + expected[2]), rtol=1e-5)
    with pytest.raises(UserError, match="max_logits, and colors combines probabilities: choose max or mean"):
        segmenter(merge="max_logits").predict(photo(4, 4))


def test_a_short_side_is_read_at_its_size() -> None:
    model = segmenter(short_side=32)
    assert model.predict(photo(100, 64)).mask.shape == (100, 64)
    assert model.method.seen == [(1, 3, 50, 32)]


def test_confidence_is_the_probability_of_the_class() -> None:
    result = segmenter().predict(photo(30, 20))
    np.testing.assert_array_equal(result.confidence, result.probabilities.max(0))
    tiled = segmenter()
    tiled.tile = 128
    large = tiled.predict(photo(300, 300))
    np.testing.assert_array_equal(large.confidence, large.probabilities.max(0))


@pytest.mark.parametrize(
    ("size", "settings", "words"),
    [
        ((60, 60), {"long_side": 32_000}, "long_side or short_side makes 32,000 x 32,000 pixels"),
        ((2000, 2000), {"scales": (1.0, 8.0)}, "scale 8 makes 16,000 x 16,000 pixels"),
        ((3, 4), {"long_side": 16_000, "scales": (4.0,)}, "makes 64,000 x 48,000 pixels"),
        ((2, 60_000), {"short_side": 512}, "makes 15,360,000 x 512 pixels"),
    ],
)
def test_a_photo_is_not_enlarged_beyond_all_memory(size: tuple[int, int], settings: dict, words: str) -> None:
    model = segmenter(**settings)
    with pytest.raises(UserError, match=words):
        model.predict(np.zeros((*size, 3), np.uint8))
    with pytest.raises(UserError, match=words):
        list(model.predict_many([np.zeros((*size, 3), np.uint8)]))


def test_thin_photos_are_made_smaller_and_larger_as_ever() -> None:
    for size in ((1, 3000), (3000, 1), (2, 2)):
        assert segmenter(long_side=600, scales=(0.5, 2.0)).predict(np.zeros((*size, 3), np.uint8)).mask.shape == size


@pytest.mark.parametrize(
    "give", [iter, lambda names: map(str, names), lambda names: dict.fromkeys(names).keys(), tuple]
)
def test_tags_come_in_any_form(give: Callable[[list[str]], Any]) -> None:
    model = Segmenter(Colors(), {"crf": None})
    photo = np.full((4, 6, 3), (0, 200, 0), np.uint8)
    for mask in (
        model.predict(photo, tags=give(["green"])).mask,
        next(model.predict_many([(photo, give(["green"]))])).mask,
    ):
        assert (mask == 1).all()
    with pytest.raises(UserError, match=r"a list of names, such as \['green'\]"):
        model.predict(photo, tags="green")


@pytest.mark.parametrize("one", [np.zeros((4, 6, 3), np.uint8), np.zeros((4, 6), np.uint8), "photo.jpg", b"x"])
def test_one_photo_is_not_taken_apart(one: Any) -> None:
    with pytest.raises(UserError, match="not one photo"):
        next(Segmenter(Colors(), {"crf": None}).predict_many(one))


@pytest.mark.parametrize("shape", [(2, 4, 6, 3), (1, 4, 6), (3, 4, 6), (5, 4, 6)])
def test_several_photos_may_be_one_array(shape: tuple[int, ...]) -> None:
    assert len(list(Segmenter(Colors(), {"crf": None}).predict_many(np.zeros(shape, np.uint8)))) == shape[0]


def test_a_key_of_a_block_leaves_the_others_as_they_are() -> None:
    model = Segmenter(Colors(), {"crf": {"bilateral": [64, 5, 4], "iterations": 3}}).set(crf={"iterations": 7})
    assert model.settings.crf is not None
    assert (model.settings.crf.bilateral, model.settings.crf.iterations) == ((64, 5, 4), 7)


def test_a_photo_beyond_the_largest_is_read_with_as_many_pixels() -> None:
    model = segmenter(largest=64 * 64)
    assert model.predict(photo(128, 128)).mask.shape == (128, 128)
    assert model.predict(photo(40, 50)).mask.shape == (40, 50)
    assert model.method.seen == [(1, 3, 64, 64), (1, 3, 40, 50)]
    model.tile = 48
    assert model.is_tiled(photo(128, 128))
    assert model.predict(photo(128, 128)).mask.shape == (128, 128)
    assert model.method.seen[2:] == [(1, 3, 64, 64)], "read whole; only the enlarging goes by tiles"
    given = segmenter(largest=64 * 64, short_side=96)
    given.predict(photo(128, 128))
    assert given.method.seen == [(1, 3, 96, 96)], "a side that is given goes before"


@pytest.mark.parametrize("tile", [1024, 256])  # read whole, and by tiles
def test_a_large_photo_that_is_read_small_is_refined_at_a_million_pixels(
    tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, ...]] = []
    whole = maps.dense_crf

    def counted(photos: list[Any], *arguments: Any, **more: Any) -> Any:
        seen.extend(tuple(photo.shape[:2]) for photo in photos)
        return whole(photos, *arguments, **more)

    monkeypatch.setattr(maps, "dense_crf", counted)
    monkeypatch.setattr(maps, "REFINED_CAP", 160 * 160)
    model = Segmenter(Left(), PredictSettings(crf={"bilateral": (20, 5, 4)}, largest=64 * 64))
    model.tile = tile
    large = np.zeros((600, 600, 3), np.uint8)
    large[:, :290] = 255  # where Left sees its class, but for a few columns
    mask = model.predict(large).mask
    assert seen == [(160, 160)]
    assert mask.shape == (600, 600)
    assert (mask[:, :270] == mask[0, 0]).all()
    assert (mask[:, 330:] == mask[0, -1]).all()
    assert mask[0, 0] != mask[0, -1]
    seen.clear()
    model.predict(np.zeros((150, 150, 3), np.uint8))
    assert seen == [(150, 150)], "at its own size where it is not so large"
