"""Prepare a data set of the papers: archives, photos, masks, lists and tags in one folder. Reads top to bottom.

A part is made below `.preparing` and renamed into its place when all of it is there, so what has a place is whole, and the
same command goes on after any stop.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tagseg import __version__
from tagseg.alone import held_alone
from tagseg.datasets import DATASETS
from tagseg.datasets.archive import Archive, At
from tagseg.datasets.dataset import DataSet, Finding, Options, Part, Workspace
from tagseg.datasets.download import download
from tagseg.errors import UserError
from tagseg.files import make_folder, write_text
from tagseg.foreign import read_json
from tagseg.interrupt import Interruption
from tagseg.quoting import shell_line
from tagseg.workflows.prepare_plan import Plan, make_plan

RECORD = "prepared.json"
"""What a folder was prepared from, and by which choices."""
STAGING, LOCK = ".preparing", ".preparing.lock"


def known(name: str) -> DataSet:
    """A data set by its name. Raises UserError that lists the names."""
    if name not in DATASETS:
        raise UserError(f"There is no data set {name!r}: choose one of {', '.join(DATASETS)}.")
    return DATASETS[name]


def prepare(
    name: str,
    root: Path,
    *,
    archives: Path | None = None,
    options: Options | None = None,
    dry_run: bool = False,
    say: Callable[[str], object] = print,
) -> list[Finding]:
    """Make what a data set lacks in `root`, and return what `check` finds there in the end.

    archives: folder where archives lie, and where those that lack are loaded to; None: `root`/archives. dry_run: only
    say the plan. Raises UserError for whatever is not as it should be, Interrupted when asked to stop; nothing that is
    half made has a place then, and the same call goes on.
    """
    dataset, options = known(name), options or Options()
    if archives is not None and not archives.is_dir():
        raise UserError(f"The folder of archives {archives} does not exist: create it, or leave --archives out.")
    _same_choices(dataset, root, options)
    plan = make_plan(dataset, root, archives, options)
    for line in plan.lines(dataset, root):
        say(line)
    if dry_run:
        return []
    make_folder(root)
    plan.check_room(root)
    busy = f"Another command prepares {root} at this moment: wait for it."
    with Interruption(), held_alone(root / LOCK, busy, "--root"), _Bars() as bars:
        got = _Archives(plan, root / STAGING / "verified.json", bars.bar)
        for part in plan.todo:
            _make(part, dataset, root, got, bars.bar, options)
        if plan.todo:
            _record(dataset, root, options, got.digests)
            shutil.rmtree(root / STAGING, ignore_errors=True)
    findings = dataset.check(root)
    wrong = [finding.wrong for finding in findings if finding.wrong]
    if wrong:
        more = f" ({len(wrong) - 1} more: `tagseg data check {name}` lists all)" if len(wrong) > 1 else ""
        raise UserError(f"{wrong[0]}{more}.")
    if plan.load:
        say(f"The archives in {plan.downloads} are no longer needed.")
    say(f"{dataset.name} is in {root}. Next: {dataset.use.format(root=shell_line(root))}")
    return findings


def check(name: str, root: Path) -> list[Finding]:
    """What lies in a folder against what the data set should hold. Raises UserError where there is no folder."""
    if not root.is_dir():
        raise UserError(f"{root} is not there: `tagseg data prepare {name} --root {shell_line(root)}` makes it.")
    return known(name).check(root)


def findings_table(findings: list[Finding], title: str) -> Table:
    """Findings as rows."""
    table = Table("what", "found", "wrong", title=title)
    for finding in findings:
        table.add_row(finding.what, finding.found, finding.wrong or "", style="red" if finding.wrong else "")
    return table


class _Archives:
    """Archives that are verified: found ones once, as long as they stay as they are; the others are loaded."""

    def __init__(self, plan: Plan, record: Path, bar: Callable[[str, int], Any]) -> None:
        self.plan, self.record, self.bar = plan, record, bar
        self.paths: dict[str, Path] = {}
        self.verified: dict[str, Any] = {}
        if record.is_file():
            content = read_json(record, "a list of verified archives", fix="remove it")
            self.verified = content if isinstance(content, dict) else {}
        self.digests = {name: str(facts[3]) for name, facts in self.verified.items()}

    def __call__(self, archive: Archive) -> Path:
        """The archive's file, verified."""
        if archive.file not in self.paths:
            found = self.plan.found.get(archive.file)
            if found is None:
                make_folder(self.plan.downloads)
                with self.bar(f"Loading {archive.file}", archive.bytes) as at:
                    found, digest = download(archive, self.plan.downloads, at)
                self._note(archive, found, digest)
            else:
                self._verify(archive, found)
            self.paths[archive.file] = found
        return self.paths[archive.file]

    def _verify(self, archive: Archive, path: Path) -> None:
        if self.verified.get(archive.file, [])[:3] != _state(path):
            with self.bar(f"Checking {archive.file}", path.stat().st_size) as at:
                self._note(archive, path, archive.verify(path, at))

    def _note(self, archive: Archive, path: Path, digest: str) -> None:
        self.digests[archive.file] = digest
        self.verified[archive.file] = [*_state(path), digest]
        self.record.parent.mkdir(parents=True, exist_ok=True)
        write_text(self.record, json.dumps(self.verified))


