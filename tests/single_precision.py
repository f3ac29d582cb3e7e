"""What a device without double precision refuses, on a CPU."""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class SinglePrecision(TorchDispatchMode):
    """Refuses every operation that gives double precision, as an MPS device does."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = [value for value in tree_leaves(result) if isinstance(value, torch.Tensor)]
        if any(value.dtype == torch.float64 for value in given):
            raise TypeError(f"{func} gives float64")
        return result
