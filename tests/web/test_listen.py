"""A server that opens its own page."""

from __future__ import annotations

import urllib.request
import webbrowser

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from tagseg.web.listen import listen, make_server, open_address


@pytest.mark.parametrize("desktop", [True, False])
def test_the_page_of_a_server_opens_once_it_answers_where_a_desktop_is(
    desktop: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = make_server(Starlette(routes=[Route("/", lambda request: PlainTextResponse("here"))]))
    server.should_exit = not desktop
    read: list[bytes] = []

    def open_browser(url: str) -> None:
        with urllib.request.urlopen(url, timeout=5) as answer:
            read.append(answer.read())
        server.should_exit = True

    monkeypatch.setattr(webbrowser, "open", open_browser)
    monkeypatch.setattr("tagseg.web.listen.has_desktop", lambda: desktop)
    monkeypatch.setattr("tagseg.web.listen.make_server", lambda app: server)
    listen(server.config.app, open_address("127.0.0.1", 0), say=lambda url: None, browser=True)
    assert read == [b"here"] * desktop
