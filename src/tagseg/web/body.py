"""What a request carries, and what an answer does."""

from __future__ import annotations

from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from tagseg.files import to_json


class Answer(JSONResponse):
    """JSON that may name files whose names are not UTF-8: their bytes are escaped."""

    def render(self, content: Any) -> bytes:
        """The body. Raises ValueError for a number that is none: a browser could read nothing of it."""
        return to_json(content, allow_nan=False).encode()


async def json_object(request: Request) -> dict[str, Any]:
    """The JSON object of a request's body; anything else is answered with 400."""
    try:
        content = await request.json()
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise HTTPException(400, "The body should be a JSON object.")
    return content
