"""Which photos a folder holds, and which of them a row of a table means."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path
from typing import NoReturn

from tagseg.data.photo import PHOTO_SUFFIXES
from tagseg.data.tables import NO_TAG, Problem, Row
from tagseg.errors import UserError


def find_photos(images: Path) -> dict[str, Path]:
    """All photos below a folder, by their path relative to it (forward slashes, Unicode NFC), in sorted order.

    Hidden files and folders are passed over. Raises UserError when the folder is missing.
    """
    if not images.is_dir():
        raise UserError(
            f"images folder {images} does not exist" if not images.exists() else f"{images} is not a folder"
        )
    found: dict[str, Path] = {}
    for folder, subfolders, files in os.walk(images, onerror=_unreadable):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for name in files:
            if Path(name).suffix.lower() in PHOTO_SUFFIXES and not name.startswith("."):
                path = Path(folder, name)
                # macOS stores decomposed names, most tables hold composed ones.
                found[unicodedata.normalize("NFC", path.relative_to(images).as_posix())] = path
    return dict(sorted(found.items()))


def _unreadable(error: OSError) -> NoReturn:
    raise UserError(f"folder {error.filename} cannot be read ({error.strerror})") from error


def stem(relative: str) -> str:
    """A relative path without the suffix of a photo: the name under which masks and results are kept."""
    base, dot, suffix = relative.rpartition(".")
    return base if dot and f".{suffix.lower()}" in PHOTO_SUFFIXES and not base.endswith("/") and base else relative


def class_folder_rows(images: Path, files: dict[str, Path]) -> tuple[list[Row], list[Problem]]:
    """Rows for one subfolder per class: the first-level folder is the tag; NO_TAG names mean none."""
    rows, problems = [], []
    for folder in sorted(images.iterdir()):
        if folder.is_symlink() and folder.is_dir():  # not walked into: a link may lead anywhere, or in circles
            text = f"{folder} is a link; put the photos themselves into {images}"
            problems.append(Problem("path outside", folder.name, text))
    for number, file in enumerate(files, start=1):
        tag, slash, _ = file.partition("/")
        if slash:
            rows.append(Row(number, file, () if tag.lower() in NO_TAG else (tag,)))
        else:
            text = f"{images / file} lies in no class folder; move it into one, or give a table of tags"
            problems.append(Problem("photo without tags", file, text))
    return rows, problems


def place_rows(
    rows: list[Row], files: dict[str, Path], images: Path, source: str, problems: list[Problem]
) -> dict[str, Row]:
    """The rows by the relative path of the photo each of them means; those that mean none go to `problems`."""
    by_stem: dict[str, list[str]] = {}
    for file in files:
        by_stem.setdefault(stem(file), []).append(file)
    placed: dict[str, Row] = {}
    taken: dict[str, str] = {}
    root = images.resolve()
    inside: dict[Path, bool] = {}
    for row in rows:
        where = f"{source}, row {row.number}"
        wanted = unicodedata.normalize("NFC", row.file.strip().replace("\\", "/"))
        if _escapes(wanted):
            text = f"{where}: {row.file!r} leads outside the images folder; write a path relative to {images}"
            problems.append(Problem("path outside", row.file, text))
            continue
        matches = _match(wanted, files, by_stem, root)
        if not matches:
            text = f"{where}: {row.file!r} is not in {images}; correct the row or add the photo"
            if os.path.isfile(images / wanted):  # noqa: PTH113 (Path.is_file raises on a name that is too long)
                text = f"{where}: {row.file!r} has a format that is not read; convert it to JPEG or PNG"
            problems.append(Problem("missing photo", row.file, text))
        elif len(matches) > 1:
            text = f"{where}: {row.file!r} may mean {matches[0]} or {matches[1]}; write the suffix or rename one"
            problems.append(Problem("duplicate name", row.file, text))
        elif (file := matches[0]) in placed:
            text = f"{where}: {file} stands in row {placed[file].number} already; put all its tags into one row"
            problems.append(Problem("duplicate row", file, text))
        elif stem(file) in taken:
            text = f"{where}: {file} and {taken[stem(file)]} differ only in their suffix; rename one of them"
            problems.append(Problem("duplicate name", file, text))
        elif not _lies_inside(files[file], root, inside):
            text = f"{where}: {file} is a link that leads outside the images folder; copy the photo into {images}"
            problems.append(Problem("path outside", file, text))
        else:
            placed[file] = row
            taken[stem(file)] = file
    return placed


def _escapes(wanted: str) -> bool:
    return wanted.startswith("/") or re.match(r"[A-Za-z]:", wanted) is not None or ".." in wanted.split("/")


def _match(wanted: str, files: dict[str, Path], by_stem: dict[str, list[str]], root: Path) -> list[str]:
    parts = [part for part in wanted.split("/") if part not in ("", ".")]
    # As written; else without the names of the images folder that it begins with (JPEGImages/2007_000063.jpg).
    for skip in range(len(parts)):
        if parts[:skip] == list(root.parts[len(root.parts) - skip :]):
            tail = "/".join(parts[skip:])
            if tail in files:
                return [tail]
            if tail in by_stem:
                return by_stem[tail]
    return []


def _lies_inside(path: Path, root: Path, inside: dict[Path, bool]) -> bool:
    if path.parent not in inside:
        inside[path.parent] = path.parent.resolve().is_relative_to(root)
    return inside[path.parent] and (not path.is_symlink() or path.resolve().is_relative_to(root))
