"""Names from before: recipes that stored them load as they were meant, and whoever writes one hears what to write now."""

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

from tagseg.errors import UserError
from tagseg.methods import METHODS
from tagseg.recipe import load_recipe
from tagseg.shipped import RENAMED as RECIPES
from tagseg.workflows.claim import differences
from tests.recipe_values import value

STORED = sorted((Path(__file__).parent / "old_recipes").glob("*.yaml"))
RENAMED: list[tuple[str, str, str, str, Any]] = [
    ("asdt-scenes", "train.power=1", "train.power is now poly_power", "train.poly_power", 1.0),
    ("asdt-scenes", "train.average=0.9", "train.average is now ema_decay", "train.ema_decay", 0.9),
    ("asdt-scenes", "train.keep=5", "train.keep is now keep_checkpoints", "train.keep_checkpoints", 5),
    ("asdt-scenes", "method.cam_bf16=false", "cam_bf16 is now cam_precision: null", "method.cam_precision", None),
    ("bmp-scenes", "method.background.from_step=7", "now background_aware", "method.background_aware.from_step", 7),
    ("bmp-scenes", "method.background.confidence=0.1", "min_score", "method.background_aware.min_score", 0.1),
    ("bmp-scenes", "method.seg_to_class.tagged=true", "tagged_only", "method.seg_to_class.tagged_only", True),
    ("bmp-scenes", "method.seg_to_class.threshold=as_meant", "compare", "method.seg_to_class.compare", "probability"),
    ("bmp-scenes", "method.class_to_seg.foreground=0.7", "share", "method.class_to_seg.foreground_share", 0.7),
    ("tscd-scenes", "method.seg_foreground=0.7", "is now foreground_share", "method.foreground_share", 0.7),
    ("tscd-scenes", "method.labels.mask_background=0.3", "now mask_b", "method.labels.mask_background_score", 0.3),
    ("tscd-scenes", "method.labels.background=[0.1, 0.2]", "now b", "method.labels.background_scores", [0.1, 0.2]),
    ("tscd-scenes", "method.equivariance.form=as_meant", "equivariance_weight", "method.equivariance_weight", 0.1),
    ("tscd-scenes", "method.equivariance.weight=0", "equivariance_weight", "method.equivariance_weight", 0.0),
    ("supervised-scenes", "method.segmenter=pspnet", "segmenter is now decoder", "method.decoder", "pspnet"),
    ("supervised-scenes", "method.foreground=0.6", "is now foreground_share", "method.foreground_share", 0.6),
    ("mentor-scenes", "method.strong.grey=0.1", "strong.grey is now gray", "method.strong.gray", 0.1),
]


BEFORE = {  # values of shipped recipes that were others when the runs were stored
    "tscd": ["method.labels.background_scores=[0.35, 0.55]", "method.labels.mask_background_score=0.45"],
    "mentor": [
        "method.labels.background_scores=[0.2, 0.35]",
        "method.labels.background_from=30",
        "method.labels.seg_from=60",
        "method.foreground=3",
    ],
}


