"""A photo as a caller holds it: an array of any layout, a tensor, a PIL image, a file's bytes or its path.

Shapes: H W pixels.
"""

from __future__ import annotations

import io
from os import PathLike
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from tagseg.data.photo import photo_of_image, read_photo
from tagseg.errors import UserError

GivenPhoto: TypeAlias = (
    NDArray[np.uint8] | Tensor | Image.Image | bytes | bytearray | memoryview | IO[bytes] | str | PathLike[str]
)
"""What `as_photo` takes."""
KINDS = "a path, a file's bytes, a PIL image, or an (H, W, 3) uint8 RGB array or tensor"


def as_photo(given: Any) -> NDArray[np.uint8]:
    """A photo as uint8 RGB (H, W, 3), in C order, writable where it had to be copied.

    given: a file's path; its bytes, or a stream of them; a PIL image, turned upright by its EXIF;
    an array or tensor (H, W, 3), (H, W, 1) or (H, W) of any memory layout and device; a tensor also as (3, H, W).
    Raises UserError for everything else, with what to do.
    """
    if isinstance(given, str | PathLike):
        return read_photo(Path(given))
    if isinstance(given, bytes | bytearray | memoryview):
        return read_photo(io.BytesIO(given), name=f"of {len(bytes(given)):,} bytes")
    if isinstance(given, Image.Image):
        return photo_of_image(given)
    if callable(getattr(given, "read", None)):
        content = given.read()
        if not isinstance(content, bytes):
            raise UserError("A stream should give bytes: open the photo with mode 'rb'.")
        return as_photo(content)
    if isinstance(given, Tensor):
        given = _array_of_tensor(given)
    elif not isinstance(given, np.ndarray) and hasattr(given, "__array__"):  # of another library
        given = np.asarray(given)
    if not isinstance(given, np.ndarray):
        many = " (many photos: predict_many)" if isinstance(given, list | tuple) else ""
        raise UserError(f"A photo should be {KINDS}, not {type(given).__name__}{many}.")
    return _checked(given)


def check_many(given: Any) -> None:
    """Raise UserError for a single photo where several are needed, which would be taken apart row by row."""
    shape: tuple[int, ...] = tuple(getattr(given, "shape", ()))
    channels_first = isinstance(given, Tensor) and len(shape) == 3 and shape[0] == 3
    single = isinstance(given, str | PathLike | bytes | bytearray | memoryview | Image.Image)
    if single or len(shape) == 2 or (len(shape) == 3 and (shape[-1] in (1, 3, 4) or channels_first)):
        raise UserError("Many photos should be a list or a stream of them, not one photo (one photo: predict).")


def _array_of_tensor(tensor: Tensor) -> Any:
    if tensor.layout != torch.strided or tensor.is_quantized:
        raise UserError("A photo should be a dense tensor: call to_dense() or dequantize() first.")
    tensor = tensor.detach()
    if tensor.ndim == 3 and tensor.shape[2] != 3 and tensor.shape[0] in (1, 3):  # as torchvision has them
        tensor = tensor.permute(1, 2, 0)
    if tensor.dtype != torch.uint8:
        raise UserError(
            _wrong(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."), tensor.is_floating_point())
        )
    return tensor.cpu().numpy()


def _checked(array: NDArray[Any]) -> NDArray[np.uint8]:
    if array.dtype != np.uint8:
        raise UserError(_wrong(array.shape, str(array.dtype), array.dtype.kind == "f"))
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim == 3 and array.shape[2] == 1:
        array = np.repeat(array, 3, axis=2)
    if array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
        raise UserError(_wrong(array.shape, "uint8", False))
    # The layout that torch takes, and memory that nobody guards: it says aloud where an array is read-only.
    return np.require(array, requirements=("C", "A", "W"))


def _wrong(shape: tuple[int, ...], kind: str, is_float: bool) -> str:
    fix = ""
    if is_float:
        fix = ": scale it to 0..255, round, and make it uint8"
    elif kind in ("uint16", "int16", "int32", "int64"):
        fix = ": scale it to 0..255 and make it uint8"
    elif len(shape) == 3 and shape[2] == 4:
        fix = ": leave the fourth channel out, or give the PIL image"
    elif len(shape) == 3 and shape[0] in (1, 3):
        fix = ": move the channels to the end, as by transpose(1, 2, 0)"
    elif len(shape) == 4:
        fix = ": give one photo, or all to predict_many"
    return f"A photo should be an (H, W, 3) uint8 array, not {shape} {kind}{fix}."
