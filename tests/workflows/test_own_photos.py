"""What own photos start from: the best that was measured, fitted to the photos and the machine."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from tagseg.data.sources import Sources
from tagseg.data.tagged import TaggedImages, TaggedPhoto
from tagseg.errors import UserError
from tagseg.recipe import Recipe, load_recipe
from tagseg.refine.energy import dense_energy
from tagseg.refine.settings import EnergySettings
from tagseg.workflows import own_photos
from tagseg.workflows.chain import load_chain
from tagseg.workflows.own_photos import own_chain, own_data, own_recipe

MEASURED = 3131  # training photos of voc-animals


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Makes tagseg find so many photos of a size."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    def make(count: int, size: tuple[int, int] = (299, 224)):  # the median sides of voc-animals
        Image.new("RGB", size).save(tmp_path / "one.png")
        found = tuple(TaggedPhoto(f"{i}", tmp_path / "one.png", (1,)) for i in range(count))
        sources = Sources(TaggedImages(("cat",), found), None)
        monkeypatch.setattr(own_photos, "open_sources", lambda data, root: sources)
        return own_data(tmp_path, None, None, None)

    return make


def learned(recipe: Recipe) -> dict[str, object]:
    """What a recipe computes, apart from its data, its name and where its start weights come from."""
    values = recipe.model_dump(exclude={"data", "title"})
    del values["model"]["start"], values["model"]["start_train"]
    del values["train"]["checkpoint_every"], values["train"]["evaluate_every"]
    values["predict"].pop("largest", None)  # photos as those that were measured are read at their own size
    return values


def test_as_many_photos_as_were_measured_get_what_was_measured(photos) -> None:
    data = photos(MEASURED)
    assert learned(own_recipe(data, None, [])) == learned(load_recipe("mentor-voc-animals"))
    assert learned(own_recipe(data, "bmp", [])) == learned(load_recipe("bmp-voc-animals"))
    chain, best = own_chain(data, None, []), load_chain("chain-voc-animals-mentor")
    assert (chain.rounds, chain.confidence) == (best.rounds, best.confidence)
    for mine, measured in zip(
        (chain.classifier, chain.teacher, chain.segmenter), (best.classifier, best.teacher, best.segmenter), strict=True
    ):
        assert mine is not None
        assert measured is not None
        assert learned(mine) == learned(measured)


@pytest.mark.parametrize("method", [None, "classifier", "rrm", "asdt", "tscd", "bmp", "mentor"])
def test_nothing_speaks_of_the_data_that_was_measured(photos, method: str | None) -> None:
    said: list[str] = []
    data = photos(40, (300, 250))
    chain = own_chain(data, method, [], say=said.append)
    texts = [own_recipe(data, method, [], say=said.append).to_yaml(), *said]
    texts += [stage.to_yaml() for stage in (chain.classifier, chain.teacher, chain.segmenter) if stage is not None]
    assert not any("animals" in text or "tile" in text for text in texts)


def test_crop_stride_batch_and_steps_follow_the_photos(photos) -> None:
    few = own_recipe(photos(5, (110, 100)), None, [])
    assert (few.train.crop, few.model.output_stride, few.train.batch_size, few.train.steps) == (96, 8, 5, 300)
    small = own_recipe(photos(429, (300, 249)), "bmp", [])
    assert (small.train.crop, small.train.short_side, small.model.output_stride) == (224, 246, 16)
    many = own_recipe(photos(2 * MEASURED), None, [])
    assert (many.train.crop, many.train.steps, many.model.start_train["steps"]) == (160, 800, 1564)


def test_a_gpu_takes_larger_crops_and_little_memory_smaller_parts(photos, monkeypatch: pytest.MonkeyPatch) -> None:
    data = photos(MEASURED, (500, 333))
    monkeypatch.setattr(own_photos, "choose_device", lambda name: torch.device("cuda"))
    said: list[str] = []
    recipe = own_recipe(data, None, [], say=said.append)
    assert (recipe.train.crop, recipe.train.steps, recipe.train.micro_batch) == (320, 800, None)
    assert "a GPU: 800 steps of 8 photos, crop 320" in said[0]
    monkeypatch.setattr(own_photos, "SMALL_MEMORY", 2**60)
    assert own_recipe(data, None, [], say=said.append).train.micro_batch == 4
    assert "in parts of 4, as memory is short" in said[1]


def test_warm_ups_follow_the_steps_that_are_set(photos) -> None:
    recipe = own_recipe(photos(40), "bmp", ["train.steps=10"])
    assert (recipe.train.steps, recipe.train.warmup_steps) == (10, 2)
    assert recipe.method.background_aware.from_step == 1  # 50 of 400
    chain = own_chain(photos(40), "bmp", ["segmenter.train.steps=4", "classifier.train.steps=3"])
    assert (chain.segmenter.train.warmup_steps, chain.classifier.train.steps) == (0, 3)


def test_few_photos_are_seen_whole_as_they_were_measured(photos) -> None:
    said: list[str] = []
    data = photos(429, (359, 249))  # the median sides of tile-defects
    measured = load_recipe("mentor-tile-defects")
    recipe, chain = own_recipe(data, None, [], say=said.append), own_chain(data, None, [])
    assert learned(recipe) == learned(measured)
    assert recipe == own_recipe(data, "mentor", [])
    assert (
        "429 photos, median short side 249 px, no GPU, few photos: 450 steps of 8 photos, whole, 288 px long" in said[0]
    )
    assert chain.classifier is None
    assert learned(chain.teacher.model_copy(update={"predict": measured.predict})) == learned(measured)
    train = chain.segmenter.train
    assert (train.crop, train.short_side, train.scale, train.steps, train.lr) == (320, None, (0.8, 1.25), 300, 1.5e-4)
    assert (chain.from_teacher, chain.small_marks, chain.rounds, chain.segmenter.method.tag_weight) == (
        True,
        True,
        1,
        1,
    )


def test_sizes_of_few_photos_follow_theirs(photos) -> None:
    large = own_chain(photos(200, (4000, 3000)), None, [])
    assert (large.teacher.train.long_side, large.segmenter.train.short_side) == ((264, 288), 352)
    small = own_chain(photos(50, (130, 100)), None, [])
    assert (small.teacher.train.long_side, small.segmenter.train.crop) == ((117, 128), 160)
    assert small.teacher.train.steps == 300
    assert small.teacher.method.class_steps == 133  # 200 of 450
    assert own_recipe(photos(999), None, []).train.steps == 450


def test_a_chain_without_a_classifier_takes_no_settings_of_one(photos) -> None:
    with pytest.raises(UserError, match=r"--set 'classifier.train.steps=3': this chain trains no classifier"):
        own_chain(photos(40), None, ["classifier.train.steps=3"])


def test_segmenters_that_go_on_from_the_teacher_share_its_backbone(photos) -> None:
    with pytest.raises(UserError, match=r"one backbone.*segmenter.model.start=null"):
        own_chain(photos(40), None, ["segmenter.model.backbone=efficientnet_lite2"])
    fresh = ["segmenter.model.backbone=efficientnet_lite2", "segmenter.model.start=null"]
    assert not own_chain(photos(40), None, fresh).from_teacher


def test_a_side_that_is_given_takes_the_place_of_the_one_that_was_chosen(photos) -> None:
    recipe = own_recipe(photos(40), None, ["train.short_side=200"])
    assert (recipe.train.short_side, recipe.train.long_side) == (200, None)
    many = own_recipe(photos(MEASURED), None, ["train.long_side=[200, 240]"])
    assert (many.train.short_side, many.train.long_side) == (None, (200, 240))
    chain = own_chain(photos(40), None, ["teacher.train.short_side=200", "segmenter.train.long_side=[300, 320]"])
    assert (chain.teacher.train.short_side, chain.teacher.train.long_side) == (200, None)
    assert (chain.segmenter.train.short_side, chain.segmenter.train.long_side) == (None, (300, 320))
    whole = own_recipe(photos(40), None, ["train.crop=192"])
    assert (whole.train.crop, whole.train.long_side) == (192, (176, 192))
    cropped = own_recipe(photos(MEASURED), None, ["train.crop=320"]).train
    assert (cropped.crop, cropped.short_side) == (320, 352)
    small = own_recipe(photos(MEASURED), None, ["train.crop=96"])
    assert (small.train.short_side, small.model.output_stride) == (106, 8)
    as_chosen = own_recipe(photos(40), None, ["train.short_side=null"])
    assert as_chosen == own_recipe(photos(40), None, [])


def test_large_photos_are_read_about_as_large_as_training_saw_them(photos) -> None:
    def read(recipe: Recipe, height: int = 3000, width: int = 4000) -> int:
        """The shorter side that a photo is read with."""
        return min(recipe.predict.working_size(height, width))

    said: list[str] = []
    large = photos(MEASURED, (4000, 3000))
    best = own_recipe(large, None, [], say=said.append)
    assert read(best) == 224, "as voc-animals, whose photos have 224"
    assert "photos read with 66,615 pixels, as in training" in said[0]
    assert read(best, 200, 250) == 200, "small ones at their own size"
    chain = own_chain(large, None, [])
    assert [read(stage) for stage in (chain.classifier, chain.teacher, chain.segmenter) if stage] == [224] * 3
    few = photos(200, (4000, 3000))
    assert read(own_recipe(few, None, [])) == 263, "351 x 263"
    assert read(own_chain(few, None, []).segmenter) == 352, "measured on photos at their own size"
    assert read(own_recipe(few, "bmp", [])) == 312
    # what a person sets goes before, and is followed
    assert read(own_recipe(few, None, ["train.short_side=500"])) == 635
    assert read(own_recipe(few, None, ["train.long_side=[400, 440]"])) == 400, "533 x 400"
    assert read(own_recipe(few, None, ["predict.short_side=900"])) == 900
    assert read(own_recipe(few, None, ["predict.largest=null"])) == 3000
    with pytest.raises(UserError, match="short_side"):
        own_recipe(few, None, ["train.short_side=wide"])
    # photos as they were measured are read as they are, unless new ones are much larger
    measured = own_recipe(photos(MEASURED), None, [], say=said.append)
    assert "pixels, as in training" not in said[-1]
    assert read(measured, 224, 299) == 224
    assert read(measured) == 336


def test_the_dense_energy_weighs_the_same_on_larger_crops(photos) -> None:
    measured = own_recipe(photos(MEASURED), "asdt", [])
    assert measured.method.energy == load_recipe("asdt-voc-animals").method.energy
    few = own_recipe(photos(40), "asdt", [])
    assert (few.train.crop, measured.train.crop) == (224, 160)
    small, large = measured.method.energy, few.method.energy
    assert large.sxy == pytest.approx(1.4 * small.sxy)

    def weighted(energy: EnergySettings, crop: int) -> float:
        colors = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 255
        photo = F.interpolate(colors, (crop, crop), mode="bilinear")  # the same picture in both sizes
        probability, everywhere = torch.full((1, 7, crop, crop), 1 / 7), torch.ones(1, crop, crop)
        unlabeled = torch.full((1, crop, crop), 255)
        value = dense_energy(
            photo, probability, everywhere, unlabeled, srgb=energy.srgb, sxy=energy.sxy, scale=energy.scale
        )
        return energy.weight * float(value)

    assert weighted(large, 224) == pytest.approx(weighted(small, 160), rel=0.1)
