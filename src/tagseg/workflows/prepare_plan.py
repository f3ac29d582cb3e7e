"""What the preparation of a data set has still to do: parts, archives, bytes and minutes."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from tagseg.datasets.archive import Archive
from tagseg.datasets.dataset import DataSet, Options, Part
from tagseg.errors import UserError

ARCHIVES = "archives"  # where archives are loaded to, below the data set's folder
RATE = 10_000_000  # bytes a second that the plan's minutes assume
SPARE = 200_000_000  # bytes of the disk to leave


@dataclass(frozen=True)
class Plan:
    """What is still to do: parts, archives that lie somewhere already, and those to download; bytes and minutes."""

    todo: tuple[Part, ...]
    found: dict[str, Path]
    load: tuple[Archive, ...]
    room: int
    minutes: int
    downloads: Path = field(default=Path())

    def lines(self, dataset: DataSet, root: Path) -> list[str]:
        """The plan in sentences."""
        if not self.todo:
            return [f"{dataset.name}: everything is in {root}."]
        lines = [
            f"{dataset.name}: {dataset.title}.",
            f"To do in {root}: {'; '.join(part.title for part in self.todo)}.",
        ]
        lines += [f"Archive {name}: {path}" for name, path in self.found.items()]
        lines += [
            f"Archive {a.file}: {gigabytes(a.bytes)} to download{_host(a)} into {self.downloads}" for a in self.load
        ]
        lines.append(
            f"Disk: {gigabytes(self.room)} needed, {gigabytes(free_bytes(root))} free. Time: about {self.minutes} minutes"
            f"{' at 10 MB/s' if self.load else ''}."
        )
        return lines

    def check_room(self, root: Path) -> None:
        """Raises UserError where the disk has too little room."""
        free = free_bytes(root)
        if self.todo and self.room + SPARE > free and self.room > SPARE:
            raise UserError(
                f"{root} needs {gigabytes(self.room)}, but its disk has {gigabytes(free)} free: "
                "make room, or choose another --root."
            )


def make_plan(dataset: DataSet, root: Path, archives: Path | None, options: Options) -> Plan:
    """What is to do, with the archives that lie in `archives` or in the root already."""
    todo = tuple(part for part in dataset.parts(root, options) if part.missing)
    needed = {archive.file: archive for part in todo for archive in part.archives}
    downloads = archives or root / ARCHIVES
    found = {
        name: folder / name
        for name in needed
        for folder in reversed((downloads, root, root / ARCHIVES))
        if (folder / name).is_file()
    }
    load = tuple(archive for name, archive in needed.items() if name not in found)
    bytes_left = sum(archive.bytes - _partial(downloads, archive) for archive in load)
    room = bytes_left + sum(part.size for part in todo)
    seconds = (
        bytes_left / RATE + sum(part.seconds for part in todo) + sum(a.bytes for a in needed.values()) / 400_000_000
    )
    return Plan(todo, found, load, room, max(1, round(seconds / 60)), downloads)


def gigabytes(count: float) -> str:
    """Bytes in words."""
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def free_bytes(folder: Path) -> int:
    """Free bytes of the disk that a folder, there or not, lies on."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _partial(folder: Path, archive: Archive) -> int:
    part = folder / f"{archive.file}.part"
    return min(part.stat().st_size, archive.bytes) if part.is_file() else 0


def _host(archive: Archive) -> str:
    """From where an archive is loaded first, in words."""
    return f" from {urlsplit(archive.mirrors[0]).hostname}" if archive.mirrors else ""
