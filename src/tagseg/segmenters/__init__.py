"""Heads and networks that turn a backbone's stages into class logits."""

from __future__ import annotations

from tagseg.segmenters.segformer_head import SegFormerHead

__all__ = ["SegFormerHead"]
