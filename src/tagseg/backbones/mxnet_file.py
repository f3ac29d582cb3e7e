"""Reads MXNet's `.params` files: a list of named arrays, in plain binary; nothing in them is run.

Layout, little-endian: u64 0x112, u64 reserved, u64 count, the arrays, u64 count, the names (u64 length, bytes each).
An array: u32 magic (V1 0xF993FAC8; V2 0xF993FAC9 and V3 0xF993FACA, with an i32 storage type; none in older files), u32
number of dimensions, the sizes (i64; in older files u32), i32 device type, i32 device number, i32 type, data.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tagseg.errors import UserError
from tagseg.foreign import reading

LIST_MAGIC = 0x112
V1, V2, V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
TYPES = {0: "<f4", 1: "<f8", 2: "<f2", 3: "u1", 4: "<i4", 5: "i1", 6: "<i8"}
MOST_DIMENSIONS = 32


def read_mxnet_params(path: Path) -> dict[str, Tensor]:
    """Tensors by name ("arg:conv1a_weight") from an MXNet .params file.

    Raises UserError when the file is missing, truncated, or not of this format.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist: give the path of an MXNet .params file.")
    with reading(path, "an MXNet .params file", "fetch it again"):
        reader = _Reader(path)
        magic, _, count = reader.take("<QQQ")
        if magic != LIST_MAGIC:
            raise UserError(f"{path} is not an MXNet .params file: it does not start with the list's mark 0x112.")
        if count * 12 > len(reader.content):
            raise reader.broken(f"it announces {count} arrays")
        arrays = [reader.array() for _ in range(count)]
        (names_count,) = reader.take("<Q")
        if names_count != count:
            raise reader.broken(f"{count} arrays have {names_count} names")
        names = [reader.name() for _ in range(count)]
        return dict(zip(names, arrays, strict=True))


class _Reader:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.content = path.read_bytes()
        self.place = 0

    def broken(self, why: str) -> UserError:
        return UserError(f"{self.path} is a broken MXNet .params file ({why}): fetch it again.")

    def bytes(self, count: int) -> memoryview:
        if count < 0 or self.place + count > len(self.content):
            raise self.broken(f"it ends at byte {len(self.content)} in the middle of an entry")
        part = memoryview(self.content)[self.place : self.place + count]
        self.place += count
        return part

    def take(self, layout: str) -> tuple[int, ...]:
        return struct.unpack(layout, self.bytes(struct.calcsize(layout)))

    def array(self) -> Tensor:
        (magic,) = self.take("<I")
        if magic in (V2, V3):
            (storage,) = self.take("<i")
            if storage != 0:
                raise self.broken(f"an array of storage type {storage}, only dense ones are read")
        (dimensions,) = self.take("<I") if magic in (V1, V2, V3) else (magic,)
        if not 0 < dimensions <= MOST_DIMENSIONS:
            raise self.broken(f"an array of {dimensions} dimensions")
        shape = self.take(f"<{dimensions}{'q' if magic in (V1, V2, V3) else 'I'}")
        _, _, kind = self.take("<iii")
        if kind not in TYPES or any(size < 0 for size in shape):
            raise self.broken(f"an array of type {kind} and shape {shape}")
        dtype = np.dtype(TYPES[kind])
        data = self.bytes(math.prod(shape) * dtype.itemsize)
        return torch.from_numpy(np.frombuffer(data, dtype).reshape(shape).copy())

    def name(self) -> str:
        (length,) = self.take("<Q")
        try:
            return str(self.bytes(length), "utf-8")
        except UnicodeDecodeError as error:
            raise self.broken("a name is not UTF-8") from error
