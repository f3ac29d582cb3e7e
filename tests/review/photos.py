"""A small set under review: photos of three colors, of which the toy model of tests/colors.py makes masks."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image
from starlette.types import ASGIApp

from tagseg.data.palette import write_mask
from tagseg.prediction.settings import PredictSettings
from tagseg.review.app import create_app
from tagseg.review.photo import Photo
from tagseg.review.proposals import ModelProposals
from tagseg.review.session import Session
from tagseg.segmenter import Segmenter
from tagseg.web.listen import Address, make_server, open_address
from tests.colors import Colors

SIZE = (60, 80)


def picture(number: int) -> np.ndarray:
    """Red left, green in the middle, blue right; how much of each depends on the number."""
    photo = np.zeros((*SIZE, 3), np.uint8)
    photo[..., 0] = 200
    photo[:, 20 : 40 + number % 7] = (0, 200, 0)
    photo[:, 55 + number % 5 :] = (0, 0, 200)
    return photo


def write_photos(folder: Path, count: int) -> list[Photo]:
    folder.mkdir(parents=True, exist_ok=True)
    photos = []
    for number in range(count):
        path = folder / f"p{number}.png"
        Image.fromarray(picture(number)).save(path)
        photos.append(Photo(f"p{number}", path, ("green", "blue")))
    return photos


def segmenter() -> Segmenter:
    return Segmenter(Colors(), PredictSettings(crf=None))


def open_session(folder: Path, count: int = 4) -> Session:
    photos = write_photos(folder / "photos", count)
    return Session(folder / "review", photos, ModelProposals(segmenter(), folder / "review" / "proposed"), title="toy")


def write_masks(folder: Path, photos: list[Photo]) -> Path:
    for photo in photos:
        mask = np.zeros(SIZE, np.uint8)
        mask[:, 20:40] = 1
        folder.mkdir(exist_ok=True)
        write_mask(folder / f"{photo.name}.png", mask)
    return folder


@contextmanager
def run_server(app: ASGIApp, address: Address) -> Iterator[None]:
    """A server in a thread, ended afterwards."""
    server = make_server(app)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [address.socket]}, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(20)


@contextmanager
def served(session: Session, port: int = 0, token: str | None = None) -> Iterator[str]:
    """The address of a server with the page of a session."""
    address = open_address("127.0.0.1", port, token)
    with run_server(create_app(session, hosts=address.hosts, token=token), address):
        yield address.url
    address.socket.close()
