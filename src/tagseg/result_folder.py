"""A folder of results: which of its files tagseg wrote, by which settings, and whether a person has changed them since.

A hidden file in the folder keeps the record, a JSON list a line: [by, overwriting], then [name, checksum] of each file,
with what it was made from where that is told; `by` stands for model and settings. Lines are only ever added, so a kill at
any moment leaves a record that holds. One process at a time writes to such a folder.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from tagseg.alone import Alone
from tagseg.errors import UserError
from tagseg.files import make_folder, remove_temporaries
from tagseg.foreign import DATA_CAP, read_text, shown
from tagseg.made_from import MadeFrom
from tagseg.places import inside, is_link

IN_USE = ".tagseg-in-use"  # while a command writes there, whichever it is: some write the same tables


class _Made(NamedTuple):
    """A file of results: what made it, its checksum (none: begun), and what `MadeFrom.now` said."""

    by: str
    checksum: str | None
    source: list[object] | None = None


@dataclass
class ResultFolder:
    """Results that were begun (no checksum) or finished, by name, with the settings that made them."""

    out: Path
    record: Path
    by: str
    alone: Alone
    sources: Mapping[str, MadeFrom]
    renewed: bool = False  # whether an overwriting by these settings has begun and has not ended
    all_by: str | None = None  # of a folder from before there were checksums: what made all its files
    made: dict[str, _Made] = field(default_factory=dict)
    outdated: set[str] = field(default_factory=set)  # finished ones that were made from something else
    rewritten: tuple[str, ...] = ()  # files that every call writes anew
    lock: Lock = field(default_factory=Lock)  # threads may write results side by side

    @classmethod
    def claim(
        cls,
        out: Path,
        marker: str,
        by: str,
        names: Iterable[str],
        *,
        overwrite: bool,
        rewritten: Sequence[str] = (),
        made_from: Mapping[str, MadeFrom] | None = None,
        refused: Callable[[str, list[object] | None], str] | None = None,
        older: bool = False,
        whole: bool = False,
    ) -> ResultFolder:
        """Take a folder for results, made if need be, until `rewriting` ends.

        names: paths below it of the files that may be written, if they are not there yet. rewritten: further ones that
        every call writes anew, as `rewriting` does. made_from: what files are made from, by their names; those that were
        made from something else are made anew. refused: then they are refused instead, unless `overwrite` is given: the
        sentence about one, from its name and what `MadeFrom.now` said. older: whether files in a folder without a record
        are tagseg's, of a version that kept none. whole: whether an overwriting is refused where it would leave results of
        other settings beside the new ones.

        An overwriting that was interrupted goes on, with `overwrite` or without.
        Raises UserError, before anything is touched, where another process writes there; where one of these is there and
        tagseg did not write it; where other settings made it and `overwrite` is not given; where a person has changed
        what would be written over.
        """
        make_folder(out)
        alone = Alone(out / IN_USE)
        results = cls(out, out / marker, by, alone, made_from or {}, rewritten=tuple(rewritten))
        alone.take_or_say(f"Another command writes to {out} at this moment: wait for its end, or choose another --out.")
        if older and not results.record.exists():
            results.all_by = by
        try:
            results._take([*rewritten, *names], overwrite, refused, whole)
        except BaseException:
            alone.release()
            raise
        return results

    def _take(
        self,
        names: Iterable[str],
        overwrite: bool,
        refused: Callable[[str, list[object] | None], str] | None,
        whole: bool,
    ) -> None:
        self._read()
        names = list(names)
        there = [name for name in names if self._exists(name)]
        foreign = [name for name in there if self._is_foreign(name)]
        if foreign:
            raise UserError(_foreign(self.out, foreign[0]))
        afresh = overwrite and not self.renewed
        if afresh and whole and (stay := self._would_stay(names)) is not None:
            raise UserError(
                f"{self.out / stay} is a result of another model, format or setting, and --overwrite renews the results of "
                "the photos given alone: give all of them, remove those of the others, or choose another --out."
            )
        if not overwrite and not self.renewed and any(self._maker(name) != self.by for name in there):
            raise UserError(
                f"{self.out} holds results of another model, format or setting: choose another --out, or renew them "
                "with --overwrite."
            )
        self.outdated = set() if afresh else {name for name in there if self._is_outdated(name)}
        if refused is not None and not overwrite:
            for name in sorted(self.outdated):
                raise UserError(
                    f"{refused(name, self.made[name].source)}: choose another --out, or renew the results with --overwrite."
                )
        lost = there if afresh else [name for name in there if name in self.rewritten or not self.has(name)]
        changed = [name for name in lost if self._is_changed(name)]
        if changed:
            raise UserError(_changed(self.out / changed[0]))
        if afresh:
            self._reset()
        remove_temporaries(self.out)
        self.renewed |= overwrite
        self._add([[self.by, self.renewed]])

    def _would_stay(self, names: Sequence[str]) -> str | None:
        """A finished result of other settings that is none of `names`, but of their kind; None where there is none."""
        renewed, kinds = set(names), {Path(name).suffix for name in set(names) - set(self.rewritten)}
        for name, one in self.made.items():
            of_others = one.by != self.by and one.checksum is not None and name not in renewed
            if of_others and Path(name).suffix in kinds and (self.out / name).is_file():
                return name
        return None

    @classmethod
    def _look(cls, out: Path, marker: str) -> ResultFolder:
        results = cls(out, out / marker, "", Alone(out / IN_USE), {})
        results._read()
        return results

    @classmethod
    def check_unchanged(cls, out: Path, marker: str) -> None:
        """Raise UserError where a person has changed one of the results in a folder since it was written."""
        results = cls._look(out, marker)
        for name in results.made:
            if results._is_changed(name):
                raise UserError(_changed(out / name))

    @classmethod
    def wrote_it(cls, out: Path, marker: str, name: str) -> bool:
        """Whether a file is there as tagseg wrote it."""
        results = cls._look(out, marker)
        made = results.made.get(name)
        return made is not None and made.checksum is not None and not results._is_changed(name)

    @classmethod
    def is_foreign(cls, out: Path, marker: str, name: str) -> bool:
        """Whether a file is there that tagseg did not write."""
        there = (out / name).exists() or is_link(out / name)  # asked first: a record may be long
        return there and cls._look(out, marker)._is_foreign(name)

    @classmethod
    def makers(cls, out: Path, marker: str) -> set[str]:
        """What made the finished results that are there."""
        results = cls._look(out, marker)
        return {one.by for name, one in results.made.items() if one.checksum is not None and (out / name).is_file()}

    def has(self, name: str) -> bool:
        """Whether a finished result of these settings is there."""
        done = self.made.get(name, None if self.all_by is None else _Made(self.all_by, ""))
        finished = done is not None and done.by == self.by and done.checksum is not None
        return finished and name not in self.outdated and (self.out / name).is_file()

    def begin(self, names: Iterable[str]) -> None:
        """Note that these files are about to be written. Raises UserError where a link would lead one elsewhere."""
        names = list(names)
        for name in names:
            inside(self.out, name)
        self._note(dict.fromkeys(names))

    @contextmanager
    def rewriting(self) -> Iterator[None]:
        """While the block runs, the files that every call writes anew are begun; when it ends well, they are finished.

        Then all is done that was to be done: what `overwrite` began is complete. However it ends, the folder is free.
        """
        try:
            self.begin(self.rewritten)
            yield
            self.wrote(name for name in self.rewritten if (self.out / name).is_file())
            self._add([[self.by, False]])
        finally:
            self.alone.release()

    def spare(self, names: Iterable[str]) -> None:
        """Raise UserError where one of these is there and tagseg did not write it, or a person has changed it since."""
        for name in names:
            if self._is_foreign(name):
                raise UserError(_foreign(self.out, name))
            if self._is_changed(name):
                raise UserError(_changed(self.out / name))

    def wrote(self, names: Iterable[str]) -> None:
        """Note that these files are finished."""
        self._note({name: _checksum(self.out / name) for name in names})

    def _note(self, files: Mapping[str, str | None]) -> None:
        made = {
            name: _Made(self.by, checksum, None if checksum is None else self._source(name))
            for name, checksum in files.items()
        }
        with self.lock:
            self._add(
                [[name, one.checksum, *([] if one.source is None else [one.source])] for name, one in made.items()]
            )
            self.made |= made
            self.outdated -= made.keys()

    def _source(self, name: str) -> list[object] | None:
        return self.sources[name].now() if name in self.sources else None

    def _exists(self, name: str) -> bool:
        try:
            return (self.out / name).exists() or is_link(self.out / name)
        except OSError:
            return False  # a name that no file can have

    def _is_foreign(self, name: str) -> bool:
        return self._exists(name) and self.all_by is None and name not in self.made

    def _maker(self, name: str) -> str | None:
        return self.made[name].by if name in self.made else self.all_by

    def _is_outdated(self, name: str) -> bool:
        return (
            name in self.sources
            and name in self.made
            and self.has(name)
            and not self.sources[name].was(self.made[name].source)
        )

    def _is_changed(self, name: str) -> bool:
        checksum = self.made.get(name, _Made("", None)).checksum
        return checksum is not None and (self.out / name).is_file() and _checksum(self.out / name) != checksum

    def _read(self) -> None:
        if is_link(self.record) or not self.record.exists():
            return
        by, overwriting = "", False
        for line in read_text(self.record, "the record of a folder of results", DATA_CAP).splitlines():
            if re.fullmatch("[0-9a-f]{64}", line):
                self.all_by = line
                continue
            try:
                first, second, *source = json.loads(line)
            except (ValueError, TypeError):
                continue  # cut short by a kill
            if isinstance(second, bool):
                if second and (by, overwriting) != (first, True):
                    self._reset()
                by, overwriting = str(first), second
            else:
                known = source[0] if source and isinstance(source[0], list) and len(source[0]) == 3 else None
                self.made[str(first)] = _Made(by, None if second is None else str(second), known)
        self.renewed = overwriting and by == self.by

    def _reset(self) -> None:
        """From here on every file that is there is one to replace."""
        self.made = {name: one._replace(by="") for name, one in self.made.items()}
        self.all_by = self.all_by and ""

    def _add(self, lines: list[list[object]]) -> None:
        if is_link(self.record):
            raise UserError(f"{self.record} is a link: remove it, or choose another --out.")
        try:
            with self.record.open("a", encoding="utf-8", newline="\n") as file:
                # a newline first: a kill may have cut the last line short
                file.write("".join(f"\n{json.dumps(line)}" for line in lines))
        except OSError as error:
            raise UserError(
                f"{self.record} cannot be written: {error.strerror or error}; make room or allow writing, then run the "
                "same command again."
            ) from error


def _foreign(out: Path, name: str) -> str:
    return f"{out} holds {shown(name)}, which this command did not write: choose another --out, so that it is not written over."


def _changed(path: Path) -> str:
    return f"{path} has been changed since tagseg wrote it: choose another --out, or move the changed files away."


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]
