"""What the page of a review draws: the photo, its thumbnail, and where the model looked for a class."""

from __future__ import annotations

import io
import secrets
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from tagseg.data.photo import browser_type, photo_size, read_photo
from tagseg.errors import UserError
from tagseg.files import stamp
from tagseg.outputs.heat import HEAT
from tagseg.review.session import Session

SHOWN_CAP = 12_000_000  # pixels: a larger photo is shown smaller
THUMB = 144
PROCESS = secrets.token_hex(4)  # another model may have drawn what a browser kept of a process before


async def asked_again(
    request: Request, session: Session, index: int, make: Callable[[Session, int], Response]
) -> Response:
    """A picture that a browser may keep, and asks about before it shows it again.

    Its address is a number, which is another photo's in the next review at this port, or after a photo was added.
    """
    tag = await run_in_threadpool(_mark, session, index)
    if request.headers.get("if-none-match") == tag:
        response = Response(status_code=304)
    else:
        response = await run_in_threadpool(make, session, index)
    response.headers.update({"cache-control": "private, no-cache", "etag": tag})
    return response


def _mark(session: Session, index: int) -> str:
    try:
        size, time = stamp(session.photos[index].path)
    except OSError:  # what is wrong with it is said by whoever opens it
        size, time = 0, 0
    return f'"{PROCESS}-{index}-{size:x}-{time:x}"'


def shown(session: Session, index: int) -> Response:
    """The photo; a very large one smaller, and one that a browser would show otherwise drawn anew."""
    path = session.photos[index].path
    height, width = photo_size(path)
    kind = browser_type(path)
    if kind is not None and height * width <= SHOWN_CAP:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise UserError(f"photo {path.name} cannot be read: {error.strerror or error}") from error
        return Response(content, media_type=kind)
    shrunk = min((SHOWN_CAP / (height * width)) ** 0.5, 1)
    return _jpeg(path, (max(round(width * shrunk), 1), max(round(height * shrunk), 1)), 92)


def small(session: Session, index: int) -> Response:
    """The photo's thumbnail."""
    path = session.photos[index].path
    height, width = photo_size(path)
    shrunk = min(THUMB / min(height, width), 1)
    # A photo of a very long side is cut to twice the short one: the list shows squares.
    size = (max(min(round(width * shrunk), 2 * THUMB), 1), max(min(round(height * shrunk), 2 * THUMB), 1))
    return _jpeg(path, size, 80)


def heat(session: Session, index: int, k: int) -> Response:
    """The activation map of class `k`, clear where there is none."""
    map_hw = session.proposals.cam(session.photos[index].path, k)
    if map_hw is None:
        raise HTTPException(
            404, "Without a model there is no activation map; start with a run folder, or with --model."
        )
    value = np.rint(np.clip(np.nan_to_num(map_hw), 0, 1) * 255).astype(np.uint8)
    picture = np.dstack([HEAT[value], (60 + 0.6 * value).astype(np.uint8)])
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG")
    return Response(buffer.getvalue(), media_type="image/png")


def _jpeg(path: Path, size: tuple[int, int], quality: int) -> Response:
    picture = Image.fromarray(read_photo(path, min_side=min(size))).resize(size, Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=quality)
    return Response(buffer.getvalue(), media_type="image/jpeg")
