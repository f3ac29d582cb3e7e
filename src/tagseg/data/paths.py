"""What lies inside a folder: the one rule for paths that tables, lists, archives and annotations hold, and for links."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from tagseg.errors import UserError


def inside(written: str, folders: Sequence[Path] = ()) -> str | None:
    """The relative path that a text means, with forward slashes and in Unicode NFC; None where it leads outside.

    Outside lead `..`, a null character, and absolute paths of any system that don't begin with one of `folders`.
    """
    text = unicodedata.normalize("NFC", written.strip().replace("\\", "/"))
    if "\0" in text or ".." in text.split("/"):
        return None
    if text.startswith("/") or re.match(r"[A-Za-z]:", text):
        for folder in folders:
            for form in (folder.absolute(), folder.resolve()):
                start = unicodedata.normalize("NFC", form.as_posix()).rstrip("/") + "/"
                if text.startswith(start):
                    return text[len(start) :]
        return None
    return "/".join(part for part in text.split("/") if part not in ("", "."))


def lies_inside(path: Path, folder: Path, known: dict[Path, bool] | None = None) -> bool:
    """Whether a file lies below a folder once links are resolved; `known` keeps the answers for folders of files."""
    # os.path, for Path raises on a name that is too long for a file.
    root = Path(os.path.realpath(folder))
    known = {} if known is None else known
    if path.parent not in known:
        known[path.parent] = Path(os.path.realpath(path.parent)).is_relative_to(root)
    return known[path.parent] and (not os.path.islink(path) or Path(os.path.realpath(path)).is_relative_to(root))  # noqa: PTH114


def held(path: Path, folder: Path, known: dict[Path, bool] | None = None) -> Path:
    """The path itself, of a file that a folder of results may hold; `known` as `lies_inside` takes it.

    Raises UserError where a link on the way leads outside of the folder: results of someone else never do.
    """
    if lies_inside(path, folder, known):
        return path
    raise UserError(f"{path} leads outside of {folder}, as a folder of results never does: put the file itself there.")
