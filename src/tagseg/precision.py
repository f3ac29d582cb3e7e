"""Precision: float32, or bfloat16 under autocast while weights and sums stay float32."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

from tagseg.devices import computes_bfloat16

Precision = Literal["fp32", "bf16"]


def computing_in(precision: Precision | None, device: torch.device) -> AbstractContextManager[object]:
    """bfloat16 autocast for "bf16", if that is faster on this device, float32 for "fp32"; else what is in force already."""
    if precision == "bf16" and computes_bfloat16(device.type):
        return torch.autocast(device.type, torch.bfloat16)
    inside = precision == "fp32" and torch.is_autocast_enabled(device.type)
    return torch.autocast(device.type, enabled=False) if inside else nullcontext()
