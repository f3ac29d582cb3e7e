"""The class-teacher: a classifier whose activation maps localize. Methods have one; they are none.

Shapes: B photos, C classes, K = C + 1, F feature channels, H W pixels, h w feature grid.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor, nn

from tagseg.cues.cam import cam_probabilities, multi_scale_cam, normalize_cam, tagged_cam
from tagseg.methods.heads import ClassHead, predicted_tags, without_trace
from tagseg.methods.method import MethodSettings, cam_precision_before
from tagseg.precision import Precision
from tagseg.resize import size_of
from tagseg.settings import Scales, Weight


class ClassTeacherSettings(MethodSettings):
    """Settings of the class-teacher (ASDT section 3.1)."""

    GONE: ClassVar[Mapping[str, object]] = {"cam_alpha": 4.0}

    dropout: float = Field(0.5, ge=0, lt=1, description="Dropout2d before the classifier")
    cam_scales: Scales = Field((0.5, 1.0, 1.5, 2.0), min_length=1, description="scales of the CAM")
    cam_precision: Precision | None = Field(
        None, description="of the CAM's other scales; bf16 is faster where the processor has it; none: training's"
    )
    head_lr_scale: Weight = Field(10.0, gt=0, description="learning rate of the heads against the backbone's")

    @classmethod
    def _before(cls, given: dict[str, Any], say: Callable[[str], object]) -> dict[str, Any]:
        return cam_precision_before(given, say)


@dataclass(frozen=True)
class ClassTeacher:
    """A classifier on the last stage of a backbone, and the maps that come of it (ASDT section 3.1, eq. 2).

    features: photos (B, 3, H, W) in [0, 1] to features (B, F, h, w).
    """

    features: nn.Module
    head: ClassHead
    settings: ClassTeacherSettings

    def raw_cams(self, image_B3HW: Tensor, feature_BFhw: Tensor | None = None) -> Tensor:
        """The multi-scale CAM (B, C, h, w) before any normalization; features at scale 1 are used where given."""
        with without_trace(self.features):
            return multi_scale_cam(
                self.features,
                self.head.weight_CF,
                image_B3HW,
                scales=self.settings.cam_scales,
                feature_BFhw=None if feature_BFhw is None else feature_BFhw.detach().float(),
                precision=self.settings.cam_precision,
            )

    def cams(self, image_B3HW: Tensor) -> Tensor:
        """Multi-scale CAMs (B, C, h, w), each divided by its maximum."""
        return normalize_cam(self.raw_cams(image_B3HW))

    def tagged_cams(self, image_B3HW: Tensor, feature_BFhw: Tensor, tag_BC: Tensor) -> Tensor:
        """CAMs at the photo's size (B, C, H, W), 0 for classes without a tag."""
        return tagged_cam(self.raw_cams(image_B3HW, feature_BFhw), tag_BC, size_of(image_B3HW))

    def probabilities(self, image_B3HW: Tensor, feature_BFhw: Tensor, tag_BC: Tensor | None) -> Tensor:
        """P_ct: the CAM of the tagged classes as probabilities (B, K, H, W).

        Without tags these are the classes the classifier gives at least one half, or else the likeliest.
        """
        if tag_BC is None:
            tag_BC = predicted_tags(self.head(feature_BFhw).float())
        return cam_probabilities(self.tagged_cams(image_B3HW, feature_BFhw, tag_BC))
