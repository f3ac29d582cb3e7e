"""Which device computes, and what is said when its memory does not suffice."""

from __future__ import annotations

import platform
from functools import cache

import torch

from tagseg.cores import limit_torch
from tagseg.errors import UserError

AUTO = "auto"


def choose_device(name: str | torch.device | None = AUTO) -> torch.device:
    """The device by its name: auto, cpu, cuda, cuda:N or mps; auto takes a CUDA GPU where there is one, else the CPU.

    torch is held to the cores that this process may use, which it does not know in a container with a quota.
    Raises UserError for a name that is none, and for a device that this machine or this torch lacks.
    """
    limit_torch()
    if name is None or name == AUTO:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError, ValueError) as error:
        raise UserError(f"There is no device {name!r}: choose auto, cpu, cuda, cuda:N or mps.") from error
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not count:
            why = (
                "this torch was built without CUDA" if torch.version.cuda is None else "torch finds no NVIDIA GPU here"
            )
            raise UserError(f"--device {device} cannot be used: {why}; choose auto or cpu.")
        if device.index is not None and device.index >= count:
            raise UserError(f"--device {device} cannot be used: the last GPU here is cuda:{count - 1}.")
    elif device.type == "mps":
        if not torch.backends.mps.is_available():
            raise UserError("--device mps cannot be used: it needs macOS on Apple silicon; choose auto or cpu.")
    elif device.type != "cpu":
        raise UserError(f"There is no device {name!r}: choose auto, cpu, cuda, cuda:N or mps.")
    return device


@cache
def computes_bfloat16(device_type: str) -> bool:
    """Whether bfloat16 is faster than float32 on a type of device: every accelerator, and a CPU with instructions for it.

    Other CPUs emulate it, several times slower than float32.
    """
    if device_type != "cpu":
        return True
    if platform.machine().lower() in ("x86_64", "amd64"):
        return bool(torch.cpu._is_avx512_bf16_supported())
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device, or the machine, has no memory left."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    words = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        phrase in words for phrase in ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")
    )


def memory_sentence(what: str, device: torch.device, advice: str) -> str:
    """That something does not fit into a device's memory, and what can be done."""
    where = "this machine" if device.type == "cpu" else f"the device {device}"
    other = "" if device.type == "cpu" else ", or --device cpu"
    return f"{what} does not fit into the memory of {where}: try {advice}{other}."
