"""Whether kernels written in Triton serve a tensor: one launch does what takes plain torch dozens to hundreds.

Triton comes with torch on Linux. Its kernels run on CUDA devices; on a CPU only its interpreter runs them
(TRITON_INTERPRET=1), slowly, for tests.
"""

from __future__ import annotations

import os
import warnings
from functools import cache, lru_cache
from importlib.util import find_spec
from typing import Literal

import torch

from tagseg.errors import UserError

SWITCH = "TAGSEG_TRITON"


@lru_cache(maxsize=1)
def _installed() -> bool:
    return find_spec("triton") is not None


def serves(device: torch.device) -> bool:
    """Whether Triton kernels are the way on a device: on CUDA, where a first try on it succeeds.

    The environment's TAGSEG_TRITON decides otherwise: 0 for plain torch, 1 for Triton without a try.
    """
    wish = os.environ.get(SWITCH)
    if wish not in (None, "0", "1"):
        raise UserError(f"{SWITCH} is {wish!r}: set it to 1 for the Triton kernels or to 0 for plain torch.")
    if wish == "0" or device.type != "cuda" or torch.version.hip is not None or not _installed():
        return False
    return wish == "1" or _works(device)


@cache
def _works(device: torch.device) -> bool:
    """Whether tiny photos come through the kernels as through plain torch; where not, one warning says why."""
    from tagseg.refine import PixelAdaptive, dense_crf

    try:
        image_HW3 = torch.arange(90, device=device).view(5, 6, 3).to(torch.uint8)
        maps_LHW = torch.linspace(0, 1, 60, device=device).view(2, 5, 6)
        image_13HW = image_HW3.permute(2, 0, 1)[None] / 255
        plain, kernel = (dense_crf(image_HW3, maps_LHW, iterations=2, backend=way) for way in ("torch", "triton"))
        ways: tuple[Literal["torch", "triton"], ...] = ("torch", "triton")
        by_torch, by_triton = (PixelAdaptive("par", 2, way)(image_13HW, maps_LHW[None]) for way in ways)
        if not (torch.allclose(plain, kernel, atol=1e-3) and torch.allclose(by_torch, by_triton, atol=1e-4)):
            raise RuntimeError("their results differ from plain torch's")
    except Exception as error:  # a compiler, a driver and an install that is broken raise errors of every kind
        line = (str(error).strip().splitlines() or [""])[0][:200]
        warnings.warn(
            f"CRF, PAR and VARM run on plain torch, several times slower: their Triton kernels fail on {device} "
            f"({type(error).__name__}: {line}).",
            RuntimeWarning,
            stacklevel=2,
        )
        return False
    return True


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
