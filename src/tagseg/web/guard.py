"""Who may ask a server on a person's own machine: names of the host, a token, and no other site's pages."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Sequence
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tagseg.web.body import Answer

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
HEADER = "x-tagseg"  # of writes by a page: another site's page cannot send it without being asked first
READING = ("GET", "HEAD", "OPTIONS")
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


class Guard:
    """Refuses requests before the application sees them, and gives every answer its protecting headers.

    hosts: names that the Host header may hold; any other is an attempt to rebind a foreign name to this machine (400).
    token: what a request must bring, as `?token=` of a page (which becomes a cookie), as that cookie, as `Authorization:
    Bearer`, or as the password of `Basic`; None: nothing (401 else). page_writes: whether writes need the header
    `X-Tagseg`, which only this server's own page sends. Pages of other sites may neither read nor write (403).
    `open_paths` need no token. body_cap: the most bytes that a request's body may have (413).
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: Sequence[str] = LOOPBACK,
        token: str | None = None,
        page_writes: bool = False,
        open_paths: Sequence[str] = (),
        body_cap: int | None = None,
    ) -> None:
        self.app, self.token, self.page_writes, self.open_paths = app, token, page_writes, frozenset(open_paths)
        self.body_cap = body_cap
        if body_cap is not None:
            # A body that does not tell its length. Outside of the guard the refusal of one that does would be plain text.
            self.app = RequestBodyLimitMiddleware(app, body_cap)
        self.hosts = frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or pass on one request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # no websockets here
            return

        async def protected(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for key, value in HEADERS.items():
                    headers.setdefault(key, value)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        refusal = self._refuse(scope)
        if refusal is None:
            await self.app(scope, receive, protected)
        else:
            await refusal(scope, receive, protected)

    def _refuse(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        named = headers.getlist("host")
        if len(named) != 1 or _host(named[0]) not in self.hosts:
            return problem(400, "This server does not answer to that name; open the address that it printed.")
        site = headers.get("sec-fetch-site", "none")
        opens_page = headers.get("sec-fetch-mode") == "navigate" and scope["method"] == "GET"
        origin = headers.get("origin")
        own = origin is None or urlsplit(origin).netloc.lower() == named[0].lower()
        if not own or (site not in ("none", "same-origin") and not opens_page):
            return problem(403, "Pages of other sites may not use this server.")
        writes = scope["method"] not in READING
        if writes and self.page_writes and HEADER not in headers:
            return problem(403, "Writing needs the header X-Tagseg, which this server's own page sends.")
        refusal = None
        if self.token is not None and scope["path"] not in self.open_paths:
            refusal = self._without_token(scope, headers, named[0])
        length = headers.get("content-length", "")
        if refusal is None and self.body_cap is not None and length.isdecimal() and int(length[:19]) > self.body_cap:
            return problem(413, f"The request is too large: it may have at most {self.body_cap:,} bytes.")
        return refusal

    def _without_token(self, scope: Scope, headers: Headers, host: str) -> Response | None:
        assert self.token is not None
        cookie = f"tagseg-{host.rpartition(':')[2] if ':' in host else '80'}"  # cookies do not tell ports apart
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
        if given and scope["method"] == "GET" and self._right(given[0]):
            answer = RedirectResponse(scope["path"] or "/", status_code=303)
            answer.set_cookie(cookie, self.token, httponly=True, samesite="strict", path="/")
            return answer
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        try:
            jar = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            jar = SimpleCookie()
        kept = jar[cookie].value if cookie in jar else ""
        if scheme.lower() == "basic":  # what Label Studio can send: any user, the token as password
            try:
                bearer = base64.b64decode(bearer, validate=True).decode().partition(":")[2]
            except (binascii.Error, UnicodeDecodeError):
                bearer = ""
        if (scheme.lower() in ("bearer", "basic") and self._right(bearer.strip())) or self._right(kept):
            return None
        return problem(401, "A token is needed: open the whole address that the server printed, with ?token=.")

    def _right(self, given: str) -> bool:
        assert self.token is not None
        return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), self.token.encode())


def problem(status: int, detail: str, **more: object) -> Answer:
    """An error as RFC 9457 has it: one sentence in `detail`."""
    return Answer(
        {"type": "about:blank", "status": status, "detail": detail, **more},
        status_code=status,
        media_type="application/problem+json",
    )


def _host(header: str) -> str:
    """The name in a Host header without its port, lower case; "" where it is none."""
    name, colon, port = header.lower().rpartition(":")
    if header.startswith("[") and header.endswith("]"):
        return header.lower()
    if not colon:
        return header.lower()
    return name if port.isdecimal() else ""
