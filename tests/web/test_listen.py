"""A server that opens its own page."""

from __future__ import annotations

import urllib.request
import webbrowser

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from tagseg.errors import UserError
from tagseg.web.guard import Guard
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


def test_the_address_opens_with_every_token_that_is_taken() -> None:
    async def page(request: object) -> PlainTextResponse:
        return PlainTextResponse("here")

    for token in ("a+b/c=", "p&q", "x#y", "100%25", 'a"b;c'):
        address = open_address("127.0.0.1", 0, token)
        app = Starlette(routes=[Route("/", page)], middleware=[Middleware(Guard, hosts=address.hosts, token=token)])
        with TestClient(app, base_url=address.url.partition("?")[0]) as client:
            assert client.get("/").status_code == 401
            assert client.get(address.url).text == "here", token
            assert client.get("/").text == "here", "the cookie does not hold"
        address.socket.close()
    for token in ("ключ", "two words", "line\nbreak"):
        with pytest.raises(UserError, match="no browser sends back"):
            open_address("127.0.0.1", 0, token)
