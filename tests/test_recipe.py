from pathlib import Path
from typing import Any

import pytest
import yaml

from tagseg.errors import UserError
from tagseg.recipe import load_recipe, make_recipe
from tagseg.shipped import shipped_recipes
from tests.recipe_values import value

PUBLISHED: dict[str, dict[str, Any]] = {
    "classifier-voc12": {
        "model.backbone": "wide_resnet38",
        "model.output_stride": 8,
        "model.frozen": ["conv1a", "b2"],
        "method.name": "classifier",
        "method.dropout": 0.5,
        "train.steps": 9920,
        "train.batch_size": 16,
        "train.crop": 448,
        "train.long_side": [256, 512],
        "train.scale": [1.0, 1.0],
        "train.color_jitter": [0.3, 0.3, 0.3, 0.1],
        "train.lr": 0.1,
        "train.momentum": 5e-4,
        "train.weight_decay": 5e-4,
        "train.poly_power": 0.9,
    },
    "rrm-voc12": {
        "model.backbone": "wide_resnet38",
        "model.frozen": [],
        "model.start": "classifier-voc12",
        "method.name": "rrm",
        "train.steps": 20000,
        "train.batch_size": 4,
        "train.crop": 321,
        "train.short_side": None,
        "train.long_side": None,
        "train.scale": [0.7, 1.3],
        "train.flip": True,
        "train.color_jitter": None,
        "train.optimizer": "sgd",
        "train.lr": 7e-4,
        "train.momentum": 1e-5,
        "train.weight_decay": 1e-5,
        "train.poly_power": 0.9,
        "method.cam_scales": [0.5, 1.0, 1.5, 2.0],
        "method.dropout": 0.5,
        "method.head_lr_scale": 10.0,
        "method.hidden": 512,
        "method.dilation": 12,
        "method.labels.alpha_low": 4.0,
        "method.labels.alpha_high": 32.0,
        "method.labels.keep": 0.4,
        "method.labels.background_sure": 0.8,
        "method.labels.crf_sure": 0.8,
        "method.labels.crf.gaussian": [3.0, 3.0],
        "method.labels.crf.bilateral": [80.0, 13.0, 10.0],
        "method.labels.crf.iterations": 10,
        "method.energy.weight": 1e-7,
        "method.energy.srgb": 15.0,
        "method.energy.sxy": 100.0,
        "method.energy.scale": 0.5,
        "method.foreground_share": None,
        "method.class_weight": 1.0,
        "predict.crf.gaussian": [3.0, 3.0],
        "predict.crf.bilateral": [83.0, 5.0, 4.0],
        "predict.crf.iterations": 10,
        "predict.scales": [1.0],
        "predict.flip": False,
    },
}
PUBLISHED["asdt-voc12"] = PUBLISHED["rrm-voc12"] | {
    "method.name": "asdt",
    "method.teaching": "alternate",
    "method.wave.period": 150,
    "method.wave.high": 125,
    "method.wave.warmup": 1000,
    "method.wave.high_first": False,
    "method.seg_teacher_weight": 0.5,
    "method.student_weight": 0.5,
    "method.teacher_crf.bilateral": [83.0, 5.0, 4.0],
    "train.seed": 42,
}

