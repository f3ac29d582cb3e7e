"""Parameter groups of every published network: name, learning rate, weight decay; and what draws the random scale."""

from __future__ import annotations

import pytest
from torch import nn

from tagseg.backbones.backbone import NORM_LAYERS
from tagseg.decoders.segformer import GlobalBatchNorm2d
from tagseg.engine.optim import build_optimizer
from tagseg.methods import build as module
from tagseg.methods.build import build_method, share_statistics
from tagseg.recipe import load_recipe

# recipe: groups as (name, learning rate, weight decay), and what draws one random scale
PUBLISHED = {
    "classifier-voc12": ([("backbone", 0.1, 5e-4), ("heads", 1.0, 5e-4)], "batch"),
    "rrm-voc12": (
        [("backbone", 7e-4, 1e-5), ("heads", 7e-3, 1e-5), ("heads biases", 1.4e-2, 0.0)],
        "batch",
    ),
    "asdt-voc12": (
        [("backbone", 7e-4, 1e-5), ("heads", 7e-3, 1e-5), ("heads biases", 1.4e-2, 0.0)],
        "batch",
    ),
    "tscd-voc12-mit_b1": ([("backbone", 6e-5, 0.01), ("heads", 6e-4, 0.01)], "photo"),
    "bmp-voc12-mit_b1": ([("backbone", 6e-5, 0.01), ("heads", 6e-4, 0.01)], "photo"),
    "supervised-voc12-deeplab_v2": (
        [("backbone", 2.5e-4, 5e-4), ("heads", 2.5e-3, 5e-4), ("heads biases", 5e-3, 0.0)],
        "photo",
    ),
    "supervised-voc12-resnet38": ([("backbone", 1e-3, 5e-4), ("heads", 1e-3, 5e-4)], "photo"),
    "supervised-voc12-pspnet": ([("backbone", 2.5e-3, 5e-4), ("heads", 2.5e-3, 5e-4)], "photo"),
    "supervised-voc12-segformer-mit_b1": (
        [
            ("backbone", 6e-5, 0.01),
            ("backbone norms", 6e-5, 0.0),
            ("heads", 6e-4, 0.01),
            ("heads norms", 6e-4, 0.0),
        ],
        "photo",
    ),
}
CLASSES = tuple(f"class {i}" for i in range(1, 21))


@pytest.mark.parametrize("name", PUBLISHED)
def test_groups_and_scale_are_the_published_ones(name: str) -> None:
    recipe = load_recipe(name)
    groups, scale_per = PUBLISHED[name]
    assert recipe.train.scale_per == scale_per
    # a network of the same kinds of layers that is quick to build
    small = "mit_b0" if recipe.model.backbone == "mit_b1" else "resnet18"
    model = recipe.model.model_copy(update={"backbone": small, "weights": "none", "start": None, "frozen": ()})
    method = build_method(recipe.method, model, CLASSES)
    found = build_optimizer(method, recipe.train).param_groups
    table = [(group["name"], pytest.approx(group["lr"]), pytest.approx(group["weight_decay"])) for group in found]
    assert table == groups
    norms = {id(p) for m in method.modules() if isinstance(m, NORM_LAYERS) for p in m.parameters(recurse=False)}
    for group in found:
        if group["name"].endswith(" norms"):
            assert {id(p) for p in group["params"]} <= norms
        elif recipe.method.model_dump().get("groups") == "segformer":
            assert not {id(p) for p in group["params"]} & norms


def test_trained_batch_norms_share_their_statistics_between_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load_recipe("supervised-voc12-pspnet")
    model = recipe.model.model_copy(update={"backbone": "resnet18", "weights": "none", "start": None})

    def kinds() -> set[type]:
        backbone = build_method(recipe.method, model, CLASSES).backbone
        return {type(m) for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)}

    assert kinds() == {nn.BatchNorm2d}
    monkeypatch.setattr(module, "world_size", lambda: 2)
    assert kinds() == {GlobalBatchNorm2d}
    network = nn.Sequential(nn.BatchNorm2d(2), nn.LayerNorm(3))
    share_statistics(network)
    assert [type(m) for m in network] == [GlobalBatchNorm2d, nn.LayerNorm]
