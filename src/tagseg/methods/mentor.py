"""Mentor: the mean of the network's own past weights looks at a photo in peace and labels it; the network learns the labels
from a strong view of the same photo (colours, blur, parts of other photos).

The labels grow up with it: first the CAM's, then the CAM against the segmentation's background (BMP), at last the
segmentation's own, whose background counts less where a tag says that the object is there.

Shapes: B photos, C classes, K = C + 1, S = 1 + the tags of the photo that has most, H W pixels.
"""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from tagseg.backbones.backbone import Backbone
from tagseg.cues.mixing import MixingSettings, mixed
from tagseg.cues.noise import NoiseSettings, missed_objects
from tagseg.cues.refined_labels import TaggedStack, refined_size, resize
from tagseg.cues.strong_view import StrongViewSettings, strong_view
from tagseg.cues.views import SMALLEST_VIEW, map_views
from tagseg.data.batches import Batch
from tagseg.distributed import global_mean
from tagseg.methods.afa_network import AFANetwork, AFANetworkSettings, LabelSettings
from tagseg.methods.heads import evaluating
from tagseg.methods.losses import IGNORE, background_odds, labelled_mean, tag_loss, upsample
from tagseg.methods.method import Method, MethodSettings


class MentorLabelSettings(LabelSettings):
    """What the labels are made of, as training goes on."""

    background_from: int = Field(50, ge=0, description="step from which background is the segmentation's (BMP)")
    seg_from: int | None = Field(
        150, ge=0, description="step from which objects are the segmentation's too; none: the CAM's to the end"
    )
    tagged_background: float = Field(
        0.14, gt=0, le=1, description="how much the segmentation's background then counts in a tagged photo"
    )


class MentorSettings(AFANetworkSettings):
    """Settings of Mentor; every part of it can be switched off by itself."""

    name: Literal["mentor"] = "mentor"  # type: ignore[assignment]
    pooling: Literal["max", "mean"] = "mean"
    class_steps: int = 0
    affinity_weight: float = Field(0.0, ge=0, le=0, description="affinities are not learned")
    teacher: Literal["average", "own"] = Field(
        "average", description="who labels: the running mean of the weights (train.average), or the weights as they are"
    )
    labels: MentorLabelSettings = MentorLabelSettings(refine="par")
    strong: StrongViewSettings | None = Field(StrongViewSettings(), description="none: learn from the plain photo")
    mixing: MixingSettings = MixingSettings()
    noise: NoiseSettings = NoiseSettings()
    foreground: float | None = Field(
        0.75, ge=0, le=1, description="share of the segmentation's loss that foreground pixels have; none: all alike"
    )
    untagged: float = Field(
        0.0,
        ge=0,
        description="weight of an own mean over photos without tags, which are surely background; 0: as other background",
    )
    seg_weight: float = Field(1.0, ge=0, description="weight of the segmentation's loss")


class Sight(NamedTuple):
    """What the teacher sees, over scales and mirror images: logits (B, K, H, W), and the CAM (B, C, H, W) before scaling."""

    logit_BKHW: Tensor
    cam_BCHW: Tensor


