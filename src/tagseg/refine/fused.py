"""Whether kernels written in Triton serve a tensor: one launch does what takes plain torch dozens to hundreds.

Triton comes with torch on Linux. Its kernels run on CUDA devices; on a CPU only its interpreter runs them
(TRITON_INTERPRET=1), slowly, for tests.
"""

from __future__ import annotations

import os
from functools import lru_cache
from importlib.util import find_spec

import torch

from tagseg.errors import UserError

SWITCH = "TAGSEG_TRITON"
DEFAULT = "1"


@lru_cache(maxsize=1)
def _installed() -> bool:
    return find_spec("triton") is not None


def serves(device: torch.device) -> bool:
    """Whether Triton kernels are the way on a device; the environment's TAGSEG_TRITON=0 or 1 decides otherwise."""
    wish = os.environ.get(SWITCH, DEFAULT)
    if wish not in ("0", "1"):
        raise UserError(f"{SWITCH} is {wish!r}: set it to 1 for the Triton kernels or to 0 for plain torch.")
    return wish == "1" and device.type == "cuda" and torch.version.hip is None and _installed()


def batched(device: torch.device) -> bool:
    """Whether photos of a batch are worked at together, by few launches and without asking: anywhere but on a CPU.

    A CPU works at one photo after another, each small enough for its caches.
    """
    return device.type != "cpu"


def check(device: torch.device) -> None:
    """Raise UserError where a device cannot run them although they were asked for by name."""
    interpreted = device.type == "cpu" and os.environ.get("TRITON_INTERPRET") == "1"
    if not _installed() or (device.type != "cuda" and not interpreted):
        raise UserError(f"backend 'triton' works on CUDA devices with Triton installed, not on {device}; use 'torch'.")