STAGE_2: dict[str, Any] = {
    "method.name": "supervised",
    "train.steps": 20000,
    "train.batch_size": 10,
    "train.flip": True,
    "train.optimizer": "sgd",
    "train.momentum": 0.9,
    "train.weight_decay": 5e-4,
    "train.poly_power": 0.9,
}
PUBLISHED["supervised-voc12-deeplab_v2"] = STAGE_2 | {
    "model.backbone": "resnet101",
    "model.output_stride": 8,
    "model.frozen_norm": True,
    "method.decoder": "deeplab_v2",
    "method.multi_scale": [0.75, 0.5],
    "method.head_lr_scale": 10.0,
    "train.micro_batch": 5,
    "train.crop": 321,
    "train.scale": [0.5, 1.5],
    "train.color_jitter": None,
    "train.lr": 2.5e-4,
    "predict.scales": [1.0],
    "predict.crf.gaussian": [1.0, 3.0],
    "predict.crf.bilateral": [67.0, 3.0, 4.0],
    "predict.crf.iterations": 10,
}
PUBLISHED["supervised-voc12-resnet38"] = STAGE_2 | {
    "model.backbone": "wide_resnet38",
    "model.output_stride": 8,
    "model.frozen_norm": False,
    "method.decoder": "deeplab_resnet38",
    "method.hidden": 512,
    "method.dilation": 12,
    "method.dropout": 0.5,
    "method.norm_momentum": 3e-4,
    "method.head_lr_scale": 1.0,
    "train.crop": 448,
    "train.scale": [0.5, 1.5],
    "train.lr": 1e-3,
    "predict.scales": [0.5, 0.75, 1.0, 1.25, 1.5, 1.75],
    "predict.flip": True,
}
PUBLISHED["supervised-voc12-pspnet"] = STAGE_2 | {
    "model.backbone": "res2net101d",
    "model.output_stride": 8,
    "model.frozen_norm": False,
    "method.decoder": "pspnet",
    "method.hidden": 512,
    "method.dropout": 0.1,
    "method.aux_weight": 0.4,
    "method.head_lr_scale": 1.0,
    "train.crop": 512,
    "train.short_side": 512,
    "train.scale": [0.5, 2.0],
    "train.lr": 2.5e-3,
    "predict.scales": [0.5, 0.75, 1.0, 1.25, 1.5, 1.75],
    "predict.flip": True,
}


