"""The segmentation head trained on true masks: the upper bound of the weakly supervised systems."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from tagseg.backbones.backbone import Backbone
from tagseg.cues.cam import normalise_cam
from tagseg.data.batches import Batch
from tagseg.methods.heads import SegHead, parameter_groups
from tagseg.methods.losses import pixel_cross_entropy, upsample
from tagseg.methods.method import Method, MethodSettings, ParameterGroup


class SupervisedSettings(MethodSettings):
    """Settings of fully supervised training."""

    name: Literal["supervised"] = "supervised"
    hidden: int = Field(512, ge=1, description="channels inside the segmentation head")
    dilation: int = Field(12, ge=1, description="dilation of the segmentation head, in cells of the feature grid")
    head_lr_scale: float = Field(10.0, gt=0, description="learning rate of the head against the backbone's")


class Supervised(Method):
    """The head of RRM and ASDT under the mean cross-entropy of true masks, 255 ignored."""

    Settings: ClassVar[type[MethodSettings]] = SupervisedSettings
    needs_masks: ClassVar[bool] = True

    def __init__(self, backbone: Backbone, classes: tuple[str, ...], settings: SupervisedSettings) -> None:
        super().__init__(backbone, classes)
        self.settings = settings
        head = SegHead(backbone.channels, settings.hidden, self.num_classes, settings.dilation)
        self.heads = nn.ModuleDict({"student": head})

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """The mean cross-entropy over labelled pixels."""
        assert batch.mask_BHW is not None
        logit_BKHW = upsample(self.heads["student"](self.backbone(batch.image())), batch.size)
        return {"student labels": pixel_cross_entropy(logit_BKHW, batch.mask_BHW)}

    def segment(self, image_B3HW: Tensor) -> Tensor:
        """The head's probabilities."""
        size = (image_B3HW.shape[-2], image_B3HW.shape[-1])
        return upsample(self.heads["student"](self.backbone(image_B3HW)), size).softmax(1)

    def branches(self, image_B3HW: Tensor, tag_BC: Tensor | None = None) -> dict[str, Tensor]:
        """The only branch, P_s."""
        return {"P_s": self.segment(image_B3HW)}

    def cams(self, image_B3HW: Tensor) -> Tensor:
        """No class-teacher here: the head's probabilities of the classes, each divided by its maximum."""
        return normalise_cam(self.segment(image_B3HW)[:, 1:])

    def parameter_groups(self) -> list[ParameterGroup]:
        """Backbone x1 (biases x2), head x10 (biases x20)."""
        return parameter_groups(self.backbone, self.heads, self.settings.head_lr_scale)
