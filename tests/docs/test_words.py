"""The rules for the words and lines of the pages."""

from __future__ import annotations

import re
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
    return [s for p in paragraphs for s in re.split(r"(?<=[.!?:])\s+", " ".join(p.split())) if s]


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
