"""What a data set is: parts that lie in its folder, made from archives, and what there has to be in the end."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tagseg.datasets.archive import Archive, At
from tagseg.errors import UserError
from tagseg.files import write_text


@dataclass(frozen=True)
class Options:
    """Choices of a preparation.

    unlabeled: what COCO-Stuff's unlabeled pixels become. test: whether VOC's test photos are prepared too.
    """

    unlabeled: Literal["background", "ignore"] = "background"
    test: bool = False


@dataclass(frozen=True)
class Workspace:
    """Where a part is made: everything is written below `staging` and gets its place in `root` when all of it is there."""

    root: Path
    staging: Path
    archive: Callable[[Archive], Path]
    bar: Callable[[str, int], AbstractContextManager[At]]


@dataclass(frozen=True)
class Part:
    """Something that a data set needs.

    places: files and folders below the root, with forward slashes; the part is done when all are there.
    missing: those that are not. size: bytes it takes, about. seconds: that making it takes on one core, about.
    make: writes the missing places below the workspace's staging folder.
    """

    title: str
    missing: tuple[str, ...]
    archives: tuple[Archive, ...]
    size: int
    seconds: int
    make: Callable[[Workspace], None]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: what, what was found, and what is wrong with it in a sentence, if anything."""

    what: str
    found: str
    wrong: str | None = None


@dataclass(frozen=True)
class DataSet(ABC):
    """A data set of the papers. title: its name and what licence says. use: the command that comes next."""

    name: str
    title: str
    use: str

    @abstractmethod
    def parts(self, root: Path, options: Options) -> list[Part]:
        """Its parts in the order they are made, done or not."""

    @abstractmethod
    def check(self, root: Path) -> list[Finding]:
        """What lies in its folder, against what has to be there."""

    def choices(self, options: Options) -> dict[str, str]:
        """The options that its files depend on."""
        return {}


def missing(root: Path, *places: str) -> tuple[str, ...]:
    """Those places that are not below a folder."""
    return tuple(place for place in places if not (root / place).exists())


def count_files(folder: Path, suffix: str) -> int:
    """Files of a suffix directly in a folder; 0 where there is no folder."""
    return sum(1 for path in folder.glob(f"*{suffix}") if not path.name.startswith("."))


def count_finding(root: Path, place: str, suffix: str, expected: int) -> Finding:
    """Whether a folder holds as many files as it should."""
    found = count_files(root / place, suffix)
    wrong = None
    if not (root / place).is_dir():
        wrong = f"{root / place} is not there"
    elif found != expected:
        wrong = f"{root / place} holds {found:,} files {suffix} in place of {expected:,}"
    return Finding(place, f"{found:,} files", wrong)


def read_names(path: Path) -> list[str]:
    """The names of a list, one a line. Raises UserError where it cannot be read."""
    try:
        return [line.split()[0] for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"list {path} cannot be read ({error}).") from error


def list_text(names: Iterable[str]) -> str:
    """The text of a list: sorted, one a line."""
    return "".join(f"{name}\n" for name in sorted(names))


def wrong_list(path: Path, names: Iterable[str], count: int, md5: str | None) -> str | None:
    """What is wrong with a list of names against the published one, as a set; None: nothing."""
    names = set(names)
    if len(names) != count:
        return f"{path} names {len(names):,} photos in place of {count:,}"
    if md5 is not None and hashlib.md5(list_text(names).encode(), usedforsecurity=False).hexdigest() != md5:
        return f"{path} names {count:,} photos, but not the published ones"
    return None


def write_file(path: Path, text: str) -> None:
    """Write a text below a folder that may not be there yet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)


def tags_text(rows: Iterable[tuple[str, Iterable[str]]]) -> str:
    """A table of tags: file and the names of its classes."""
    return "file,tags\n" + "".join(f"{file},{';'.join(tags)}\n" for file, tags in rows)
