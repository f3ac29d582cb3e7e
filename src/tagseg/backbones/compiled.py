"""A backbone compiled for training: its many small kernels become few.

Shapes: B photos, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from tagseg.backbones.backbone import Backbone

SIZES = 32  # of views a step may read, with and without gradient; beyond that torch goes back to plain kernels


def compile_for_training(backbone: Backbone) -> None:
    """Compile what the methods read of a backbone, for each size of view anew; in evaluation it stays plain.

    Photos to evaluate have any size, and each would be compiled for.
    """
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, SIZES)
    for name in ("stages", "stages_with_attention"):
        plain = getattr(backbone, name, None)
        if plain is not None:
            setattr(backbone, name, _in_training(backbone, plain))


def _in_training(backbone: Backbone, plain: Callable[..., Any]) -> Callable[..., Any]:
    compiled = torch.compile(plain, dynamic=False)

    def read(*args: Any, **kwargs: Any) -> Any:
        return compiled(*args, **kwargs) if backbone.training else plain(*args, **kwargs)

    return read
