"""BMP: Branches Mutual Promotion (IEEE TNNLS). A classification and a segmentation branch teach each other.

Interactions: the segmentation decodes features weighted by where the classifier sees an object (object-aware decoding),
and the classifier's labels take their background from the segmentation (background-aware propagation). Supervisions:
labels from the CAM teach the segmentation, and the segmentation's confident pixels teach the CAM.

Shapes: B photos, C classes, K = C + 1, F feature channels, H W pixels, h w a grid, L labels of one photo.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from tagseg.cues.background_aware import (
    BackgroundAwareSettings,
    background_and_cam,
    background_labels,
    background_odds,
    background_scores,
)
from tagseg.cues.cam_labels import CamLabelSettings
from tagseg.cues.views import SMALLEST_VIEW
from tagseg.data.batch import Batch, Facts
from tagseg.foreign import shown
from tagseg.losses import PixelLoss, normalized_loss, pixel_loss
from tagseg.mask_values import IGNORE
from tagseg.methods.afa_network import AFANetwork, AFANetworkSettings
from tagseg.methods.heads import evaluating, predicted_tags, without_trace
from tagseg.methods.method import MethodSettings, scaled_steps
from tagseg.resize import resize, size_of, upsample
from tagseg.settings import Settings, Steps, Weight


class ClassToSegSettings(Settings):
    """Supervision of the segmentation by labels from the CAM; weight 0 switches it off."""

    RENAMED: ClassVar[Mapping[str, str]] = {"foreground": "foreground_share"}

    weight: Weight = 0.7
    loss: PixelLoss = "bce"
    foreground_share: float | None = Field(
        None, ge=0, le=1, description="share of the loss that foreground pixels have; none: all alike (as released)"
    )


class SegToClassSettings(Settings):
    """Supervision of the CAM by the segmentation, the feedback path; weight 0 switches it off.

    compare: what is compared with `confidence`: the largest logit, as released, or the largest probability (a sigmoid where
    the segmentation is trained by bce, else a softmax).
    """

    LATER: ClassVar[tuple[str, ...]] = (
        "normalized",
        "below",
    )
    RENAMED: ClassVar[Mapping[str, str]] = {"tagged": "tagged_only"}

    weight: Weight = 0.1
    from_step: Steps = 2000
    loss: PixelLoss = "ce"
    confidence: float = Field(0.75, ge=-1000, le=1000)
    compare: Literal["logit", "probability"] = "logit"
    tagged_only: bool = Field(
        False, description="whether pixels of classes without a tag are left out (as released: no)"
    )
    normalized: bool = Field(
        False,
        description="teach the CAM divided by its maximum, which labels are read from, by bce over the tagged classes, in "
        "place of its logits",
    )
    below: float | None = Field(
        None,
        gt=0,
        le=1,
        description="teach only where the CAM of the pixel's class, divided by its maximum, is below this; none: everywhere",
    )

    @classmethod
    def _before(cls, given: dict[str, Any], say: Callable[[str], object]) -> dict[str, Any]:
        compared = {"as_released": "logit", "as_meant": "probability"}
        threshold = given.get("threshold")
        if isinstance(threshold, str) and threshold in compared:
            now = compared[given.pop("threshold")]
            if given.get("compare", now) != now:
                raise ValueError(
                    f"threshold is now compare: {now}, but compare is {shown(given['compare'])}; take threshold away"
                )
            given["compare"] = now
            say(f"threshold is now compare: {given['compare']}")
        return given


class BMPSettings(AFANetworkSettings):
    """Settings of BMP; the defaults are those of the authors' script for VOC at crop 512."""

    RENAMED: ClassVar[Mapping[str, str]] = {"background": "background_aware"}

    name: Literal["bmp"] = "bmp"  # type: ignore[assignment]
    labels: CamLabelSettings = CamLabelSettings(refine="par")
    object_aware: bool = Field(True, description="weigh the decoder's features by the CAM (class to segmentation)")
    background_aware: BackgroundAwareSettings = BackgroundAwareSettings(from_step=4000, min_score=0.5)
    class_to_seg: ClassToSegSettings = ClassToSegSettings()
    seg_to_class: SegToClassSettings = SegToClassSettings()

    def scaled(self, factor: float) -> Self:
        """The steps from which labels are background-aware, and from which the CAM gets feedback, follow."""
        starts = {
            key: block.model_copy(update={"from_step": scaled_steps(block.from_step, factor)})
            for key, block in (("background_aware", self.background_aware), ("seg_to_class", self.seg_to_class))
        }
        return super().scaled(factor).model_copy(update=starts)


