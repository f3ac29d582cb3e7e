"""The class-teacher alone: an image classifier whose activation maps localize (CAM), the start of the other systems."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from tagseg.backbones.backbone import Backbone
from tagseg.cues.cam import cam_probabilities
from tagseg.cues.cam_labels import CamMaskSettings
from tagseg.data.batch import Batch
from tagseg.losses import tag_loss
from tagseg.methods.class_teacher import ClassTeacher, ClassTeacherSettings
from tagseg.methods.heads import ClassHead, parameter_groups, predicted_tags
from tagseg.methods.method import Method, MethodSettings, ParameterGroup


class ClassifierSettings(ClassTeacherSettings):
    """Settings of the class-teacher alone."""

    LATER: ClassVar[tuple[str, ...]] = ("cam_mask",)

    name: Literal["classifier"] = "classifier"
    cam_mask: CamMaskSettings | None = Field(
        None, description="how masks are read from the CAM, refined by the photo; none: the CAM as it is"
    )


class Classifier(Method):
    """Dropout, global average pooling and a linear classifier; its CAM is the branch P_ct (ASDT section 3.1, eq. 2)."""

    Settings: ClassVar[type[MethodSettings]] = ClassifierSettings
    uses_masks: ClassVar[bool] = False
    own_photos: ClassVar[str | None] = "photos-classifier"
    meanings: ClassVar[Mapping[str, str]] = {
        "P_ct": "class-teacher: the CAM of the classifier",
        "refined": "the CAM refined by the photo",
    }
    step_cost: ClassVar[float] = 1.0
    parts_apart: ClassVar[bool] = True
    cam_name: ClassVar[str] = "class-teacher"

    settings: ClassifierSettings

    def __init__(self, backbone: Backbone, classes: tuple[str, ...], settings: ClassifierSettings) -> None:
        super().__init__(backbone, classes)
        self.settings = settings
        self.heads = torch.nn.ModuleDict({"class": ClassHead(backbone.channels, len(classes), settings.dropout)})

    @property
    def class_teacher(self) -> ClassTeacher:
        """The classifier and its maps."""
        head = self.heads["class"]
        assert isinstance(head, ClassHead)
        return ClassTeacher(self.backbone, head, self.settings)

    def photo_logits(self, image_B3HW: Tensor) -> Tensor | None:
        """Logits (B, C) of the tags of whole photos."""
        return self.class_teacher.head(self.backbone(image_B3HW)).float()

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """The tags' binary cross-entropy."""
        logit_BC = self.class_teacher.head(self.backbone(batch.image()), batch.seed_B)
        return {"class": tag_loss(logit_BC.float(), batch.tag_BC)}

    def cams(self, image_B3HW: Tensor) -> Tensor:
        """Multi-scale CAMs (B, C, h, w), each divided by its maximum."""
        return self.class_teacher.cams(image_B3HW)

    def segment(self, image_B3HW: Tensor) -> Tensor:
        """The CAM of the predicted classes as probabilities."""
        return self._masks(image_B3HW, None)[-1]

    def segment_tagged(self, image_B3HW: Tensor, tag_BC: Tensor) -> Tensor:
        """The CAM of the tagged classes as probabilities."""
        return self._masks(image_B3HW, tag_BC)[-1]

    def branches(self, image_B3HW: Tensor, tag_BC: Tensor | None = None) -> dict[str, Tensor]:
        """P_ct, and the same refined by the photo where the settings say how; from the tags where they are given."""
        return dict(zip(("P_ct", "refined"), self._masks(image_B3HW, tag_BC), strict=False))

    def _masks(self, image_B3HW: Tensor, tag_BC: Tensor | None) -> list[Tensor]:
        """Probabilities (B, K, H, W): the CAM's, and the refined ones where the settings say how."""
        teacher, feature_BFhw = self.class_teacher, self.backbone(image_B3HW)
        if tag_BC is None:
            tag_BC = predicted_tags(teacher.head(feature_BFhw).float())
        cam_BCHW = teacher.tagged_cams(image_B3HW, feature_BFhw, tag_BC)
        masks = [cam_probabilities(cam_BCHW)]
        if self.settings.cam_mask is not None:
            masks.append(self.settings.cam_mask.probabilities(image_B3HW, cam_BCHW, tag_BC))
        return masks

    def parameter_groups(self) -> list[ParameterGroup]:
        """Backbone x1 (biases x2), heads x10 (biases x20)."""
        return parameter_groups(self.backbone, self.heads, self.settings.head_lr_scale)
