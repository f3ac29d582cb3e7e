"""Photos by the names under which masks and tasks speak of them."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection
from pathlib import Path

from tagseg.data.folders import find_photos, stem


def photos_by_name(images: Path) -> dict[str, list[Path]]:
    """The photos of a folder by name; several where they differ in their suffix alone."""
    photos: dict[str, list[Path]] = {}
    for file, path in find_photos(images).items():
        photos.setdefault(stem(file), []).append(path)
    return photos


def meant_photo(written: str, photos: Collection[str]) -> str | None:
    """The photo that a name in a tool means: the same, or the only one that ends it, or is ended by it, at a slash."""
    written = unicodedata.normalize("NFC", written)  # as photos are named; macOS writes letters and accents apart
    if written in photos:
        return written
    parts = written.split("/")
    for skip in range(1, len(parts)):  # Label Studio's addresses begin with the folder of the photos
        if (tail := "/".join(parts[skip:])) in photos:
            return tail
    ending = [name for name in photos if name.endswith(f"/{written}")]
    return ending[0] if len(ending) == 1 else None
