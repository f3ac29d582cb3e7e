"""Where photos come from and results go: folders and object stores behind one small interface.

A key is a path below the place, with forward slashes. Nothing is renamed, and nothing half-written gets its key.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit
from uuid import uuid4

from tagseg.data.paths import held
from tagseg.errors import UserError

PROTOCOLS = ("s3", "gs", "hf", "memory")
_INSTALL = {"s3": "s3fs", "gs": "gcsfs", "hf": "huggingface_hub"}
_TEMPORARY = ".tagseg-saving-"


@dataclass(frozen=True)
class Entry:
    """One file of a place. size: bytes. version: what changes when the file does, "" where the place does not tell."""

    key: str
    size: int
    version: str


class Place(ABC):
    """A folder, or a prefix of an object store. url: how it was named."""

    url: str

    @abstractmethod
    def find(self) -> Iterator[Entry]:
        """All files below, in no order. Raises UserError where the place is not there."""

    @abstractmethod
    def open(self, key: str) -> IO[bytes]:
        """A file for reading, seekable. Raises UserError where it is not there."""

    @abstractmethod
    def put_new(self, key: str, file: Path) -> bool:
        """Store a local file under a key that is free; False, and nothing changed, where it is taken."""

    @abstractmethod
    def put(self, key: str, file: Path) -> None:
        """Store a local file under a key, in place of what is there."""

    @abstractmethod
    def exists(self, key: str) -> bool:
        """Whether a file is there."""

    def holds(self, name: str) -> bool:
        """Whether a file of this name is there, or a folder of this name with anything in it."""
        return self.exists(name)

    @abstractmethod
    def child(self, folder: str) -> Place:
        """The place below."""

    def read(self, key: str, *, start: int = 0, size: int | None = None) -> bytes:
        """The bytes of a file, or `size` of them from `start`."""
        with self.open(key) as file:
            file.seek(start)
            return file.read() if size is None else file.read(size)

    def write(self, key: str, content: bytes, *, new: bool = False) -> bool:
        """Store bytes as `put` or, with `new`, as `put_new` does."""
        with tempfile.TemporaryDirectory(prefix="tagseg-") as folder:
            file = Path(folder, "content")
            file.write_bytes(content)
            if new:
                return self.put_new(key, file)
            self.put(key, file)
            return True


class Folder(Place):
    """A folder of this machine, or one that it mounts.

    sources: whether its files are a person's, which may be links; those of results never lead outside.
    """

    def __init__(self, path: Path, *, sources: bool = False) -> None:
        self.path, self.url, self.sources = path, str(path), sources

    def at(self, key: str) -> Path:
        """The path of a file. Raises UserError where it would lead outside of the folder."""
        return self.path / key if self.sources else held(self.path / key, self.path)

    def find(self) -> Iterator[Entry]:
        """All regular files below; links are followed to files, not to folders."""
        if not self.path.is_dir():
            raise UserError(f"The folder {self.path} does not exist.")
        for folder, _, names in os.walk(self.path):
            for name in names:
                path = Path(folder, name)
                if not name.startswith(_TEMPORARY) and path.is_file():
                    found = path.stat()
                    yield Entry(path.relative_to(self.path).as_posix(), found.st_size, str(found.st_mtime_ns))

    def open(self, key: str) -> IO[bytes]:
        """The file itself."""
        path = self.at(key)
        try:
            return path.open("rb")
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error

    def put_new(self, key: str, file: Path) -> bool:
        """Written beside, then linked to its name, which fails where the name is taken."""
        path, temporary = self.at(key), self._beside(key, file)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except (
            OSError
        ):  # a file system without hard links: whoever is first there is seen, whoever is second at once is not
            if path.exists():
                return False
            temporary.replace(path)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        return True

    def put(self, key: str, file: Path) -> None:
        """Written beside, then moved over."""
        self._beside(key, file).replace(self.at(key))

    def exists(self, key: str) -> bool:
        """Whether it is a file."""
        return self.at(key).is_file()

    def holds(self, name: str) -> bool:
        """Links are looked at, not followed."""
        path = self.path / name
        return path.is_symlink() or path.is_file() or (path.is_dir() and any(path.iterdir()))

    def child(self, folder: str) -> Place:
        """The folder below."""
        return Folder(self.at(folder), sources=self.sources)

    def _beside(self, key: str, file: Path) -> Path:
        target = self.at(key)
        beside = target.with_name(_TEMPORARY + uuid4().hex)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with beside.open("xb") as out, file.open("rb") as source:
                shutil.copyfileobj(source, out, 1 << 20)
                out.flush()
                os.fsync(out.fileno())
        except OSError as error:
            with suppress(OSError):
                beside.unlink(missing_ok=True)
            raise UserError(f"{target} cannot be written: {error.strerror or error}.") from error
        return beside


class Store(Place):
    """A prefix of an object store, through fsspec. Credentials come from the environment alone, as its clients read them."""

    def __init__(self, url: str, files: Any, root: str) -> None:
        self.url, self.files, self.root = url.rstrip("/"), files, root.rstrip("/")

    def find(self) -> Iterator[Entry]:
        """All objects below the prefix."""
        found = self._do(lambda: self.files.find(self.root, detail=True), self.url)
        for path, facts in found.items():
            version = str(facts.get("ETag") or facts.get("etag") or facts.get("mtime") or facts.get("created") or "")
            yield Entry(path[len(self.root) :].lstrip("/"), int(facts.get("size") or 0), version.strip('"'))

    def open(self, key: str) -> IO[bytes]:
        """The object, read by ranges."""
        file: IO[bytes] = self._do(lambda: self.files.open(f"{self.root}/{key}", "rb"), f"{self.url}/{key}")
        return file

    def read(self, key: str, *, start: int = 0, size: int | None = None) -> bytes:
        """The bytes by one request."""
        end = None if size is None else start + size
        content: bytes = self._do(
            lambda: self.files.cat_file(f"{self.root}/{key}", start=start, end=end), f"{self.url}/{key}"
        )
        return content

    def put_new(self, key: str, file: Path) -> bool:
        """A conditional put, which the store refuses where the key is taken."""
        path = f"{self.root}/{key}"
        try:
            self._do(lambda: self.files.put_file(str(file), path, mode="create"), f"{self.url}/{key}")
        except FileExistsError:
            return False
        return True

    def put(self, key: str, file: Path) -> None:
        """One put of the whole object."""
        self._do(lambda: self.files.put_file(str(file), f"{self.root}/{key}"), f"{self.url}/{key}")

    def exists(self, key: str) -> bool:
        """Asked of the store itself, not of a list that was read before; a prefix is there where a key has it."""
        return bool(self._do(lambda: self.files.exists(f"{self.root}/{key}"), f"{self.url}/{key}"))

    def child(self, folder: str) -> Place:
        """The prefix below."""
        return Store(f"{self.url}/{folder}", self.files, f"{self.root}/{folder}")

    def _do(self, call: Any, what: str) -> Any:
        try:
            return call()
        except FileExistsError:
            raise
        except FileNotFoundError as error:
            raise UserError(f"{what} does not exist.") from error
        except Exception as error:  # each store's client raises kinds of its own
            words = " ".join(str(error).split())[:200]
            raise UserError(f"{what} cannot be reached: {words or type(error).__name__}.") from error


def open_place(url: str | Path, *, sources: bool = False) -> Place:
    """A place by its name: a folder, `s3://bucket/prefix`, `gs://`, `hf://datasets/owner/name`.

    sources: as `Folder` takes it.
    Raises UserError for other protocols, chained ones, and where the store's client is not installed.
    """
    text = str(url)
    if "://" not in text:
        return Folder(Path(text), sources=sources)
    protocol = urlsplit(text).scheme
    if "::" in text or protocol not in PROTOCOLS:
        raise UserError(
            f"{text} is no place that is known: give a folder, or {', '.join(f'{p}://' for p in PROTOCOLS[:3])}..."
        )
    try:
        from fsspec.core import url_to_fs

        # no list of objects is kept, for another worker may have written since
        files, root = url_to_fs(text, skip_instance_cache=True, use_listings_cache=False)
    except ImportError as error:
        needed = _INSTALL.get(protocol, "fsspec")
        raise UserError(f'{protocol}:// needs {needed}: pip install "tagseg[scale]" {needed}.') from error
    except (ValueError, OSError) as error:
        raise UserError(f"{text} cannot be opened: {error}.") from error
    return Store(text, files, root)
