"""Feature extractors under one contract: our own by name, any other name from timm."""

from tagseg.backbones.backbone import Backbone
from tagseg.backbones.create import BACKBONES, create_backbone

__all__ = ["BACKBONES", "Backbone", "create_backbone"]
