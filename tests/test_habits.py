"""What the repository promises beside its code: one ruff everywhere, papers to cite, a changelog that can be read."""

import re
from pathlib import Path

import yaml

import tagseg

ROOT = Path(__file__).parents[1]


def test_pre_commit_lints_with_the_ruff_of_the_constraints() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    pinned = re.search(r"^ruff==(.+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert pinned is not None
    assert [repo["rev"] for repo in hooks] == [f"v{pinned[1]}"]
    assert [hook["id"] for hook in hooks[0]["hooks"]] == ["ruff-check", "ruff-format"]


def test_the_citation_names_the_papers_of_the_methods() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == tagseg.__version__
    assert [paper["notes"].partition(";")[0] for paper in citation["references"]] == ["ASDT", "RRM", "TSCD", "BMP"]
    assert all(paper["title"] and paper["authors"] and paper["year"] for paper in citation["references"])


def test_the_changelog_keeps_its_headings() -> None:
    lines = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
    kinds = [line.removeprefix("### ") for line in lines if line.startswith("### ")]
    assert kinds
    assert set(kinds) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    # no entry stands outside a heading
    section = None
    for line in lines:
        section = None if line.startswith("## ") else line if line.startswith("### ") else section
        assert section or not line.startswith("- "), line
