"""The routes of a served model."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tagseg.data.classes import MOST_CLASSES
from tagseg.data.palette import color
from tagseg.errors import UserError
from tagseg.segmenter import Prediction
from tagseg.serve.forms import MASKS, as_huggingface, as_json, mask_png, overlay_jpeg, tag_names, upright_photo
from tagseg.serve.openapi import FORMS, document
from tagseg.serve.service import Busy, Service, TooLarge
from tagseg.web.body import Answer, json_object
from tagseg.web.guard import LOOPBACK, Guard, problem

PAGE = {"index.html": "text/html", "serve.css": "text/css", "serve.js": "text/javascript"}
OPEN = ("/health", "/ready")


@dataclass
class Asked:
    """One request: photos with the names they were sent under, and what is wanted of them."""

    photos: list[tuple[str, bytes]]
    tags: tuple[str, ...] | None = None
    form: str = "json"
    masks: str = "rle"
    upright: bool = False
    crf: bool = True
    threshold: float = 0.0
    several: bool = False


def create_app(
    service: Service, *, hosts: Sequence[str] = LOOPBACK, token: str | None = None, routes: Sequence[Route] = ()
) -> Starlette:
    """The application; it starts the service and ends it. routes: further ones, which go before its own."""
    page = {name: (files("tagseg.serve") / "page" / name).read_bytes() for name in PAGE}
    described = document(service)

    async def static(request: Request) -> Response:
        name = request.path_params.get("name", "index.html")
        if name not in page:
            raise HTTPException(404)
        return Response(page[name], media_type=PAGE[name], headers={"cache-control": "no-cache"})

    async def openapi(_: Request) -> Response:
        return Answer(described)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        service.start()
        yield
        await run_in_threadpool(service.close)

    own = [
        Route("/", static),
        Route("/page/{name}", static),
        Route("/openapi.json", openapi),
        Route("/predict", _predict, methods=["POST"]),
        Route("/health", _health),
        Route("/ready", _ready),
        Route("/info", _info),
        Route("/metrics", _metrics),
    ]
    app = Starlette(
        routes=[*routes, *own],
        lifespan=lifespan,
        middleware=[
            Middleware(Counted, service=service),
            Middleware(Guard, hosts=hosts, token=token, open_paths=OPEN, body_cap=service.limits.bytes),
        ],
        exception_handlers={
            HTTPException: _refused,
            Busy: _busy,
            TooLarge: _answer(413),
            UserError: _answer(422),
            TimeoutError: _busy,
        },
    )
    app.state.service = service
    return app


class Counted:
    """Counts the answers by their status."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app, self.service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and look at its answer."""

        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.service.metrics.answers[message["status"]] += 1
            await send(message)

        await self.app(scope, receive, counting if scope["type"] == "http" else send)


async def _predict(request: Request) -> Response:
    service: Service = request.app.state.service
    asked = await _asked(request, service)
    photos = [await run_in_threadpool(service.decode, content, name) for name, content in asked.photos]
    found = await predict_all(service, photos, asked.tags, asked.crf)
    return await run_in_threadpool(_shaped, asked, photos, found)


async def predict_all(
    service: Service, photos: Sequence[NDArray[np.uint8]], tags: Sequence[str] | None, crf: bool = True
) -> list[Prediction]:
    """Predictions of photos through the queue. Raises Busy when it is full, TimeoutError when they take too long."""
    waiting = []
    try:
        for photo in photos:
            waiting.append(asyncio.wrap_future(service.submit(photo, tags, crf=crf)))
        return list(await asyncio.wait_for(asyncio.gather(*waiting), service.limits.seconds))
    except BaseException:
        for each in waiting:
            each.cancel()  # what has not begun is not done for nobody
        raise


def _shaped(asked: Asked, photos: list[NDArray[np.uint8]], found: list[Prediction]) -> Response:
    if asked.form == "png":
        return Response(mask_png(found[0].mask), media_type="image/png")
    if asked.form == "overlay":
        return Response(overlay_jpeg(photos[0], found[0].mask), media_type="image/jpeg")
    results: list[Any] = (
        [as_huggingface(each, asked.threshold) for each in found]
        if asked.form == "huggingface"
        else [
            {"name": name, **as_json(each, asked.masks), **(upright_photo(file, photo) if asked.upright else {})}
            for (name, file), photo, each in zip(asked.photos, photos, found, strict=True)
        ]
    )
    return Answer(results if asked.several else results[0])


