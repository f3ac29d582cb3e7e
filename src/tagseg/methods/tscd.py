"""TSCD: Self Correspondence Distillation and the Variation-aware Refine Module (AAAI 2023).

After a phase of classification alone, the CAM refined by VARM teaches a segmentation branch and the affinities of a
transformer's attention, and the correspondences of the CAM between the photo and a small view of it are distilled into
the segmentation of both.

Shapes: B photos, C classes, K = C + 1, H W pixels, h w pixels of the small view.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from tagseg.cues.correspondence import correspondence_loss
from tagseg.cues.views import SMALLEST_VIEW, min_max, scaled_size
from tagseg.data.batches import Batch
from tagseg.methods.afa_network import AFANetwork, AFANetworkSettings
from tagseg.methods.losses import balanced_cross_entropy
from tagseg.methods.method import MethodSettings
from tagseg.methods.rrm import EnergySettings
from tagseg.refine import dense_energy
from tagseg.refine.energy import energy_lattices
from tagseg.refine.lattice import Lattice
from tagseg.segmenters.segformer_head import without_trace
from tagseg.settings import Settings, Weight


class CorrespondenceSettings(Settings):
    """The self correspondence distillation (SCD) and its second view."""

    LATER: ClassVar[tuple[str, ...]] = (
        "restore",
        "both",
    )

    weight: Weight = 0.1
    view_scale: float = Field(0.3, gt=0, lt=1, description="size of the second view, against the crop")
    samples: int = Field(40, ge=1, le=128, description="samples x samples random positions of each view")
    shift: float = Field(
        0.0, ge=-10, le=10, description="agreement of CAMs from which on segmentations are drawn together"
    )
    centre: bool = Field(True, description="take each position's mean agreement away")
    restore: bool = Field(
        True, description="put the batch's mean back, as released; the loss is then least where all pixels say the same"
    )
    both: bool = Field(False, description="take the mean agreement of the other view's positions away too")
    tagged: bool = Field(False, description="whether the CAMs of absent classes are left out (as released: no)")


class EquivarianceSettings(Settings):
    """The difference between the CAMs of both views.

    as_released: the authors' code, where neither CAM has a gradient and the first class is left out: a number to log.
    as_meant: the tagged classes' CAMs at scale 1, all of them, with gradient.
    """

    weight: Weight = 0.1
    form: Literal["as_released", "as_meant"] = "as_released"


class TSCDSettings(AFANetworkSettings):
    """Settings of TSCD; the defaults are those of the authors' code for VOC at crop 512."""

    name: Literal["tscd"] = "tscd"  # type: ignore[assignment]
    seg_weight: Weight = 0.1
    seg_foreground: float = Field(0.5, ge=0, le=1, description="share of L_seg that foreground pixels have")
    energy_weight: Weight = Field(0.01, description="weight of the dense energy, besides its own 1e-7")
    energy: EnergySettings = EnergySettings()
    correspondence: CorrespondenceSettings = CorrespondenceSettings()
    equivariance: EquivarianceSettings = EquivarianceSettings()


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
        lattices = self.energy_lattices(batch)
        stages, affinity_BNN = self.read(image_B3HW)
        grid = stages[-1].shape[-2:]
        cam_BCHW = self.view_cams(image_B3HW, stages[-1])
        cam_label_BHW = self.cam_labels(batch, image_B3HW, cam_BCHW)
        walk = self.walk(step, affinity_BNN, grid)
        label_BHW = self.cam_labels(batch, image_B3HW, cam_BCHW, walk) if walk else cam_label_BHW

        logit_BKHW = self.seg_logits(stages, batch.size, batch.seed_B)
        terms = {"class": self.class_loss(batch, stages[-1])}
        terms |= self.seg_terms(batch, logit_BKHW, label_BHW, lattices)
        terms |= self.affinity_terms(affinity_BNN, cam_label_BHW, grid)
        return terms | self.view_terms(batch, image_B3HW, stages[-1], cam_BCHW, logit_BKHW)

    def energy_lattices(self, batch: Batch) -> list[Lattice]:
        """The filters of the dense energy, begun before the network; none where its weight is 0."""
        energy = self.settings.energy
        if self.settings.energy_weight * energy.weight == 0:
            return []
        return energy_lattices(batch.photo_B3HW, srgb=energy.srgb, sxy=energy.sxy, scale=energy.scale)

    def seg_terms(
        self, batch: Batch, logit_BKHW: Tensor, label_BHW: Tensor, lattices: list[Lattice]
    ) -> dict[str, Tensor]:
        """L_seg, a mean over background and one over foreground (alike as released), and L_reg, the dense energy."""
        settings, energy, share = self.settings, self.settings.energy, self.settings.seg_foreground
        loss = balanced_cross_entropy(logit_BKHW, label_BHW, 1 - share, share)
        terms = {"seg": settings.seg_weight * loss}
        if lattices:
            terms["energy"] = (
                settings.energy_weight
                * energy.weight
                * dense_energy(
                    batch.photo_B3HW,
                    logit_BKHW.softmax(1),
                    batch.valid_BHW,
                    label_BHW,
                    scale=energy.scale,
                    lattices=lattices,
                )
            )
        return terms

    def view_terms(
        self, batch: Batch, image_B3HW: Tensor, feature_BFhw: Tensor, cam_BCHW: Tensor, logit_BKHW: Tensor
    ) -> dict[str, Tensor]:
        """L_SCD and L_er between the photo and a small view of it."""
        distil, equal = self.settings.correspondence, self.settings.equivariance
        if distil.weight == 0 and equal.weight == 0:
            return {}
        small = scaled_size(batch.size, distil.view_scale, SMALLEST_VIEW)
        view_B3hw = F.interpolate(image_B3HW, small, mode="bilinear", align_corners=True)
        stages = self.backbone.stages(view_B3hw)
        view_cam_BChw = self.view_cams(view_B3hw, stages[-1])
        terms = {}
        if distil.weight > 0:
            tag_BC11 = batch.tag_BC[:, :, None, None] if distil.tagged else 1
            # Prediction reads photos at scale 1: the small view's statistics in its batch norm would mislead it.
            with without_trace(self.decoder.norm):
                # the mask of its dropout is another one than the photo's
                view_logit_BKhw = self.decoder(stages, ~batch.seed_B).float()
            terms["correspondence"] = distil.weight * correspondence_loss(
                cam_BCHW * tag_BC11,
                view_cam_BChw * tag_BC11,
                logit_BKHW,
                F.interpolate(view_logit_BKhw, small, mode="bilinear", align_corners=True),
                batch.seed_B,
                samples=distil.samples,
                shift=distil.shift,
                centre=distil.centre,
                restore=distil.restore,
                both=distil.both,
            )
        if equal.weight > 0 and equal.form == "as_meant":
            cam_BCHW = self.scale1_cam(feature_BFhw, batch.size) * batch.tag_BC[:, :, None, None]
            view_cam_BChw = self.scale1_cam(stages[-1], small) * batch.tag_BC[:, :, None, None]
            terms["equivariance"] = equal.weight * equivariance_loss(cam_BCHW, view_cam_BChw)
        elif equal.weight > 0:
            terms["equivariance"] = equal.weight * equivariance_loss(cam_BCHW[:, 1:], view_cam_BChw[:, 1:])
        return terms

    def scale1_cam(self, feature_BFhw: Tensor, size: tuple[int, int]) -> Tensor:
        """The CAM of one view (B, C, H, W) in [0, 1), with gradient."""
        cam_BChw = self.classifier(feature_BFhw).float().relu()
        return min_max(F.interpolate(cam_BChw, size, mode="bilinear", align_corners=False))


def equivariance_loss(cam_BCHW: Tensor, view_cam_BChw: Tensor) -> Tensor:
    """The mean difference between the CAM of the photo, made small, and that of the small photo; 0 without classes."""
    if cam_BCHW.shape[1] == 0:
        return cam_BCHW.new_zeros(())
    size = (view_cam_BChw.shape[-2], view_cam_BChw.shape[-1])
    small_BChw = F.interpolate(cam_BCHW, size, mode="bilinear", align_corners=True)
    return (small_BChw - view_cam_BChw).abs().mean()
