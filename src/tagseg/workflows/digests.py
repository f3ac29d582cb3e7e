"""Digests of what the stages of a chain are made from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tagseg.data.sources import Sources
from tagseg.files import digest_file, stamp
from tagseg.interrupt import check
from tagseg.made_from import MadeFrom


def digest_photos(sources: Sources, of: Callable[[Path], object]) -> str:
    """A digest of names, tags, classes and files: the photos, their masks and those that a person has accepted.

    of: what of a file counts, `stamp` or `contents`.
    """
    return hashlib.sha256("\n".join(_rows(sources, of)).encode()).hexdigest()


def _rows(sources: Sources, of: Callable[[Path], object]) -> Iterator[str]:
    def facts(path: Path | None) -> object:
        return None if path is None else of(path)

    for data in (sources.train, sources.val):
        if data is not None:
            yield repr((data.classes, data.mask_values))
            if data.mask_colors is not None:
                yield repr(data.mask_colors)
            yield from (repr((p.name, p.tags, facts(p.photo), facts(p.mask))) for p in data.photos)
            yield from (repr((p.name, facts(p.true))) for p in data.photos if p.true is not None)


def contents(path: Path) -> str:
    """What is in a file, one of so many that reading them all may be asked to stop."""
    check()
    return digest_file(path)


def made_from(files: Sequence[Path], facts: object = None, *, fits_older: bool = True) -> MadeFrom:
    """What a result is made from, for its folder's record: files, and facts such as tags."""
    return MadeFrom(
        facts, lambda: [list(stamp(file)) for file in files], lambda: [digest_file(file) for file in files], fits_older
    )


def digest_masks(folder: Path) -> str:
    """A digest of the masks in a folder, names and bytes."""
    lines = [f"{path.relative_to(folder).as_posix()} {digest_file(path)}" for path in sorted(folder.rglob("*.png"))]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
