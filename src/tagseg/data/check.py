"""Looking at every photo, tag and mask once before training does, and saying all that is wrong at once."""

from __future__ import annotations

import csv
import hashlib
import io
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from tagseg.cores import cores
from tagseg.data.folders import look_into, some, stem
from tagseg.data.mask_numbers import MaskNumbers
from tagseg.data.photo import look_at_photo
from tagseg.data.tables import Problem
from tagseg.data.tagged import TaggedImages, collect_tagged
from tagseg.data.text import printable, quoted
from tagseg.errors import UserError
from tagseg.files import write_text

if TYPE_CHECKING:
    from rich.table import Table

SMALL_SIDE = 32  # below this a photo has no room for an object and its surroundings
LONGEST_ASPECT = 50  # above, a photo is a strip
HEADER = ("kind", "file", "stops training", "problem")  # of the list of problems
DARK = 25  # of 255: the brightest value of a photo that comes out black

Progress = Callable[[int, int], None]


@dataclass
class CheckResult:
    """What a set of tagged photos holds, and what is wrong with it.

    per_class, per_combination: photos per class and per set of tags ("cat + dog"; "no tag"), most frequent first.
    short_side, long_side: smallest, median and largest side in pixels of the readable photos.
    masks: how many photos have a true mask.
    problems: in the order of the photos; those with `fatal` keep training from starting or finishing.
    """

    photos: int
    per_class: dict[str, int]
    per_combination: dict[str, int]
    short_side: tuple[int, int, int] | None = None
    long_side: tuple[int, int, int] | None = None
    masks: int = 0
    problems: list[Problem] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether training can run on this."""
        return not any(problem.fatal for problem in self.problems)


def check_photos(
    images: Path,
    tags: Path | None = None,
    *,
    classes: Sequence[str] | None = None,
    masks: Path | None = None,
    separator: str | None = None,
    file_column: str | None = None,
    tags_column: str | None = None,
    progress: Progress | None = None,
) -> CheckResult:
    """Check what `open_tagged` would open with the same arguments, and read every photo and mask.

    Nothing stops at the first problem: unknown tags, tags without photos, photos without tags, duplicates, broken
    files and masks that don't fit are all listed. Raises UserError only where there is nothing to list: a missing
    folder or table. `progress` is called with (photos read, photos).
    """
    folder = look_into(images)
    data, problems = collect_tagged(
        images,
        tags,
        classes=classes,
        masks=masks,
        separator=separator,
        file_column=file_column,
        tags_column=tags_column,
        folder=folder,
    )
    used = {photo.photo for photo in data.photos}
    named = {problem.file for problem in problems}
    by_stem = {photo.name: photo.file for photo in data.photos}
    untagged = []
    for file, path in folder.photos.items():
        if path in used or file in named:
            continue
        if stem(file) in by_stem:
            text = f"{file} is not used: {by_stem[stem(file)]} has the same name and the tags"
            problems.append(Problem("duplicate name", file, text, fatal=False))
        else:
            untagged.append(file)
    if untagged:
        has = "has no row among the tags and will" if len(untagged) == 1 else "have no row among the tags and will"
        text = f"{some(untagged)} {has} not be used"
        problems.append(Problem("photo without tags", untagged[0], text, fatal=False, count=len(untagged)))
    if masks is not None:
        names = {stem(file) for file in folder.photos}
        lost = [file for file in look_into(masks).photos if stem(file) not in names]
        if lost:
            belong = "belongs" if len(lost) == 1 else "belong"
            text = f"mask {some(lost)} {belong} to no photo"
            problems.append(Problem("mask without photo", lost[0], text, fatal=False, count=len(lost)))
    result = check_tagged(data, progress=progress)
    result.problems = problems + result.problems
    return result


def check_tagged(data: TaggedImages, *, progress: Progress | None = None) -> CheckResult:
    """Check an opened set (a VOC folder, say): read every photo and mask, count and compare."""
    per_class: Counter[str] = Counter(dict.fromkeys(data.classes, 0))
    combinations: Counter[str] = Counter()
    for photo in data.photos:
        names = [data.classes[tag - 1] for tag in photo.tags]
        per_class.update(names)
        combinations[" + ".join(names) or "no tag"] += 1
    problems: list[Problem] = []
    if not data.photos:
        problems.append(Problem("no photos", "", "there is no photo with tags, so there is nothing to learn from"))
    for name, count in per_class.items():
        if count == 0:
            text = f"no photo has the tag {name!r}, so this class cannot be learned"
            problems.append(Problem("class without photos", "", text, fatal=False))
    for name in data.classes:
        if ":" in name or name.startswith("#"):
            text = (
                f"class {quoted(name)} cannot be exported to CVAT, whose labelmap.txt takes no ':' and no leading '#'"
            )
            problems.append(Problem("class name", "", text, fatal=False))
    sizes: list[tuple[int, int]] = []
    numbers = MaskNumbers.of(data)
    with ThreadPoolExecutor(cores()) as pool:
        looked = pool.map(lambda i: _look(data, i, numbers), range(len(data)))
        for done, (size, found) in enumerate(looked, start=1):
            if size is not None:
                sizes.append(size)
            problems.extend(found)
            if progress is not None:
                progress(done, len(data))
    if (wrong := numbers.ignored_objects()) is not None:
        problems.append(Problem("mask numbers", "", wrong))
    else:
        problems.extend(Problem("mask numbers", "", text, fatal=False) for text in numbers.broken_promises())
    problems.extend(_duplicates(data))
    return CheckResult(
        len(data),
        dict(per_class.most_common()),
        dict(combinations.most_common()),
        _spread(min(size) for size in sizes),
        _spread(max(size) for size in sizes),
        sum(photo.mask is not None for photo in data.photos),
        problems,
    )


def table(result: CheckResult, *, limit: int = 5) -> Table:
    """The result as one table: counts, sizes and problems, at most `limit` problems of a kind."""
    from rich.markup import escape
    from rich.table import Table

    shown = Table("what", "photos", "", title=f"{result.photos} photos, {len(result.per_class)} classes")
    shown.columns[1].justify = "right"
    for name, count in result.per_class.items():
        shown.add_row(escape(printable(name)), str(count), "")
    shown.add_section()
    # Class names of any folder may hold what controls a terminal.
    several = [
        (printable(name), count) for name, count in result.per_combination.items() if " + " in name or name == "no tag"
    ]
    for name, count in several[: 4 * limit]:
        shown.add_row(escape(name), str(count), "")
    if len(several) > 4 * limit:
        rest = sum(count for _, count in several[4 * limit :])
        shown.add_row(f"{len(several) - 4 * limit} other combinations", str(rest), "")
    shown.add_section()
    for what, spread in (("shorter side", result.short_side), ("longer side", result.long_side)):
        if spread is not None:
            shown.add_row(what, "", "min {} · median {} · max {} px".format(*spread))
    if result.masks:
        shown.add_row("with true mask", str(result.masks), "")
    by_kind: dict[tuple[bool, str], list[Problem]] = defaultdict(list)
    for problem in result.problems:
        by_kind[not problem.fatal, problem.kind].append(problem)
    for (harmless, kind), problems in sorted(by_kind.items()):
        shown.add_section()
        color = "yellow" if harmless else "red"
        for i, problem in enumerate(problems[:limit]):
            head = (f"[{color}]{kind}[/]", str(sum(each.count for each in problems))) if i == 0 else ("", "")
            shown.add_row(*head, escape(problem.text))
        if len(problems) > limit:
            shown.add_row("", "", f"and {len(problems) - limit:,} more (list: --out problems.csv)")
    if not result.problems:
        shown.add_section()
        shown.add_row("[green]no problems[/]", "", "")
    return shown


def check_list(out: Path) -> None:
    """Raise UserError where `out` is there and is no list of `write_problems`."""
    first, ours = ",".join(HEADER).encode(), False
    if out.is_file():
        with out.open("rb") as file:
            ours = file.read(len(first)) == first
    if (out.exists() or out.is_symlink()) and not (out.is_file() and ours):
        raise UserError(f"{out} holds something else than a list of problems: choose another --out.")


def write_problems(result: CheckResult, out: Path) -> None:
    """Write all problems as CSV (kind, file, fatal, text), for lists that are too long for a screen.

    Raises UserError where `out` is a file that is no such list.
    """
    check_list(out)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for problem in result.problems:
        cells = [problem.kind, printable(problem.file), "yes" if problem.fatal else "no", problem.text]
        # A spreadsheet would run what begins so.
        writer.writerow("'" + cell if cell.startswith(("=", "+", "-", "@")) else cell for cell in cells)
    write_text(out, text.getvalue())


def _look(data: TaggedImages, i: int, numbers: MaskNumbers) -> tuple[tuple[int, int] | None, list[Problem]]:
    """Size of a photo (None: unreadable) and what is wrong with it and its mask; the mask is added to `numbers`."""
    photo = data.photos[i]
    name = photo.file
    try:
        facts = look_at_photo(photo.photo, dark=DARK)
    except UserError as error:
        return None, [Problem("broken photo", name, str(error))]
    height, width, pages = facts.height, facts.width, facts.pages
    problems = []
    if min(height, width) < SMALL_SIDE:
        text = f"{name} is only {width} x {height} pixels; leave it out unless that is meant"
        problems.append(Problem("tiny photo", name, text, fatal=False))
    elif max(height, width) > LONGEST_ASPECT * min(height, width):
        text = f"{name} is {width} x {height} pixels, more than {LONGEST_ASPECT} times as long as wide; cut it"
        problems.append(Problem("thin photo", name, text, fatal=False))
    if pages > 1:
        text = f"{name} has {pages} pages, of which one is read; save those you need as photos of their own"
        problems.append(Problem("several pages", name, text, fatal=False))
    if facts.brightest <= DARK:
        text = (
            f"{name} is nearly black (its brightest value is {facts.brightest} of 255); was it stored with fewer bits?"
        )
        problems.append(Problem("empty photo", name, text, fatal=False))
    elif facts.flat and (height, width) != (1, 1):
        problems.append(Problem("empty photo", name, f"{name} is of one color all over", fatal=False))
    try:
        mask_HW = data.mask(i, size=(height, width))
    except UserError as error:
        problems.append(Problem("mask that doesn't fit", name, str(error)))
    else:
        numbers.add(photo.tags, mask_HW)
    return (height, width), problems


def _duplicates(data: TaggedImages) -> Iterable[Problem]:
    """Photos whose files are the same byte for byte; only files of equal length are read again."""
    by_length: dict[int, list[int]] = defaultdict(list)
    for i, photo in enumerate(data.photos):
        try:
            by_length[photo.photo.stat().st_size].append(i)
        except OSError:
            continue  # told as a broken photo already
    first: dict[bytes, int] = {}
    for i in sorted(i for same in by_length.values() if len(same) > 1 for i in same):
        photo = data.photos[i]
        try:
            with photo.photo.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").digest()
        except OSError:
            continue
        other = data.photos[first.setdefault(digest, i)]
        if other is not photo:
            how = "" if other.tags == photo.tags else ", with different tags"
            text = f"{photo.file} is the same file as {other.file}{how}; keep one of them"
            yield Problem("duplicate photo", photo.file, text, fatal=False)


def _spread(sides: Iterable[int]) -> tuple[int, int, int] | None:
    ordered = sorted(sides)
    return (ordered[0], int(median(ordered)), ordered[-1]) if ordered else None