PUBLISHED["supervised-voc12-segformer-mit_b1"] = {
    "model.backbone": "mit_b1",
    "model.output_stride": 32,
    "method.decoder": "segformer",
    "method.hidden": 256,
    "method.dropout": 0.1,
    "method.head_lr_scale": 10.0,
    "train.steps": 20000,
    "train.batch_size": 16,
    "train.crop": 512,
    "train.scale": [0.5, 2.0],
    "train.optimizer": "adamw",
    "train.lr": 6e-5,
    "train.betas": [0.9, 0.999],
    "train.weight_decay": 0.01,
    "train.poly_power": 1.0,
    "train.warmup_steps": 1500,
    "train.warmup_ratio": 1e-6,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_recipes_hold_the_published_numbers(name: str) -> None:
    recipe = load_recipe(name)
    assert {key: value(recipe, key) for key in PUBLISHED[name]} == PUBLISHED[name]


def test_both_readings_of_the_wave_and_the_momentum_are_settings() -> None:
    recipe = load_recipe("asdt-voc12", ["method.wave=paper", "train.momentum=0.9"])
    assert value(recipe, "method.wave") == {"period": 150, "high": 30, "warmup": 0, "high_first": True}
    assert recipe.train.momentum == 0.9


def test_a_key_of_a_named_wave_can_be_changed_by_another_word_or_file(tmp_path: Path) -> None:
    paper = {"period": 150, "high": 30, "warmup": 0, "high_first": True}
    expected = paper | {"high": 37}
    assert value(load_recipe("asdt-voc12", ["method.wave=paper", "method.wave.high=37"]), "method.wave") == expected
    below, above = tmp_path / "below.yaml", tmp_path / "above.yaml"
    below.write_text("base: asdt-voc12\nmethod: {wave: paper}\n", encoding="utf-8")
    above.write_text(f"base: {below}\nmethod: {{wave: {{high: 37}}}}\n", encoding="utf-8")
    assert value(load_recipe(below), "method.wave") == paper
    assert value(load_recipe(above), "method.wave") == expected
    assert value(load_recipe(above, ["method.wave=minority"]), "method.wave.high") == 125
    with pytest.raises(
        UserError, match=r"method.wave: there is no wave called 'papr'; the presets are paper, minority"
    ):
        load_recipe("asdt-voc12", ["method.wave=papr", "method.wave.high=37"])


def test_a_method_without_logits_cannot_merge_them(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("base: tscd-voc12-mit_b1\nmethod: {name: asdt}\n", encoding="utf-8")
    for name, overrides in ((file, []), ("classifier-scenes", ["predict.merge=max_logits"])):
        with pytest.raises(
            UserError, match=r"predict.merge is max_logits, and \w+ combines probabilities: choose max or"
        ):
            load_recipe(name, list(overrides))
    one_head = ["method.seg_teacher_weight=0", "method.teaching=class-teacher"]
    assert load_recipe(file, one_head).predict.merge == "max_logits"
    assert load_recipe(file, stored=True).method.name == "asdt"  # a run of before still opens


def test_a_teacher_that_is_not_there_cannot_teach() -> None:
    with pytest.raises(UserError, match="teaching alternate needs a seg-teacher: set seg_teacher_weight above 0"):
        load_recipe("asdt-voc12", ["method.seg_teacher_weight=0"])


def test_both_readings_of_stage_2s_learning_rate_are_settings() -> None:
    recipe = load_recipe("supervised-voc12-deeplab_v2", ["train.lr=2.5e-3", "method.head_lr_scale=1"])
    assert (recipe.train.lr, value(recipe, "method.head_lr_scale")) == (2.5e-3, 1.0)
    for name in ("deeplab_v2", "resnet38", "pspnet"):
        text = shipped_recipes()[f"supervised-voc12-{name}"]
        assert "Learning rate:" in text
        assert "0.0025" in text


@pytest.mark.parametrize("name", shipped_recipes())
def test_shipped_recipes_load_and_say_what_they_are(name: str) -> None:
    assert shipped_recipes()[name].startswith("# ")
    recipe = load_recipe(name)
    assert recipe.title
    assert name.startswith((recipe.method.name, "photos"))


def test_the_resolved_recipe_is_the_same_recipe(tmp_path: Path) -> None:
    recipe = load_recipe("asdt-scenes", ["train.seed=7"])
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
    assert load_recipe(tmp_path / "recipe.yaml") == recipe


def test_a_recipe_says_only_what_differs_from_its_base(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("base: asdt-scenes\ntrain: {steps: 5}\nmethod: {wave: {period: 99}}\n", encoding="utf-8")
    recipe, base = load_recipe(file), load_recipe("asdt-scenes")
    assert recipe.train.steps == 5
    assert recipe.train.model_copy(update={"steps": base.train.steps}) == base.train
    assert value(recipe, "method.wave.high") == value(base, "method.wave.high")


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("train.stepz=3", "train.stepz: there is no such key"),
        ("train.steps=many", "train.steps: .*integer.*'many'"),
        ("train.steps=0", "train.steps: .*greater than or equal to 1.*0"),
        ("method.name=magic", "there is no method called 'magic'; there are classifier"),
        ("method.wave.high=1000", "longer than the period"),
        ("method.hidden=-1", "method.*hidden"),
        ("train.steps", "should read key.sub=value"),
        ("train.steps={", "cannot be read as YAML"),
        ("data.format=voc", "needs root"),
    ],
)
def test_wrong_settings_are_refused_by_name(override: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as caught:
        load_recipe("asdt-scenes", [override])
    assert "\n" not in str(caught.value)


def test_files_that_are_no_recipes_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean asdt-scenes"):
        load_recipe("asdt-scene")
    cases = {
        "list.yaml": b"- 1",
        "broken.yaml": b"a: [",
        "binary.yaml": b"\xff\xfe\x00",
        "tag.yaml": b"!!python/object:os.x {}",
    }
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=name):
            load_recipe(tmp_path / name)


def test_a_recipe_cannot_be_its_own_base(tmp_path: Path) -> None:
    a, b = tmp_path / "a.yaml", tmp_path / "b.yaml"
    a.write_text(yaml.safe_dump({"base": str(b)}), encoding="utf-8")
    b.write_text(yaml.safe_dump({"base": str(a)}), encoding="utf-8")
    with pytest.raises(UserError, match="its own base"):
        load_recipe(a)


def test_a_part_given_by_some_of_its_keys_keeps_its_parents_defaults() -> None:
    changes = ["method.labels.background_scores=[0.2, 0.35]"]
    assert value(load_recipe("bmp-scenes", changes), "method.labels.refine") == "par"
    method = {"name": "rrm", "labels": {"crf": {"iterations": 5}}}
    labels = make_recipe({"method": method, "train": {"steps": 1}}, [], "mine")
    assert value(labels, "method.labels.crf.bilateral") == [80.0, 13.0, 10.0]
    assert value(labels, "method.labels.crf.iterations") == 5
