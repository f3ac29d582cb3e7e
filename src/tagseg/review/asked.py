"""What a request of the page is about: which review, which photo, which version, and which deed."""

from __future__ import annotations

from urllib.parse import unquote

from starlette.exceptions import HTTPException
from starlette.requests import Request

from tagseg.review.session import Session


def session_of(request: Request) -> Session:
    """The review that the server has open."""
    session: Session = request.app.state.session
    return session


def index_of(request: Request) -> int:
    """The photo's number in the address; 404 where there is no such photo."""
    index: int = request.path_params["i"]
    if not 0 <= index < len(session_of(request).photos):
        raise HTTPException(404, "There is no such photo.")
    return index


def check_review(request: Request, *, listing: bool = False) -> None:
    """Refuse a page of another review that was open at this address before; listing: or of another list of photos."""
    session = session_of(request)
    if request.headers.get("x-review", session.id) != session.id:
        raise HTTPException(412, "Another review answers at this address now; start the one of this page again.")
    if listing and request.headers.get("x-list", session.listing) != session.listing:
        raise HTTPException(412, "This review has other photos now; load this page again.")


def target(request: Request) -> int:
    """The photo that a deed is about: by its name, for numbers are others once a photo was added."""
    check_review(request)
    given = request.headers.get("x-photo")
    if given is None:
        check_review(request, listing=True)
        return index_of(request)
    name = unquote(given, errors="surrogateescape")
    index = session_of(request).number.get(name)
    if index is None:
        raise HTTPException(404, f"{name} is not among the photos of this review any more.")
    return index


def deed_id(request: Request) -> str:
    """By which a deed is known when it is sent again after a lost answer."""
    return request.headers.get("idempotency-key", "")[:100]


def version_of(request: Request) -> int:
    """The version that a change starts from; 428 where the page does not say."""
    given = request.headers.get("if-match", "").strip('" ')
    if not given.isdecimal() or len(given) > 9:
        raise HTTPException(428, "A change needs the header If-Match with the version that it starts from.")
    return int(given)