class BMP(AFANetwork):
    """L_cls alone, then with L_c2s and L_aff, then with the feedback L_s2c; branches CAM ... BSP and P_s."""

    Settings: ClassVar[type[MethodSettings]] = BMPSettings
    own_photos: ClassVar[str | None] = "photos-bmp"
    meanings: ClassVar[Mapping[str, str]] = {
        **AFANetwork.meanings,
        "BSP": "background-aware propagation: the CAM against the segmentation's background",
    }
    drawn: ClassVar[tuple[str, ...]] = ("BSP", "P_s")
    settings: BMPSettings

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """The tags' loss, from `class_steps` on the segmentation's and the affinities', later the feedback."""
        settings = self.settings
        image_B3HW = batch.image()
        if step < settings.class_steps:
            return {"class": self.class_loss(batch, self.backbone(image_B3HW))}
        stages, affinity_BNN = self.read(image_B3HW)
        grid = stages[-1].shape[-2:]
        cam_logit_BCHW = upsample(self.classifier(stages[-1]), batch.size)
        logit_BKHW = self.seg_logits(stages, batch.size, batch.seed_B)
        terms = {"class": self.class_loss(batch, stages[-1])}

        aware, learns_affinity = settings.background_aware, affinity_BNN is not None and settings.affinity_weight > 0
        if aware.at(step):
            known = (logit_BKHW.detach(), cam_logit_BCHW.detach())
            taken = known if aware.own_view == "training" else None
            background_BHW, cam_BCHW = self.view_scores(image_B3HW, taken)
            label_BHW = self.background_labels(batch, image_B3HW, background_BHW, cam_BCHW)
        else:
            cam_BCHW = self.view_cams(image_B3HW, stages[-1])
            label_BHW = self.cam_labels(batch, image_B3HW, cam_BCHW)
        if learns_affinity:
            cam_label_BHW = self.cam_labels(batch, image_B3HW, cam_BCHW) if aware.at(step) else label_BHW
            terms |= self.affinity_terms(affinity_BNN, cam_label_BHW, grid)

        if settings.class_to_seg.weight > 0:
            loss = pixel_loss(logit_BKHW, label_BHW, settings.class_to_seg.loss, settings.class_to_seg.foreground_share)
            terms["class to seg"] = settings.class_to_seg.weight * loss
        if settings.seg_to_class.weight > 0 and step >= settings.seg_to_class.from_step:
            seg_label_BHW = self.seg_labels(batch, logit_BKHW)
            terms["seg to class"] = settings.seg_to_class.weight * self.feedback(batch, cam_logit_BCHW, seg_label_BHW)
        return terms

    def seg_logits(self, stages: Sequence[Tensor], size: tuple[int, int], seed_B: Tensor | None = None) -> Tensor:
        """Logits (B, K, H, W) of the segmentation, decoded where the CAM sees an object (object-aware).

        No gradient reaches the classifier through that weighting.
        """
        if self.settings.object_aware:
            object_B1HW = self.object_map(stages[-1], size)
            stages = [stage * resize(object_B1HW, size_of(stage)).to(stage.dtype) for stage in stages]
        return super().seg_logits(stages, size, seed_B)

    @torch.no_grad()
    def object_map(self, feature_BFhw: Tensor, size: tuple[int, int]) -> Tensor:
        """The largest class score of each pixel (B, 1, H, W) in (0, 1)."""
        return upsample(self.classifier(feature_BFhw), size).sigmoid().amax(1, keepdim=True)

    @torch.no_grad()
    def view_scores(self, image_B3HW: Tensor, known: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """The segmentation's background (B, H, W) and the CAM (B, C, H, W) over scales and mirror images, in [0, 1).

        known: logits of the segmentation and of the CAM for the photo itself, at its size, where already there.
        """
        settings = self.settings

        def background(logit_BKHW: Tensor) -> Tensor:
            return background_odds(logit_BKHW) if settings.class_to_seg.loss == "ce" else logit_BKHW[:, :1]

        def maps(view_B3HW: Tensor) -> Tensor:
            stages, size = self.backbone.stages(view_B3HW), size_of(view_B3HW)
            return torch.cat(
                [background(self.seg_logits(stages, size)), upsample(self.classifier(stages[-1]), size)], 1
            )

        known_BKHW = None if known is None else torch.cat([background(known[0]), known[1]], 1)
        with evaluating(self.decoder), without_trace(self.backbone):
            return background_and_cam(
                maps,
                image_B3HW,
                settings.cam_scales,
                settings.cam_flip,
                known_BKHW,
                smallest=SMALLEST_VIEW,
                precision=settings.cam_precision,
            )

    def background_scores(
        self,
        image_B3HW: Tensor,
        valid_BHW: Tensor,
        background_BHW: Tensor,
        cam_BCHW: Tensor,
        tag_BC: Tensor,
        facts: Sequence[Facts] | None = None,
    ) -> Tensor:
        """Scores (B, K, H, W) of the segmentation's background and the tagged CAMs, refined within each photo."""
        labels = self.settings.labels
        return background_scores(
            image_B3HW, valid_BHW, background_BHW, cam_BCHW, tag_BC, labels.refiner(), labels.scale, facts
        )

    def background_labels(self, batch: Batch, image_B3HW: Tensor, background_BHW: Tensor, cam_BCHW: Tensor) -> Tensor:
        """The class of the highest score (B, H, W) uint8, 255 where that is below the threshold and in padding."""
        scores = self.background_scores(
            image_B3HW, batch.valid_BHW, background_BHW, cam_BCHW, batch.tag_BC, batch.facts()
        )
        return batch.with_true(background_labels(scores, batch.valid_BHW, self.settings.background_aware.min_score))

    @torch.no_grad()
    def seg_labels(self, batch: Batch, logit_BKHW: Tensor) -> Tensor:
        """Labels (B, H, W) uint8 in 0..C-1 of the segmentation's confident foreground, 255 elsewhere and in padding."""
        settings = self.settings.seg_to_class
        value_BHW, label_BHW = logit_BKHW.max(1)
        if settings.compare == "probability":
            bce = self.settings.class_to_seg.loss == "bce"
            value_BHW = value_BHW.sigmoid() if bce else logit_BKHW.softmax(1).amax(1)
        sure_BHW = batch.valid_BHW & (value_BHW >= settings.confidence) & (label_BHW > 0)
        if settings.tagged_only:
            allowed_BK = F.pad(batch.tag_BC > 0, (1, 0), value=True)
            sure_BHW &= allowed_BK.gather(1, label_BHW.flatten(1)).view_as(label_BHW)
        sure_label_BHW = batch.with_true(torch.where(sure_BHW, label_BHW, IGNORE).to(torch.uint8))
        object_BHW = (sure_label_BHW > 0) & (sure_label_BHW != IGNORE)
        return torch.where(object_BHW, sure_label_BHW - 1, IGNORE).to(torch.uint8)

    def feedback(self, batch: Batch, cam_logit_BCHW: Tensor, label_BHW: Tensor) -> Tensor:
        """L_s2c of labels (B, H, W) in 0..C-1, 255 = none: on the CAM's logits, or on the CAM divided by its maximum."""
        settings = self.settings.seg_to_class
        if not settings.normalized and settings.below is None:
            return pixel_loss(cam_logit_BCHW, label_BHW, settings.loss)
        cam_BCHW = cam_logit_BCHW.float().relu()
        share_BCHW = cam_BCHW / cam_BCHW.detach().amax((2, 3), keepdim=True).clamp(min=1e-5)
        if settings.below is not None:
            index_BHW = torch.where(label_BHW == IGNORE, 0, label_BHW).long()
            seen_BHW = share_BCHW.detach().gather(1, index_BHW[:, None])[:, 0] >= settings.below
            label_BHW = label_BHW.masked_fill(seen_BHW, IGNORE)
        if not settings.normalized:
            return pixel_loss(cam_logit_BCHW, label_BHW, settings.loss)
        return normalized_loss(share_BCHW, label_BHW, batch.tag_BC)

    def branches(self, image_B3HW: Tensor, tag_BC: Tensor | None = None) -> dict[str, Tensor]:
        """The CAM and its refinements, BSP (background-aware propagation), and the segmentation P_s."""
        stages = self.backbone.stages(image_B3HW)
        if tag_BC is None:
            tag_BC = predicted_tags(self.tag_logits(stages[-1]))
        size = size_of(image_B3HW)
        logit_BKHW = self.seg_logits(stages, size)
        known = (logit_BKHW, upsample(self.classifier(stages[-1]), size))
        background_BHW, cam_BCHW = self.view_scores(image_B3HW, known)
        valid_BHW = torch.ones_like(background_BHW, dtype=torch.bool)
        score_BKHW = self.background_scores(image_B3HW, valid_BHW, background_BHW, cam_BCHW, tag_BC).clamp(min=1e-8)
        masks = self.cam_branches(image_B3HW, cam_BCHW, tag_BC)
        return masks | {"BSP": score_BKHW / score_BKHW.sum(1, keepdim=True), "P_s": logit_BKHW.softmax(1)}
