"""Small systems and batches that the tests of methods share."""

from typing import Any

import torch

from tagseg.backbones import create_backbone
from tagseg.data.batch import Batch
from tagseg.methods import METHODS, Method

CLASSES = ("cat", "dog", "sheep")
SMALL: dict[str, dict[str, Any]] = {
    "classifier": {"cam_scales": [1.0, 1.5]},
    "rrm": {"cam_scales": [1.0], "hidden": 8, "dilation": 1},
    "asdt": {
        "cam_scales": [1.0],
        "hidden": 8,
        "dilation": 1,
        "wave": {"period": 2, "high": 1, "warmup": 0, "high_first": True},
    },
    "tscd": {"class_steps": 0, "hidden": 8, "cam_scales": [1.0], "correspondence": {"samples": 5}},
    "bmp": {
        "class_steps": 0,
        "hidden": 8,
        "cam_scales": [1.0],
        "seg_to_class": {"from_step": 0, "confidence": 0.0},
        "background_aware": {"from_step": 1},
    },
    "mentor": {
        "hidden": 8,
        "cam_scales": [1.0],
        "labels": {"background_from": 0, "seg_from": 1},
        "mixing": {"boxes": 0.5, "objects": 0.5},
        "untagged": 1.0,
    },
    "supervised": {"hidden": 8, "dilation": 1},
}
SMALL["asdt, background-aware"] = SMALL["asdt"] | {"decoder": "segformer", "background_aware": {"from_step": 1}}


def build(name: str, backbone: str = "efficientnet_lite0", *, frozen_norm: bool = True, **changes: Any) -> Method:
    torch.manual_seed(0)
    weights = "embedded" if backbone.startswith("efficientnet_lite") else "none"
    system = name.partition(",")[0]
    settings = METHODS[system].Settings.model_validate({"name": system} | SMALL.get(name, {}) | changes)
    return METHODS[system](create_backbone(backbone, weights=weights, frozen_norm=frozen_norm), CLASSES, settings)


def batch(tags: list[list[float]], *, masks: str = "mixed", size: int = 64) -> Batch:
    generator = torch.Generator().manual_seed(1)
    count = len(tags)
    photo = torch.randint(0, 256, (count, 3, size, size), generator=generator, dtype=torch.uint8)
    valid = torch.ones(count, size, size, dtype=torch.bool)
    valid[:, :, -8:] = False
    fill = {"mixed": 0, "ignored": 255, "background": 0, "foreground": 1}[masks]
    mask = torch.full((count, size, size), fill, dtype=torch.uint8)
    if masks == "mixed":
        mask[:, 16:48, 16:48] = 2
    return Batch(photo, valid, torch.tensor(tags), mask, torch.arange(count), tuple(f"photo{i}" for i in range(count)))


TWO = [[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
