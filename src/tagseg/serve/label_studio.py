"""The ML backend that Label Studio asks: masks for tasks, with their tags where they have some, and masks of clicks.

Shapes: H W pixels, K classes with background.
"""

from __future__ import annotations

from collections.abc import Mapping
from http.client import HTTPException as HTTPClientError
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import parse_qs, quote, unquote, urlsplit
from urllib.request import HTTPRedirectHandler, build_opener
from urllib.request import Request as Get

import numpy as np
from numpy.typing import NDArray
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tagseg.errors import UserError
from tagseg.foreign import read_bytes, shown
from tagseg.outputs.label_interface import Controls, read_controls
from tagseg.outputs.label_studio import LOCAL_FILES, choices, regions
from tagseg.segmenter import Prediction
from tagseg.serve.app import predict_all
from tagseg.serve.forms import tag_names
from tagseg.serve.service import Service
from tagseg.web.body import Answer, json_object

LOOPBACK_HINT = (
    "Label Studio asks addresses of its own machine only when it was started with ML_BLOCK_LOCAL_IP=false and "
    "SSRF_PROTECTION_ENABLED=false."
)
TASKS_CAP = 64


class Backend:
    """Answers of one model to one Label Studio.

    images: folder of the photos that tasks name as local files. url, access: a Label Studio from which photos that were
    uploaded there are fetched, and its token; no other address is ever asked. Raises UserError for an address that is none.
    """

    def __init__(
        self, service: Service, *, images: Path | None = None, url: str | None = None, access: str | None = None
    ) -> None:
        self.service, self.images, self.access = service, images, access
        self.url = None if url is None else _checked(url).rstrip("/")

    def routes(self) -> list[Route]:
        """The five addresses that Label Studio knows."""
        return [
            Route("/health", self._health),
            Route("/setup", self._setup, methods=["POST"]),
            Route("/predict", self._predict, methods=["POST"]),
            Route("/versions", self._versions),
            Route("/webhook", self._webhook, methods=["POST"]),
        ]

    async def _health(self, _: Request) -> Response:
        return Answer({"status": "UP", "model_class": self.service.name})

    async def _setup(self, request: Request) -> Response:
        await json_object(request)
        return Answer({"model_version": self.service.version})

    async def _versions(self, _: Request) -> Response:
        return Answer({"versions": [self.service.version]})

    async def _webhook(self, request: Request) -> Response:
        await json_object(request)  # taken note of by nobody: masks come back by `tagseg import`
        return Answer({"status": "ok"})

    async def _predict(self, request: Request) -> Response:
        asked = await json_object(request)
        tasks = asked.get("tasks")
        if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks) or len(tasks) > TASKS_CAP:
            raise HTTPException(400, f"tasks should be a list of at most {TASKS_CAP} tasks.")
        controls = read_controls(str(asked.get("label_config") or ""))
        context = (asked.get("params") or {}).get("context") if isinstance(asked.get("params"), dict) else None
        results = []
        for task in tasks:  # one entry a task, in order
            photo_HW3 = await run_in_threadpool(self._photo, task, controls)
            clicks = _clicks(context)
            tags = clicked_tags(clicks) or task_tags(task, controls, self.service.classes[1:])
            (prediction,) = await predict_all(self.service, [photo_HW3], tags)
            results.append(await run_in_threadpool(self._answer, prediction, controls, clicks, tags))
        return Answer({"results": results})

    def _answer(
        self, prediction: Prediction, controls: Controls, clicks: list[dict[str, Any]], tags: tuple[str, ...] | None
    ) -> dict[str, Any]:
        mask_HW = clicked_mask(prediction, clicks) if clicks else prediction.mask
        names = [name if name in controls.labels else "" for name in prediction.classes]
        known_HW = np.where(np.array([bool(name) for name in names])[mask_HW], mask_HW, np.uint8(0))
        result = regions(known_HW, prediction.classes, from_name=controls.brush, to_name=controls.image)
        if controls.tags is not None and not clicks:
            found = [prediction.classes[k] for k in np.unique(mask_HW) if k] if tags is None else list(tags)
            result.append(choices(found, id="tags", from_name=controls.tags, to_name=controls.image))
        score = float(prediction.confidence.mean())
        return {"model_version": self.service.version, "score": round(min(max(score, 0), 1), 4), "result": result}

    def _photo(self, task: Mapping[str, Any], controls: Controls) -> NDArray[np.uint8]:
        data = task.get("data")
        address = data.get(controls.value) if isinstance(data, dict) else None
        if not isinstance(address, str) or len(address) > 4000:
            raise UserError(f"The task {shown(task.get('id'))} has no address of a photo in data.{controls.value}.")
        return self.service.decode(self._content(address), shown(address))

    def _content(self, address: str) -> bytes:
        try:
            parts = urlsplit(address)
        except ValueError as error:
            raise UserError(f"The address {shown(address)} of a photo is none: {error}.") from error
        if parts.path == urlsplit(LOCAL_FILES).path and self.images is not None:
            named = parse_qs(parts.query).get("d", [""])[0]
            root = self.images.resolve()
            try:
                path = (root.parent / named).resolve()
            except (OSError, ValueError) as error:  # a NUL, which no name holds
                raise UserError(f"The address {shown(address)} of a photo is none: {error}.") from error
            if not path.is_relative_to(root):
                raise UserError(f"{shown(named)} lies outside {root.name}, the folder given with --images.")
            return read_bytes(path, "a photo", self.service.limits.bytes)
        if self.url is None:
            raise UserError(
                f"The photo {shown(address)} is not in the folder given with --images: give it, or the address of Label "
                "Studio with --label-studio-url and its token in LABEL_STUDIO_TOKEN."
            )
        own = urlsplit(self.url)
        elsewhere = parts.netloc and (parts.scheme, parts.netloc) != (own.scheme, own.netloc)
        if elsewhere or not parts.path.startswith("/"):  # without the slash it would go on with the host's name or port
            raise UserError(f"The photo {shown(address)} lies elsewhere; photos are fetched from {self.url} alone.")
        query = f"?{parts.query}" if parts.query else ""
        return self._fetch(f"{own.scheme}://{own.netloc}{quote(unquote(parts.path))}{query}")

    def _fetch(self, url: str) -> bytes:
        headers = {"Authorization": f"Token {self.access}"} if self.access else {}
        cap = self.service.limits.bytes
        try:
            with build_opener(_NoRedirects).open(Get(url, headers=headers), timeout=20) as answer:
                content: bytes = answer.read(cap + 1)
        except (URLError, OSError, ValueError, HTTPClientError) as error:
            raise UserError(f"The photo {shown(url)} cannot be fetched: {error}.") from error
        if len(content) > cap:
            raise UserError(f"The photo {shown(url)} has more than {cap:,} bytes.")
        return content


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0  # `port` may raise
    except ValueError:
        whole = False
    if not whole:
        raise UserError(f"--label-studio-url {shown(url)} is no address: give one such as http://localhost:8080.")
    return url


