"""RRM: a segmentation head taught by the reliable pixels of its own class-teacher (AAAI 2020), the baseline of ASDT.

Shapes: B photos, K classes with background, C = K - 1, H W pixels, h w feature grid.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import Tensor

from tagseg.backbones.backbone import Backbone
from tagseg.cues.background_aware import (
    BackgroundAwareSettings,
    background_and_cam,
    background_labels,
    background_odds,
    background_scores,
)
from tagseg.cues.reliable import ReliableSettings, reliable_labels
from tagseg.cues.views import SMALLEST_VIEW
from tagseg.data.batch import Batch
from tagseg.decoders import DecoderOptions, create_decoder
from tagseg.losses import seg_cross_entropy, tag_loss
from tagseg.methods.class_teacher import ClassTeacher, ClassTeacherSettings
from tagseg.methods.energy import begin_energy, energy_of
from tagseg.methods.heads import ClassHead, evaluating, parameter_groups, without_trace
from tagseg.methods.method import Method, MethodSettings, ParameterGroup, scaled_steps
from tagseg.refine import PixelAdaptive
from tagseg.refine.lattice import Lattice
from tagseg.refine.settings import EnergySettings
from tagseg.resize import size_of, upsample
from tagseg.settings import Channels, Steps, Weight, old_number

AWARE_SCALE = 0.5  # size at which background-aware scores are refined, against the crop


class RRMSettings(ClassTeacherSettings):
    """Settings of RRM; the defaults are the published ones."""

    name: Literal["rrm"] = "rrm"
    decoder: Literal["conv", "segformer"] = Field(
        "conv", description="segmentation heads: two dilated convolutions on the last stage, or a SegFormer decoder"
    )
    hidden: Channels = Field(512, description="channels inside a segmentation head")
    dilation: int = Field(12, ge=1, le=256, description="dilation of the heads conv, in cells of the feature grid")
    labels: ReliableSettings = ReliableSettings()
    background_aware: BackgroundAwareSettings = BackgroundAwareSettings()
    energy: EnergySettings = EnergySettings()
    foreground_share: float | None = Field(
        None,
        ge=0,
        le=1,
        description="of the cross-entropy's mean over foreground pixels, background's has the rest; none: both count whole "
        "(as published)",
    )
    class_weight: Weight = Field(1.0, description="weight of the tags' loss")
    head_steps: Steps = Field(
        0,
        description="first steps, in which the segmentation heads learn and leave the backbone to the tags' loss",
    )
    backbone_gradient: float = Field(
        1.0, ge=0, le=1, description="share of the segmentation losses' gradient that enters the backbone after them"
    )

    @classmethod
    def _before(cls, given: dict[str, Any], say: Callable[[str], object]) -> dict[str, Any]:
        given = super()._before(given, say)
        if given.keys() & {"background_weight", "foreground_weight"}:
            background, foreground = (old_number(given, f"{part}_weight", 1.0) for part in ("background", "foreground"))
            given = {
                key: value for key, value in given.items() if key not in ("background_weight", "foreground_weight")
            }
            if (background, foreground) != (1, 1) and background + foreground != 1:
                raise ValueError(
                    "background_weight and foreground_weight are now foreground_share, the part of a whole that foreground has"
                )
            share = None if (background, foreground) == (1, 1) else foreground
            say(
                f"background_weight and foreground_weight are now foreground_share: {'null' if share is None else share}"
            )
            given["foreground_share"] = share
        return given

    def scaled(self, factor: float) -> Self:
        """The steps in which the heads learn alone, and from which labels are background-aware, follow."""
        aware = self.background_aware
        later = aware.model_copy(update={"from_step": scaled_steps(aware.from_step, factor)})
        return self.model_copy(update={"head_steps": scaled_steps(self.head_steps, factor), "background_aware": later})


class RRM(Method):
    """L = L_cls + L_ce(reliable pixels) + dense energy, on one backbone; the segmentation head is the branch P_s."""

    Settings: ClassVar[type[MethodSettings]] = RRMSettings
    own_photos: ClassVar[str | None] = "rrm-voc-animals"
    meanings: ClassVar[Mapping[str, str]] = {
        "P_ct": "class-teacher: the CAM of the classifier",
        "P_s": "segmentation head",
    }
    step_cost: ClassVar[float] = 3.0
    cam_name: ClassVar[str] = "class-teacher"
    settings: RRMSettings

    def __init__(self, backbone: Backbone, classes: tuple[str, ...], settings: RRMSettings) -> None:
        super().__init__(backbone, classes)
        self.settings = settings
        self.heads = torch.nn.ModuleDict({"class": ClassHead(backbone.channels, len(classes), settings.dropout)})
        self.add_head("student")

    def add_head(self, name: str) -> None:
        """Put a segmentation head of its own weights on the shared features."""
        options = DecoderOptions(self.settings.hidden, self.settings.dilation)
        self.heads[name] = create_decoder(self.settings.decoder, self.backbone, self.num_classes, options)

    @property
    def class_teacher(self) -> ClassTeacher:
        """The classifier and its maps."""
        head = self.heads["class"]
        assert isinstance(head, ClassHead)
        return ClassTeacher(self.backbone, head, self.settings)

    def photo_logits(self, image_B3HW: Tensor) -> Tensor | None:
        """Logits (B, C) of the tags of whole photos."""
        return self.class_teacher.head(self.backbone(image_B3HW)).float()

    def features_for_heads(self, stages: Sequence[Tensor], step: int, part: float = 1.0) -> list[Tensor]:
        """What the heads read of the stages; it lets only a share of the segmentation losses' gradient through to the backbone.

        part: of that share, for one head among several.

        The heads start from random weights; their first gradients, several times those of the tags' loss, spoil the CAM
        that teaches them.
        """
        if self.settings.decoder == "conv":
            stages = stages[-1:]
        share = 0.0 if step < self.settings.head_steps else self.settings.backbone_gradient * part
        if share == 1:
            return list(stages)
        fixed = [stage_BFhw.detach() for stage_BFhw in stages]
        if share == 0:
            return fixed
        return [kept + share * (stage - kept) for stage, kept in zip(stages, fixed, strict=True)]

    def logits(
        self, head: str, stages: Sequence[Tensor], size: tuple[int, int], seed_B: Tensor | None = None
    ) -> Tensor:
        """Logits (B, K, H, W) of a segmentation head, at the photo's size."""
        return upsample(self.heads[head](stages, seed_B), size)

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """The tags' loss, and the head's cross-entropy and energy under the class-teacher's reliable labels."""
        lattices, lattice = begin_energy(batch, self.settings.energy), self.label_lattice(batch, step)
        image_B3HW = batch.image()
        stages = self.backbone.stages(image_B3HW)
        logit_BKHW = self.logits("student", self.features_for_heads(stages, step), batch.size, batch.seed_B)
        label_BHW, _ = self.class_teacher_labels(batch, image_B3HW, stages, step, "student", logit_BKHW, lattice)
        terms = self.taught(batch, lattices, "student", logit_BKHW, label_BHW)
        return {"class": self.class_loss(batch, stages[-1])} | terms

    def class_loss(self, batch: Batch, feature_BFhw: Tensor) -> Tensor:
        """The weighted loss of the tags (ASDT eq. 2)."""
        logit_BC = self.class_teacher.head(feature_BFhw, batch.seed_B).float()
        return self.settings.class_weight * tag_loss(logit_BC, batch.tag_BC)

    @torch.no_grad()
    def class_teacher_labels(
        self,
        batch: Batch,
        image_B3HW: Tensor,
        stages: Sequence[Tensor],
        step: int,
        head: str,
        logit_BKHW: Tensor,
        lattice: Lattice | None = None,
    ) -> tuple[Tensor, Tensor]:
        """B_ct, labels (B, H, W) uint8, 255 where the class-teacher is not sure, and the tagged CAMs (B, C, H, W).

        head, logit_BKHW: the head that they teach, which may know background better, and what it says of the photos.
        lattice: of `label_lattice`.
        """
        aware = self.settings.background_aware
        if not aware.at(step):
            cam_BCHW = self.class_teacher.tagged_cams(image_B3HW, stages[-1], batch.tag_BC)
            tags = [facts.tags for facts in batch.facts()]
            label_BHW = reliable_labels(
                batch.photo_B3HW, cam_BCHW, batch.tag_BC, self.settings.labels, tags=tags, lattice=lattice
            )
            return label_BHW, cam_BCHW
        known_BKHW = logit_BKHW if aware.own_view == "training" else None
        background_BHW, cam_BCHW = self.background_and_cam(image_B3HW, stages[-1], head, known_BKHW)
        score_BKHW = background_scores(
            image_B3HW,
            batch.valid_BHW,
            background_BHW,
            cam_BCHW,
            batch.tag_BC,
            PixelAdaptive("par"),
            AWARE_SCALE,
            batch.facts(),
        )
        label_BHW = background_labels(score_BKHW, batch.valid_BHW, aware.min_score)
        return label_BHW, cam_BCHW * batch.tag_BC[:, :, None, None]

    def background_and_cam(
        self, image_B3HW: Tensor, feature_BFhw: Tensor, head: str, logit_BKHW: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """A head's background (B, H, W) and the CAM (B, C, H, W) over the CAM's scales, in [0, 1).

        logit_BKHW: what the head says of the photo itself, where that is to be used.
        """
        settings, classifier = self.settings, self.class_teacher.head.classifier

        def maps(view_B3HW: Tensor) -> Tensor:
            stages, size = self.backbone.stages(view_B3HW), size_of(view_B3HW)
            odds_B1HW = background_odds(self.logits(head, stages, size))
            return torch.cat([odds_B1HW, upsample(classifier(stages[-1]), size)], 1)

        known_BKHW = None
        if logit_BKHW is not None:
            cam_BCHW = upsample(classifier(feature_BFhw), size_of(image_B3HW))
            known_BKHW = torch.cat([background_odds(logit_BKHW), cam_BCHW], 1)
        with evaluating(self.heads[head]), without_trace(self.backbone):
            return background_and_cam(
                maps,
                image_B3HW,
                settings.cam_scales,
                known_BKHW=known_BKHW,
                smallest=SMALLEST_VIEW,
                precision=settings.cam_precision,
            )

    def label_lattice(self, batch: Batch, step: int) -> Lattice | None:
        """The photos' lattice for the reliable labels' CRF, begun before the network so that the host need not wait for it."""
        bilateral = self.settings.labels.crf.bilateral
        return None if self.settings.background_aware.at(step) else Lattice.of_batch(batch.photo_B3HW, *bilateral[:2])

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
        label_BHW = batch.with_true(label_BHW)
        loss = seg_cross_entropy(logit_BKHW, label_BHW, settings.foreground_share)
        terms = {f"{head} labels": weight * loss}
        if lattices:
            value = energy_of(batch, energy, lattices, logit_BKHW, label_BHW)
            terms[f"{head} energy"] = weight * energy.weight * value
        return terms

    def segment(self, image_B3HW: Tensor) -> Tensor:
        """The probabilities of the segmentation heads, combined where there are several."""
        return self.combine(self.head_branches(image_B3HW, self.backbone.stages(image_B3HW)))

    def segment_logits(self, image_B3HW: Tensor) -> Tensor | None:
        """The logits of the segmentation head; none where several are combined."""
        if not self.has_logits(self.settings):
            return None
        return self.logits("student", self.backbone.stages(image_B3HW), size_of(image_B3HW))

    def cams(self, image_B3HW: Tensor) -> Tensor:
        """The class-teacher's multi-scale CAMs (B, C, h, w), each divided by its maximum."""
        return self.class_teacher.cams(image_B3HW)

    def parameter_groups(self) -> list[ParameterGroup]:
        """Backbone x1 (biases x2), heads x10 (biases x20)."""
        return parameter_groups(self.backbone, self.heads, self.settings.head_lr_scale)

    def head_branches(self, image_B3HW: Tensor, stages: Sequence[Tensor]) -> dict[str, Tensor]:
        """Probabilities (B, K, H, W) of each segmentation head."""
        return {"P_s": self.logits("student", stages, size_of(image_B3HW)).softmax(1)}

    def combine(self, branches: dict[str, Tensor]) -> Tensor:
        """One probability map from the segmentation heads'."""
        return branches["P_s"]

    def branches(self, image_B3HW: Tensor, tag_BC: Tensor | None = None) -> dict[str, Tensor]:
        """P_ct from the CAM and P_s from the segmentation head."""
        stages = self.backbone.stages(image_B3HW)
        cam_BKHW = self.class_teacher.probabilities(image_B3HW, stages[-1], tag_BC)
        return {"P_ct": cam_BKHW} | self.head_branches(image_B3HW, stages)
