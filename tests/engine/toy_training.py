"""A toy system and toy batches: small enough to train hundreds of steps a second."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tagseg.backbones.backbone import Backbone
from tagseg.data.batch import Batch
from tagseg.distributed import global_mean, rank, world_size
from tagseg.methods.method import Method, ParameterGroup

CLASSES = ("cat", "dog")


class ToyBackbone(Backbone):
    channels, stage_channels, stage_strides, output_stride, license, name = 4, (4,), (2,), 2, "", "toy"

    def __init__(self) -> None:
        super().__init__((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
        self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)

    def stages(self, image_B3HW: Tensor) -> tuple[Tensor, ...]:
        return (torch.tanh(self.conv(self.normalize(image_B3HW))),)


class ToyMethod(Method):
    """Two heads of which `late` is left out of every other step; `dropout` draws from torch's own generator."""

    def __init__(self, dropout: float = 0.0, nan_at: int | None = None, init: int = 0) -> None:
        torch.manual_seed(init)
        super().__init__(ToyBackbone(), CLASSES)
        self.head = nn.Conv2d(4, 3, 1)
        self.late = nn.Conv2d(4, 3, 1)
        self.dropout, self.nan_at = dropout, nan_at

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        feature_BFhw = F.dropout(self.backbone(batch.image()), self.dropout, self.training)
        target_B = batch.tag_BC.sum(1).long()
        terms = {}
        for name, head in (("head", self.head), ("late", self.late)):
            if name == "head" or step % 2:
                loss_B = F.cross_entropy(head(feature_BFhw).mean((2, 3)), target_B, reduction="none")
                terms[name] = global_mean(loss_B.sum(), torch.tensor(len(batch)))
        if step == self.nan_at:
            # only the photo called bad breaks the loss
            bad = torch.tensor([float("nan") if name == "bad" else 0.0 for name in batch.names])
            terms["head"] = terms["head"] + bad.sum()
        return terms

    def segment(self, image_B3HW: Tensor) -> Tensor:
        return self.head(self.backbone(image_B3HW)).softmax(1)

    def branches(self, image_B3HW: Tensor, tag_BC: Tensor | None = None) -> dict[str, Tensor]:
        return {"P": self.segment(image_B3HW)}

    def cams(self, image_B3HW: Tensor) -> Tensor:
        return self.segment(image_B3HW)[:, 1:]

    def parameter_groups(self) -> list[ParameterGroup]:
        return [
            {
                "name": "backbone",
                "params": list(self.backbone.parameters()),
                "lr_scale": 1.0,
                "weight_decay_scale": 1.0,
            },
            {
                "name": "heads",
                "params": [self.head.weight, self.late.weight],
                "lr_scale": 10.0,
                "weight_decay_scale": 1.0,
            },
            {"name": "biases", "params": [self.head.bias, self.late.bias], "lr_scale": 20.0, "weight_decay_scale": 0.0},
        ]

    def describe_step(self, step: int) -> dict[str, float]:
        return {"wave": float(step % 2)}


class ToyBatches:
    """Step-addressed random photos; a process takes its contiguous share."""

    def __init__(self, batch_size: int = 4, size: int = 8, seconds: float = 0.0, bad: int | None = None) -> None:
        self.batch_size, self.size, self.seconds, self.bad = batch_size, size, seconds, bad

    def batch(self, step: int) -> Batch:
        generator = torch.Generator().manual_seed(step)
        shape = (self.batch_size, 3, self.size, self.size)
        photo_B3HW = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        tag_BC = (torch.rand(self.batch_size, 2, generator=generator) > 0.5).float()
        names = tuple("bad" if i == self.bad else f"photo{step}-{i}" for i in range(self.batch_size))
        valid_BHW = torch.ones(self.batch_size, self.size, self.size, dtype=torch.bool)
        whole = Batch(photo_B3HW, valid_BHW, tag_BC, None, torch.arange(self.batch_size), names)
        return whole.split(self.batch_size // world_size())[rank()]

    def loader(self, start_step: int, steps: int, workers: int) -> Iterator[Batch]:
        for step in range(start_step, start_step + steps):
            time.sleep(self.seconds)
            yield self.batch(step)
