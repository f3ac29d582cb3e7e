"""Launches and host reads of some code, counted where there is no GPU: what would each have been one there.

Every operation that computes counts as a launch, a view or an empty tensor does not. A host read is what would make the
host wait for the device: a number, a list or an array made of a tensor, and results whose size depends on values.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from tagseg.refine import fused

FREE = (
    "empty",
    "empty_like",
    "new_empty",
    "empty_strided",
    "detach",
    "alias",
    "lift_fresh",
    "_unsafe_view",
    "_reshape_alias",
)
SIZED_BY_VALUES = (
    "nonzero",
    "masked_select",
    "unique",
    "_unique2",
    "unique_consecutive",
    "unique_dim",
    "is_nonzero",
    "equal",
)
READS = ("item", "tolist", "numpy", "cpu", "__bool__", "__int__", "__float__", "__index__", "__array__")


class Counts:
    """launches and reads: how often, by the name of the operation."""

    def __init__(self) -> None:
        self.launches: Counter[str] = Counter()
        self.reads: Counter[str] = Counter()


class _Launches(TorchDispatchMode):
    def __init__(self, counts: Counts) -> None:
        super().__init__()
        self.counts = counts

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in SIZED_BY_VALUES or (name == "index" and _by_mask(args)):
            self.counts.reads[name] += 1
        if name == "_local_scalar_dense":
            pass  # counted by the name that the code calls
        elif not func.is_view and name not in FREE:
            self.counts.launches[name] += 1
        return func(*args, **(kwargs or {}))


class _Reads(TorchFunctionMode):
    def __init__(self, counts: Counts) -> None:
        super().__init__()
        self.counts = counts

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in READS and isinstance(args[0], Tensor) and sys._getframe(1).f_code.co_name not in HOST_SIDE:
            self.counts.reads[name] += 1
        return func(*args, **(kwargs or {}))


def _by_mask(args: Any) -> bool:
    return any(isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8) for index in args[1])


# Seeds and the boxes drawn from them never leave the host, the count of vertices is on it long before it is read, and these
# weights are made there.
HOST_SIDE = ("generators", "_boxes", "vertices", "position_weights")


@contextmanager
def as_on_a_device(*, triton: bool) -> Iterator[None]:
    """Let the code on a CPU take the ways it takes on a device; with `triton` through Triton's interpreter."""
    before = fused.batched, fused.serves
    fused.batched = lambda device: True
    fused.serves = lambda device: triton
    try:
        yield
    finally:
        fused.batched, fused.serves = before


@contextmanager
def _kernels(counts: Counts) -> Iterator[None]:
    """Count what Triton's interpreter runs as one launch a kernel, however many operations that takes it."""
    try:
        from triton.runtime import interpreter
    except ImportError:
        yield
        return
    run = interpreter.GridExecutor.__call__

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        counts.launches[f"triton {self.fn.__name__}"] += 1
        with _disable_current_modes(), torch._C.DisableTorchFunction():
            return run(self, *args, **kwargs)

    interpreter.GridExecutor.__call__ = counted
    try:
        yield
    finally:
        interpreter.GridExecutor.__call__ = run


@contextmanager
def counting() -> Iterator[Counts]:
    """Count what runs inside, its backward pass included."""
    counts = Counts()
    with ExitStack() as stack:
        stack.enter_context(_kernels(counts))
        stack.enter_context(_Reads(counts))
        stack.enter_context(_Launches(counts))
        yield counts
