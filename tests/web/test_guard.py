"""Who is let in, and who is not: foreign names, pages of other sites, wrong tokens."""

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from tagseg.errors import UserError
from tagseg.web.guard import Guard
from tagseg.web.listen import open_address


async def answer(request: Request) -> Response:
    return PlainTextResponse("here")


def client(**options: object) -> TestClient:
    routes = [Route("/", answer, methods=["GET", "POST"]), Route("/health", answer)]
    app = Starlette(routes=routes, middleware=[Middleware(Guard, **options)])  # type: ignore[arg-type]
    return TestClient(app, base_url="http://127.0.0.1:8000")


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "LOCALHOST:1", "[::1]:8000", "[::1]"])
def test_the_own_names_are_answered(host: str) -> None:
    assert client().get("/", headers={"host": host}).text == "here"


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.", "127.0.0.1:8000@evil", "", "[::2]:8000",
     "localhost:80:80", "2130706433", "0x7f.1"],
)  # fmt: skip
def test_a_name_that_was_rebound_to_this_machine_is_refused(host: str) -> None:
    answered = client().get("/", headers={"host": host})
    assert answered.status_code == 400
    assert answered.json()["status"] == 400


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"},
    ],
)
def test_pages_of_other_sites_cannot_write(headers: dict[str, str]) -> None:
    assert client().post("/", headers=headers).status_code == 403


def test_pages_of_other_sites_can_link_here_but_embed_nothing() -> None:
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert client().get("/", headers=link).status_code == 200
    assert client().get("/", headers={"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}).status_code == 403
    answered = client().get("/")
    assert "frame-ancestors 'none'" in answered.headers["content-security-policy"]
    assert answered.headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in answered.headers


def test_writes_of_a_page_bring_a_header_that_other_pages_cannot_send() -> None:
    assert client(page_writes=True).post("/").status_code == 403
    own = {"x-tagseg": "page", "origin": "http://127.0.0.1:8000", "sec-fetch-site": "same-origin"}
    assert client(page_writes=True).post("/", headers=own).text == "here"


def test_a_token_becomes_a_cookie() -> None:
    with client(token="söcret", open_paths=["/health"]) as one:
        assert one.get("/").status_code == 401
        assert one.get("/health").text == "here"
        for wrong in ("?token=", "?token=wrong", "?token=s%C3", "?token=a&token=s%C3%B6cret"):
            assert one.get(f"/{wrong}").status_code == 401
    with client(token="secret") as one:
        for wrong in ("Bearer", "Bearer wrong", "Basic secret", "secret"):
            assert one.get("/", headers={"authorization": wrong}).status_code == 401
        assert one.get("/", headers={"cookie": "tagseg-8000=wrong; =;;"}).status_code == 401
        assert one.get("/", headers={"authorization": "Bearer secret"}).text == "here"
        assert one.get("/", auth=("anyone", "secret")).text == "here"
        assert one.get("/", auth=("secret", "")).status_code == 401
        answered = one.get("/?token=secret", follow_redirects=False)
        assert answered.status_code == 303
        assert answered.headers["location"] == "/"
        cookie = answered.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert one.get("/").text == "here"
        # writes are not opened by a token in the address
        assert client(token="secret").post("/?token=secret").status_code == 401


def test_a_token_is_made_beyond_this_machine_and_a_taken_port_is_said() -> None:
    own = open_address("127.0.0.1", 0)
    other = open_address("0.0.0.0", 0)
    try:
        assert own.token is None
        assert own.url.startswith("http://127.0.0.1:")
        assert other.token is not None
        assert len(other.token) >= 40
        assert f"?token={other.token}" in other.url
        assert "0.0.0.0" not in other.url
        own.socket.listen()
        with pytest.raises(UserError, match="choose another --port"):
            open_address("127.0.0.1", own.socket.getsockname()[1])
        with pytest.raises(UserError, match="cannot be listened on"):
            open_address("192.0.2.7", 0)
    finally:
        own.socket.close()
        other.socket.close()
