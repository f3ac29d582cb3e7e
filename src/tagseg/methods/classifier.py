"""The class-teacher alone: an image classifier whose activation maps localise (CAM), the start of the other systems."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from tagseg.backbones.backbone import Backbone
from tagseg.cues.cam import cam_probabilities, multi_scale_cam, normalise_cam, tagged_cam
from tagseg.data.batches import Batch
from tagseg.methods.heads import ClassHead, parameter_groups, predicted_tags
from tagseg.methods.losses import tag_loss
from tagseg.methods.method import Method, MethodSettings, ParameterGroup
from tagseg.settings import Scales, Weight


class ClassifierSettings(MethodSettings):
    """Settings of the class-teacher (ASDT section 3.1)."""

    name: Literal["classifier"] = "classifier"
    dropout: float = Field(0.5, ge=0, lt=1, description="Dropout2d before the classifier")
    cam_scales: Scales = Field((0.5, 1.0, 1.5, 2.0), min_length=1, description="scales of the CAM")
    cam_bf16: bool = Field(
        False, description="compute the other scales of the CAM in bfloat16 where the processor has it: faster"
    )
    cam_alpha: Weight = Field(
        4.0, gt=0, description="power of the background score where the CAM is read as probabilities"
    )
    head_lr_scale: Weight = Field(10.0, gt=0, description="learning rate of the heads against the backbone's")


class Classifier(Method):
    """Dropout, global average pooling and a linear classifier; its CAM is the branch P_ct (ASDT section 3.1, eq. 2)."""

    Settings: ClassVar[type[MethodSettings]] = ClassifierSettings
    own_photos: ClassVar[str | None] = "photos-classifier"
    meanings: ClassVar[Mapping[str, str]] = {"P_ct": "class-teacher: the CAM of the classifier"}
    cam_name: ClassVar[str] = "class-teacher"

    settings: ClassifierSettings

    def __init__(self, backbone: Backbone, classes: tuple[str, ...], settings: ClassifierSettings) -> None:
        super().__init__(backbone, classes)
        self.settings = settings
        self.heads = torch.nn.ModuleDict({"class": ClassHead(backbone.channels, len(classes), settings.dropout)})

    @property
    def class_head(self) -> ClassHead:
        """The classifier on the final feature map."""
        head = self.heads["class"]
        assert isinstance(head, ClassHead)
        return head

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """The tags' binary cross-entropy."""
        feature_BFhw = self.backbone(batch.image())
        return {"class": tag_loss(self.class_head(feature_BFhw, batch.seed_B).float(), batch.tag_BC)}

    def raw_cams(self, image_B3HW: Tensor, feature_BFhw: Tensor | None = None) -> Tensor:
        """The multi-scale CAM (B, C, h, w) before any normalisation; features at scale 1 are used where given."""
        weight_CF = self.class_head.weight_CF
        if feature_BFhw is not None:
            feature_BFhw = feature_BFhw.detach().float()
        return multi_scale_cam(
            self.backbone,
            weight_CF,
            image_B3HW,
            scales=self.settings.cam_scales,
            feature_BFhw=feature_BFhw,
            bf16=self.settings.cam_bf16,
        )

    def cams(self, image_B3HW: Tensor) -> Tensor:
        """Multi-scale CAMs (B, C, h, w), each divided by its maximum."""
        return normalise_cam(self.raw_cams(image_B3HW))

    def cam_branch(self, image_B3HW: Tensor, feature_BFhw: Tensor, tag_BC: Tensor | None) -> Tensor:
        """P_ct: the CAM of the tagged classes as probabilities (B, K, H, W).

        Without tags these are the classes the classifier gives at least one half, or else the likeliest.
        """
        if tag_BC is None:
            tag_BC = predicted_tags(self.class_head(feature_BFhw).float())
        size = (image_B3HW.shape[-2], image_B3HW.shape[-1])
        cam_BCHW = tagged_cam(self.raw_cams(image_B3HW, feature_BFhw), tag_BC, size)
        return cam_probabilities(cam_BCHW, self.settings.cam_alpha)

    def segment(self, image_B3HW: Tensor) -> Tensor:
        """The CAM of the predicted classes as probabilities."""
        return self.branches(image_B3HW)["P_ct"]

    def segment_tagged(self, image_B3HW: Tensor, tag_BC: Tensor) -> Tensor:
        """The CAM of the tagged classes as probabilities."""
        return self.branches(image_B3HW, tag_BC)["P_ct"]

    def branches(self, image_B3HW: Tensor, tag_BC: Tensor | None = None) -> dict[str, Tensor]:
        """P_ct, from the tags where they are given."""
        return {"P_ct": self.cam_branch(image_B3HW, self.backbone(image_B3HW), tag_BC)}

    def parameter_groups(self) -> list[ParameterGroup]:
        """Backbone x1 (biases x2), heads x10 (biases x20)."""
        return parameter_groups(self.backbone, self.heads, self.settings.head_lr_scale)