class Mentor(AFANetwork):
    """L_cls + L_seg on a strong view, under the labels of an averaged teacher on the weak one; branches CAM ... and P_s."""

    Settings: ClassVar[type[MethodSettings]] = MentorSettings
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
        image_B3HW, tag_BC, known_BC = batch.image(), batch.tag_BC, None
        label_BHW = self.teacher_labels(batch, image_B3HW, step)
        sure_BHW = (label_BHW == 0) & (tag_BC.sum(1) == 0)[:, None, None]
        if settings.strong is not None:
            image_B3HW = strong_view(image_B3HW, batch.seed_B, settings.strong)
        if settings.mixing.boxes + settings.mixing.objects > 0:
            mix = mixed(label_BHW, tag_BC, batch.seed_B, settings.mixing)
            image_B3HW, label_BHW, sure_BHW = mix.laid(image_B3HW), mix.laid(label_BHW), mix.laid(sure_BHW)
            tag_BC, known_BC = mix.tag_BC, mix.known_BC

        stages = self.backbone.stages(image_B3HW)
        terms = {"class": settings.class_weight * tag_loss(self.tag_logits(stages[-1]), tag_BC, known_BC)}
        if step < settings.class_steps:
            return terms
        logit_BKHW = self.seg_logits(stages, batch.size, batch.seed_B)
        loss_BHW = F.cross_entropy(logit_BKHW, label_BHW.long(), ignore_index=IGNORE, reduction="none")
        if settings.noise.from_step is not None and step >= settings.noise.from_step:
            missed_BHW = missed_objects(loss_BHW.detach(), (label_BHW == 0) & ~sure_BHW, settings.noise)
            label_BHW = torch.where(missed_BHW, IGNORE, label_BHW)
        if settings.untagged > 0:
            empty = global_mean((loss_BHW * sure_BHW).sum(), sure_BHW.sum())
            terms["untagged"] = settings.seg_weight * settings.untagged * empty
            label_BHW = torch.where(sure_BHW, IGNORE, label_BHW)
        terms["seg"] = settings.seg_weight * labelled_mean(loss_BHW, label_BHW, settings.foreground)
        return terms

    @torch.no_grad()
    def teacher_labels(self, batch: Batch, image_B3HW: Tensor, step: int) -> Tensor:
        """Labels (B, H, W) uint8 of the photos as they are, 255 where the teacher is not sure and in padding."""
        settings = self.settings.labels
        teacher = self._average[0] if self._average and self.settings.teacher == "average" else self
        with evaluating(teacher):
            sight = teacher.look(image_B3HW)
        cam_BCHW = min_max_within(sight.cam_BCHW, batch.valid_BHW)
        if step < settings.background_from:
            return self.cam_labels(batch, image_B3HW, cam_BCHW)
        if settings.seg_from is None or step < settings.seg_from:
            background_B1HW = min_max_within(background_odds(sight.logit_BKHW), batch.valid_BHW)
            stack = TaggedStack.of(cam_BCHW, batch.tag_BC)
            score_BSHW = torch.cat([background_B1HW, stack.cam_BPHW], 1)
        else:
            stack = TaggedStack.of(sight.logit_BKHW.softmax(1)[:, 1:], batch.tag_BC)
            background_B1HW = settings.tagged_background * sight.logit_BKHW.softmax(1)[:, :1]
            score_BSHW = torch.cat([background_B1HW, stack.cam_BPHW], 1)
            score_BSHW = score_BSHW / score_BSHW.sum(1, keepdim=True)
        size = batch.size
        small = refined_size(size, settings.scale)
        refine = settings.refiner()
        score_BShw = resize(score_BSHW, small)
        if refine is not None:
            score_BShw = refine(resize(image_B3HW, small), score_BShw)
        label_BHW = stack.classes(resize(score_BShw, size).argmax(1))
        return torch.where(batch.valid_BHW, label_BHW, IGNORE).to(torch.uint8)

    @torch.no_grad()
    def look(self, image_B3HW: Tensor) -> Sight:
        """What this network sees over the CAM's scales and mirror images."""

        def maps(view_B3HW: Tensor) -> Tensor:
            stages = self.backbone.stages(view_B3HW)
            size = (view_B3HW.shape[-2], view_B3HW.shape[-1])
            return torch.cat([self.seg_logits(stages, size), upsample(self.classifier(stages[-1]), size)], 1)

        settings, count = self.settings, self.num_classes
        logit_BKHW, cam_BCHW = image_B3HW.new_zeros(1), image_B3HW.new_zeros(1)
        views = map_views(
            maps, image_B3HW, settings.cam_scales, settings.cam_flip, None, SMALLEST_VIEW, settings.cam_bf16
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
