"""Files that someone else wrote: opened only when regular, read up to a cap, parsed behind one guard, echoed short."""

from __future__ import annotations

import json
import math
import reprlib
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tagseg.errors import UserError

TEXT_CAP = 16 << 20
"""Bytes of a small text: recipes, descriptions, manifests, scores."""
DATA_CAP = 1 << 30
"""Bytes of a text that grows with a data set: annotations, metrics, tables."""
COMPLETE = "check that it is complete and of this kind"

_repr = reprlib.Repr()
_repr.maxstring, _repr.maxother, _repr.maxlong, _repr.maxlevel = 60, 60, 40, 3
_repr.maxlist = _repr.maxtuple = _repr.maxdict = _repr.maxset = 4


def shown(value: object) -> str:
    """A value as it may stand in a message: one line, at most about 80 characters, control characters escaped."""
    try:
        text = _repr.repr(value)
    except Exception:  # an int of too many digits, an object whose repr fails
        text = type(value).__name__
    return text if len(text) <= 120 else text[:58] + "..." + text[-58:]


def reason(error: BaseException) -> str:
    """Why a parser failed, in a few words on one line."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, MemoryError):
        return "it asks for more memory than there is"
    if isinstance(error, UnicodeDecodeError):
        return f"it is not {error.encoding} text at byte {error.start}"
    if isinstance(error, KeyError):
        return f"it lacks {shown(error.args[0] if error.args else '')}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    line = " ".join("".join(c if c.isprintable() else " " for c in str(error)).split())
    return (line if len(line) <= 160 else line[:157] + "...") or type(error).__name__


@contextmanager
def reading(source: object, kind: str, fix: str = COMPLETE) -> Iterator[None]:
    """The guard around every parser of a user's file: whatever it raises becomes one UserError.

    source: the file, or "file: the part of it". kind: what it should be ("COCO JSON with RLE"). fix: what to do, a
    clause. A UserError from inside passes as it is, and so does an interruption.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # parsers of foreign bytes raise any type; a list of them is never complete
        raise UserError(f"{source} cannot be read as {kind} ({reason(error)}): {fix}.") from error


def read_bytes(path: Path, kind: str, cap: int = TEXT_CAP, fix: str = COMPLETE) -> bytes:
    """The bytes of a regular file of at most `cap` bytes.

    Raises UserError for a missing file, a pipe or device (which may never end), and a larger file, before it is read.
    """
    with reading(path, kind, fix):
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise UserError(f"{path} cannot be read as {kind} (it is no regular file): {fix}.")
        if found.st_size <= cap:
            with path.open("rb") as file:
                # Memory for what is there alone: `read` takes all that it is asked for at once. A file may have grown.
                content = file.read(found.st_size + 1)
                while len(content) <= cap and (more := file.read(1 << 20)):
                    content += more
            if len(content) <= cap:
                return content
        raise UserError(f"{path} cannot be read as {kind} (it has more than {cap >> 20:,} MiB): {fix}.")


def read_text(path: Path, kind: str, cap: int = TEXT_CAP, fix: str = COMPLETE) -> str:
    """The UTF-8 text of a file as `read_bytes` reads it; a byte order mark is taken off, line ends become newlines."""
    with reading(path, kind, fix):
        text = read_bytes(path, kind, cap, fix).decode("utf-8-sig")
        return text.replace("\r\n", "\n").replace("\r", "\n")


def read_json(path: Path, kind: str, cap: int = TEXT_CAP, fix: str = COMPLETE) -> Any:
    """What a JSON file holds, read as `read_text` reads it."""
    with reading(path, kind, fix):
        return json.loads(read_text(path, kind, cap, fix))


def read_array(path: Path, kind: str, fix: str = COMPLETE) -> NDArray[Any]:
    """The array of a .npy file, whose header is compared with the file's size before memory is taken."""
    with reading(path, kind, fix):
        if not stat.S_ISREG(path.stat().st_mode):
            raise ValueError("it is no regular file")
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            if version not in ((1, 0), (2, 0)):
                raise ValueError(f"its format is of version {version}, which plain numbers never need")
            headers = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
            shape, _, dtype = headers[version[0]](file)
            if dtype.hasobject:
                raise ValueError("it holds Python objects")
            if math.prod(shape) * max(dtype.itemsize, 1) > path.stat().st_size:
                raise ValueError(f"it announces {shown(shape)} {dtype} and has {path.stat().st_size:,} bytes")
            file.seek(0)
            return np.lib.format.read_array(file, allow_pickle=False)


@cache
def _plain_loader() -> Any:
    import yaml  # here, as most commands read none

    class PlainLoader(yaml.SafeLoader):
        """YAML without aliases: ten lines of them can stand for more than any memory holds."""

        def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
            if self.check_event(yaml.AliasEvent):
                event: Any = self.peek_event()
                problem = f"it uses the alias *{event.anchor[:40]}; write the value out"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
            return super().compose_node(parent, index)

    return PlainLoader


def parse_yaml(text: str) -> Any:
    """What a YAML text holds, aliases refused; raises any kind of error, so it belongs inside `reading`."""
    import yaml

    return yaml.load(text, _plain_loader())


def read_yaml_file(path: Path, kind: str, cap: int = TEXT_CAP, fix: str = COMPLETE) -> Any:
    """What a YAML file holds, read as `read_text` reads it, aliases refused."""
    with reading(path, kind, fix):
        return parse_yaml(read_text(path, kind, cap, fix))
