"""A folder of results: which of its files tagseg wrote, by which settings, and whether a person has changed them since.

A hidden file in the folder keeps the record, a JSON list a line: [by, overwriting], then [name, checksum] of each file;
`by` stands for model and settings. Lines are only ever added, so a kill at any moment leaves a record that holds.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from tagseg.errors import UserError
from tagseg.files import make_folder, remove_temporaries
from tagseg.foreign import DATA_CAP, read_text, shown
from tagseg.places import inside, is_link


@dataclass
class ResultFolder:
    """Results that were begun (no checksum) or finished, by name, with the settings that made them."""

    out: Path
    record: Path
    by: str
    renewed: bool = False  # whether an overwriting by these settings has begun and has not ended
    all_by: str | None = None  # of a folder from before there were checksums: what made all its files
    made: dict[str, tuple[str, str | None]] = field(default_factory=dict)
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
    ) -> ResultFolder:
        """Take a folder for results, made if need be.

        names: paths below it of the files that may be written, if they are not there yet. rewritten: further ones that
        every call writes anew, as `rewriting` does.

        An overwriting that was interrupted goes on, with `overwrite` or without.
        Raises UserError, before anything is touched, where one of these is there and tagseg did not write it; where
        other settings made it and `overwrite` is not given; where a person has changed what `overwrite`, or any call,
        would write over.
        """
        make_folder(out)
        results = cls(out, out / marker, by, rewritten=tuple(rewritten))
        results._read()
        there = [name for name in (*rewritten, *names) if results._exists(name)]
        foreign = [name for name in there if results.all_by is None and name not in results.made]
        if foreign:
            raise UserError(_foreign(out, foreign[0]))
        afresh = overwrite and not results.renewed
        changed = [name for name in (there if afresh else rewritten) if results._is_changed(name)]
        if changed:
            raise UserError(_changed(out / changed[0]))
        if afresh:
            results._reset()
        elif not results.renewed and any(results._maker(name) != by for name in there):
            raise UserError(
                f"{out} holds results of another model, format or setting: choose another --out, or renew them "
                "with --overwrite."
            )
        remove_temporaries(out)
        results.renewed |= overwrite
        results._add([[by, results.renewed]])
        return results

    def has(self, name: str) -> bool:
        """Whether a finished result of these settings is there."""
        done = self.made.get(name, (self.all_by, "")) if self.all_by is not None else self.made.get(name)
        return done is not None and done[0] == self.by and done[1] is not None and (self.out / name).is_file()

    def begin(self, names: Iterable[str]) -> None:
        """Note that these files are about to be written. Raises UserError where a link would lead one elsewhere."""
        names = list(names)
        for name in names:
            inside(self.out, name)
        self._note(dict.fromkeys(names))

    @contextmanager
    def rewriting(self) -> Iterator[None]:
        """While the block runs, the files that every call writes anew are begun; when it ends well, they are finished.

        Then all is done that was to be done: what `overwrite` began is complete.
        """
        self.begin(self.rewritten)
        yield
        self.wrote(name for name in self.rewritten if (self.out / name).is_file())
        self.end()

    def spare(self, names: Iterable[str]) -> None:
        """Raise UserError where one of these is there and tagseg did not write it, or a person has changed it since."""
        for name in names:
            if self._exists(name) and self.all_by is None and name not in self.made:
                raise UserError(_foreign(self.out, name))
            if self._is_changed(name):
                raise UserError(_changed(self.out / name))

    def wrote(self, names: Iterable[str]) -> None:
        """Note that these files are finished."""
        self._note({name: _checksum(self.out / name) for name in names})

    def end(self) -> None:
        """Note that all is done that was to be done: what --overwrite began is complete."""
        self._add([[self.by, False]])

    def _note(self, files: Mapping[str, str | None]) -> None:
        with self.lock:
            self._add([[name, checksum] for name, checksum in files.items()])
            self.made |= {name: (self.by, checksum) for name, checksum in files.items()}

    def _exists(self, name: str) -> bool:
        try:
            return (self.out / name).exists() or is_link(self.out / name)
        except OSError:
            return False  # a name that no file can have

    def _maker(self, name: str) -> str | None:
        return self.made[name][0] if name in self.made else self.all_by

    def _is_changed(self, name: str) -> bool:
        checksum = self.made.get(name, ("", None))[1]
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
                first, second = json.loads(line)
            except (ValueError, TypeError):
                continue  # cut short by a kill
            if isinstance(second, bool):
                if second and (by, overwriting) != (first, True):
                    self._reset()
                by, overwriting = str(first), second
            else:
                self.made[str(first)] = (by, None if second is None else str(second))
        self.renewed = overwriting and by == self.by

    def _reset(self) -> None:
        """From here on every file that is there is one to replace."""
        self.made = {name: ("", checksum) for name, (_, checksum) in self.made.items()}
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
