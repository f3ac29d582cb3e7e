"""The page of a review and what it asks for: routes over a Session.

Masks travel as bytes, a pixel a byte, row by row, packed by gzip: a browser gives pixels of a PNG back only through a
canvas, which may change them.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tagseg.data.palette import color
from tagseg.data.photo import photo_size
from tagseg.errors import UnwritableError, UserError
from tagseg.review.asked import check_review, deed_id, index_of, session_of, target, version_of
from tagseg.review.pictures import asked_again, heat, shown, small
from tagseg.review.session import Answered, Changed, Session
from tagseg.web.body import Answer, json_object
from tagseg.web.guard import LOOPBACK, Guard, problem

BODY_CAP = 64 << 20  # bytes of a packed mask; what it unpacks to is limited by the photo's size
PAGE = {
    "index.html": "text/html",
    "review.css": "text/css",
    "main.js": "text/javascript",
    "actions.js": "text/javascript",
    "server.js": "text/javascript",
    "stage.js": "text/javascript",
    "status.js": "text/javascript",
    "photos.js": "text/javascript",
    "mask.js": "text/javascript",
    "painting.js": "text/javascript",
    "panel.js": "text/javascript",
    "queue.js": "text/javascript",
    "keys.js": "text/javascript",
    "gestures.js": "text/javascript",
}


def create_app(session: Session, *, hosts: Sequence[str] = LOOPBACK, token: str | None = None) -> Starlette:
    """The application; it begins the session's work when it starts, and ends it when it stops."""
    page = {name: (files("tagseg.review") / "page" / name).read_bytes() for name in PAGE}

    async def static(request: Request) -> Response:
        name = request.path_params.get("name", "index.html")
        if name not in page:
            raise HTTPException(404)
        return Response(page[name], media_type=PAGE[name], headers={"cache-control": "no-cache"})

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        session.start()
        yield
        await run_in_threadpool(session.close)

    one = "/api/photos/{i:int}"
    routes = [
        Route("/", static),
        Route("/page/{name}", static),
        Route("/api/session", _about),
        Route("/api/rows", _rows),
        Route("/api/order", _order),
        Route("/api/{event}", _step, methods=["POST"]),
        Route(one, _photo),
        Route(one + "/photo", _picture),
        Route(one + "/thumb", _thumb),
        Route(one + "/mask", _mask),
        Route(one + "/mask", _paint, methods=["PUT"]),
        Route(one + "/mask", _reset, methods=["DELETE"]),
        Route(one + "/cam", _cam),
        Route(one + "/tags", _retag, methods=["PUT"]),
        Route(one + "/decision", _decide, methods=["PUT"]),
    ]
    app = Starlette(
        routes=routes,
        lifespan=lifespan,
        middleware=[Middleware(Guard, hosts=hosts, token=token, page_writes=True, body_cap=BODY_CAP)],
        exception_handlers={
            HTTPException: _http_problem,
            UserError: _user_problem,
            UnwritableError: _unwritable,
            Changed: _changed,
        },
    )
    app.state.session = session
    return app


async def _about(request: Request) -> Response:
    session = session_of(request)
    return Answer(
        {
            "title": session.title,
            "classes": [{"name": name, "color": color(k)} for k, name in enumerate(session.classes)],
            "photos": len(session.photos),
            "labels": session.proposals.can_label,
            "folder": session.folder.name,
            "review": session.id,
            "list": session.listing,
        }
    )


async def _rows(request: Request) -> Response:
    check_review(request, listing=True)
    given = request.query_params.get("since", "0")
    since = int(given) if given.isdecimal() and len(given) < 12 else 0
    revision, rows = await run_in_threadpool(session_of(request).rows, since)
    return _packed(request, Answer({"revision": revision, "rows": rows}))


async def _order(request: Request) -> Response:
    check_review(request, listing=True)
    count = request.query_params.get("count", "50")
    number = min(int(count), 1000) if count.isdecimal() and len(count) < 6 else 50
    chosen = await run_in_threadpool(session_of(request).order, number)
    return Answer([{"i": index, "random": drawn} for index, drawn in chosen])


async def _step(request: Request) -> Response:
    event = request.path_params["event"]
    if event not in ("undo", "redo"):
        raise HTTPException(404)
    check_review(request)
    index = await run_in_threadpool(session_of(request).step, event, deed_id(request))
    return Answer(None if index is None else session_of(request).row(index))


async def _photo(request: Request) -> Response:
    check_review(request, listing=True)
    return Answer(await run_in_threadpool(_described, session_of(request), index_of(request)))


