"""Which photos a folder holds, and what else lies there that is not read."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from tagseg.data.paths import held
from tagseg.data.suffixes import MASK_SUFFIXES, NAMED_SUFFIXES, PHOTO_SUFFIXES, UNREAD_SUFFIXES, suffix, to_read
from tagseg.data.tables import Problem
from tagseg.errors import UserError
from tagseg.places import identity, is_hidden

_NAMED = 5  # files that a sentence names
RECORD = re.compile(r"\.tagseg-(?!saving-)")  # begins the names of the files that say what made a folder's results


@dataclass
class PhotoFolder:
    """What lies below a folder.

    photos: by the path relative to it (forward slashes, Unicode NFC), in sorted order. twins: files whose path is that of
    another in NFC. broken: links that lead nowhere, or to a folder that is being read; a folder that stands there twice.
    irregular: pipes, devices, sockets.
    hidden, others: further files, and folders that are passed over.
    """

    root: Path
    photos: dict[str, Path] = field(default_factory=dict)
    twins: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    irregular: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)

    def not_read(self, *, besides: frozenset[str] | set[str] = frozenset()) -> list[Problem]:
        """A counted sentence for each reason why a file is not read; `besides`: other files that are there by right."""
        by_suffix: dict[str, list[str]] = defaultdict(list)
        for name in self.others:
            if name not in besides:
                by_suffix[suffix(name)].append(name)
        problems = []
        for end in sorted(by_suffix.keys() & UNREAD_SUFFIXES):
            names = by_suffix.pop(end)
            text = f"{_count(names, f'{end} file')} not read ({some(names)}); {to_read(end)}"
            problems.append(Problem("photo not read", names[0], text, fatal=False, count=len(names)))
        if self.broken:
            text = f"{_count(self.broken, 'link')} not read ({some(self.broken)}): nothing there, or leading in circles"
            problems.append(Problem("photo not read", self.broken[0], text, fatal=False, count=len(self.broken)))
        if self.irregular:
            text = f"{_count(self.irregular, 'pipe or device', 'pipes or devices')} not read ({some(self.irregular)})"
            problems.append(Problem("photo not read", self.irregular[0], text, fatal=False, count=len(self.irregular)))
        for name in self.twins:
            text = f"{self.root / name} stands there twice, in two spellings of the same letters; rename one of them"
            problems.append(Problem("duplicate name", name, text))
        if by_suffix:
            counts = Counter({end or "no suffix": len(names) for end, names in by_suffix.items()}).most_common(_NAMED)
            names = [name for group in by_suffix.values() for name in group]
            kinds = ", ".join(f"{count:,} {end}" for end, count in counts)
            what = "1 file is no photo" if len(names) == 1 else f"{len(names):,} files are no photos"
            problems.append(Problem("other files", names[0], f"{what}: {kinds}", fatal=False, count=len(names)))
        if self.hidden:
            text = f"{_count(self.hidden, 'hidden file or folder', 'hidden files or folders')} not read"
            text = f"{text} ({some(self.hidden)})"
            problems.append(Problem("hidden files", self.hidden[0], text, fatal=False, count=len(self.hidden)))
        return problems


def _count(names: list[str], one: str, many: str | None = None) -> str:
    return f"1 {one} is" if len(names) == 1 else f"{len(names):,} {many or one + 's'} are"


def some(names: list[str]) -> str:
    """The first five names, and how many more there are."""
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def find_photos(images: Path, *, results: bool = False) -> dict[str, Path]:
    """All photos below a folder, as `look_into` finds them. Raises UserError when the folder is missing."""
    return look_into(images, results=results).photos


def by_name(
    folder: Path, files: Mapping[str, Path], what: str, problems: list[Problem] | None = None
) -> dict[str, Path]:
    """The photos or masks that `find_photos` found in a folder, by their names without suffix.

    what: "photos", or a word for masks: beside a mask a JPEG of its name is its photo or an overlay, and is passed over.
    Raises UserError where two share a name; with `problems` it goes there, and the first counts.
    """
    found: dict[str, Path] = {}
    for file, path in files.items():
        name = stem(file)
        other = found.setdefault(name, path)
        if other is path:
            continue
        storing = [each for each in (other, path) if what == "photos" or suffix(each.name) in MASK_SUFFIXES]
        if len(storing) == 1:
            found[name] = storing[0]
            continue
        text = f"{folder} holds two {what} called {name} ({other.name}, {path.name}); remove one"
        if problems is None:
            raise UserError(text)
        problems.append(Problem("duplicate name", "", text))
    return found


def find_masks(folder: Path) -> dict[str, Path]:
    """The masks of a folder of results by their names without suffix. Raises UserError as `look_into` and `by_name` do."""
    return by_name(folder, find_photos(folder, results=True), "masks")


def holds_results(folder: Path) -> bool:
    """Whether a folder bears the record that commands leave beside their results."""
    try:
        with os.scandir(folder) as entries:
            return any(RECORD.match(entry.name) for entry in entries)
    except OSError:
        return False


def look_into(images: Path, *, results: bool = False) -> PhotoFolder:
    """What lies below a folder: regular files, and links to them and to folders, each folder once.

    Hidden files and folders are passed over, and so are links that lead in circles. Raises UserError when the folder is
    missing or cannot be read.
    results: whether it is a folder of results, as one is that bears a record: then a link that leads outside raises UserError
    too, before it is followed.
    """
    if not os.path.isdir(images):  # noqa: PTH112 (Path.is_dir raises on a name that is too long)
        exists = os.path.exists(images)  # noqa: PTH110
        raise UserError(f"{images} is not a folder" if exists else f"images folder {images} does not exist")
    found = PhotoFolder(images)
    photos: dict[str, Path] = {}
    root = os.path.realpath(images)
    above = {identity(path) for path in Path(root).parents}
    seen = {identity(Path(root))}
    folders: list[tuple[str, str]] = [(os.fspath(images), "")]
    links: list[tuple[str, str]] = []
    closed = results or holds_results(images)
    while folders or links:
        # Links to folders wait until all that lies here itself is read: a photo keeps its own path.
        linked = not folders
        folder, prefix = links.pop(0) if linked else folders.pop()
        if linked:
            own = identity(Path(folder))
            if own is None or own in seen or own in above:
                found.broken.append(prefix.rstrip("/"))
                continue
            seen.add(own)
        try:
            with os.scandir(folder) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            raise UserError(f"folder {folder} cannot be read ({error.strerror or error})") from error
        for entry in listed:
            name, path = prefix + entry.name, entry.path
            if is_hidden(PurePosixPath(entry.name)):
                found.hidden.append(name)
                continue
            if closed and entry.is_symlink():
                held(Path(path), images)
            if _is(entry.is_dir):
                if entry.is_symlink():
                    links.append((path, name + "/"))
                else:
                    own = identity(Path(path))
                    if own is None or own in seen:
                        found.broken.append(name)
                    else:
                        seen.add(own)
                        folders.append((path, name + "/"))
            elif not _is(entry.is_file):
                (found.broken if entry.is_symlink() and not os.path.exists(path) else found.irregular).append(name)  # noqa: PTH110
            elif suffix(entry.name) not in PHOTO_SUFFIXES:
                found.others.append(name)
            else:
                # macOS stores decomposed names, most tables hold composed ones.
                key = name if name.isascii() else unicodedata.normalize("NFC", name)
                if key in photos:
                    found.twins.append(key)
                else:
                    photos[key] = Path(path)
    found.photos = dict(sorted(photos.items()))
    return found


def _is(ask: object) -> bool:
    try:
        return bool(ask())  # type: ignore[operator]
    except OSError:
        return False


def stem(relative: str) -> str:
    """A relative path without the suffix of a photo: the name under which masks and results are kept."""
    base, dot, end = relative.rpartition(".")
    return base if dot and f".{end.lower()}" in NAMED_SUFFIXES and not base.endswith("/") and base else relative
