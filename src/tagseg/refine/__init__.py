"""Refining maps by their photo: dense CRF, dense energy loss, permutohedral lattice, pixel-adaptive refinement.

Nothing is imported before its name is used, so that `import tagseg.refine` doesn't wait for numba.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tagseg.refine.crf import dense_crf
    from tagseg.refine.energy import dense_energy
    from tagseg.refine.lattice import Lattice
    from tagseg.refine.pixel_adaptive import PixelAdaptive
    from tagseg.refine.unary import probabilities_from_labels

_HOME = {
    "Lattice": "tagseg.refine.lattice",
    "dense_crf": "tagseg.refine.crf",
    "probabilities_from_labels": "tagseg.refine.unary",
    "dense_energy": "tagseg.refine.energy",
    "PixelAdaptive": "tagseg.refine.pixel_adaptive",
}
__all__ = ["Lattice", "PixelAdaptive", "dense_crf", "dense_energy", "probabilities_from_labels"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