def _state(path: Path) -> list[str | int]:
    facts = path.stat()
    return [str(path.resolve()), facts.st_size, facts.st_mtime_ns]


def _make(
    part: Part,
    dataset: DataSet,
    root: Path,
    archive: Callable[[Archive], Path],
    bar: Callable[[str, int], Any],
    options: Options,
) -> None:
    """Make a part below the staging folder and rename what lacks into its place."""
    choices = "".join(f"-{value}" for value in dataset.choices(options).values())
    staging = root / STAGING / (part.title.replace(" ", "-") + choices)
    staging.mkdir(parents=True, exist_ok=True)
    try:
        part.make(Workspace(root, staging, archive, bar))
        for place in part.missing:
            (root / place).parent.mkdir(parents=True, exist_ok=True)
            (staging / place).rename(root / place)
    except OSError as error:
        raise UserError(
            f"{part.title} could not be made in {root}: {error.strerror or error}; make room or allow writing, then run the "
            "same command again."
        ) from error


def _same_choices(dataset: DataSet, root: Path, options: Options) -> None:
    """Raises UserError where the folder was prepared by other choices."""
    if (root / RECORD).is_file():
        content = read_json(root / RECORD, "the record of a preparation", fix="remove it")
        before = content.get("choices", {}) if isinstance(content, dict) else {}
        of = content.get("name") if isinstance(content, dict) else None
        if of != dataset.name:
            raise UserError(f"{root} holds the data set {of}: choose another --root for {dataset.name}.")
        for key, value in dataset.choices(options).items():
            if before.get(key, value) != value:
                raise UserError(f"{root} was prepared with --{key} {before[key]}: choose another --root for {value}.")


def _record(dataset: DataSet, root: Path, options: Options, digests: dict[str, str]) -> None:
    path = root / RECORD
    before = (
        read_json(path, "the record of a preparation", fix="remove it").get("archives", {}) if path.is_file() else {}
    )
    facts = {
        "name": dataset.name,
        "choices": dataset.choices(options),
        "archives": {**before, **digests},
        "tagseg": __version__,
    }
    write_text(path, json.dumps(facts, indent=2))


class _Bars:
    """Progress bars on standard error, one for what is going on."""

    def __init__(self) -> None:
        text = TextColumn("{task.description}", markup=False)
        self.progress = Progress(
            text,
            BarColumn(30),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )

    def __enter__(self) -> _Bars:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    @contextmanager
    def bar(self, text: str, total: int) -> Iterator[At]:
        """A bar of `total`; what is yielded is told how far it is."""
        task = self.progress.add_task(text, total=max(total, 1))
        try:
            yield lambda done: self.progress.update(task, completed=done)
        finally:
            self.progress.remove_task(task)
