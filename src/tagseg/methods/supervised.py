"""A segmentation network trained on masks: true ones, the upper bound, or the pseudo masks of a first stage.

Shapes: B photos, K classes with background, H W pixels, h w the grid of a head's logits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, field_validator
from torch import Tensor, nn

from tagseg.backbones.backbone import Backbone
from tagseg.cues.cam import normalize_cam
from tagseg.data.batch import Batch
from tagseg.decoders import DECODERS, AuxiliaryHead, DecoderOptions, create_decoder
from tagseg.losses import labeled_mean, tag_loss
from tagseg.mask_values import IGNORE
from tagseg.methods.gate import GateSettings, gated
from tagseg.methods.heads import ClassHead, parameter_groups, plain_groups
from tagseg.methods.method import Method, MethodSettings, ParameterGroup, present_classes
from tagseg.names import did_you_mean
from tagseg.resize import resize, size_of, upsample
from tagseg.settings import Channels, Scales, Weight


class SupervisedSettings(MethodSettings):
    """Settings of training on masks."""

    LATER: ClassVar[tuple[str, ...]] = ("groups",)
    RENAMED: ClassVar[Mapping[str, str]] = {"segmenter": "decoder", "foreground": "foreground_share"}
    GONE: ClassVar[Mapping[str, object]] = {"confidence": None}

    name: Literal["supervised"] = "supervised"
    decoder: str = Field(
        "conv", description="conv (that of RRM and ASDT), deeplab_v2, deeplab_resnet38, pspnet or segformer"
    )
    hidden: Channels = Field(512, description="channels inside the decoder; deeplab_v2 has none")
    dilation: int = Field(
        12, ge=1, le=256, description="dilation of conv and deeplab_resnet38, in cells of the feature grid"
    )
    dropout: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="before the classifier of deeplab_resnet38, pspnet and segformer; none: as published",
    )
    multi_scale: Scales = Field(
        (),
        description="further scales of the photo that are read in training and in test, as DeepLab-v2 does with 0.75 and "
        "0.5: each has a loss on its own grid, and so has the element-wise maximum, which is the result",
    )
    aux_weight: Weight = Field(0.4, description="weight of the loss of pspnet's auxiliary head; 0 leaves it out")
    norm_momentum: float = Field(
        0.1, gt=0, le=1, description="of the running statistics of batch norms that are trained"
    )
    foreground_share: float | None = Field(
        None,
        ge=0,
        le=1,
        description="share of the loss that foreground pixels have: pseudo masks miss more of it than they add; "
        "none: all pixels alike",
    )
    tag_weight: Weight = Field(
        0.0, description="weight of the tags' loss: above 0 the network learns the tags too, and `gate` has a say"
    )
    gate: GateSettings = GateSettings()
    head_lr_scale: Weight = Field(10.0, gt=0, description="learning rate of the head against the backbone's")
    groups: Literal["caffe", "plain", "segformer"] = Field(
        "caffe",
        description="caffe: biases and norms learn twice as fast and do not decay (DeepLab-v2); plain: all parameters alike "
        "(PSPNet); segformer: norms do not decay",
    )

    @classmethod
    def _before(cls, given: dict[str, Any], say: Callable[[str], object]) -> dict[str, Any]:
        if given.get("segmenter") == "head":
            given["segmenter"] = "conv"
        return given

    @field_validator("decoder")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in DECODERS:
            raise ValueError(f"there is no decoder {name!r}: {did_you_mean(name, DECODERS)}")
        return name

    @field_validator("multi_scale")
    @classmethod
    def _makes_sense(cls, scales: tuple[float, ...]) -> tuple[float, ...]:
        if any(not 0.1 <= scale <= 4 or scale == 1 for scale in scales):
            raise ValueError("the scales should lie between 0.1 and 4; 1 is always read and is not named")
        return scales


class Supervised(Method):
    """A backbone and a decoder under the mean cross-entropy of masks, 255 ignored; the only branch is P_s."""

    Settings: ClassVar[type[MethodSettings]] = SupervisedSettings
    settings: SupervisedSettings
    needs_masks: ClassVar[bool] = True
    own_photos: ClassVar[str | None] = "photos-segmenter"
    meanings: ClassVar[Mapping[str, str]] = {"P_s": "segmenter"}
    step_cost: ClassVar[float] = 1.2
    cam_name: ClassVar[str] = ""

    def __init__(self, backbone: Backbone, classes: tuple[str, ...], settings: SupervisedSettings) -> None:
        super().__init__(backbone, classes)
        self.settings = settings
        options = DecoderOptions(settings.hidden, settings.dilation, settings.dropout)
        self.heads = nn.ModuleDict({"student": create_decoder(settings.decoder, backbone, self.num_classes, options)})
        if settings.decoder == "pspnet" and settings.aux_weight > 0:
            self.heads["aux"] = AuxiliaryHead(backbone.stage_channels[-2], self.num_classes)
        if (
            settings.tag_weight > 0
        ):  # named as the class-teacher's, so that its weights can be what training starts from
            self.heads["class"] = ClassHead(backbone.channels, len(classes), dropout=0.0)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = settings.norm_momentum

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """The mean cross-entropy over labeled pixels; with further scales one for each, on its grid, and the maximum's."""
        assert batch.mask_BHW is not None
        image_B3HW = batch.image()
        stages = self.backbone.stages(image_B3HW)
        logit_BKhw = self.heads["student"](stages, batch.seed_B)
        terms = {}
        if not self.settings.multi_scale:
            terms["student labels"] = self.cross_entropy(upsample(logit_BKhw, batch.size), batch)
        else:
            scaled = self.scaled_logits(image_B3HW, logit_BKhw, batch.seed_B)
            for name, logits in scaled.items():
                terms[f"student labels, {name}"] = self.cross_entropy(logits.float(), batch)
        if "aux" in self.heads:
            aux_BKHW = upsample(self.heads["aux"](stages, batch.seed_B), batch.size)
            terms["aux labels"] = self.settings.aux_weight * self.cross_entropy(aux_BKHW, batch)
        if "class" in self.heads:
            terms["class"] = self.settings.tag_weight * tag_loss(self.heads["class"](stages[-1]).float(), batch.tag_BC)
        return terms

    def scaled_logits(self, image_B3HW: Tensor, logit_BKhw: Tensor, seed_B: Tensor | None = None) -> dict[str, Tensor]:
        """Logits of every scale on its own grid, and their element-wise maximum on that of scale 1 (DeepLab-v2)."""
        height, width = image_B3HW.shape[-2:]
        grid = (logit_BKhw.shape[-2], logit_BKhw.shape[-1])
        logits = {"scale 1": logit_BKhw}
        for scale in self.settings.multi_scale:
            size = (max(round(height * scale), 1), max(round(width * scale), 1))
            view_B3hw = resize(image_B3HW, size)
            logits[f"scale {scale:g}"] = self.heads["student"](self.backbone.stages(view_B3hw), seed_B)
        logits["maximum"] = torch.stack([upsample(each, grid) for each in logits.values()]).amax(0)
        return logits

    def cross_entropy(self, logit_BKhw: Tensor, batch: Batch) -> Tensor:
        """The mean over labeled pixels, masks resized to the logits' grid by nearest neighbor."""
        assert batch.mask_BHW is not None
        label_Bhw, grid = batch.mask_BHW, logit_BKhw.shape[-2:]
        if label_Bhw.shape[-2:] != grid:
            label_Bhw = F.interpolate(label_Bhw[:, None].float(), grid, mode="nearest-exact")[:, 0]
        loss_Bhw = F.cross_entropy(logit_BKhw, label_Bhw.long(), ignore_index=IGNORE, reduction="none")
        return labeled_mean(loss_Bhw, label_Bhw, self.settings.foreground_share)

    def segment(self, image_B3HW: Tensor) -> Tensor:
        """The probabilities, with further scales those of the element-wise maximum."""
        return self.segment_logits(image_B3HW).softmax(1)

    def segment_tagged(self, image_B3HW: Tensor, tag_BC: Tensor) -> Tensor:
        """The probabilities of the classes that the tags allow; the classifier is not asked."""
        return present_classes(self.tagged_logits(image_B3HW, tag_BC).softmax(1), tag_BC)

    def segment_logits(self, image_B3HW: Tensor) -> Tensor:
        """The logits, with further scales their element-wise maximum, and how far the classifier agrees, if there is one."""
        logit_BKhw, feature_BFhw = self.grid_logits(image_B3HW)
        if "class" in self.heads:
            logit_BKhw = gated(logit_BKhw.float(), self.heads["class"](feature_BFhw).float(), self.settings.gate)
        return upsample(logit_BKhw, size_of(image_B3HW))

    def tagged_logits(self, image_B3HW: Tensor, tag_BC: Tensor) -> Tensor:
        """The logits alone: where tags are given the classifier is not asked."""
        return upsample(self.grid_logits(image_B3HW)[0], size_of(image_B3HW))

    def photo_logits(self, image_B3HW: Tensor) -> Tensor | None:
        """Logits (B, C) of the tags of whole photos, if tags are learned beside masks."""
        return self.heads["class"](self.backbone(image_B3HW)).float() if "class" in self.heads else None

    def grid_logits(self, image_B3HW: Tensor) -> tuple[Tensor, Tensor]:
        """The decoder's logits (B, K, h, w) on its own grid, and the last stage that they were made from."""
        stages = self.backbone.stages(image_B3HW)
        logit_BKhw = self.heads["student"](stages)
        if self.settings.multi_scale:
            logit_BKhw = self.scaled_logits(image_B3HW, logit_BKhw)["maximum"]
        return logit_BKhw, stages[-1]

    def branches(self, image_B3HW: Tensor, tag_BC: Tensor | None = None) -> dict[str, Tensor]:
        """The only branch, P_s; with tags, the classifier is not asked."""
        return {"P_s": self.segment(image_B3HW) if tag_BC is None else self.segment_tagged(image_B3HW, tag_BC)}

    def cams(self, image_B3HW: Tensor) -> Tensor:
        """No class-teacher here: the probabilities of the classes, each divided by its maximum."""
        return normalize_cam(self.segment(image_B3HW)[:, 1:])

    def parameter_groups(self) -> list[ParameterGroup]:
        """Backbone x1, heads x `head_lr_scale`, their biases and norms as `groups` says."""
        scale = self.settings.head_lr_scale
        if self.settings.groups == "caffe":
            return parameter_groups(self.backbone, self.heads, scale)
        return plain_groups(self.backbone, self.heads, scale, norms_decay=self.settings.groups == "plain")
