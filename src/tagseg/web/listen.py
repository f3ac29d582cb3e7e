"""Listening on an address, and saying which."""

from __future__ import annotations

import ipaddress
import secrets
import socket
import threading
import time
import webbrowser
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tagseg.errors import UserError
from tagseg.web.browser import has_desktop

if TYPE_CHECKING:
    from starlette.types import ASGIApp


@dataclass
class Address:
    """Where a server listens. hosts: what the Host header may hold. token: None on loopback, where none is needed."""

    socket: socket.socket
    hosts: tuple[str, ...]
    token: str | None

    @property
    def url(self) -> str:
        """What to open, with the token where there is one."""
        host, port = self.socket.getsockname()[:2]
        if host in ("0.0.0.0", "::"):
            host = own_address()
        shown = f"[{host}]" if ":" in host else host
        return f"http://{shown}:{port}/" + (f"?token={quote(self.token, safe='')}" if self.token else "")


def open_address(host: str, port: int, token: str | None = None, names: tuple[str, ...] = ()) -> Address:
    """Take an address. Beyond loopback a token is made where none is given.

    names: further names by which the server is called, such as that of a machine in the network. Raises UserError when
    the port is taken, the host is none of this machine, or a token is no ASCII without spaces.
    """
    if token is not None and not (token.isascii() and token.isprintable() and " " not in token):
        raise UserError("--token holds a character that no browser sends back: use letters, digits and signs of ASCII.")
    try:
        family, *_, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{host}:{port} cannot be listened on ({reason}): choose another --port, or 0.") from error
    bound = str(listener.getsockname()[0])
    loopback = ipaddress.ip_address(bound.partition("%")[0]).is_loopback
    given = tuple(f"[{each}]" if ":" in each else each for each in (host, bound, *names))
    hosts = ("127.0.0.1", "localhost", "[::1]", *given)
    if not loopback:
        own = own_address()
        hosts = (*hosts, f"[{own}]" if ":" in own else own, socket.gethostname())
        token = token or secrets.token_urlsafe(32)
    return Address(listener, tuple(dict.fromkeys(name.lower() for name in hosts)), token)


def own_address() -> str:
    """The machine's address in its network; no packet is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"


def listen(app: ASGIApp, address: Address, *, say: Callable[[str], Any], browser: bool = False) -> None:
    """Serve until Ctrl-C. browser: open the page, once the server answers, where a desktop would show it."""
    server = make_server(app)
    say(address.url)
    if browser and has_desktop():  # else a browser of the terminal would take it over, and the server never begin
        threading.Thread(target=_open_started, args=(server, address.url), daemon=True).start()
    server.run(sockets=[address.socket])


def _open_started(server: Any, url: str) -> None:
    while not server.started:
        if server.should_exit:
            return
        time.sleep(0.05)
    webbrowser.open(url)


def make_server(app: ASGIApp) -> Any:
    """A uvicorn server of an application, as every command starts it."""
    import uvicorn

    return uvicorn.Server(
        uvicorn.Config(
            app, log_level="warning", access_log=False, server_header=False, lifespan="on", timeout_graceful_shutdown=5
        )
    )
