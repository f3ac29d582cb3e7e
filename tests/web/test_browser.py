"""A page opens by itself where somebody would see it, and nowhere else."""

from __future__ import annotations

import sys
import webbrowser
from pathlib import Path

import pytest

from tagseg.web.browser import has_desktop, open_page


@pytest.mark.parametrize(
    ("environ", "platform", "seen"),
    [
        ({"DISPLAY": ":0"}, "linux", True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, "linux", True),
        ({}, "linux", False),
        ({}, "darwin", True),
        ({}, "win32", True),
        ({"DISPLAY": ":0", "CI": "true"}, "linux", False),
        ({"DISPLAY": ":0", "CI": "false"}, "linux", True),
        ({"DISPLAY": "localhost:10.0", "SSH_CONNECTION": "10.0.0.1 5 10.0.0.2 22"}, "linux", False),
        ({"SSH_TTY": "/dev/pts/1"}, "darwin", False),
    ],
)
def test_a_desktop_is_a_screen_in_front_of_a_person(environ: dict[str, str], platform: str, seen: bool) -> None:
    assert has_desktop(environ, platform) is seen


def test_a_page_opens_by_its_address_and_only_for_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: opened.append(url) or True)
    monkeypatch.setattr("tagseg.web.browser.has_desktop", lambda: True)
    page = tmp_path / "a b.html"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False, raising=False)
    assert not open_page(page)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert open_page(page)
    assert opened == [page.resolve().as_uri()]
    assert opened[0].endswith("a%20b.html")
