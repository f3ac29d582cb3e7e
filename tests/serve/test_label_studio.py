"""The ML backend, asked as Label Studio asks it."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from tagseg.errors import UserError
from tagseg.outputs.brush import decode_brush
from tagseg.outputs.label_interface import read_controls
from tagseg.segmenter import Prediction
from tagseg.serve.app import create_app
from tagseg.serve.label_studio import Backend, clicked_mask, connected
from tagseg.serve.service import Limits, Service
from tests.review.photos import SIZE, picture, segmenter
from tests.serve.test_serve import PHOTO

INTERFACE = """<View><Image name="img" value="$photo"/><BrushLabels name="mask" toName="img"><Label value="green"/>
<Label value="blue"/></BrushLabels><Choices name="what" toName="img"><Choice value="green"/></Choices></View>"""


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "my photos"
    folder.mkdir()
    Image.fromarray(picture(0)).save(folder / "a b.png")
    (tmp_path / "secret.png").write_bytes(PHOTO)
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    return folder


def backend(**options: object) -> Iterator[TestClient]:
    service = Service(segmenter(), name="colors", limits=Limits(bytes=100_000))
    routes = Backend(service, **options).routes()  # type: ignore[arg-type]
    with TestClient(create_app(service, routes=routes), base_url="http://127.0.0.1:9090") as client:
        yield client


@pytest.fixture
def client(photos: Path) -> Iterator[TestClient]:
    yield from backend(images=photos)


def task(address: str = "/data/local-files/?d=my%20photos/a%20b.png", **more: object) -> dict[str, object]:
    return {"id": 1, "data": {"photo": address}, "annotations": [], **more}


def ask(client: TestClient, *tasks: dict[str, object], **params: object):  # type: ignore[no-untyped-def]
    content = {"tasks": list(tasks), "project": "1.1700000000", "label_config": INTERFACE, "params": params}
    return client.post("/predict", json=content)


def masks(entry: dict) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    return {
        each["value"]["brushlabels"][0]: decode_brush(bytes(each["value"]["rle"]), *SIZE)
        for each in entry["result"]
        if each["type"] == "brushlabels"
    }


def test_the_other_routes(client: TestClient) -> None:
    assert client.get("/health").json() == {"status": "UP", "model_class": "colors"}
    version = Service(segmenter()).version
    asked = {"project": "1.17", "schema": INTERFACE, "hostname": "http://localhost:8080", "access_token": "x"}
    assert client.post("/setup", json=asked).json() == {"model_version": version}
    assert client.get("/versions").json() == {"versions": [version]}
    assert client.post("/webhook", json={"action": "ANNOTATION_CREATED"}).status_code == 200


def test_one_entry_a_task_in_order_with_the_names_of_the_interface(client: TestClient) -> None:
    ticked = {"result": [{"type": "choices", "value": {"choices": ["blue", "unknown"]}}]}
    results = ask(
        client, task(), task(annotations=[ticked]), task(data={"photo": task()["data"]["photo"], "tags": "green"})
    )  # type: ignore[index]
    first, second, third = results.json()["results"]
    expected = segmenter().predict(picture(0)).mask
    found = masks(first)
    assert np.array_equal(found["green"], expected == 1)
    assert np.array_equal(found["blue"], expected == 2)
    assert {(each["from_name"], each["to_name"]) for each in first["result"]} == {("mask", "img"), ("what", "img")}
    assert first["result"][-1]["value"] == {"choices": ["green", "blue"]}
    assert 0 <= first["score"] <= 1
    assert list(masks(second)) == ["blue"]
    assert list(masks(third)) == ["green"]
    # ticks of a control that asks for something else are no tags
    other = {"result": [{"type": "choices", "from_name": "quality", "value": {"choices": ["good"]}}]}
    (entry,) = ask(client, task(annotations=[other])).json()["results"]
    assert sorted(masks(entry)) == ["blue", "green"]


@pytest.mark.parametrize("tags", ["", " , ", "unknown", [], ["unknown"], None])
def test_a_task_without_a_tag_that_the_model_knows_has_all_classes_compete(client: TestClient, tags: object) -> None:
    (entry,) = ask(client, task(data={"photo": task()["data"]["photo"], "tags": tags})).json()["results"]  # type: ignore[index]
    assert sorted(masks(entry)) == ["blue", "green"]


def test_a_click_gives_the_piece_that_it_lies_in(client: TestClient) -> None:
    value = {"x": 100 * 30 / 80, "y": 50, "width": 0.3, "keypointlabels": ["green"]}
    answer = ask(client, task(), context={"result": [{"type": "keypointlabels", "value": value}]})
    (entry,) = answer.json()["results"]
    assert np.array_equal(masks(entry)["green"], segmenter().predict(picture(0)).mask == 1)
    assert len(entry["result"]) == 1


def test_clicks_add_and_take_away() -> None:
    p = np.zeros((2, 10, 20), np.float32)
    p[1, :, 2:6] = p[1, 3:8, 10:18] = 0.9
    prediction = Prediction((p[1] > 0.5).astype(np.uint8), p, ("background", "cow"), p.max(0))

    def click(x: float, y: float, positive: bool = True) -> dict[str, object]:
        value = {"x": 5 * x, "y": 10 * y, "keypointlabels": ["cow"]}
        return {"type": "keypointlabels", "value": value, "is_positive": positive}

    assert clicked_mask(prediction, [click(3, 5)]).sum() == 40
    assert clicked_mask(prediction, [click(3, 5), click(12, 5)]).sum() == 80
    assert clicked_mask(prediction, [click(3, 5), click(12, 5), click(3, 1, False)]).sum() == 40
    box = {
        "type": "rectanglelabels",
        "value": {"x": 45, "y": 0, "width": 25, "height": 100, "rectanglelabels": ["cow"]},
    }
    assert clicked_mask(prediction, [box]).sum() == 5 * 4
    with pytest.raises(UserError, match="no place"):
        clicked_mask(prediction, [{"type": "keypointlabels", "value": {"x": "?", "y": 1, "keypointlabels": ["cow"]}}])


def test_connected_pixels_are_those_of_a_flood() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        inside = rng.random((13, 17)) < 0.6
        row, column = (int(n) for n in np.argwhere(inside)[0])
        flood = np.zeros_like(inside)
        flood[row, column] = True
        while True:
            grown = flood.copy()
            grown[1:] |= flood[:-1]
            grown[:-1] |= flood[1:]
            grown[:, 1:] |= flood[:, :-1]
            grown[:, :-1] |= flood[:, 1:]
            grown &= inside
            if (grown == flood).all():
                break
            flood = grown
        assert np.array_equal(connected(inside, row, column), flood)


@pytest.mark.parametrize(
    "address",
    ["/data/local-files/?d=secret.png", "/data/local-files/?d=my%20photos/../secret.png",
     "/data/local-files/?d=my%20photos/link.png", "/data/local-files/?d=/etc/passwd", "/data/local-files/?d=",
     "/data/local-files/?d=my%20photos/%00.png",
     "/data/local-files/?d=my%20photos/none.png", "/data/upload/1/x.png", "http://169.254.169.254/latest", "file:///etc/passwd"],
)  # fmt: skip
def test_photos_elsewhere_are_refused(client: TestClient, address: str) -> None:
    assert ask(client, task(address)).status_code == 422


@pytest.mark.parametrize("content", [{}, {"tasks": 1}, {"tasks": [1]}, {"tasks": [{}] * 100}])
def test_what_is_no_task_is_refused(client: TestClient, content: dict[str, object]) -> None:
    assert client.post("/predict", json=content).status_code == 400


def test_interfaces_without_a_brush_or_with_entities_are_refused() -> None:
    for text, said in (("<View/>", "BrushLabels"), ("<View", "cannot be read"),
                       ('<!DOCTYPE a [<!ENTITY b "c">]><View>&b;</View>', "entities")):  # fmt: skip
        with pytest.raises(UserError, match=said):
            read_controls(text)
    assert read_controls(INTERFACE).labels == ("green", "blue")


@pytest.mark.parametrize("url", ["http://[::1", "localhost:8080", "https://", "ftp://a", "http://a:x", ""])
def test_an_address_of_label_studio_that_is_none_is_refused_at_the_start(url: str) -> None:
    with pytest.raises(UserError, match=r"--label-studio-url .* is no address"):
        Backend(Service(segmenter()), url=url)
    assert Backend(Service(segmenter()), url="https://studio.example:8080/").url == "https://studio.example:8080"


def test_a_model_whose_name_is_not_utf_8_is_healthy() -> None:
    routes = Backend(Service(segmenter(), name="caf\udce9")).routes()
    with TestClient(create_app(Service(segmenter()), routes=routes), base_url="http://127.0.0.1:9090") as one:
        assert one.get("/health").json()["model_class"] == "caf\udce9"


def test_uploaded_photos_are_fetched_from_the_given_label_studio_alone() -> None:
    asked: list[tuple[str, str]] = []

    class Stub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers.get("Authorization", "")))
            if "moved" in self.path:
                self.send_response(302)
                self.send_header("Location", "http://169.254.169.254/")
                self.end_headers()
                return
            if "nonsense" in self.path:
                self.wfile.write(b"nonsense\r\n\r\n")
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write(bytes(200_000) if "huge" in self.path else PHOTO)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Stub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    for client in backend(url=url, access="t0ken"):
        assert ask(client, task("/data/upload/1/a%20b.png")).status_code == 200
        assert ask(client, task(f"{url}/data/upload/1/c.png")).status_code == 200
        assert asked == [("/data/upload/1/a%20b.png", "Token t0ken"), ("/data/upload/1/c.png", "Token t0ken")]
        assert ask(client, task("http://127.0.0.1:1/x.png")).status_code == 422
        assert ask(client, task("/moved.png")).status_code == 422
        assert ask(client, task("/huge.png")).status_code == 422
        assert ask(client, task("/nonsense.png")).status_code == 422
        assert ask(client, task("http://[::1/x.png")).status_code == 422
    asked.clear()
    for client in backend(url=url[:-1], access="t0ken"):  # the address must not go on with the port, or with the host
        for address in (f"{url[-1]}/a.png", "@127.0.0.1/a.png", ".example.invalid/a.png", "a.png", "?a"):
            answer = ask(client, task(address))
            assert (answer.status_code, "lies elsewhere" in answer.text) == (422, True)
    assert asked == []
    server.shutdown()
