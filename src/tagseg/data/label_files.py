"""cls_labels.npy and cls_labels_onehot.npy: the tags that the papers' repositories come with, a pickled dictionary.

A pickle can name any function for its reader to call. Here it is given stand-ins for the four names that such a file
needs, which only keep what they are told, and everything else is refused: nothing of the file is carried out.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from tagseg.errors import UserError
from tagseg.foreign import DATA_CAP, read_bytes, reading, shown

_KIND = "a file of tags such as cls_labels.npy"
_FIX = "take tags from XML or a table instead"
_TYPES = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"}


def read_label_file(path: Path, classes: Sequence[str], names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The tags of the named photos; those that the file lacks are left out.

    classes: what a vector's places mean. Keys may be a photo's name ("2007_000032") or its number (2007000032; of COCO
    the photo's id). Raises UserError where the file is another, or a vector has another length than there are classes.
    """
    content = read_bytes(path, _KIND, DATA_CAP, _FIX)
    with reading(path, _KIND, _FIX):
        vectors = _unpickled(content)
        found: dict[str, tuple[str, ...]] = {}
        for name in names:
            vector = next((vectors[key] for key in _keys(name) if key in vectors), None)
            if vector is None:
                continue
            values = vector.array().ravel()
            if len(values) != len(classes):
                raise UserError(
                    f"{path}: the vector of {name} has {len(values)} places, but there are {len(classes)} classes; "
                    "it belongs to another data set."
                )
            found[name] = tuple(tag for tag, value in zip(classes, values, strict=True) if value > 0)
    return found


def _keys(name: str) -> tuple[str | int, ...]:
    groups = re.findall(r"\d+", name)
    numbers = [int("".join(groups)), int(groups[-1])] if groups else []
    return name, f"{name}.jpg", *numbers


@dataclass
class _Type:
    """Stands for numpy.dtype."""

    code: str
    order: str = "<"

    def __setstate__(self, state: Any) -> None:
        self.order = str(state[1])


class _Array:
    """Stands for numpy.ndarray: keeps the state it is given."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def array(self) -> np.ndarray:
        """The numbers, of a plain type only."""
        _, shape, kind, _, content = self.state
        if not (isinstance(kind, _Type) and kind.code in _TYPES and isinstance(content, bytes)):
            raise ValueError("its vectors are no plain numbers")
        order = kind.order if kind.order in "<>" else "="
        return np.frombuffer(content, dtype=np.dtype(order + kind.code)).reshape(shape)


def _make_type(code: Any, *_: Any) -> _Type:
    return _Type(str(code).lstrip("<>|="))


def _make_array(*_: Any) -> _Array:
    return _Array()


def _encode(text: str, encoding: str = "utf-8") -> bytes:
    """Stands for _codecs.encode, by which bytes are written in old protocols."""
    if encoding not in ("latin1", "latin-1", "utf-8", "ascii"):
        raise ValueError("it uses another encoding")
    return text.encode(encoding)


class _Reader(pickle.Unpickler):
    _known: ClassVar[dict[tuple[str, str], Any]] = {
        ("multiarray", "_reconstruct"): _make_array,
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _make_type,
        ("_codecs", "encode"): _encode,
    }

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a name that a file of tags needs; any other is refused."""
        place = module.removeprefix("numpy.core.").removeprefix("numpy._core.")
        if (place, name) not in self._known:
            raise ValueError(f"it asks for {module}.{name}, which no file of tags needs")
        return self._known[place, name]

    def persistent_load(self, pid: Any) -> Any:
        """Refused."""
        raise ValueError("it refers to something outside")


def _unpickled(content: bytes) -> dict[Any, _Array]:
    """The dictionary in an object .npy file of no dimensions."""
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    _, _, kind = read(file)
    if not kind.hasobject:
        raise ValueError("it holds numbers without photos' names")
    for operation, value, _ in pickletools.genops(content[file.tell() :]):
        # The number of a memo's place: as much memory is taken as it says.
        if operation.name in ("PUT", "LONG_BINPUT") and not 0 <= int(value or 0) <= len(content):
            raise ValueError(f"it numbers {shown(value)} things in {len(content):,} bytes")
    array = _Reader(file).load()
    if isinstance(array, _Array):  # the object array around the dictionary: its content is a list of one
        array = array.state[4][0]
    if not isinstance(array, dict) or not all(isinstance(value, _Array) for value in array.values()):
        raise ValueError("it holds no dictionary of vectors")
    return array
