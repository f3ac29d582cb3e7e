"""A stranger's questions are answered within three clicks from the start page."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
LINK = re.compile(r"\[[^\]]*\]\(([^)\s#]*\.md)?(#[^)\s]+)?\)")
QUESTION = re.compile(r"\d+\. \*\*(.+?\?)\*\*\s+\[[^\]]+\]\(\.\./([^)#]+)(?:#([^)]+))?\)", re.DOTALL)
QUESTIONS = QUESTION.findall((DOCS / "project/questions.md").read_text(encoding="utf-8"))


def clicks(start: str = "index.md") -> dict[str, int]:
    """How many links of pages' own text lead from the start page to each page; menus are not counted on."""
    found, todo = {start: 0}, [start]
    while todo:
        page = todo.pop(0)
        text = re.sub(r"```.*?```", "", (DOCS / page).read_text(encoding="utf-8"), flags=re.DOTALL)
        for target, _ in LINK.findall(text):
            linked = posixpath.normpath(posixpath.join(posixpath.dirname(page), target)) if target else page
            if linked not in found and (DOCS / linked).is_file():
                found[linked] = found[page] + 1
                todo.append(linked)
    return found


def anchors(page: str) -> set[str]:
    """The anchors of a page's headings, as the site makes them."""
    heads = re.findall(r"^#+ (.+)$", (DOCS / page).read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", head).strip().lower()) for head in heads}


def test_there_are_ten_questions() -> None:
    assert len(QUESTIONS) == 10
    assert len({question for question, _, _ in QUESTIONS}) == 10


@pytest.mark.parametrize(("question", "page", "anchor"), QUESTIONS)
def test_an_answer_is_three_clicks_away(question: str, page: str, anchor: str) -> None:
    assert clicks()[page] <= 3
    assert not anchor or anchor in anchors(page)


def test_the_start_page_leads_to_the_questions() -> None:
    assert clicks()["project/questions.md"] == 1
