"""A served model: its forms, its limits, its queue, and the document that describes it."""

import base64
import io
import json
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco
from starlette.testclient import TestClient

from tagseg.prediction.settings import PredictSettings
from tagseg.segmenter import Segmenter
from tagseg.serve.app import create_app
from tagseg.serve.service import Limits, Service
from tests.colors import Colors
from tests.review.photos import SIZE, picture, segmenter


def png(photo: np.ndarray, format: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, format=format)
    return buffer.getvalue()


PHOTO = png(picture(0))
EXPECTED = segmenter().predict(picture(0))


def started(service: Service, **options: object) -> TestClient:
    client = TestClient(create_app(service, **options), base_url="http://127.0.0.1:8470")  # type: ignore[arg-type]
    client.__enter__()
    assert service.ready.wait(20)
    return client


@pytest.fixture
def client() -> Iterator[TestClient]:
    one = started(Service(segmenter(), name="colors", limits=Limits(bytes=200_000, pixels=20_000, photos=3)))
    yield one
    one.__exit__(None, None, None)


def test_a_form_gives_classes_with_areas_and_rle(client: TestClient) -> None:
    answer = client.post("/predict", files={"image": ("my cow.png", PHOTO, "image/png")}).json()
    assert (answer["name"], answer["height"], answer["width"]) == ("my cow.png", *SIZE)
    assert [each["label"] for each in answer["found"]] == ["green", "blue"]
    for each in answer["found"]:
        inside = EXPECTED.mask == each["class"]
        assert each["area"] == inside.sum()
        assert np.array_equal(coco.decode(each["rle"]), inside)
        assert each["confidence"] == pytest.approx(EXPECTED.probabilities[each["class"]][inside].mean(), abs=1e-4)


def test_polygons_png_overlay_and_tags(client: TestClient) -> None:
    def post(accept: str = "", **data: str):  # type: ignore[no-untyped-def]
        return client.post("/predict", files={"image": PHOTO}, data=data, headers={"accept": accept})

    found = post(masks="polygons").json()["found"]
    assert found[0]["polygons"] == [[[20, 0], [40, 0], [40, 60], [20, 60]]]
    with Image.open(io.BytesIO(base64.b64decode(post(masks="png").json()["mask"]))) as image:
        assert np.array_equal(np.asarray(image), EXPECTED.mask)
    with Image.open(io.BytesIO(post("image/png").content)) as image:
        assert np.array_equal(np.asarray(image), EXPECTED.mask)
    with Image.open(io.BytesIO(post("image/jpeg").content)) as image:
        assert image.size == SIZE[::-1]
    assert [each["label"] for each in post(tags="blue").json()["found"]] == ["blue"]
    assert [each["label"] for each in post(tags="blue, green", masks="none").json()["found"]] == ["green", "blue"]


def test_several_photos_keep_their_order(client: TestClient) -> None:
    photos = [picture(number)[:, : 70 + number] for number in range(3)]
    answers = client.post("/predict", files=[("image", (f"{i}.png", png(p))) for i, p in enumerate(photos)]).json()
    assert [(each["name"], each["width"]) for each in answers] == [("0.png", 70), ("1.png", 71), ("2.png", 72)]


