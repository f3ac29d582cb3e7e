"""The built site loads nothing from another host, and its headings go down one level at a time."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OTHER = r"[\"']?(?:https?:)?//"
LOADED = re.compile(
    rf"<(?:script|img|iframe|source|video)[^>]*\ssrc={OTHER}"
    rf"|<link[^>]*rel=[\"']?(?:stylesheet|icon|preload)[^>]*href={OTHER}"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    subprocess.run([sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", out], cwd=ROOT, check=True)
    return out


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_site_calls_no_other_host(site: Path) -> None:
    pages = [*site.rglob("*.html")]
    assert len(pages) > 35
    assert not [page.name for page in pages if LOADED.search(page.read_text(encoding="utf-8"))]
    sheets = [*site.rglob("*.css")]
    assert not [sheet.name for sheet in sheets if re.search(rf"url\({OTHER}", sheet.read_text(encoding="utf-8"))]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_headings_leave_out_no_level(site: Path) -> None:
    for page in site.rglob("*.html"):
        levels = [int(level) for level in re.findall(r"<h([1-6])[ >]", page.read_text(encoding="utf-8"))]
        assert levels[:1] == [1] or page.name == "404.html", page
        assert all(after <= before + 1 for before, after in itertools.pairwise(levels)), (page, levels)
