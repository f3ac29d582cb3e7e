"""Masks of small marks: on drawn tiles, with a classifier that looks at what is dark."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tagseg.data.palette import write_mask
from tagseg.data.photo import read_mask
from tagseg.data.tagged import TaggedImages, TaggedPhoto
from tagseg.errors import UserError
from tagseg.interrupt import Interrupted
from tagseg.methods import Method
from tagseg.methods.build import ModelSettings, build_method
from tagseg.methods.classifier import ClassifierSettings
from tagseg.methods.method import MethodSettings
from tagseg.methods.supervised import SupervisedSettings
from tagseg.prediction.segmenter import Segmenter
from tagseg.prediction.settings import PredictSettings
from tagseg.workflows.small_marks import MarkedClass, small_marks

HOLE, BAND = 1, 2


def untrained(settings: MethodSettings) -> Segmenter:
    model = ModelSettings(backbone="efficientnet_lite0", weights="none")
    return Segmenter(build_method(settings, model, ("hole", "band")), PredictSettings(crf=None))


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A classifier that is sure of a hole where something is nearly black, and of a band whatever the photo shows."""

    def photo_logits(self: Method, image_B3HW: torch.Tensor) -> torch.Tensor:
        dark_B = (image_B3HW.flatten(1).amin(1) < 0.2).float()
        return torch.stack([8 * dark_B - 4, torch.full_like(dark_B, 3)], 1)

    monkeypatch.setattr("tagseg.methods.classifier.Classifier.photo_logits", photo_logits)


@pytest.fixture
def tiles(tmp_path: Path) -> TaggedImages:
    """Four tiles with a hole, of which the last is too light to stick out, and one with a band; masks as a CAM paints them."""
    (tmp_path / "masks").mkdir()
    photos = []
    for i in range(5):
        photo = np.full((96, 96), 150.0) + np.random.default_rng(i).normal(0, 3, (96, 96))
        mask = np.zeros((96, 96), np.uint8)
        k = HOLE if i < 4 else BAND
        if k == HOLE:
            photo[40:44, 50:56] = 30 if i < 3 else 150
            mask[32:48, 40:72] = HOLE
        else:
            photo[:30] = 100
            mask[:30] = BAND
        place = tmp_path / f"{i}.png"
        Image.fromarray(photo.clip(0, 255).astype(np.uint8)).convert("RGB").save(place)
        write_mask(tmp_path / "masks" / f"{i}.png", mask)
        photos.append(TaggedPhoto(f"{i}", place, (k,)))
    return TaggedImages(("hole", "band"), tuple(photos))


@pytest.fixture
def segmenter() -> Segmenter:
    return untrained(ClassifierSettings())


def test_classes_of_small_marks_are_drawn_anew_and_others_stay(
    told: None, tiles: TaggedImages, segmenter: Segmenter, tmp_path: Path
) -> None:
    found = small_marks(segmenter, tmp_path / "masks", tiles, tmp_path / "out")
    assert found[0] == MarkedClass("hole", 4, found[0].tested, 3)
    assert found[0].small
    assert (found[1].falls, found[1].small) == (0, False)
    for i in range(3):
        mask = read_mask(tmp_path / "out" / f"{i}.png")
        assert (mask[40:44, 50:56] == HOLE).all()
        assert 24 <= (mask == HOLE).sum() <= 128  # the mask had 512
        assert set(np.unique(mask)) == {0, HOLE}
    unsure, before = read_mask(tmp_path / "out" / "3.png"), read_mask(tmp_path / "masks" / "3.png")
    np.testing.assert_array_equal(unsure, np.where(before == HOLE, 255, before))
    np.testing.assert_array_equal(read_mask(tmp_path / "out" / "4.png"), read_mask(tmp_path / "masks" / "4.png"))
    again = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.png")}
    small_marks(segmenter, tmp_path / "masks", tiles, tmp_path / "out")
    assert again == {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.png")}


def test_masks_that_have_changed_are_drawn_anew_or_refused(
    told: None, tiles: TaggedImages, segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks, out = tmp_path / "masks", tmp_path / "out"
    small_marks(segmenter, masks, tiles, out)
    band = np.full((96, 96), BAND, np.uint8)
    write_mask(masks / "4.png", band)
    with pytest.raises(UserError, match="another model, format or setting"):
        small_marks(segmenter, masks, tiles, out)

    def stop(path: Path, mask: object) -> None:
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr("tagseg.workflows.small_marks.write_mask", stop)
        with pytest.raises(Interrupted):
            small_marks(segmenter, masks, tiles, out, overwrite=True)
    small_marks(segmenter, masks, tiles, out, overwrite=True)
    np.testing.assert_array_equal(read_mask(out / "4.png"), band)


def test_a_model_without_a_classifier_is_refused(tiles: TaggedImages, tmp_path: Path) -> None:
    model = untrained(SupervisedSettings(hidden=8))
    with pytest.raises(UserError, match="no classifier"):
        small_marks(model, tmp_path / "masks", tiles, tmp_path / "out")


def test_large_photos_are_tested_as_small_as_the_model_reads_them(
    told: None, tiles: TaggedImages, segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four times as many pixels, and the classifier sees no more of them than prediction in one piece does."""
    for photo in tiles.photos:
        large = Image.open(photo.photo).resize((192, 192), Image.Resampling.NEAREST)
        large.save(photo.photo)
        place = tmp_path / "masks" / f"{photo.name}.png"
        write_mask(place, read_mask(place).repeat(2, 0).repeat(2, 1))
    seen, told_logits = [], segmenter.method.photo_logits

    def photo_logits(image_B3HW: torch.Tensor) -> torch.Tensor | None:
        seen.append(tuple(image_B3HW.shape[2:]))
        return told_logits(image_B3HW)

    monkeypatch.setattr(segmenter.method, "photo_logits", photo_logits)
    segmenter.tile = 48
    small_marks(segmenter, tmp_path / "masks", tiles, tmp_path / "large")
    assert set(seen) == {(96, 96)}
    for i in range(3):
        mask = read_mask(tmp_path / "large" / f"{i}.png")
        assert (mask[80:88, 100:112] == HOLE).all()
        assert 96 <= (mask == HOLE).sum() <= 1024  # the mask had 2,048
    unsure = read_mask(tmp_path / "large" / "3.png")
    assert (unsure[64:96, 80:144] == 255).all()
    np.testing.assert_array_equal(read_mask(tmp_path / "large" / "4.png"), read_mask(tmp_path / "masks" / "4.png"))

    segmenter.tile, seen[:] = 1024, []
    segmenter.settings = PredictSettings(crf=None, long_side=96)
    small_marks(segmenter, tmp_path / "masks", tiles, tmp_path / "side")
    assert set(seen) == {(96, 96)}