def test_hugging_face_s_client_reads_the_answers(client: TestClient) -> None:
    raw = client.post("/predict", content=PHOTO, headers={"content-type": "image/png"}).json()
    wrapped = {"inputs": base64.b64encode(PHOTO).decode(), "parameters": {"threshold": 0.5, "subtask": "semantic"}}
    assert client.post("/predict", json=wrapped).json() == raw
    assert [set(each) for each in raw] == [{"label", "score", "mask"}] * 3
    for k, each in enumerate(raw):
        with Image.open(io.BytesIO(base64.b64decode(each["mask"]))) as image:
            assert image.mode == "L"
            assert np.array_equal(np.asarray(image), np.where(k == EXPECTED.mask, 255, 0))
    assert client.post("/predict?threshold=1", content=PHOTO).json() == []


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        ({"content": b""}, 400, "empty"),
        ({"content": b"no photo at all"}, 422, "photo upload is none of"),
        ({"content": PHOTO[:60]}, 422, "photo upload"),
        ({"content": b"<svg xmlns='http://www.w3.org/2000/svg'/>"}, 422, "none of"),
        ({"content": png(np.zeros((200, 200, 3), np.uint8))}, 413, "200 x 200 pixels"),
        ({"content": bytes(300_000)}, 413, "at most 200,000 bytes"),
        ({"content": iter([bytes(300_000)])}, 413, "Large"),
        ({"json": {"inputs": 1}}, 400, "inputs"),
        ({"json": {"inputs": "%%%"}}, 400, "base64"),
        ({"json": [1]}, 400, "JSON object"),
        ({"content": b"[" * 100_000, "headers": {"content-type": "application/json"}}, 400, "JSON object"),
        ({"files": {"image": ("a", PHOTO)}, "data": {"tags": "cow"}}, 422, "cow"),
        ({"files": {"image": ("a", PHOTO)}, "data": {"masks": "gold"}}, 400, "masks"),
        ({"files": {"image": ("a", PHOTO)}, "data": {"crf": "maybe"}}, 400, "crf"),
        ({"files": [("image", ("a", PHOTO))] * 4}, 400, "files"),
        ({"files": [("image", ("a", PHOTO))] * 2, "data": {"form": "png"}}, 400, "one photo"),
        ({"data": {"tags": "x"}, "files": {}}, 422, "none of"),
        ({"content": b"--x", "headers": {"content-type": "multipart/form-data; boundary=y"}}, 400, ""),
        (
            {"files": {"image": ("a", PHOTO)}, "data": {"threshold": "2"}, "params": {"threshold": "0"}},
            400,
            "threshold",
        ),
        ({"content": PHOTO, "params": {"threshold": "nan"}}, 400, "threshold"),
        ({"content": PHOTO, "headers": {"origin": "https://evil.example"}}, 403, "other sites"),
        ({"content": PHOTO, "headers": {"host": "evil.example"}}, 400, "name"),
    ],
)
def test_what_is_wrong_is_said_and_the_next_photo_is_answered(client: TestClient, options, status, said) -> None:  # type: ignore[no-untyped-def]
    answer = client.post("/predict", **options)
    assert answer.status_code == status, answer.text
    assert said in answer.json()["detail"]
    assert client.post("/predict", content=PHOTO).status_code == 200


def test_health_info_and_metrics(client: TestClient) -> None:
    client.post("/predict", content=PHOTO)
    client.post("/predict", content=b"x")
    assert client.get("/health").json() == {"status": "UP"}
    assert client.get("/ready").status_code == 200
    info = client.get("/info").json()
    assert [each["name"] for each in info["classes"]] == ["background", "green", "blue"]
    assert info["version"] == Service(segmenter()).version
    lines = dict(line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines() if not line.startswith("#"))
    assert lines['tagseg_answers_total{status="422"}'] == "1"
    assert lines["tagseg_photo_seconds_count"] == lines['tagseg_photo_seconds_bucket{le="+Inf"}'] == "1"
    assert client.get("/").text.startswith("<!doctype html>")
    assert client.get("/page/app.py").status_code == 404


def test_a_model_whose_name_is_not_utf_8_is_served() -> None:
    one = started(Service(segmenter(), name=b"caf\xe9".decode("utf-8", "surrogateescape")))
    assert one.get("/info").json()["name"] == "caf\udce9"
    assert one.get("/openapi.json").status_code == 200
    one.__exit__(None, None, None)


class Slow(Segmenter):
    """A model that waits until it is let go."""

    def __init__(self) -> None:
        other = segmenter()
        super().__init__(other.method, other.settings)
        self.go = threading.Event()
        self.go.set()
        self.gathered: list[int] = []

    def predict_many(self, requests, *, crf=True):  # type: ignore[no-untyped-def]
        requests = list(requests)
        self.go.wait(20)
        self.gathered.append(len(requests))
        return super().predict_many(requests, crf=crf)


