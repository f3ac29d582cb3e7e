"""RRM: a segmentation head taught by the reliable pixels of its own class-teacher (AAAI 2020), the baseline of ASDT.

Shapes: B photos, K classes with background, C = K - 1, H W pixels, h w feature grid.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from tagseg.backbones.backbone import Backbone
from tagseg.cues.cam import tagged_cam
from tagseg.cues.reliable import ReliableSettings, reliable_labels
from tagseg.data.batches import Batch
from tagseg.methods.classifier import Classifier, ClassifierSettings
from tagseg.methods.heads import SegHead
from tagseg.methods.losses import balanced_cross_entropy, tag_loss, upsample
from tagseg.methods.method import Method, MethodSettings
from tagseg.refine.energy import dense_energy, energy_lattices
from tagseg.refine.lattice import Lattice
from tagseg.settings import Settings


class EnergySettings(Settings):
    """The dense energy loss; its defaults are RRM's for a crop of 321 pixels."""

    weight: float = Field(1e-7, ge=0)
    srgb: float = Field(15.0, gt=0, description="sigma of colour")
    sxy: float = Field(100.0, gt=0, description="sigma in pixels of the crop")
    scale: float = Field(0.5, gt=0, le=1, description="size at which it is computed, against the crop")


class RRMSettings(ClassifierSettings):
    """Settings of RRM; the defaults are the published ones."""

    name: Literal["rrm"] = "rrm"  # type: ignore[assignment]
    hidden: int = Field(512, ge=1, description="channels inside a segmentation head")
    dilation: int = Field(12, ge=1, description="dilation of a segmentation head, in cells of the feature grid")
    labels: ReliableSettings = ReliableSettings()
    energy: EnergySettings = EnergySettings()
    background_weight: float = Field(1.0, ge=0, description="weight of the cross-entropy's mean over background")
    foreground_weight: float = Field(1.0, ge=0, description="weight of the cross-entropy's mean over foreground")
    class_weight: float = Field(1.0, ge=0, description="weight of the tags' loss")
    head_steps: int = Field(
        0,
        ge=0,
        description="first steps, in which the segmentation heads learn and leave the backbone to the tags' loss",
    )
    backbone_gradient: float = Field(
        1.0, ge=0, le=1, description="share of the segmentation losses' gradient that enters the backbone after them"
    )