@pytest.mark.parametrize("file", STORED, ids=lambda file: file.stem)
def test_a_stored_recipe_means_what_its_shipped_one_means(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A run's own recipe, of a few steps: apart from what was set for it nothing differs, and nothing is said."""
    stored = load_recipe(file, stored=True)
    shipped = load_recipe(f"{file.stem}-scenes", BEFORE.get(file.stem, []))
    changed = {
        difference.partition(":")[0].removeprefix("method.").partition(".")[0]
        for difference in differences(stored, shipped)
    }
    assert changed <= {
        "train",
        "data",
        "model",
        "class_steps",
        "background_aware",
        "seg_to_class",
        "wave",
        "head_steps",
    }
    assert not caplog.messages


@pytest.mark.parametrize(("name", "old", "told", "key", "expected"), RENAMED, ids=[row[1] for row in RENAMED])
def test_a_former_key_is_understood_and_the_present_one_named(
    name: str, old: str, told: str, key: str, expected: Any, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = load_recipe(name, [old])
    assert value(recipe, key) == expected
    assert told in " ".join(caplog.messages)
    assert all(said.startswith(f"--set {old.partition('=')[0]}: ") for said in caplog.messages)


@pytest.mark.parametrize(
    ("name", "old", "sentence"),
    [
        ("asdt-scenes", "method.background_weight=null", "method.background_weight: should be a number (given: None)"),
        ("rrm-scenes", "method.foreground_weight=a", "method.foreground_weight: should be a number (given: 'a')"),
        (
            "tscd-scenes",
            "method.equivariance={weight: null, form: as_meant}",
            "weight: should be a number (given: None)",
        ),
        ("tscd-scenes", "method.equivariance={weight: a}", "weight: should be a number (given: 'a')"),
        ("tscd-scenes", "method.equivariance={weight: 0.2}", "equivariance is now equivariance_weight"),
        ("tscd-scenes", "method.equivariance=0.1", "method.equivariance: there is no such key"),
        ("tscd-scenes", "method.equivariance=null", "method.equivariance: there is no such key"),
        ("asdt-scenes", "method.cam_bf16='\"no\"'", "method.cam_bf16: should be true or false"),
        (
            "bmp-scenes",
            "method.seg_to_class={threshold: as_meant, compare: logit}",
            "threshold is now compare: probability, but compare is 'logit'",
        ),
        (
            "bmp-scenes",
            "method.seg_to_class.threshold=[as_meant]",
            "method.seg_to_class.threshold: there is no such key",
        ),
    ],
)
def test_a_former_key_with_a_value_it_never_had_is_refused(name: str, old: str, sentence: str) -> None:
    with pytest.raises(UserError, match=re.escape(sentence)):
        load_recipe(name, [old])


@pytest.mark.parametrize(("old", "new"), RECIPES.items())
def test_a_former_name_of_a_recipe_is_understood(old: str, new: str, caplog: pytest.LogCaptureFixture) -> None:
    assert load_recipe(old) == load_recipe(new)
    assert caplog.messages == [f"The recipe {old} is now {new}."]


def test_a_recipe_file_by_former_keys(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("base: asdt-scenes\nmethod: {background_weight: 0.25, foreground_weight: 0.75, cam_alpha: 4}\n")
    assert value(load_recipe(file), "method.foreground_share") == 0.75
    assert [message.partition(": ")[2] for message in caplog.messages] == [
        "method.background_weight and foreground_weight are now foreground_share: 0.75.",
        "method.cam_alpha is out: take the key away.",
    ]


@pytest.mark.parametrize(
    ("name", "old", "sentence"),
    [
        ("asdt-scenes", "method.foreground_weight=0.5", "now foreground_share, the part of a whole"),
        ("asdt-scenes", "method.labels.floor=0.2", r"labels.*floor is out, and only 0.1 is left of it"),
        ("tscd-scenes", "method.labels.walk_from=5", "walk_from is out"),
        ("tscd-scenes", "method.equivariance.weight=0.3", "equivariance is now equivariance_weight"),
        ("mentor-scenes", "method.noise.from_step=150", "noise is out, and only .* is left of it"),
        ("supervised-scenes", "method.segmenter=smp:Unet", "no decoder 'smp:Unet'"),
    ],
)
def test_what_is_out_is_refused_with_what_is_left(name: str, old: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        load_recipe(name, [old])


def test_a_model_from_before_opens_although_a_key_of_its_training_is_out() -> None:
    described = {"name": "supervised", "segmenter": "head", "confidence": "confidence.csv"}
    assert METHODS["supervised"].Settings.model_validate(described).decoder == "conv"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("old", "now"),
    [
        ("labelled_mean", "tagseg.losses.pixels.labeled_mean"),
        ("tag_loss", "tagseg.losses.pixels.tag_loss"),
        ("upsample", "tagseg.resize.upsample"),
    ],
)
def test_losses_are_found_where_they_were(old: str, now: str) -> None:
    with pytest.warns(DeprecationWarning, match=f"{old} is now {now}$"):
        found = getattr(importlib.import_module("tagseg.methods.losses"), old)
    assert f"{found.__module__}.{found.__name__}" == now