def test_a_full_queue_asks_to_come_back_and_what_waits_goes_together() -> None:
    slow = Slow()
    service = Service(slow, limits=Limits(waiting=4, batch=3))
    client = started(service)
    slow.go.clear()
    statuses: list[int] = []

    def post() -> None:
        answer = client.post("/predict", content=PHOTO)
        statuses.append(answer.status_code)
        assert answer.status_code == 200 or answer.headers["retry-after"]

    threads = [threading.Thread(target=post) for _ in range(100)]
    for thread in threads:
        thread.start()
    while statuses.count(503) < 100 - 4 - 3:
        time.sleep(0.01)
    slow.go.set()
    for thread in threads:
        thread.join()
    assert statuses.count(200) + statuses.count(503) == 100
    assert 4 <= statuses.count(200) <= 7  # the queue, and what the model had taken already
    assert max(slow.gathered) > 1
    client.__exit__(None, None, None)


def test_photos_that_take_too_long_are_given_up() -> None:
    slow = Slow()
    client = started(Service(slow, limits=Limits(seconds=0.2)))
    slow.go.clear()
    answer = client.post("/predict", content=PHOTO)
    assert answer.status_code == 503
    slow.go.set()
    assert client.post("/predict", content=PHOTO).status_code == 200
    client.__exit__(None, None, None)


def test_a_fault_of_the_model_is_an_answer_too() -> None:
    service = Service(segmenter())
    app = create_app(service)
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as one:
        assert service.ready.wait(20)
        whole = service.segmenter.predict_many
        service.segmenter.predict_many = lambda *_, **__: [][0]  # type: ignore[method-assign]
        assert one.post("/predict", content=PHOTO).status_code == 500
        service.segmenter.predict_many = whole  # type: ignore[method-assign]
        assert one.post("/predict", content=PHOTO).status_code == 200


def test_a_token_is_asked_for_but_not_of_health() -> None:
    service = Service(segmenter())
    client = started(service, token="secret")
    assert client.get("/health").status_code == 200
    assert client.get("/info").status_code == 401
    assert client.post("/predict", content=PHOTO).status_code == 401
    right = {"authorization": "Bearer secret"}
    assert client.post("/predict", content=PHOTO, headers=right).status_code == 200
    client.__exit__(None, None, None)


def test_the_document_names_what_there_is(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    assert set(document["paths"]) == {"/predict", "/health", "/ready", "/info", "/metrics"}
    for path, methods in document["paths"].items():
        for method in methods:
            assert client.request(method, path).status_code != 404
    operation = document["paths"]["/predict"]["post"]
    query = {each["name"] for each in operation["parameters"]}
    form = operation["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert query == set(form["properties"]) - {"image"}
    answer = client.post("/predict", files={"image": PHOTO}).json()
    one = operation["responses"]["200"]["content"]["application/json"]["schema"]["anyOf"][0]
    assert set(one["required"]) <= set(answer) <= set(one["properties"])
    found = one["properties"]["found"]["items"]
    assert all(set(found["required"]) <= set(each) <= set(found["properties"]) for each in answer["found"])
    json.dumps(document)


def test_a_photo_that_browsers_show_lying_comes_upright() -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    buffer = io.BytesIO()
    Image.fromarray(np.rot90(picture(0), 1)).save(buffer, format="WEBP", exif=turned, lossless=True)
    client = started(Service(segmenter()))
    for content, shown in ((buffer.getvalue(), True), (PHOTO, False)):
        answer = client.post("/predict", files={"image": content}, data={"upright": "true", "masks": "none"}).json()
        assert (answer["height"], answer["width"]) == SIZE
        assert ("photo" in answer) == shown
        if shown:
            with Image.open(io.BytesIO(base64.b64decode(answer["photo"]))) as image:
                assert image.size == SIZE[::-1]
                assert np.abs(np.asarray(image).astype(int) - picture(0)).mean() < 5
        assert "photo" not in client.post("/predict", files={"image": content}).json()
    client.__exit__(None, None, None)


def test_a_tag_may_hold_a_comma() -> None:
    method = Colors()
    method.classes = ("green, early", "blue")
    client = started(Service(Segmenter(method, PredictSettings(crf=None))))
    for tags in ("green, early", ["green, early", "blue"]):
        answer = client.post("/predict", files={"image": PHOTO}, data={"tags": tags, "masks": "none"})
        assert [each["label"] for each in answer.json()["found"]] == ([tags] if isinstance(tags, str) else tags)
    client.__exit__(None, None, None)
