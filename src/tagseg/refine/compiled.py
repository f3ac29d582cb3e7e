"""Whether the compiled kernels can be used here.

They build on numba's low-level interface, which a new numba may change: then torch's form of the lattice takes over.
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np


@cache
def compiled_works() -> bool:
    """Whether a tiny photo comes through the compiled dense CRF; where not, one warning says why.

    The kernels it compiles or loads are those that the next photo needs, so that the question costs next to nothing.
    """
    from tagseg.refine.crf import dense_crf

    try:
        photo_HW3: Any = np.zeros((2, 3, 3), np.uint8)
        half_LHW: Any = np.full((2, 2, 3), 0.5, np.float32)
        maps_LHW: Any = dense_crf(photo_HW3, half_LHW, backend="numba")
        if not np.allclose(maps_LHW, 0.5, atol=1e-3):
            raise RuntimeError(f"equal probabilities became {maps_LHW.min():.3g} to {maps_LHW.max():.3g}")
    except Exception as error:  # numba, llvmlite and an install that is broken raise errors of every kind
        line = (str(error).strip().splitlines() or [""])[0][:200]
        warnings.warn(
            f"The dense CRF runs on torch, several times slower: numba cannot compile it ({type(error).__name__}: {line}). "
            "Install a numba of the range that tagseg names.",
            RuntimeWarning,
            stacklevel=2,
        )
        return False
    return True
