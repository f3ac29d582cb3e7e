"""Which photo each row of a table means, and the rows that folders of classes stand for."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from tagseg.data.folders import stem
from tagseg.data.paths import inside
from tagseg.data.suffixes import PHOTO_SUFFIXES, suffix, to_read
from tagseg.data.tables import Problem, Row
from tagseg.data.text import NO_TAG, clean, quoted

_SPLITS = frozenset(("train", "val", "test", "valid", "validation", "training", "testing", "Train", "Val", "Test"))


class Finder:
    """Finds photos by what a table calls them.

    files: their paths relative to `folders`, of which there may be several (or none, for archives).
    """

    def __init__(self, files: Iterable[str], folders: Sequence[Path]) -> None:
        self.files = dict.fromkeys(files)
        self.folders = folders
        self._heads = {form.parts for folder in folders for form in (folder.absolute(), folder.resolve())}
        self._by_stem: dict[str, list[str]] = {}
        self._loosely: dict[str, list[str]] | None = None
        self._by_base: dict[str, list[str]] | None = None
        for file in self.files:
            self._by_stem.setdefault(stem(file), []).append(file)

    def find(self, written: str) -> list[str] | None:
        """The photos that a text may mean, at best one; None where it leads outside.

        The path with or without its suffix, with or without the names of the folder in front, absolute or not; in another
        spelling of the same letters, or with other capitals, where only one photo is called so.
        """
        as_written = unicodedata.normalize("NFC", written.strip())
        if as_written in self.files:
            return [as_written]
        wanted = inside(written, self.folders)
        if wanted is None:
            return None
        parts = wanted.split("/")
        tails = [parts[skip:] for skip in range(len(parts)) if skip == 0 or self._leads_here(parts[:skip])]
        for tail in map("/".join, tails):
            if tail in self.files:
                return [tail]
            if tail in self._by_stem:
                return self._by_stem[tail]
        if self._loosely is None:
            self._loosely = {}
            for file in self.files:
                for form in {_loose(file), _loose(stem(file))}:
                    self._loosely.setdefault(form, []).append(file)
        return next((found for tail in tails if (found := self._loosely.get(_loose("/".join(tail))))), [])

    def near(self, written: str) -> str | None:
        """A photo of that base name in another folder, or with another suffix, where there is one alone."""
        if self._by_base is None:
            self._by_base = {}
            for file in self.files:
                self._by_base.setdefault(_loose(stem(file.rpartition("/")[2])), []).append(file)
        found = self._by_base.get(_loose(stem(written.strip().replace("\\", "/").rpartition("/")[2])), [])
        return found[0] if len(found) == 1 else None

    def _leads_here(self, head: list[str]) -> bool:
        return any(tuple(head) == parts[len(parts) - len(head) :] for parts in self._heads)


def _loose(text: str) -> str:
    return clean(text).casefold()


def class_folder_rows(images: Path, files: Iterable[str]) -> tuple[list[Row], list[Problem]]:
    """Rows for one subfolder per class: the first-level folder is the tag; NO_TAG names mean none."""
    rows, problems, stray = [], [], []
    for number, file in enumerate(files, start=1):
        folder, slash, _ = file.partition("/")
        tag = clean(folder)
        if slash:
            rows.append(Row(number, file, () if tag.lower() in NO_TAG else (tag,)))
        else:
            stray.append(file)
    splits = {row.file.partition("/")[0] for row in rows}
    if rows and splits <= _SPLITS and all(row.file.count("/") > 1 for row in rows):
        one = min(splits, key=lambda name: "train" not in name.lower())
        text = (
            f"{images} holds {' and '.join(sorted(splits))}, each with folders of classes; give one of them: "
            f"--images {images / one}"
        )
        problems.append(Problem("class folders", "", text))
    for file in stray:
        text = f"{images / file} lies in no class folder; move it into one, or give a table of tags"
        problems.append(Problem("photo without tags", file, text))
    return rows, problems


def place_rows(
    rows: Iterable[Row], finder: Finder, source: str, problems: list[Problem], *, some: bool = False
) -> dict[str, Row]:
    """The rows by the photo that each means; those that mean none go to `problems`.

    A photo may stand in several rows where each holds one tag: its tags are joined. some: the table may name other photos
    too, and these rows are passed over.
    """
    images = finder.folders[0] if finder.folders else Path("the photos")
    placed: dict[str, list[Row]] = {}
    taken: dict[str, str] = {}
    for row in rows:
        where = f"{source}, row {row.number}"
        matches = finder.find(row.file)
        if not matches and some:
            continue
        if matches is None:
            text = f"{where}: {quoted(row.file)} leads outside the images folder; write a path relative to {images}"
            text += f", such as {near}" if (near := finder.near(row.file)) else ""
            problems.append(Problem("path outside", row.file, text))
        elif not matches:
            problems.append(Problem("missing photo", row.file, f"{where}: {_missing(row.file, finder, images)}"))
        elif len(matches) > 1:
            text = f"{where}: {quoted(row.file)} may mean {matches[0]} or {matches[1]}; write the suffix or rename one"
            problems.append(Problem("duplicate name", row.file, text))
        elif taken.setdefault(stem(matches[0]), matches[0]) != matches[0]:
            text = (
                f"{where}: {matches[0]} and {taken[stem(matches[0])]} differ only in their suffix; rename one of them"
            )
            problems.append(Problem("duplicate name", matches[0], text))
        else:
            placed.setdefault(matches[0], []).append(row)
    return _joined(placed, source, problems)


def _joined(placed: dict[str, list[Row]], source: str, problems: list[Problem]) -> dict[str, Row]:
    one_tag_a_row = all(len(row.tags) == 1 for rows in placed.values() if len(rows) > 1 for row in rows)
    joined, several = {}, []
    for file, rows in placed.items():
        first = rows[0]
        joined[file] = first
        if len(rows) == 1:
            continue
        if one_tag_a_row or all(set(row.tags) == set(first.tags) for row in rows):
            several.append(file)
            joined[file] = Row(first.number, first.file, tuple(dict.fromkeys(tag for row in rows for tag in row.tags)))
            continue
        for row in rows[1:]:
            already = f"{file} stands in row {first.number} already"
            text = f"{source}, row {row.number}: {already}; put all its tags into one row"
            problems.append(Problem("duplicate row", file, text))
    if several:
        count = f"{len(several):,} photo{'s' * (len(several) > 1)}"
        text = f"{source}: {count} in several rows, their tags joined ({several[0]})"
        problems.append(Problem("read as", "", text, fatal=False))
    return joined


def _missing(written: str, finder: Finder, images: Path) -> str:
    end = suffix(written.strip())
    there = inside(written, finder.folders)
    if end and end not in PHOTO_SUFFIXES and there and os.path.isfile(images / there):  # noqa: PTH113
        return f"{quoted(written)} has a format that is not read; {to_read(end)}"
    near = finder.near(written)
    hint = f"; did you mean {near}?" if near else "; correct the row or add the photo"
    return f"{quoted(written)} is not in {images}{hint}"
