"""Where results may go: never onto, around or into what a command reads, and never through a link."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath

from tagseg.errors import UnwritableNameError, UserError
from tagseg.foreign import shown

Identity = tuple[int, int] | str
ON_WINDOWS = os.name == "nt"
_SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini", "ehthumbs.db"})
RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])(\..*)?$", re.IGNORECASE)


def check_output(out: Path, inputs: Iterable[Path], option: str = "--out") -> None:
    """The guard of every command that writes: whether results may go to `out`, a folder or a file, there or not.

    inputs: folders and files that the command reads. option: the word that `out` was given by. Links are followed on both
    sides, and a file or folder is known by what it is, not by how its path is spelled.
    Raises UserError where `out` is, holds, or lies inside one of them.
    """
    own = _identities(out)
    for place in inputs:
        theirs = _identities(place)
        if own[0] == theirs[0]:
            problem = f"{out} is read by this command"
        elif own[0] in theirs:
            problem = f"{out} holds {place}, which this command reads"
        elif theirs[0] in own:
            problem = f"{out} lies inside {place}, which this command reads"
        else:
            continue
        raise UserError(f"{problem}: choose another {option}, so that no input is written over.")


def inside(folder: Path, relative: str) -> Path:
    """The path of a result below `folder`. Raises UserError where a link on the way leads elsewhere."""
    path = folder / relative
    for parent in path.parents:
        if parent == folder:
            return path
        if is_link(parent):
            raise UserError(f"{parent} is a link: results never go through one; remove it, or choose another --out.")
    raise AssertionError(f"{relative} is not below {folder}")


def ignores_case(folder: Path) -> bool:
    """Whether the disk of a folder, there or not, takes A.png and a.png for one file."""
    for place in (absolute := Path(os.path.realpath(folder)), *absolute.parents):
        other = place.with_name(place.name.swapcase()) if place.name else place
        if place.exists() and other != place:
            return other.exists() and other.samefile(place)
    return False


def is_link(path: Path) -> bool:
    """Whether a path is a symbolic link, or what Windows has in its place."""
    return path.is_symlink() or (os.name == "nt" and os.path.isjunction(path))  # type: ignore[attr-defined,unused-ignore]


def is_hidden(relative: PurePath) -> bool:
    """Whether a file is one that systems hide or put beside photos."""
    return (
        any(part.startswith(".") and part != ".." for part in relative.parts) or relative.name.lower() in _SYSTEM_FILES
    )


def entries(folder: Path) -> list[Path]:
    """What lies in a folder, but for what systems hide or put there."""
    return [path for path in folder.iterdir() if not is_hidden(PurePath(path.name))]


def remove_empty(folder: Path) -> None:
    """Remove a folder and those below it, where they hold no file; links are left."""
    if not folder.is_dir() or is_link(folder):
        return
    for inner in list(folder.iterdir()):
        remove_empty(inner)
    if not any(folder.iterdir()):
        folder.rmdir()


def identity(path: Path) -> Identity | None:
    """What a file or folder is, however its path is spelled; None where there is nothing.

    Its device and number; its real path where the disk does not number its files, as some of a network.
    """
    try:
        facts = path.stat()
    except (OSError, ValueError):
        return None
    return (facts.st_dev, facts.st_ino) if facts.st_ino else os.path.realpath(path)


def _identities(path: Path) -> list[Identity]:
    """What a path is, and then each folder above it; the path where there is nothing yet."""
    whole = Path(os.path.realpath(path))
    return [identity(place) or str(place) for place in (whole, *whole.parents)]


def safe_name(name: str) -> str:
    """The name itself; raises UnwritableNameError when, read as a path on any system, it is absolute or leads upwards.

    On Windows, where these mean something else, so does a name such as CON, or one that ends in a dot or a space.
    """
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    if not name or "\0" in name or posix.is_absolute() or windows.drive or windows.root or ".." in windows.parts:
        raise UnwritableNameError(f"the name {shown(name)} leads outside the folder of the results; rename it")
    for part in windows.parts if ON_WINDOWS else ():
        if RESERVED.match(part) or part[-1:] in ". " or any(c < " " or c in '<>:"|?*' for c in part):
            raise UnwritableNameError(f"the name {shown(name)} cannot be written on Windows ({shown(part)}); rename it")
    return name
