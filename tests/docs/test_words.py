"""The rules for the words and lines of the pages."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MARKDOWN = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in (ROOT.glob("*.md"), (ROOT / "docs").rglob("*.md"), (ROOT / ".github").rglob("*.md"))
    for path in folder
)
LOGS = ("CHANGELOG.md", "docs/results/", "docs/settings.md")  # what was measured and changed; the program's own words
GUIDES = [page for page in MARKDOWN if not page.startswith(LOGS)]


def sentences(text: str) -> list[str]:
    """The sentences of a page, without code, tables, pictures and the targets of links."""
    text = re.sub(r"^\s*```.*?^\s*```", "\n\n", text, flags=re.DOTALL | re.MULTILINE)
    lines = [line for line in text.splitlines() if not re.match(r"(\s*\||    |#|===|!\[)", line)]
    text = re.sub(r"\]\([^)]*\)", "]", "\n".join(lines))
    paragraphs = re.split(r"\n\s*\n|\n(?=\s*(?:-|\d+\.) )", text)
    return [s for p in paragraphs for s in re.split(r"(?<=[.!?])\s+", " ".join(p.split())) if s]


def test_sentences_are_split_where_they_end() -> None:
    text = "One two. Three `a.b` four\nfive!\n\n- six\n- seven [eight](nine.md)\n\n    code here\n\n| a | b |\n"
    assert sentences(text) == ["One two.", "Three `a.b` four five!", "- six", "- seven [eight]"]


@pytest.mark.parametrize("page", GUIDES)
def test_no_sentence_has_more_than_25_words(page: str) -> None:
    long = [s for s in sentences((ROOT / page).read_text(encoding="utf-8")) if len(s.split()) > 25]
    assert not long


@pytest.mark.parametrize("page", MARKDOWN)
def test_no_line_has_more_than_120_characters(page: str) -> None:
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    assert not [f"{number}: {line}" for number, line in enumerate(lines, 1) if len(line) > 120]


def unmade(text: str) -> list[str]:
    """Lists and tables that the site would print as running text, and tables without a word in a head's cell."""
    text = re.sub(r"^\s*```.*?^\s*```", "\n\n", text, flags=re.DOTALL | re.MULTILINE)
    found = []
    for before, line in pairwise(text.splitlines()):
        item = re.match(r"([-*]|1\.) ", line)
        goes_on = re.match(r"\s|[-*] |\d+\. ", before) or not before
        if (item and not goes_on) or (line.startswith("|") and before and not before.startswith("|")):
            found.append(line)
        if re.match(r"\|[-:| ]+\|$", line) and re.search(r"\|\s*\|", before):
            found.append(before)
    return found


def test_unmade_lists_and_tables_are_found() -> None:
    assert unmade("text\n- item\n\n| | b |\n|---|---|\n| c | |\n") == ["- item", "| | b |"]
    assert unmade("## Head\n| a | b |\n|--|--|\n") == ["| a | b |"]
    assert not unmade("text\n\n- item\n  goes on\n- item\n\n```\na\n- b\n```\n")


@pytest.mark.parametrize("page", MARKDOWN)
def test_lists_and_tables_are_made(page: str) -> None:
    assert not unmade((ROOT / page).read_text(encoding="utf-8"))


BRITISH = re.compile(
    r"colour|neighbour|labell(ed|ing)(?!by)|\bgrey|centre|behaviour|(optim|normal|recogn|initial|organ|summar)is(e|ing|ation)",
    re.IGNORECASE,
)
FORMER = {  # names from before that still work, and names of others
    "normalise_cam", '"colour": "color", "grey": "gray"', "labelled_mean", '"centre": True', "`.centre`", "greyhound",
}  # fmt: skip


def test_words_and_names_are_spelled_as_in_america() -> None:
    places = [ROOT / "src/tagseg", ROOT / "docs", ROOT / "benchmarks", ROOT / ".github"]
    kinds = (".py", ".md", ".yaml", ".yml", ".html", ".js", ".css", ".j2", ".ipynb")
    files = [path for place in places for path in place.rglob("*") if path.suffix in kinds] + list(ROOT.glob("*.md"))
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in files
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if BRITISH.search(line) and not any(name in line for name in FORMER)
    ]
    assert not found
