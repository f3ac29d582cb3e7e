"""Sums over all processes, so that a batch spread over them gives the loss of the whole batch."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """How many processes train together; 1 without torch.distributed."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The number of this process, 0 when it is alone."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def global_sum(value: Tensor) -> Tensor:
    """The sum of `value` over all processes, without gradient."""
    value = value.detach().clone()
    if world_size() > 1:
        dist.all_reduce(value)
    return value


def global_mean(sum_: Tensor, count: Tensor) -> Tensor:
    """A mean over the global batch from this process's sum (with gradient) and count; 0 where the count is 0.

    Training averages gradients over processes, so the local share is scaled by their number.
    """
    total = global_sum(count.to(torch.float32)).clamp(min=1)
    return sum_ * world_size() / total