def _described(session: Session, index: int) -> dict[str, Any]:
    photo = session.look(index)
    if photo.problem:
        raise UserError(photo.problem)
    height, width = photo_size(photo.path)
    spots = [] if photo.proposal is None else photo.proposal.doubt.spots
    return {**session.row(index), "width": width, "height": height, "spots": spots}


async def _picture(request: Request) -> Response:
    return await asked_again(request, session_of(request), index_of(request), shown)


async def _thumb(request: Request) -> Response:
    return await asked_again(request, session_of(request), index_of(request), small)


async def _mask(request: Request) -> Response:
    check_review(request, listing=True)
    mask, touched, version = await run_in_threadpool(session_of(request).mask, index_of(request))
    content = await run_in_threadpool(lambda: gzip.compress(mask.tobytes() + touched.tobytes(), 1))
    headers = {
        "content-encoding": "gzip",
        "x-height": str(mask.shape[0]),
        "x-width": str(mask.shape[1]),
        "x-version": str(version),
    }
    return Response(content, media_type="application/octet-stream", headers=headers)


async def _paint(request: Request) -> Response:
    content = await request.body()
    return await _change(
        request, lambda session, index, version, id: _painted(session, index, version, id, content, request.headers)
    )


def _painted(session: Session, index: int, version: int, id: str, content: bytes, headers: Headers) -> None:
    height, width = photo_size(session.photos[index].path)
    expected = 2 * height * width
    if headers.get("content-encoding") == "gzip":
        unpacker = zlib.decompressobj(31)
        try:
            content = unpacker.decompress(content, expected + 1)
        except zlib.error as error:
            raise HTTPException(400, "The mask cannot be unpacked.") from error
    if len(content) != expected:
        raise HTTPException(400, f"A mask of this photo has {height * width} bytes, and as many for what was painted.")
    planes: NDArray[np.uint8] = np.frombuffer(content, dtype=np.uint8).reshape(2, height, width)
    session.paint(index, planes[0], planes[1], version, id=id)


async def _reset(request: Request) -> Response:
    return await _change(request, lambda session, index, version, id: session.reset(index, version, id=id))


async def _retag(request: Request) -> Response:
    tags = (await json_object(request)).get("tags")
    classes = session_of(request).classes
    if not isinstance(tags, list) or not all(type(k) is int and 0 < k < len(classes) for k in tags):
        raise HTTPException(400, f"tags should be a list of class numbers from 1 to {len(classes) - 1}.")
    names = [classes[k] for k in tags]
    return await _change(request, lambda session, index, version, id: session.retag(index, names, version, id=id))


async def _decide(request: Request) -> Response:
    content = await json_object(request)
    state, seconds = content.get("state"), content.get("seconds")
    if not isinstance(state, str):
        raise HTTPException(400, "state should be one of open, accepted, rejected, later.")
    spent = round(float(seconds), 2) if isinstance(seconds, int | float) and 0 <= seconds < 1e6 else None
    return await _change(
        request,
        lambda session, index, version, id: session.decide(index, state, version, spent, id=id),  # type: ignore[arg-type]
    )


async def _change(request: Request, change: Callable[[Session, int, int, str], None]) -> Response:
    session, index, version = session_of(request), target(request), version_of(request)
    with suppress(Answered):
        await run_in_threadpool(change, session, index, version, deed_id(request))
    return Answer(session.row(index))


async def _cam(request: Request) -> Response:
    session = session_of(request)
    given = request.query_params.get("class", "")
    k = int(given) if given.isdecimal() and len(given) < 4 else 0
    if not 0 < k < len(session.classes):
        raise HTTPException(400, f"class should be a number from 1 to {len(session.classes) - 1}.")
    return await asked_again(request, session, index_of(request), lambda session, index: heat(session, index, k))


def _packed(request: Request, response: Response) -> Response:
    """A long answer, packed where the browser unpacks it."""
    if len(response.body) > 10_000 and "gzip" in request.headers.get("accept-encoding", ""):
        response.body = gzip.compress(bytes(response.body), 1)
        response.headers["content-encoding"] = "gzip"
        response.headers["content-length"] = str(len(response.body))
    return response


async def _http_problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return problem(error.status_code, error.detail)


async def _user_problem(_: Request, error: Exception) -> Response:
    return problem(422, str(error))


async def _unwritable(_: Request, error: Exception) -> Response:
    return problem(507, str(error))  # the page keeps the deed, and sends it again


async def _changed(_: Request, error: Exception) -> Response:
    return problem(409, "This photo was changed in another window.")
