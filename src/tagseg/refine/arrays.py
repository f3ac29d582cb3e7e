"""Images and maps as a caller of the dense CRF holds them, in a form that every kernel takes.

Shapes: H W pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tagseg.errors import UserError
from tagseg.refine.tensors import is_tensor

if TYPE_CHECKING:
    from torch import Tensor


class Taken:
    """Turns what callers give into plain arrays and tensors; what is given twice is turned once and stays one object."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, Any]] = {}  # the given one too: while it lives, no other has its id

    def __call__(self, given: Any, what: str) -> np.ndarray | Tensor:
        """An array of native numbers in C order, or a dense tensor that numpy could hold.

        given: an array of any layout and byte order, a tensor, a PIL image (turned upright by its EXIF), or anything
        that numpy takes. what: its name in messages. Raises UserError for what holds no numbers.
        """
        if id(given) not in self._known:
            self._known[id(given)] = given, _taken(given, what)
        return self._known[id(given)][1]


def _taken(given: Any, what: str) -> np.ndarray | Tensor:
    if is_tensor(given):
        import torch

        if given.layout != torch.strided or given.is_quantized or given.is_complex():
            raise UserError(f"{what} must be a dense tensor of real numbers, not {given.dtype} in {given.layout}.")
        given = given.detach()
        return given.float() if given.dtype in (torch.bfloat16, torch.float16) else given
    if not isinstance(given, np.ndarray):
        given = _array(given, what)
    if given.dtype.kind not in "buif":
        raise UserError(f"{what} must hold numbers, not {given.dtype}.")
    native = given.dtype.newbyteorder("=")
    if given.dtype.kind == "f" and given.dtype.itemsize not in (4, 8):
        native = np.dtype(np.float32 if given.dtype.itemsize < 4 else np.float64)  # halves and long doubles
    return np.require(given, dtype=native, requirements=("C", "A", "W"))


def _array(given: Any, what: str) -> np.ndarray:
    from PIL import Image, ImageOps  # only those who give a PIL image need it here

    if isinstance(given, Image.Image):
        try:
            upright = ImageOps.exif_transpose(given)
            if upright.mode not in ("L", "RGB", "F", "I", "I;16"):
                upright = upright.convert("RGB")
            return np.array(upright)
        except Exception as error:  # a decoder may raise anything at all on a broken file
            raise UserError(f"{what} is a PIL image that cannot be read ({error}); open it anew.") from error
    if hasattr(given, "__array__"):  # of another library
        return np.asarray(given)
    raise UserError(
        f"{what} must be a numpy array, a torch tensor{' or a PIL image' if what == 'image' else ''}, "
        f"not {type(given).__name__}."
    )
