"""The one form in which tags, class names and headers are compared, and what keeps a name from being a class."""

from __future__ import annotations

import re
import unicodedata

from tagseg.foreign import shown

NO_TAG = frozenset({"background", "none", "ok"})
"""Words (and folders) that say: nothing of interest here."""
IGNORE_NAME = "(ignore)"
"""The label of ignored pixels in formats that know labels by name only."""
LONGEST_NAME = 200
"""Characters; what is longer is a caption."""

_SPACES = re.compile(" {2,}")
_CONTROLS = frozenset({"Cc", "Cs", "Zl", "Zp"})


def clean(text: str) -> str:
    """A tag, class name or header as it is compared: NFC, without format characters, any space a plain one, trimmed.

    Zero-width and direction marks, soft hyphens and byte order marks go; runs of spaces become one. Control characters
    inside stay, for `name_flaw` to find.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
        kinds = [(letter, unicodedata.category(letter)) for letter in text]
        text = "".join(" " if kind[0] == "Z" or letter == "\x85" else letter for letter, kind in kinds if kind != "Cf")
    return _SPACES.sub(" ", text.strip())


def name_flaw(name: str) -> str | None:
    """Why a cleaned name cannot be a class, as the end of a sentence with the name as its subject; None where it can."""
    if not name:
        return "is empty"
    if name.lower() in NO_TAG:
        return "means a photo without tags and cannot be a class"
    if name == IGNORE_NAME:
        return "is what masks call ignored pixels and cannot be a class"
    if len(name) > LONGEST_NAME:
        return f"has {len(name):,} characters, more than the {LONGEST_NAME} of a class name"
    kinds = {unicodedata.category(letter) for letter in name}
    if "Cs" in kinds:
        return "is not valid Unicode text"
    if "Cc" in kinds:
        return "holds a line break or another control character"
    return None


def quoted(name: object) -> str:
    """A name or value in a message: quoted, on one line, control characters escaped, long ones cut."""
    return shown(name)


def printable(text: str) -> str:
    """A sentence that may hold names of files and classes, for a terminal: what controls it is written as an escape."""
    if text.isprintable():
        return text
    return "".join(
        letter.encode("unicode_escape").decode() if unicodedata.category(letter) in _CONTROLS else letter
        for letter in text
    )
