"""Compile for a GPU, on a machine that has none, every kernel that the ways of `tagseg.refine` launch.

The interpreter takes Python that the compiler refuses. Run as a script without TRITON_INTERPRET; it prints one line a
kernel. Nothing is launched, so whatever the kernels should have written is not there.
"""

import sys
from typing import Any

import numpy as np
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

TYPES = {torch.float32: "*fp32", torch.int32: "*i32", torch.int64: "*i64", torch.uint8: "*u8"}
TARGET = GPUTarget("cuda", 90, 32)
OPTIONS = ("num_warps", "num_stages", "enable_fp_fusion", "grid", "warmup")
seen: set[tuple[Any, ...]] = set()


def compiled(self: JITFunction, *args: Any, grid: Any, warmup: bool = False, **kwargs: Any) -> None:
    """In the place of a launch: compile for these arguments."""
    options = {name: kwargs.pop(name) for name in list(kwargs) if name in OPTIONS}
    values = dict(zip(self.arg_names, args, strict=False)) | kwargs
    signature, constants = {}, {}
    for parameter in self.params:
        value = values[parameter.name]
        one = isinstance(value, int) and value == 1 and not parameter.do_not_specialize
        if parameter.is_constexpr or one:
            signature[parameter.name], constants[(parameter.num,)] = "constexpr", value
        elif isinstance(value, torch.Tensor):
            signature[parameter.name] = TYPES[value.dtype]
        else:
            signature[parameter.name] = "fp32" if isinstance(value, float) else "i32"
    key = (self.fn.__name__, tuple(signature.items()), tuple(constants.items()))
    if key not in seen:
        seen.add(key)
        triton.compile(ASTSource(self, signature, constants), target=TARGET, options=options)
        print(self.fn.__name__, flush=True)


def main() -> int:
    """Go the ways."""
    JITFunction.run = compiled  # type: ignore[method-assign]
    from tagseg.refine import crf, mean_field_triton, pixel_adaptive_triton
    from tagseg.refine.features import batch_features
    from tagseg.refine.lattice_triton import TritonLattice

    image = torch.rand(2, 3, 6, 7)
    for kind in ("par", "varm"):
        pixel_adaptive_triton.refine(image, torch.rand(2, 3, 6, 7), kind, 1)
        pixel_adaptive_triton.refine(image, torch.rand(2, 1, 6, 7), kind, 1, torch.tensor([[6, 7], [5, 5]]).int())
    photos = [torch.from_numpy(np.random.default_rng(n).integers(0, 256, (6, 7, 3)).astype(np.uint8)) for n in range(2)]
    features = batch_features(photos, 5.0, 13.0)
    TritonLattice(features.value_ND, features.bounds, features.photo_N, 2).filter(torch.rand(84, 4))
    for gaussian in ((3.0, 3.0), None):
        settings = crf.Settings(gaussian, (5.0, 13.0, 1.0), 2, "logits", ("symmetric",) * 2, None, False)
        given = [crf.Photo(one, torch.rand(5, 6, 7), None, None) for one in photos]
        mean_field_triton.mean_field_batch(given, settings)
    return 0


if __name__ == "__main__":
    sys.exit(main())
