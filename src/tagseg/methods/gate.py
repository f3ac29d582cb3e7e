"""The classifier's word at test: a class that it rules out is not painted (ideas: a gate, without masks).

Shapes: B photos, C classes, K = C + 1, H W pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from tagseg.settings import Settings


class GateSettings(Settings):
    """How far the classifier's word counts in a photo without tags; at power 0 and background 1 it does not."""

    power: float = Field(
        2.0, ge=0, le=100, description="a class's probability is multiplied by the classifier's to this power"
    )
    tagged_background: float = Field(
        1.0, gt=0, le=1, description="what background counts where the classifier is sure that there is some class"
    )

    @property
    def open(self) -> bool:
        """Whether the classifier has no say."""
        return self.power == 0 and self.tagged_background == 1


def gated(logit_BKHW: Tensor, tag_logit_BC: Tensor, gate: GateSettings) -> Tensor:
    """Logits in which the classifier rules classes out, and lets background count less where it is sure of one."""
    if gate.open:
        return logit_BKHW
    none_B1 = F.logsigmoid(-tag_logit_BC).sum(1, keepdim=True).exp()
    background_B1 = (gate.tagged_background + (1 - gate.tagged_background) * none_B1).log()
    change_BK = torch.cat([background_B1, gate.power * F.logsigmoid(tag_logit_BC)], 1)
    return logit_BKHW + change_BK[:, :, None, None]
