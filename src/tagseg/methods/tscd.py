"""TSCD: Self Correspondence Distillation and the Variation-aware Refine Module (AAAI 2023).

After a phase of classification alone, the CAM refined by VARM teaches a segmentation branch and the affinities of a
transformer's attention, and the correspondences of the CAM between the photo and a small view of it are distilled into
the segmentation of both.

Shapes: B photos, C classes, K = C + 1, H W pixels, h w pixels of the small view.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from tagseg.cues.views import SMALLEST_VIEW, min_max, scaled_size
from tagseg.data.batch import Batch
from tagseg.losses import correspondence_loss, equivariance_loss, seg_cross_entropy
from tagseg.methods.afa_network import AFANetwork, AFANetworkSettings
from tagseg.methods.energy import begin_energy, energy_of
from tagseg.methods.heads import without_trace
from tagseg.methods.method import MethodSettings
from tagseg.refine.lattice import Lattice
from tagseg.refine.settings import EnergySettings
from tagseg.resize import resize
from tagseg.settings import Settings, Weight, old_number


class CorrespondenceSettings(Settings):
    """The self correspondence distillation (SCD) and its second view."""

    LATER: ClassVar[tuple[str, ...]] = (
        "restore",
        "both",
    )
    GONE: ClassVar[Mapping[str, object]] = {"shift": 0.0, "centre": True, "tagged": False}

    weight: Weight = 0.1
    view_scale: float = Field(0.3, gt=0, lt=1, description="size of the second view, against the crop")
    samples: int = Field(40, ge=1, le=128, description="samples x samples random positions of each view")
    restore: bool = Field(
        True, description="put the batch's mean back, as released; the loss is then least where all pixels say the same"
    )
    both: bool = Field(False, description="take the mean agreement of the other view's positions away too")


class TSCDSettings(AFANetworkSettings):
    """Settings of TSCD; the defaults are those of the authors' code for VOC at crop 512."""

    RENAMED: ClassVar[Mapping[str, str]] = {"seg_foreground": "foreground_share"}

    name: Literal["tscd"] = "tscd"  # type: ignore[assignment]
    seg_weight: Weight = 0.1
    foreground_share: float = Field(0.5, ge=0, le=1, description="share of L_seg that foreground pixels have")
    energy_weight: Weight = Field(0.01, description="weight of the dense energy, besides its own 1e-7")
    energy: EnergySettings = EnergySettings()
    correspondence: CorrespondenceSettings = CorrespondenceSettings()
    equivariance_weight: Weight = Field(
        0.0,
        description="of the difference between both views' CAMs; the released code's has no gradient, as if it were 0",
    )

    @classmethod
    def _before(cls, given: dict[str, Any], say: Callable[[str], object]) -> dict[str, Any]:
        given = super()._before(given, say)
        block = given.get("equivariance")
        if not isinstance(block, dict):
            return given  # which says that there is no such key, where it stands
        del given["equivariance"]
        weight = old_number(block, "weight", 0.1 if "form" in block else 0.0)
        if "form" not in block and weight != 0:
            raise ValueError(
                "equivariance is now equivariance_weight, that of the loss with gradient; the released one has none: 0"
            )
        weight = weight if block.get("form") == "as_meant" else 0.0
        say(f"equivariance is now equivariance_weight: {weight:g}")
        return given | {"equivariance_weight": weight}