class RRM(Classifier):
    """L = L_cls + L_ce(reliable pixels) + dense energy, on one backbone; the segmentation head is the branch P_s."""

    Settings: ClassVar[type[MethodSettings]] = RRMSettings
    settings: RRMSettings

    def __init__(self, backbone: Backbone, classes: tuple[str, ...], settings: RRMSettings) -> None:
        super().__init__(backbone, classes, settings)
        self.add_head("student")

    def add_head(self, name: str) -> None:
        """Put a segmentation head of its own weights on the shared features."""
        settings = self.settings
        self.heads[name] = SegHead(self.backbone.channels, settings.hidden, self.num_classes, settings.dilation)

    def features_for_heads(self, feature_BFhw: Tensor, step: int, part: float = 1.0) -> Tensor:
        """The features, which let only a share of the segmentation losses' gradient through to the backbone.

        part: of that share, for one head among several.

        The heads start from random weights; their first gradients, several times those of the tags' loss, spoil the CAM
        that teaches them.
        """
        share = 0.0 if step < self.settings.head_steps else self.settings.backbone_gradient * part
        if share == 1:
            return feature_BFhw
        fixed_BFhw = feature_BFhw.detach()
        return fixed_BFhw if share == 0 else fixed_BFhw + share * (feature_BFhw - fixed_BFhw)

    def logits(self, head: str, feature_BFhw: Tensor, size: tuple[int, int]) -> Tensor:
        """Logits (B, K, H, W) of a segmentation head, at the photo's size."""
        return upsample(self.heads[head](feature_BFhw), size)

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """The tags' loss, and the head's cross-entropy and energy under the class-teacher's reliable labels."""
        image_B3HW = batch.image()
        feature_BFhw = self.backbone(image_B3HW)
        label_BHW = self.class_teacher_labels(batch, image_B3HW, feature_BFhw)
        logit_BKHW = self.logits("student", self.features_for_heads(feature_BFhw, step), batch.size)
        lattices = self.energy_lattices(batch)
        terms = self.taught(batch, lattices, "student", logit_BKHW, label_BHW)
        return {"class": self.class_loss(batch, feature_BFhw)} | terms

    def class_loss(self, batch: Batch, feature_BFhw: Tensor) -> Tensor:
        """The weighted loss of the tags (ASDT eq. 2)."""
        logit_BC = self.class_head(feature_BFhw, batch.seed_B).float()
        return self.settings.class_weight * tag_loss(logit_BC, batch.tag_BC)

    def class_teacher_labels(self, batch: Batch, image_B3HW: Tensor, feature_BFhw: Tensor) -> Tensor:
        """B_ct: reliable labels (B, H, W) uint8 from the CAM of the tagged classes, 255 where it is not sure."""
        cam_BCHW = tagged_cam(self.raw_cams(image_B3HW, feature_BFhw), batch.tag_BC, batch.size)
        return reliable_labels(batch.photo_B3HW, cam_BCHW, batch.tag_BC, self.settings.labels)

    def energy_lattices(self, batch: Batch) -> list[Lattice]:
        """The filters of the dense energy, which all heads share; none where its weight is 0."""
        energy = self.settings.energy
        if energy.weight == 0:
            return []
        return energy_lattices(batch.photo_B3HW, srgb=energy.srgb, sxy=energy.sxy, scale=energy.scale)

    def taught(
        self,
        batch: Batch,
        lattices: list[Lattice],
        head: str,
        logit_BKHW: Tensor,
        label_BHW: Tensor,
        weight: float = 1.0,
    ) -> dict[str, Tensor]:
        """The weighted cross-entropy and dense energy of a head under given labels (ASDT eqs 3, 4 with their signs)."""
        settings, energy = self.settings, self.settings.energy
        loss = balanced_cross_entropy(logit_BKHW, label_BHW, settings.background_weight, settings.foreground_weight)
        terms = {f"{head} labels": weight * loss}
        if lattices:
            value = dense_energy(
                batch.photo_B3HW,
                logit_BKHW.softmax(1),
                batch.valid_BHW,
                label_BHW,
                scale=energy.scale,
                lattices=lattices,
            )
            terms[f"{head} energy"] = weight * energy.weight * value
        return terms

    def segment(self, image_B3HW: Tensor) -> Tensor:
        """The probabilities of the segmentation heads, combined where there are several."""
        return self.combine(self.head_branches(image_B3HW, self.backbone(image_B3HW)))

    def segment_tagged(self, image_B3HW: Tensor, tag_BC: Tensor) -> Tensor:
        """The segmentation heads' probabilities, absent classes left out."""
        return Method.segment_tagged(self, image_B3HW, tag_BC)

    def head_branches(self, image_B3HW: Tensor, feature_BFhw: Tensor) -> dict[str, Tensor]:
        """Probabilities (B, K, H, W) of each segmentation head."""
        size = (image_B3HW.shape[-2], image_B3HW.shape[-1])
        return {"P_s": self.logits("student", feature_BFhw, size).softmax(1)}

    def combine(self, branches: dict[str, Tensor]) -> Tensor:
        """One probability map from the segmentation heads'."""
        return branches["P_s"]

    def branches(self, image_B3HW: Tensor, tag_BC: Tensor | None = None) -> dict[str, Tensor]:
        """P_ct from the CAM and P_s from the segmentation head."""
        feature_BFhw = self.backbone(image_B3HW)
        return {"P_ct": self.cam_branch(image_B3HW, feature_BFhw, tag_BC)} | self.head_branches(
            image_B3HW, feature_BFhw
        )
