"""A segmentation network trained on masks: true ones, the upper bound, or the pseudo masks of a first stage.

Shapes: B photos, K classes with background, H W pixels, h w the grid of a head's logits.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, field_validator
from torch import Tensor, nn

from tagseg.backbones.backbone import Backbone
from tagseg.cues.cam import normalise_cam
from tagseg.data.batches import Batch
from tagseg.data.folders import stem
from tagseg.errors import UserError
from tagseg.methods.heads import SegHead, parameter_groups, plain_groups
from tagseg.methods.losses import IGNORE, labelled_mean, upsample
from tagseg.methods.method import Method, MethodSettings, ParameterGroup
from tagseg.outputs.inert import path_of_cell
from tagseg.segmenters import SEGMENTERS, AuxiliaryHead, HeadOptions, SmpDecoder, create_segmenter
from tagseg.segmenters.smp_decoder import PREFIX, smp_decoders
from tagseg.settings import Channels, Scales, Weight


class SupervisedSettings(MethodSettings):
    """Settings of training on masks."""

    LATER: ClassVar[tuple[str, ...]] = ("groups",)

    name: Literal["supervised"] = "supervised"
    segmenter: str = Field(
        "head",
        description="head (that of RRM and ASDT), deeplab_v2, deeplab_resnet38, pspnet, segformer, or smp:<Decoder>, "
        "any decoder of segmentation_models_pytorch",
    )
    hidden: Channels = Field(512, description="channels inside the segmentation head")
    dilation: int = Field(
        12, ge=1, le=256, description="dilation of the segmentation head, in cells of the feature grid"
    )
    dropout: float | None = Field(None, ge=0, lt=1, description="before the classifier; none: as published")
    multi_scale: Scales = Field(
        (),
        description="further scales of the photo that are read in training and in test, as DeepLab-v2 does with 0.75 and "
        "0.5: each has a loss on its own grid, and so has the element-wise maximum, which is the result",
    )
    aux_weight: Weight = Field(0.4, description="weight of the loss of pspnet's auxiliary head; 0 leaves it out")
    norm_momentum: float = Field(
        0.1, gt=0, le=1, description="of the running statistics of batch norms that are trained"
    )
    confidence: Path | None = Field(
        None, description="CSV table with the columns file and confidence: the weight, 0 to 1, of each photo's loss"
    )
    foreground: float | None = Field(
        None,
        ge=0,
        le=1,
        description="share of the loss that foreground pixels have: pseudo masks miss more of it than they add; "
        "none: all pixels alike",
    )
    head_lr_scale: Weight = Field(10.0, gt=0, description="learning rate of the head against the backbone's")
    groups: Literal["caffe", "plain", "segformer"] = Field(
        "caffe",
        description="caffe: biases and norms learn twice as fast and do not decay (DeepLab-v2); plain: all parameters alike "
        "(PSPNet); segformer: norms do not decay",
    )

    @field_validator("segmenter")
    @classmethod
    def _is_known(cls, name: str) -> str:
        known = ["head", *SEGMENTERS]
        if name.startswith(PREFIX):
            known = [PREFIX + decoder for decoder in smp_decoders()]
        if name not in known:
            raise ValueError(f"there is no segmenter {name!r}; there are {', '.join(known)}, and {PREFIX}<Decoder>")
        return name

    @field_validator("multi_scale")
    @classmethod
    def _makes_sense(cls, scales: tuple[float, ...]) -> tuple[float, ...]:
        if any(not 0.1 <= scale <= 4 or scale == 1 for scale in scales):
            raise ValueError("the scales should lie between 0.1 and 4; 1 is always read and is not named")
        return scales


class LastStageHead(SegHead):
    """The head of RRM and ASDT, reading the last of the stages it is given."""

    def forward(self, stages: Sequence[Tensor], seed_B: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """Logits (B, K, h, w)."""
        return super().forward(stages[-1])


class Supervised(Method):
    """A backbone and a segmenter under the mean cross-entropy of masks, 255 ignored; the only branch is P_s."""

    Settings: ClassVar[type[MethodSettings]] = SupervisedSettings
    settings: SupervisedSettings
    needs_masks: ClassVar[bool] = True
    own_photos: ClassVar[str | None] = "photos-segmenter"
    meanings: ClassVar[Mapping[str, str]] = {"P_s": "segmenter"}
    cam_name: ClassVar[str] = ""

    def __init__(self, backbone: Backbone, classes: tuple[str, ...], settings: SupervisedSettings) -> None:
        super().__init__(backbone, classes)
        self.settings = settings
        options = HeadOptions(settings.hidden, settings.dilation, settings.dropout)
        head: nn.Module
        if settings.segmenter == "head":
            head = LastStageHead(backbone.channels, settings.hidden, self.num_classes, settings.dilation)
        else:
            head = create_segmenter(settings.segmenter, backbone, self.num_classes, options)
        self.heads = nn.ModuleDict({"student": head})
        if settings.segmenter == "pspnet" and settings.aux_weight > 0:
            self.heads["aux"] = AuxiliaryHead(backbone.stage_channels[-2], self.num_classes)
        self.multiple = head.multiple if isinstance(head, SmpDecoder) else 1
        self._confidence: dict[str, float] | None = None
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = settings.norm_momentum

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """The mean cross-entropy over labelled pixels; with further scales one for each, on its grid, and the maximum's."""
        assert batch.mask_BHW is not None
        image_B3HW = batch.image()
        stages = self.stages(image_B3HW)
        logit_BKhw = self.decode("student", stages, batch.size, batch.seed_B)
        terms = {}
        if not self.settings.multi_scale:
            terms["student labels"] = self.cross_entropy(upsample(logit_BKhw, batch.size), batch)
        else:
            scaled = self.scaled_logits(image_B3HW, logit_BKhw, batch.seed_B)
            for name, logits in scaled.items():
                terms[f"student labels, {name}"] = self.cross_entropy(logits.float(), batch)
        if "aux" in self.heads:
            aux_BKHW = upsample(self.decode("aux", stages, batch.size, batch.seed_B), batch.size)
            terms["aux labels"] = self.settings.aux_weight * self.cross_entropy(aux_BKHW, batch)
        return terms

    def stages(self, image_B3HW: Tensor) -> tuple[Tensor, ...]:
        """The backbone's stages of photos, continued at the border to the multiple of pixels that the segmenter needs."""
        height, width = image_B3HW.shape[-2:]
        right, below = -width % self.multiple, -height % self.multiple
        if right or below:
            image_B3HW = F.pad(image_B3HW, (0, right, 0, below), mode="replicate")
        return self.backbone.stages(image_B3HW)

    def decode(
        self, head: str, stages: Sequence[Tensor], size: tuple[int, int], seed_B: Tensor | None = None
    ) -> Tensor:
        """Logits (B, K, h, w) of a head for photos of a size (H, W): on its grid, or at that size where they were continued."""
        logit_BKhw = self.heads[head](stages, seed_B)
        if self.multiple == 1:
            return logit_BKhw
        height, width = (side + -side % self.multiple for side in size)
        return upsample(logit_BKhw, (height, width))[..., : size[0], : size[1]]

    def scaled_logits(self, image_B3HW: Tensor, logit_BKhw: Tensor, seed_B: Tensor | None = None) -> dict[str, Tensor]:
        """Logits of every scale on its own grid, and their element-wise maximum on that of scale 1 (DeepLab-v2)."""
        height, width = image_B3HW.shape[-2:]
        grid = (logit_BKhw.shape[-2], logit_BKhw.shape[-1])
        logits = {"scale 1": logit_BKhw}
        for scale in self.settings.multi_scale:
            size = (max(round(height * scale), 1), max(round(width * scale), 1))
            view = F.interpolate(image_B3HW, size, mode="bilinear", align_corners=False)
            logits[f"scale {scale:g}"] = self.decode("student", self.stages(view), size, seed_B)
        logits["maximum"] = torch.stack([upsample(each, grid) for each in logits.values()]).amax(0)
        return logits

    def cross_entropy(self, logit_BKhw: Tensor, batch: Batch) -> Tensor:
        """The mean over labelled pixels, masks resized to the logits' grid by nearest neighbour; photos weighted if asked."""
        assert batch.mask_BHW is not None
        label_Bhw, grid = batch.mask_BHW, logit_BKhw.shape[-2:]
        if label_Bhw.shape[-2:] != grid:
            label_Bhw = F.interpolate(label_Bhw[:, None].float(), grid, mode="nearest-exact")[:, 0]
        loss_Bhw = F.cross_entropy(logit_BKhw, label_Bhw.long(), ignore_index=IGNORE, reduction="none")
        if self.settings.confidence is not None:
            loss_Bhw = self.photo_weights(batch)[:, None, None] * loss_Bhw
        return labelled_mean(loss_Bhw, label_Bhw, self.settings.foreground)

    def photo_weights(self, batch: Batch) -> Tensor:
        """The confidence of each photo (B,), 1 with a true mask. Raises UserError where the table has none for it."""
        assert self.settings.confidence is not None
        if self._confidence is None:
            self._confidence = read_confidence(self.settings.confidence)
        true = [False] * len(batch) if batch.true_B is None else batch.true_B.tolist()
        known = self._confidence | {name: 1.0 for name, sure in zip(batch.names, true, strict=True) if sure}
        missing = [name for name in batch.names if name not in known]
        if missing:
            raise UserError(
                f"{self.settings.confidence} has no confidence for {missing[0]}: add a row for every photo."
            )
        return torch.tensor([known[name] for name in batch.names], device=batch.photo_B3HW.device)

    def segment(self, image_B3HW: Tensor) -> Tensor:
        """The segmenter's probabilities, with further scales those of the element-wise maximum."""
        return self.segment_logits(image_B3HW).softmax(1)

    def segment_logits(self, image_B3HW: Tensor) -> Tensor:
        """The segmenter's logits, with further scales their element-wise maximum."""
        size = (image_B3HW.shape[-2], image_B3HW.shape[-1])
        logit_BKhw = self.decode("student", self.stages(image_B3HW), size)
        if self.settings.multi_scale:
            logit_BKhw = self.scaled_logits(image_B3HW, logit_BKhw)["maximum"]
        return upsample(logit_BKhw, size)

    def branches(self, image_B3HW: Tensor, tag_BC: Tensor | None = None) -> dict[str, Tensor]:
        """The only branch, P_s."""
        return {"P_s": self.segment(image_B3HW)}

    def cams(self, image_B3HW: Tensor) -> Tensor:
        """No class-teacher here: the probabilities of the classes, each divided by its maximum."""
        return normalise_cam(self.segment(image_B3HW)[:, 1:])

    def parameter_groups(self) -> list[ParameterGroup]:
        """Backbone x1, heads x `head_lr_scale`, their biases and norms as `groups` says."""
        scale = self.settings.head_lr_scale
        if self.settings.groups == "caffe":
            return parameter_groups(self.backbone, self.heads, scale)
        return plain_groups(self.backbone, self.heads, scale, norms_decay=self.settings.groups == "plain")


def read_confidence(path: Path) -> dict[str, float]:
    """Confidence by photo from a CSV table `file,confidence`; a file's suffix is left out, as in photos' names.

    Raises UserError for a missing file or column, and a value that is no number from 0 to 1.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"method.confidence: {path} cannot be read ({error}).") from error
    found = {}
    for number, row in enumerate(rows, start=2):
        name, text = row.get("file"), row.get("confidence")
        if name is None or text is None:
            raise UserError(f"{path}, line {number}: the table needs the columns file and confidence.")
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 <= value <= 1:
            raise UserError(f"{path}, line {number}: the confidence {text!r} of {name} should be a number from 0 to 1.")
        found[stem(path_of_cell(name))] = value
    return found