class TSCD(AFANetwork):
    """L_cls alone, then L_cls + L_seg + L_reg + L_aux + L_SCD + L_er; the segmentation branch P_s is what counts."""

    Settings: ClassVar[type[MethodSettings]] = TSCDSettings
    own_photos: ClassVar[str | None] = "tscd-voc-animals"
    settings: TSCDSettings
    symmetric_affinity: ClassVar[bool] = False

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """The tags' loss; from `class_steps` on also segmentation, energy, affinity, correspondence, equivariance."""
        image_B3HW = batch.image()
        if step < self.settings.class_steps:
            return {"class": self.class_loss(batch, self.backbone(image_B3HW))}
        lattices = begin_energy(batch, self.settings.energy, self.settings.energy_weight)
        stages, affinity_BNN = self.read(image_B3HW)
        grid = stages[-1].shape[-2:]
        cam_BCHW = self.view_cams(image_B3HW, stages[-1])
        label_BHW = self.cam_labels(batch, image_B3HW, cam_BCHW)

        logit_BKHW = self.seg_logits(stages, batch.size, batch.seed_B)
        terms = {"class": self.class_loss(batch, stages[-1])}
        terms |= self.seg_terms(batch, logit_BKHW, label_BHW, lattices)
        terms |= self.affinity_terms(affinity_BNN, label_BHW, grid)
        return terms | self.view_terms(batch, image_B3HW, stages[-1], cam_BCHW, logit_BKHW)

    def seg_terms(
        self, batch: Batch, logit_BKHW: Tensor, label_BHW: Tensor, lattices: list[Lattice]
    ) -> dict[str, Tensor]:
        """L_seg, a mean over background and one over foreground (alike as released), and L_reg, the dense energy."""
        settings, energy = self.settings, self.settings.energy
        loss = seg_cross_entropy(logit_BKHW, label_BHW, settings.foreground_share)
        terms = {"seg": settings.seg_weight * loss}
        if lattices:
            value = energy_of(batch, energy, lattices, logit_BKHW, label_BHW)
            terms["energy"] = settings.energy_weight * energy.weight * value
        return terms

    def view_terms(
        self, batch: Batch, image_B3HW: Tensor, feature_BFhw: Tensor, cam_BCHW: Tensor, logit_BKHW: Tensor
    ) -> dict[str, Tensor]:
        """L_SCD and L_er between the photo and a small view of it."""
        distil, equivariance_weight = self.settings.correspondence, self.settings.equivariance_weight
        if distil.weight == 0 and equivariance_weight == 0:
            return {}
        small = scaled_size(batch.size, distil.view_scale, SMALLEST_VIEW)
        view_B3hw = F.interpolate(image_B3HW, small, mode="bilinear", align_corners=True)
        # Prediction reads photos at scale 1: the small view's statistics in its batch norms would mislead it.
        with without_trace(self.backbone):
            stages = self.backbone.stages(view_B3hw)
        terms = {}
        if distil.weight > 0:
            with without_trace(self.decoder):
                # the mask of its dropout is another one than the photo's
                view_logit_BKhw = self.decoder(stages, ~batch.seed_B).float()
            kind_BCHW, view_kind_BChw = self.kinds(batch, cam_BCHW, view_B3hw, stages[-1])
            terms["correspondence"] = distil.weight * correspondence_loss(
                kind_BCHW,
                view_kind_BChw,
                logit_BKHW,
                F.interpolate(view_logit_BKhw, small, mode="bilinear", align_corners=True),
                batch.seed_B,
                samples=distil.samples,
                restore=distil.restore,
                both=distil.both,
            )
        if equivariance_weight > 0:
            cam_BCHW = self.scale1_cam(feature_BFhw, batch.size) * batch.tag_BC[:, :, None, None]
            view_cam_BChw = self.scale1_cam(stages[-1], small) * batch.tag_BC[:, :, None, None]
            terms["equivariance"] = equivariance_weight * equivariance_loss(cam_BCHW, view_cam_BChw)
        return terms

    def kinds(self, batch: Batch, cam_BCHW: Tensor, view_B3hw: Tensor, feature_BFhw: Tensor) -> tuple[Tensor, Tensor]:
        """What says which pixels of the photo and of its small view are alike: their CAMs, in an oracle the truth."""
        return cam_BCHW, self.view_cams(view_B3hw, feature_BFhw)

    def scale1_cam(self, feature_BFhw: Tensor, size: tuple[int, int]) -> Tensor:
        """The CAM of one view (B, C, H, W) in [0, 1), with gradient."""
        cam_BChw = self.classifier(feature_BFhw).float().relu()
        return min_max(resize(cam_BChw, size))
