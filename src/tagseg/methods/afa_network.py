"""What TSCD and BMP inherit from AFA: classifier, SegFormer decoder, affinity head, and labels refined from the CAM.

Shapes: B photos, C classes, K = C + 1, F feature channels, H W pixels, h w feature grid, N = h w, M attention maps.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol, Self, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from tagseg.backbones.backbone import Backbone
from tagseg.cues.cam import summed_cam
from tagseg.cues.cam_labels import CamLabelSettings, cam_labels, refined_cam
from tagseg.cues.views import SMALLEST_VIEW, min_max
from tagseg.data.batch import Batch
from tagseg.decoders import SegFormerHead
from tagseg.distributed import rank
from tagseg.losses import affinity_labels, affinity_loss, tag_loss
from tagseg.methods.heads import AffinityHead, ClassHead, predicted_tags, without_trace
from tagseg.methods.method import Method, MethodSettings, ParameterGroup, cam_precision_before, scaled_steps
from tagseg.precision import Precision
from tagseg.refine.settings import Refinement
from tagseg.resize import size_of, upsample
from tagseg.settings import Channels, Scales, Steps, Weight

log = logging.getLogger(__name__)

SHARPNESS = 5.0  # of the soft maximum: 0 gives the mean, infinity the maximum


class WithAttention(Protocol):
    """What a backbone offers besides its stages for the affinities to be learned.

    attention_maps: M, of the blocks that are read.
    """

    attention_maps: int

    def stages_with_attention(self, image_B3HW: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """The stages, and attention logits (B, M, N, N) before scaling and softmax."""


class AFANetworkSettings(MethodSettings):
    """What TSCD and BMP set alike."""

    GONE: ClassVar[Mapping[str, object]] = {"class_weight": 1.0}

    hidden: Channels = Field(256, description="channels inside the decoder")
    dropout: float = Field(0.1, ge=0, lt=1, description="Dropout2d before the decoder's last layer")
    pooling: Literal["max", "mean", "soft"] = Field(
        "max",
        description="over the photo, before the classifier: of features, their maximum or mean; soft: of each class's scores, "
        "their soft maximum, for objects much smaller than a photo (Pinheiro and Collobert 2015)",
    )
    cam_scales: Scales = Field((1.0, 0.5, 1.5), min_length=1, description="scales of the CAM")
    cam_flip: bool = Field(True, description="whether the CAM sees the mirrored photo too")
    cam_precision: Precision | None = Field(
        None, description="of the CAM's views; bf16 is faster where the processor has it; none: training's"
    )
    labels: CamLabelSettings = CamLabelSettings()
    class_steps: Steps = Field(2000, description="steps at the start that train the classifier alone")
    affinity_weight: Weight = 0.1
    head_lr_scale: Weight = Field(10.0, gt=0, description="learning rate of the heads against the backbone's")

    @classmethod
    def _before(cls, given: dict[str, Any], say: Callable[[str], object]) -> dict[str, Any]:
        return cam_precision_before(given, say)

    @property
    def light_steps(self) -> int:
        """Those of the classifier alone."""
        return self.class_steps

    def scaled(self, factor: float) -> Self:
        """The steps of the classifier alone follow."""
        return self.model_copy(update={"class_steps": scaled_steps(self.class_steps, factor)})


class AFANetwork(Method):
    """A classifier on the pooled last stage, a SegFormer decoder over all stages, affinities from attention.

    On a backbone that offers no attention maps there is no affinity head, and training says so.
    """

    Settings: ClassVar[type[MethodSettings]] = AFANetworkSettings
    meanings: ClassVar[Mapping[str, str]] = {
        "CAM": "the classifier's CAM",
        "CAM+PAR": "the CAM refined by PAR",
        "CAM+VARM": "the CAM refined by VARM",
        "P_s": "segmentation branch",
    }
    settings: AFANetworkSettings
    symmetric_affinity: ClassVar[bool] = True

    def __init__(self, backbone: Backbone, classes: tuple[str, ...], settings: AFANetworkSettings) -> None:
        super().__init__(backbone, classes)
        self.settings = settings
        # Named as the class-teacher's, so that its weights can be what training starts from.
        self.heads = nn.ModuleDict({"class": ClassHead(backbone.channels, len(classes), dropout=0.0)})
        self.decoder = SegFormerHead(
            backbone.stage_channels,
            backbone.stage_strides,
            self.num_classes,
            hidden=settings.hidden,
            dropout=settings.dropout,
        )
        maps = getattr(backbone, "attention_maps", 0)
        self.affinity_head = AffinityHead(maps, symmetric=self.symmetric_affinity) if maps else None
        self._said = False

    @property
    def classifier(self) -> nn.Conv2d:
        """The classifier as a 1x1 convolution: at every cell it gives the CAM."""
        head = self.heads["class"]
        assert isinstance(head, ClassHead)
        return head.classifier

    def read(self, image_B3HW: Tensor) -> tuple[tuple[Tensor, ...], Tensor | None]:
        """The stages of photos, and their affinities (B, N, N) where the backbone has attention maps."""
        if self.affinity_head is None:
            self._say_no_affinity()
            return self.backbone.stages(image_B3HW), None
        stages, attention_BMNN = cast(WithAttention, self.backbone).stages_with_attention(image_B3HW)
        return stages, self.affinity_head(attention_BMNN)

    def _say_no_affinity(self) -> None:
        if not self._said and self.training and rank() == 0 and self.settings.affinity_weight > 0:
            log.warning(
                "%s offers no attention maps: %s trains without its affinity term.",
                self.backbone.name,
                type(self).__name__,
            )
            self._said = True

    def tag_logits(self, feature_BFhw: Tensor) -> Tensor:
        """Logits (B, C) of the tags."""
        if self.settings.pooling == "soft":
            score_BCn = self.classifier(feature_BFhw).float().flatten(2)
            # counted by torch: a graph that is exported would hold the number of one size of photos for all
            cells = torch.ones_like(score_BCn[:1, :1]).sum(2)
            return ((SHARPNESS * score_BCn).logsumexp(2) - cells.log()) / SHARPNESS
        pool = F.adaptive_max_pool2d if self.settings.pooling == "max" else F.adaptive_avg_pool2d
        return self.classifier(pool(feature_BFhw, 1)).flatten(1).float()

    def photo_logits(self, image_B3HW: Tensor) -> Tensor | None:
        """Logits (B, C) of the tags of whole photos."""
        return self.tag_logits(self.backbone(image_B3HW))

    def class_loss(self, batch: Batch, feature_BFhw: Tensor) -> Tensor:
        """The loss of the tags."""
        return tag_loss(self.tag_logits(feature_BFhw), batch.tag_BC)

    @torch.no_grad()
    def view_cams(self, image_B3HW: Tensor, feature_BFhw: Tensor | None = None) -> Tensor:
        """CAMs over scales and mirror images (B, C, H, W) in [0, 1), all classes, without gradient (AFA).

        feature_BFhw: of the photo itself, where it is already there.
        """

        def activation(view_B3HW: Tensor) -> Tensor:
            return self.classifier(self.backbone(view_B3HW))

        settings = self.settings
        known_BChw = None if feature_BFhw is None else self.classifier(feature_BFhw)
        with without_trace(self.backbone):
            summed_BCHW = summed_cam(
                activation,
                image_B3HW,
                settings.cam_scales,
                settings.cam_flip,
                known_BChw,
                smallest=SMALLEST_VIEW,
                precision=settings.cam_precision,
            )
        return min_max(summed_BCHW)

    def cam_labels(self, batch: Batch, image_B3HW: Tensor, cam_BCHW: Tensor) -> Tensor:
        """Labels (B, H, W) uint8 from the CAM refined by the photo, 255 where it is not sure and in padding."""
        label_BHW = cam_labels(
            image_B3HW, cam_BCHW, batch.tag_BC, batch.valid_BHW, self.settings.labels, most=batch.most_tags
        )
        return batch.with_true(label_BHW)

    def affinity_terms(self, affinity_BNN: Tensor | None, label_BHW: Tensor, grid: Sequence[int]) -> dict[str, Tensor]:
        """The weighted affinity loss under labels; nothing on a backbone without attention maps."""
        if affinity_BNN is None or self.settings.affinity_weight == 0:
            return {}
        pair_BNN = affinity_labels(label_BHW, (grid[0], grid[1]))
        return {"affinity": self.settings.affinity_weight * affinity_loss(affinity_BNN, pair_BNN)}

    def seg_logits(self, stages: Sequence[Tensor], size: tuple[int, int], seed_B: Tensor | None = None) -> Tensor:
        """Logits (B, K, H, W) of the segmentation branch."""
        return upsample(self.decoder(stages, seed_B), size)

    def segment(self, image_B3HW: Tensor) -> Tensor:
        """The segmentation branch's probabilities."""
        return self.segment_logits(image_B3HW).softmax(1)

    def segment_logits(self, image_B3HW: Tensor) -> Tensor:
        """The segmentation branch's logits."""
        return self.seg_logits(self.backbone.stages(image_B3HW), size_of(image_B3HW))

    def branches(self, image_B3HW: Tensor, tag_BC: Tensor | None = None) -> dict[str, Tensor]:
        """The CAM against one background score, the same refined by PAR and VARM, and the segmentation branch P_s."""
        stages = self.backbone.stages(image_B3HW)
        if tag_BC is None:
            tag_BC = predicted_tags(self.tag_logits(stages[-1]))
        masks = self.cam_branches(image_B3HW, self.view_cams(image_B3HW, stages[-1]), tag_BC)
        return masks | {"P_s": self.seg_logits(stages, size_of(image_B3HW)).softmax(1)}

    def cam_branches(self, image_B3HW: Tensor, cam_BCHW: Tensor, tag_BC: Tensor) -> dict[str, Tensor]:
        """Probabilities (B, K, H, W) of the CAM against one background score, plain and refined by PAR and VARM."""
        labels = self.settings.labels
        kinds: dict[str, Refinement] = {"CAM": "none", "CAM+PAR": "par", "CAM+VARM": "varm"}
        return {
            name: refined_cam(
                image_B3HW, cam_BCHW, tag_BC, labels.refiner(kind), labels.mask_background_score, labels.scale
            )
            for name, kind in kinds.items()
        }

    def cams(self, image_B3HW: Tensor) -> Tensor:
        """CAMs over scales and mirror images (B, C, H, W), each between its minimum and maximum."""
        return self.view_cams(image_B3HW)

    def parameter_groups(self) -> list[ParameterGroup]:
        """Backbone x1, heads x10; frozen parameters are left out."""
        groups: list[ParameterGroup] = []
        heads = [self.heads, self.decoder, *([self.affinity_head] if self.affinity_head else [])]
        for name, modules, scale in (("backbone", [self.backbone], 1.0), ("heads", heads, self.settings.head_lr_scale)):
            params = [p for module in modules for p in module.parameters() if p.requires_grad]
            if params:
                groups.append({"name": name, "params": params, "lr_scale": scale, "weight_decay_scale": 1.0})
        return groups
