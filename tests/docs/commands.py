"""The commands that the pages print, as words."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
THINGS = (
    "a GPU",
    "PASCAL VOC",
    "voc-animals",
    "tile-defects",
    "a review",
    "other tags",
    "PNG masks",
    "the network",
    "an object store",
    "the method above",
)
NEEDS = re.compile(rf"#.*\bneeds ({'|'.join(THINGS)})\b")
PLACEHOLDERS = {"DIR": "data", "N": "0", "RUN": "runs/mine", "TEACHER": "runs/mine", "MASKS": "masks"}


@dataclass(frozen=True)
class Command:
    """A line of a page. needs: what a test does not have, in the page's own words; empty: it can be run."""

    page: str
    line: str
    needs: str

    @property
    def words(self) -> list[str]:
        """What follows `tagseg`, placeholders filled in."""
        line = re.sub(r"\b(DIR|N|RUN|TEACHER|MASKS)\b", lambda found: PLACEHOLDERS[found[0]], self.line)
        words = shlex.split(line.replace("\\S", "/S").replace("\\t", "/t"), comments=True)
        start = next(i for i, word in enumerate(words) if re.fullmatch(r"(.*/)?tagseg", word))
        return [word for word in words[start + 1 :] if word not in ("&&", "|")]


def commands(page: str) -> Iterator[Command]:
    """Every line of a page's blocks, fenced or indented, that calls tagseg.

    What it needs stands behind it, or on a line of its own above: then it holds to the end of the block.
    """
    above = ""
    for line in _code(page):
        found = NEEDS.search(line)
        if not line or line.startswith("#"):
            above = found[1] if found else ""
        elif re.search(r"(^|&& |[/\\]|-m |[$] )tagseg [a-z]", line):
            yield Command(page, line.removeprefix("$ "), found[1] if found else above)


def _code(page: str) -> Iterator[str]:
    """The lines of code of a page, an empty one between blocks; a line that goes on below is one."""
    fenced, before = False, ""
    for raw in (ROOT / page).read_text(encoding="utf-8").splitlines():
        if re.match(r"\s*```", raw):
            fenced = not fenced
            yield ""
        elif not fenced and not raw.startswith("    "):
            yield ""
        else:
            line = before + raw.strip()
            before = f"{line[:-1].rstrip()} " if line.endswith(" \\") else ""
            if not before:
                yield line
