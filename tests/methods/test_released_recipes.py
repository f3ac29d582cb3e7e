"""The recipes of TSCD and BMP hold the released numbers; an ablation differs from the whole in its switches alone."""

from typing import Any

import pytest

from tagseg.recipe import load_recipe
from tests.recipe_values import value

SHARED = {
    "model.backbone": "mit_b1",
    "train.steps": 20000,
    "train.batch_size": 4,
    "train.crop": 512,
    "train.scale": [0.5, 2.0],
    "train.optimizer": "adamw",
    "train.lr": 6e-5,
    "train.weight_decay": 0.01,
    "train.poly_power": 1.0,
    "train.warmup_steps": 1500,
    "train.warmup_ratio": 1e-6,
    "method.class_steps": 2000,
    "method.cam_scales": [1.0, 0.5, 1.5],
    "method.labels.background_scores": [0.35, 0.55],
    "method.affinity_weight": 0.1,
    "predict.scales": [1.0, 0.5, 0.75],
    "predict.flip": True,
    "predict.crf.gaussian": [3.0, 3.0],
    "predict.crf.bilateral": [64.0, 5.0, 4.0],
}
PUBLISHED: dict[str, dict[str, Any]] = {
    "tscd-voc12-mit_b1": SHARED
    | {
        "method.labels.refine": "varm",
        "method.seg_weight": 0.1,
        "method.energy_weight": 0.01,
        "method.energy": {"weight": 1e-7, "srgb": 15.0, "sxy": 100.0, "scale": 0.5},
        "method.correspondence.weight": 0.1,
        "method.correspondence.view_scale": 0.3,
        "method.correspondence.samples": 40,
        "method.equivariance_weight": 0.0,
    },
    "bmp-voc12-mit_b1": SHARED
    | {
        "method.labels.refine": "par",
        "method.object_aware": True,
        "method.background_aware": {"from_step": 4000, "min_score": 0.5},
        "method.class_to_seg": {"weight": 0.7, "loss": "bce", "foreground_share": None},
        "method.seg_to_class.weight": 0.1,
        "method.seg_to_class.from_step": 2000,
        "method.seg_to_class.confidence": 0.75,
        "method.seg_to_class.compare": "logit",
    },
}
ABLATIONS: dict[str, dict[str, Any]] = {
    "no-background-aware": {"background_aware.from_step": None},
    "no-class-to-seg": {"class_to_seg.weight": 0.0},
    "no-feedback": {"seg_to_class.weight": 0.0},
    "classifier-dominated": {"object_aware": False, "background_aware.from_step": None, "seg_to_class.weight": 0.0},
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_released_recipes_hold_the_released_numbers(name: str) -> None:
    recipe = load_recipe(name)
    assert {key: value(recipe, key) for key in PUBLISHED[name]} == PUBLISHED[name]


def test_both_readings_are_settings() -> None:
    changes = ["train.batch_size=8", "method.equivariance_weight=0.1"]
    recipe = load_recipe("tscd-voc12-mit_b1", changes)
    assert value(recipe, "method.equivariance_weight") == 0.1
    recipe = load_recipe("bmp-voc12-mit_b1", ["method.seg_to_class.compare=probability"])
    assert value(recipe, "method.seg_to_class.compare") == "probability"


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_changes_its_switches_alone(name: str) -> None:
    recipe, whole = load_recipe(f"bmp-voc-animals-{name}"), load_recipe("bmp-voc-animals-object-aware")
    assert {key: value(recipe, f"method.{key}") for key in ABLATIONS[name]} == ABLATIONS[name]
    assert recipe.train == whole.train
    changed = {key for key, kept in whole.method.model_dump().items() if recipe.method.model_dump()[key] != kept}
    assert changed == {key.split(".")[0] for key in ABLATIONS[name]}