class _NoRedirects(HTTPRedirectHandler):
    """A token goes to the address that was given and to no other."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Refuse."""
        return


def task_tags(task: Mapping[str, Any], controls: Controls, classes: tuple[str, ...]) -> tuple[str, ...] | None:
    """The tags that a task has: ticks of its newest annotation or draft, else `data.tags`; None where it has none."""
    made = [each for kind in ("annotations", "drafts") for each in task.get(kind) or [] if isinstance(each, dict)]
    for each in reversed(made):
        results = [] if each.get("was_cancelled") else each.get("result") or []
        ticked = controls.ticked(result for result in results if isinstance(result, dict))
        if ticked is not None:
            return _known(list(ticked), classes)
    data = task.get("data")
    given = data.get("tags") if isinstance(data, dict) else None
    if isinstance(given, str):
        given = tag_names(given, classes)
    return (_known(given, classes) or None) if given else None  # tags of which the model knows none tell it nothing


def _known(names: Any, classes: tuple[str, ...]) -> tuple[str, ...] | None:
    return tuple(name for name in names if name in classes) if isinstance(names, list) else None


def _clicks(context: Any) -> list[dict[str, Any]]:
    found = context.get("result") if isinstance(context, dict) else None
    kinds = ("keypointlabels", "rectanglelabels")
    return (
        [each for each in found if isinstance(each, dict) and each.get("type") in kinds]
        if isinstance(found, list)
        else []
    )


def clicked_tags(clicks: list[dict[str, Any]]) -> tuple[str, ...] | None:
    """The class of the clicks: the only one that the model is to look for."""
    for click in clicks:
        names = (click.get("value") or {}).get(click["type"])
        if isinstance(names, list) and names and isinstance(names[0], str):
            return (names[0],)
    return None


def clicked_mask(prediction: Prediction, clicks: list[dict[str, Any]]) -> NDArray[np.uint8]:
    """The clicked class's pixels (H, W) that hang together with a click: at least half as likely as where it was made.

    A rectangle takes the likely pixels within it; a click that is not positive takes its piece away.
    """
    (name,) = clicked_tags(clicks) or ("",)
    mask_HW = np.zeros_like(prediction.mask)
    if name not in prediction.classes or prediction.probabilities is None:
        return mask_HW
    k = prediction.classes.index(name)
    p_HW = prediction.probabilities[k]
    height, width = mask_HW.shape
    for click in clicks:
        value = click.get("value") or {}
        try:
            x, y = float(value["x"]) / 100 * width, float(value["y"]) / 100 * height
            w, h = float(value.get("width", 0)) / 100 * width, float(value.get("height", 0)) / 100 * height
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"The click {shown(value)} has no place.") from error
        if not all(np.isfinite([x, y, w, h])):
            raise UserError(f"The click {shown(value)} has no place.")
        column, row = int(np.clip(x, 0, width - 1)), int(np.clip(y, 0, height - 1))
        if click["type"] == "rectanglelabels":
            right, bottom = int(np.clip(x + w, 0, width)), int(np.clip(y + h, 0, height))
            part = p_HW[row:bottom, column:right]
            if part.size:
                mask_HW[row:bottom, column:right][part >= 0.5 * part.max()] = k
            continue
        piece_HW = connected(p_HW >= 0.5 * p_HW[row, column], row, column)
        mask_HW[piece_HW] = k if click.get("is_positive", True) is not False else 0
    return mask_HW


def connected(inside: NDArray[np.bool_], row: int, column: int) -> NDArray[np.bool_]:
    """The True pixels (H, W) that hang together, over their sides, with one of them."""
    height, width = inside.shape
    found = np.zeros(inside.shape, dtype=bool)
    waiting = [(row, column)]
    while waiting:  # by runs of a row, which are few
        y, x = waiting.pop()
        if not inside[y, x] or found[y, x]:
            continue
        blocked = np.flatnonzero(~inside[y])
        place = int(np.searchsorted(blocked, x))
        left = int(blocked[place - 1]) + 1 if place else 0
        right = int(blocked[place]) if place < len(blocked) else width
        found[y, left:right] = True
        for other in (y - 1, y + 1):
            if 0 <= other < height:
                free = inside[other, left:right] & ~found[other, left:right]
                starts = np.flatnonzero(free & ~np.concatenate([[False], free[:-1]]))
                waiting += [(other, left + int(start)) for start in starts]
    return found
