"""Mentor: the mean of the network's own past weights looks at a photo in peace and labels it; the network learns the labels
from a strong view of the same photo (colors, blur, parts of other photos).

The labels grow up with it: first the CAM's, then the CAM against the segmentation's background (BMP), at last both the
CAM's and the segmentation's objects against that background, each stretched over the photo.

Shapes: B photos, C classes, K = C + 1, S = 1 + the tags of the photo that has most, H W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, NamedTuple, Self

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from tagseg.backbones.backbone import Backbone
from tagseg.cues.background_aware import background_odds
from tagseg.cues.cam_labels import CamLabelSettings, TaggedStack, refined_size
from tagseg.cues.mixing import MixingSettings, mixed
from tagseg.cues.strong_view import StrongViewSettings, strong_view
from tagseg.cues.views import SMALLEST_VIEW, map_views
from tagseg.data.batch import Batch
from tagseg.distributed import global_mean
from tagseg.losses import tag_loss
from tagseg.mask_values import IGNORE
from tagseg.methods.afa_network import AFANetwork, AFANetworkSettings
from tagseg.methods.gate import GateSettings, gated
from tagseg.methods.heads import evaluating
from tagseg.methods.method import Method, MethodSettings, present_classes, scaled_steps
from tagseg.resize import resize, size_of, upsample
from tagseg.settings import Steps


class MentorLabelSettings(CamLabelSettings):
    """What the labels are made of, as training goes on."""

    background_from: Steps | None = Field(
        50,
        description="step from which background is the segmentation's (BMP); none: the CAM's labels to the end",
    )
    seg_from: Steps | None = Field(
        100,
        description="step from which the segmentation has a say in where objects are; none: the CAM alone to the end",
    )
    seg_share: float = Field(0.5, ge=0, le=1, description="its share of an object's score, the CAM's is the rest")
    sharpness: float = Field(
        0.0,
        ge=0,
        le=100,
        description="power of the scores where they are given as probabilities, to photos with tags; 0: the segmentation's",
    )
    stretch: bool = Field(
        False,
        description="whether each class's refined score is divided by its maximum: refinement takes much from small objects",
    )


class MentorSettings(AFANetworkSettings):
    """Settings of Mentor; every part of it can be switched off by itself."""

    GONE: ClassVar[Mapping[str, object]] = {
        **AFANetworkSettings.GONE,
        "noise": {"from_step": None, "gap": 1.0, "sure": 0.95},
    }

    name: Literal["mentor"] = "mentor"  # type: ignore[assignment]
    pooling: Literal["max", "mean", "soft"] = Field(
        "mean",
        description="over the photo, before the classifier: maximum or mean of features, or soft maximum of scores",
    )
    class_steps: Steps = Field(0, description="steps at the start that train the classifier alone")
    affinity_weight: float = Field(0.0, ge=0, le=0, description="affinities are not learned")
    teacher: Literal["average", "own"] = Field(
        "average",
        description="who labels: the running mean of the weights (train.ema_decay), or the weights as they are",
    )
    labels: MentorLabelSettings = MentorLabelSettings(refine="par")
    strong: StrongViewSettings | None = Field(StrongViewSettings(), description="none: learn from the plain photo")
    mixing: MixingSettings = MixingSettings()
    foreground: float = Field(
        3.0,
        gt=0,
        le=1e6,
        description="how many pixels of background one of an object counts as: labels miss more than they add",
    )
    untagged: float = Field(
        1.0,
        ge=0,
        le=1e6,
        description="how many pixels of other background one of a photo without tags counts as, which is surely background",
    )
    seg_weight: float = Field(1.0, ge=0, le=1e6, description="weight of the segmentation's loss")
    gate: GateSettings = GateSettings()

    def scaled(self, factor: float) -> Self:
        """The steps from which labels know background and objects follow."""
        base = super().scaled(factor)
        starts = {
            "background_from": scaled_steps(base.labels.background_from, factor),
            "seg_from": scaled_steps(base.labels.seg_from, factor),
        }
        return base.model_copy(update={"labels": base.labels.model_copy(update=starts)})


class Sight(NamedTuple):
    """What the teacher sees, over scales and mirror images: logits (B, K, H, W), and the CAM (B, C, H, W) before scaling."""

    logit_BKHW: Tensor
    cam_BCHW: Tensor


class Mentor(AFANetwork):
    """L_cls + L_seg on a strong view, under the labels of an averaged teacher on the weak one; branches CAM ... and P_s."""

    Settings: ClassVar[type[MethodSettings]] = MentorSettings
    own_photos: ClassVar[str | None] = "photos-mentor"
    meanings: ClassVar[Mapping[str, str]] = {
        **AFANetwork.meanings,
        "gated": "segmentation branch, and how far the classifier agrees",
        "sharpened": "what the labels of training would be, from the tags",
    }
    settings: MentorSettings

    def __init__(self, backbone: Backbone, classes: tuple[str, ...], settings: MentorSettings) -> None:
        super().__init__(backbone, classes, settings)
        self.affinity_head = None
        self._average: tuple[Mentor, ...] = ()  # in a tuple: its weights are not this module's own

    def follow(self, average: Method) -> None:
        """Take the running mean of the weights as the teacher."""
        assert isinstance(average, Mentor)
        self._average = (average,)

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """The tags' loss, and the segmentation's cross-entropy under the teacher's labels."""
        settings = self.settings
        plain_B3HW, tag_BC, known_BC = batch.image(), batch.tag_BC, None
        image_B3HW = plain_B3HW
        if settings.strong is not None:
            image_B3HW = strong_view(image_B3HW, batch.seed_B, settings.strong)
        if step < settings.class_steps:
            return {"class": self.class_loss(batch, self.backbone(image_B3HW))}

        label_BHW = self.teacher_labels(batch, plain_B3HW, step)
        sure_B = (tag_BC.sum(1) == 0) if batch.true_B is None else (tag_BC.sum(1) == 0) | batch.true_B
        sure_BHW = (label_BHW == 0) & sure_B[:, None, None]
        if settings.mixing.boxes + settings.mixing.objects > 0:
            mix = mixed(label_BHW, tag_BC, batch.seed_B, settings.mixing)
            image_B3HW, label_BHW, sure_BHW = mix.laid(image_B3HW), mix.laid(label_BHW), mix.laid(sure_BHW)
            tag_BC, known_BC = mix.tag_BC, mix.known_BC
        stages = self.backbone.stages(image_B3HW)
        terms = {"class": tag_loss(self.tag_logits(stages[-1]), tag_BC, known_BC)}
        logit_BKHW = self.seg_logits(stages, batch.size, batch.seed_B)
        loss_BHW = F.cross_entropy(logit_BKHW, label_BHW.long(), ignore_index=IGNORE, reduction="none")
        weight_BHW = torch.where(label_BHW == 0, 1.0, settings.foreground)
        weight_BHW = torch.where(sure_BHW, settings.untagged, weight_BHW) * (label_BHW != IGNORE)
        loss = global_mean((loss_BHW * weight_BHW).sum(), weight_BHW.sum())
        return terms | {"seg": settings.seg_weight * loss}

    @torch.no_grad()
    def teacher_labels(self, batch: Batch, image_B3HW: Tensor, step: int) -> Tensor:
        """Labels (B, H, W) uint8 of the photos as they are, 255 where the teacher is not sure and in padding."""
        settings = self.settings.labels
        teacher = self._average[0] if self._average and self.settings.teacher == "average" else self
        with evaluating(teacher):
            sight = teacher.look(image_B3HW)
        if settings.background_from is None or step < settings.background_from:
            return self.cam_labels(batch, image_B3HW, min_max_within(sight.cam_BCHW, batch.valid_BHW))
        share = 0.0 if settings.seg_from is None or step < settings.seg_from else settings.seg_share
        given = batch.valid_BHW, batch.tag_BC, share, batch.most_tags
        stack, score_BSHW = self.label_scores(sight, image_B3HW, *given)
        label_BHW = stack.classes(score_BSHW.argmax(1))
        return batch.with_true(torch.where(batch.valid_BHW, label_BHW, IGNORE).to(torch.uint8))

    @torch.no_grad()
    def label_scores(
        self,
        sight: Sight,
        image_B3HW: Tensor,
        valid_BHW: Tensor,
        tag_BC: Tensor,
        share: float,
        most: int | None = None,
    ) -> tuple[TaggedStack, Tensor]:
        """Scores (B, S, H, W) of background and of each photo's tags, refined by the photo, and which class is where.

        share: of the segmentation in an object's score. All parts are stretched over the photo, so that no bias of the loss,
        such as `foreground`, moves the labels. most: tags of the photo that has most, where the host knows it.
        """
        settings = self.settings.labels
        cam_BCHW = min_max_within(sight.cam_BCHW, valid_BHW)
        background_B1HW = min_max_within(background_odds(sight.logit_BKHW), valid_BHW)
        if share > 0:
            object_BCHW = min_max_within(sight.logit_BKHW[:, 1:] - sight.logit_BKHW[:, :1], valid_BHW)
            cam_BCHW = torch.lerp(cam_BCHW, object_BCHW, share)
        stack = TaggedStack.of(cam_BCHW, tag_BC, most)
        score_BSHW = torch.cat([background_B1HW, stack.cam_BPHW], 1)
        size = size_of(image_B3HW)
        small = refined_size(size, settings.scale)
        refine = settings.refiner()
        if refine is not None:
            score_BSHW = refine(resize(image_B3HW, small), resize(score_BSHW, small))
        score_BSHW = resize(score_BSHW, size)
        if settings.stretch:
            score_BSHW = score_BSHW / score_BSHW.amax((-2, -1), keepdim=True).clamp(min=1e-6)
        return stack, score_BSHW

    def segment_logits(self, image_B3HW: Tensor) -> Tensor:
        """The segmentation's logits, and how far the classifier agrees."""
        stages = self.backbone.stages(image_B3HW)
        logit_BKhw = gated(self.decoder(stages).float(), self.tag_logits(stages[-1]), self.settings.gate)
        return upsample(logit_BKhw, size_of(image_B3HW))

    def tagged_logits(self, image_B3HW: Tensor, tag_BC: Tensor) -> Tensor:
        """The segmentation's logits alone; with `labels.sharpness`, the log of what `segment_tagged` gives."""
        if self.settings.labels.sharpness == 0:
            return self.seg_logits(self.backbone.stages(image_B3HW), size_of(image_B3HW))
        return self.segment_tagged(image_B3HW, tag_BC).clamp(min=1e-8).log()

    def segment_tagged(self, image_B3HW: Tensor, tag_BC: Tensor) -> Tensor:
        """Where tags are given, what the labels of training would be, as probabilities; the classifier is not asked.

        With `labels.sharpness` 0 the segmentation's probabilities, absent classes left out.
        """
        labels = self.settings.labels
        if labels.sharpness == 0:
            return present_classes(self.tagged_logits(image_B3HW, tag_BC).softmax(1), tag_BC)
        valid_BHW = torch.ones_like(image_B3HW[:, 0], dtype=torch.bool)
        share = 0.0 if labels.seg_from is None else labels.seg_share
        stack, score_BSHW = self.label_scores(self.look(image_B3HW), image_B3HW, valid_BHW, tag_BC, share)
        score_BSHW = score_BSHW.clamp(min=0) / score_BSHW.amax(1, keepdim=True).clamp(min=1e-6)
        probability_BKHW = stack.scatter(score_BSHW**labels.sharpness, self.num_classes)
        return probability_BKHW / probability_BKHW.sum(1, keepdim=True).clamp(min=1e-8)

    def branches(self, image_B3HW: Tensor, tag_BC: Tensor | None = None) -> dict[str, Tensor]:
        """The CAM and its refinements, P_s, and where it differs what counts: `gated`, or with tags `sharpened`."""
        branches = super().branches(image_B3HW, tag_BC)
        if tag_BC is not None:
            sharp = self.settings.labels.sharpness > 0
            return branches | ({"sharpened": self.segment_tagged(image_B3HW, tag_BC)} if sharp else {})
        return branches | ({} if self.settings.gate.open else {"gated": self.segment(image_B3HW)})

    @torch.no_grad()
    def look(self, image_B3HW: Tensor) -> Sight:
        """What this network sees over the CAM's scales and mirror images."""

        def maps(view_B3HW: Tensor) -> Tensor:
            stages = self.backbone.stages(view_B3HW)
            size = size_of(view_B3HW)
            return torch.cat([self.seg_logits(stages, size), upsample(self.classifier(stages[-1]), size)], 1)

        settings, count = self.settings, self.num_classes
        logit_BKHW, cam_BCHW = image_B3HW.new_zeros(1), image_B3HW.new_zeros(1)
        views = map_views(
            maps,
            image_B3HW,
            settings.cam_scales,
            settings.cam_flip,
            smallest=SMALLEST_VIEW,
            precision=settings.cam_precision,
        )
        for plain, mirrored in views:
            logit_BKHW = logit_BKHW + (plain[:, :count] + mirrored[:, :count]) / (2 * len(settings.cam_scales))
            cam_BCHW = cam_BCHW + torch.maximum(plain, mirrored)[:, count:].relu()
        return Sight(logit_BKHW, cam_BCHW)


def min_max_within(map_BCHW: Tensor, valid_BHW: Tensor) -> Tensor:
    """Each map less its minimum, divided by its maximum + 1e-5, of the valid pixels alone; 0 elsewhere."""
    valid_B1HW = valid_BHW[:, None]
    low = map_BCHW.masked_fill(~valid_B1HW, torch.inf).amin((-2, -1), keepdim=True)
    high = map_BCHW.masked_fill(~valid_B1HW, -torch.inf).amax((-2, -1), keepdim=True)
    return ((map_BCHW - low) / (high - low + 1e-5)).masked_fill(~valid_B1HW, 0)