async def _asked(request: Request, service: Service) -> Asked:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    given: dict[str, Any] = {}
    if kind == "multipart/form-data":
        asked, given = await _from_form(request, service)
    elif kind == "application/json":
        asked, given = _from_json(await json_object(request))
    else:
        content = await request.body()
        if not content:
            raise HTTPException(
                400, "The body is empty: send a photo's bytes, a form with `image`, or JSON with `inputs`."
            )
        asked = Asked([("upload", content)], form="huggingface")
    accepted = request.headers.get("accept", "")
    for wanted, form in (("image/png", "png"), ("image/jpeg", "overlay")):
        if accepted.startswith(wanted):
            asked.form = form
    _take(asked, given, service.classes)
    _take(asked, dict(request.query_params), service.classes)  # the address has the last word
    if asked.form in ("png", "overlay") and len(asked.photos) > 1:
        raise HTTPException(400, f"The form {asked.form} holds one photo; ask for json.")
    return asked


async def _from_form(request: Request, service: Service) -> tuple[Asked, dict[str, Any]]:
    photos: list[tuple[str, bytes]] = []
    given: dict[str, Any] = {}
    tags: list[str] = []
    fields = 16 + MOST_CLASSES
    async with request.form(max_files=service.limits.photos, max_fields=fields, max_part_size=10_000) as form:
        for key, value in form.multi_items():
            if isinstance(value, UploadFile):
                photos.append((_name(value.filename), await value.read()))
            elif key == "tags":
                tags.append(value)
            else:
                given[key] = value
    if tags:
        given["tags"] = tags if len(tags) > 1 else tags[0]
    if not photos:
        raise HTTPException(400, "The form holds no photo: send at least one file, as `image`.")
    return Asked(photos, several=len(photos) > 1), given


def _from_json(content: dict[str, Any]) -> tuple[Asked, dict[str, Any]]:
    parameters = content.get("parameters") or {}
    if not isinstance(content.get("inputs"), str) or not isinstance(parameters, dict):
        raise HTTPException(400, "JSON needs `inputs`, a photo in base64, and may have `parameters`, an object.")
    try:
        photo = base64.b64decode(content["inputs"].partition("base64,")[2] or content["inputs"], validate=True)
    except (binascii.Error, ValueError) as error:
        raise HTTPException(400, "`inputs` is no base64.") from error
    return Asked([("upload", photo)], form="huggingface"), parameters


def _take(asked: Asked, given: dict[str, Any], classes: Sequence[str]) -> None:
    """The options of a request; ones that are not known are left alone, as other programs send their own."""
    for key, allowed in (("form", FORMS), ("masks", MASKS)):
        if key in given:
            if given[key] not in allowed:
                raise HTTPException(400, f"{key} should be one of {', '.join(allowed)}.")
            setattr(asked, key, given[key])
    for key in ("crf", "upright"):
        if key in given:
            if str(given[key]).lower() not in ("true", "false", "1", "0"):
                raise HTTPException(400, f"{key} should be true or false.")
            setattr(asked, key, str(given[key]).lower() in ("true", "1"))
    if given.get("threshold") is not None:
        try:
            asked.threshold = float(given["threshold"])
        except (TypeError, ValueError) as error:
            raise HTTPException(400, "threshold should be a number from 0 to 1.") from error
        if not 0 <= asked.threshold <= 1:
            raise HTTPException(400, "threshold should be a number from 0 to 1.")
    tags = given.get("tags")
    if isinstance(tags, str):
        tags = tag_names(tags, classes)
    if tags is not None:
        if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
            raise HTTPException(400, "tags should be names, with commas between or a field each.")
        asked.tags = tuple(tags)


def _name(name: str | None) -> str:
    text = "".join(c if c.isprintable() else "?" for c in name or "upload")
    return text[-120:]


async def _health(_: Request) -> Response:
    return Answer({"status": "UP"})


async def _ready(request: Request) -> Response:
    service: Service = request.app.state.service
    if not service.ready.is_set():
        return problem(503, "The model is warming up.", status_text="DOWN")
    return Answer({"status": "UP"})


async def _info(request: Request) -> Response:
    service: Service = request.app.state.service
    return Answer(
        {
            "name": service.name,
            "version": service.version,
            "classes": [{"name": name, "color": color(k)} for k, name in enumerate(service.classes)],
            "limits": asdict(service.limits),
        }
    )


async def _metrics(request: Request) -> Response:
    service: Service = request.app.state.service
    return PlainTextResponse(service.metrics.text(service.waiting), media_type="text/plain; version=0.0.4")


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    answer = problem(error.status_code, error.detail)
    answer.headers.update(error.headers or {})
    return answer


async def _busy(_: Request, error: Exception) -> Response:
    answer = problem(503, "Too many photos are waiting; try again in a moment.")
    answer.headers["retry-after"] = "2"
    return answer


def _answer(status: int) -> Callable[[Request, Exception], Any]:
    async def answer(_: Request, error: Exception) -> Response:
        return problem(status, str(error))

    return answer
