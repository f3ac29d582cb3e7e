"""The routes of a review: what is kept, what is refused, and what a kill leaves."""

import gzip
import json
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from tagseg.data.photo import read_mask
from tagseg.data.review_journal import read_verdicts
from tagseg.errors import UserError
from tagseg.outputs.confidence import Sureness
from tagseg.review.app import create_app
from tagseg.review.photo import Photo
from tagseg.review.proposals import FolderProposals, ModelProposals
from tagseg.review.session import Session
from tests.review.photos import SIZE, open_session, segmenter, write_masks, write_photos

PAGE = {"x-tagseg": "page"}


def client(session: Session) -> TestClient:
    return TestClient(create_app(session), base_url="http://127.0.0.1:8471", headers=PAGE)


def version(number: int) -> dict[str, str]:
    return {"if-match": f'"{number}"'}


def planes(mask: np.ndarray, touched: np.ndarray) -> bytes:
    return gzip.compress(mask.astype(np.uint8).tobytes() + touched.astype(np.uint8).tobytes())


PACKED = {"content-encoding": "gzip", "content-type": "application/octet-stream"}


def test_a_photo_its_mask_and_its_reason(tmp_path: Path) -> None:
    with client(open_session(tmp_path)) as one:
        about = one.get("/api/session").json()
        assert [each["name"] for each in about["classes"]] == ["background", "green", "blue"]
        facts = one.get("/api/photos/0").json()
        assert (facts["width"], facts["height"]) == (80, 60)
        assert facts["tags"] == [1, 2]
        assert facts["found"] == [1, 2]
        assert "IoU" in facts["reason"]
        answer = one.get("/api/photos/0/mask")
        mask = np.frombuffer(answer.content, np.uint8).reshape(2, *SIZE)
        assert np.array_equal(mask[0], read_mask(tmp_path / "review" / "proposed" / "p0.png"))
        assert not mask[1].any()
        assert one.get("/api/photos/0/photo").headers["content-type"] == "image/png"
        assert one.get("/api/photos/0/thumb").headers["content-type"] == "image/jpeg"
        assert one.get("/api/photos/0/cam?class=1").headers["content-type"] == "image/png"


@pytest.mark.parametrize("what", ["photo", "thumb", "cam?class=1"])
def test_a_browser_asks_before_it_shows_a_picture_again(tmp_path: Path, what: str) -> None:
    session = open_session(tmp_path)
    with client(session) as one:
        first = one.get(f"/api/photos/0/{what}")
        assert first.headers["cache-control"] == "private, no-cache"
        again = one.get(f"/api/photos/0/{what}", headers={"if-none-match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        Image.fromarray(np.full((30, 40, 3), 90, np.uint8)).save(session.photos[0].path)
        new = one.get(f"/api/photos/0/{what}", headers={"if-none-match": first.headers["etag"]})
        assert new.status_code == 200
        assert new.content != first.content


def test_painted_masks_outlast_the_server(tmp_path: Path) -> None:
    painted, touched = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
    painted[5:9, 5:9], touched[5:9, 5:9] = 255, 1
    with client(open_session(tmp_path)) as one:
        row = one.put("/api/photos/1/mask", content=planes(painted, touched), headers=version(0) | PACKED).json()
        assert (row["version"], row["painted"], row["state"]) == (1, True, "open")
        # a window that still has the version before
        late = one.put("/api/photos/1/mask", content=planes(painted, touched), headers=version(0) | PACKED)
        assert late.status_code == 409
        assert one.put("/api/photos/1/decision", json={"state": "accepted"}, headers=version(1)).json()["version"] == 2
    with client(open_session(tmp_path)) as one:
        found = np.frombuffer(one.get("/api/photos/1/mask").content, np.uint8).reshape(2, *SIZE)
        assert np.array_equal(found[0], painted)
        assert np.array_equal(found[1], touched)
        assert one.get("/api/photos/1").json()["state"] == "accepted"
        assert one.post("/api/undo").json()["state"] == "open"
        assert one.post("/api/redo").json()["state"] == "accepted"
        assert one.post("/api/redo").json() is None
        # other tags: all but what was painted is labeled again
        row = one.put("/api/photos/1/tags", json={"tags": [1]}, headers=version(4)).json()
        assert (row["tags"], row["retagged"]) == ([1], True)
        kept = read_mask(tmp_path / "review" / "masks" / "p1.png")
        assert (kept[5:9, 5:9] == 255).all()
        assert set(np.delete(kept, range(5, 9), axis=0).ravel()) == {0, 1}
        row = one.request("DELETE", "/api/photos/1/mask", headers=version(5)).json()
        assert row["painted"] is False
        assert 255 not in read_mask(tmp_path / "review" / "masks" / "p1.png")


def test_a_torn_line_is_dropped_and_a_broken_one_named(tmp_path: Path) -> None:
    with client(open_session(tmp_path)) as one:
        for number in range(2):
            one.put(f"/api/photos/{number}/decision", json={"state": "rejected"}, headers=version(0))
    path = tmp_path / "review" / "journal.jsonl"
    whole = path.read_bytes()
    for cut in range(1, 40, 7):
        path.write_bytes(whole[:-cut])
        assert {name: v.state for name, v in read_verdicts(tmp_path / "review").items()} == {"p0": "rejected"}
    with client(open_session(tmp_path)) as one:  # goes on behind the whole lines
        one.put("/api/photos/2/decision", json={"state": "later"}, headers=version(0))
    assert [json.loads(line)["photo"] for line in path.read_text().splitlines()] == ["p0", "p2"]
    path.write_text('{"event": "paint"}\n' + path.read_text())
    with pytest.raises(UserError, match="line 1"):
        read_verdicts(tmp_path / "review")


def test_one_server_a_folder_and_the_classes_it_was_begun_with(tmp_path: Path) -> None:
    session = open_session(tmp_path)
    with pytest.raises(UserError, match="Another `tagseg review`"):
        open_session(tmp_path)
    session.close()
    photos = write_photos(tmp_path / "photos", 2)
    masks = write_masks(tmp_path / "masks", photos)
    with pytest.raises(UserError, match="choose another --review"):
        Session(tmp_path / "review", photos, FolderProposals(masks, ("background", "cow", "pig")))


@pytest.mark.parametrize(
    ("method", "path", "options", "status"),
    [
        ("PUT", "/api/photos/0/decision", {"json": {"state": "accepted"}}, 428),
        ("PUT", "/api/photos/0/decision", {"json": {"state": "gone"}, "headers": version(0)}, 422),
        ("PUT", "/api/photos/0/decision", {"json": {"state": 1}, "headers": version(0)}, 400),
        ("PUT", "/api/photos/0/decision", {"content": b"[" * 100000, "headers": version(0)}, 400),
        ("PUT", "/api/photos/0/decision", {"content": b"\xff", "headers": version(0)}, 400),
        ("PUT", "/api/photos/0/tags", {"json": {"tags": [0]}, "headers": version(0)}, 400),
        ("PUT", "/api/photos/0/tags", {"json": {"tags": [True]}, "headers": version(0)}, 400),
        ("PUT", "/api/photos/0/tags", {"json": {"tags": "green"}, "headers": version(0)}, 400),
        ("PUT", "/api/photos/0/mask", {"content": b"", "headers": version(0)}, 400),
        ("PUT", "/api/photos/0/mask", {"content": b"x", "headers": version(0) | PACKED}, 400),
        ("PUT", "/api/photos/0/mask", {"content": gzip.compress(bytes(10**8)), "headers": version(0) | PACKED}, 400),
        ("PUT", "/api/photos/0/mask", {"content": b"\3" * 9600, "headers": version(0)}, 422),
        ("PUT", "/api/photos/0/mask", {"content": bytes(70 << 20), "headers": version(0)}, 413),
        ("GET", "/api/photos/4", {}, 404),
        ("GET", "/api/photos/-1/mask", {}, 404),
        ("GET", "/api/photos/99999999999999999999/mask", {}, 404),
        ("GET", "/api/photos/0/cam?class=9", {}, 400),
        ("GET", "/api/rows?since=-1", {}, 200),
        ("GET", "/page/..%2F..%2Fapp.py", {}, 404),
        ("GET", "/page/%2e%2e/app.py", {}, 404),
        ("GET", "/page/app.py", {}, 404),
        ("POST", "/api/session", {}, 404),
    ],
)
def test_what_is_not_possible_is_refused_and_changes_nothing(tmp_path: Path, method, path, options, status) -> None:  # type: ignore[no-untyped-def]
    with client(open_session(tmp_path)) as one:
        assert one.request(method, path, **options).status_code == status
        assert (tmp_path / "review" / "journal.jsonl").read_bytes() == b""
        assert list((tmp_path / "review" / "masks").iterdir()) == []


def test_no_writing_without_the_page_s_header(tmp_path: Path) -> None:
    app = create_app(open_session(tmp_path))
    with TestClient(app, base_url="http://127.0.0.1:8471") as one:
        assert one.put("/api/photos/0/decision", json={"state": "accepted"}, headers=version(0)).status_code == 403


def test_photos_that_cannot_be_read_are_said_and_the_others_go_on(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 2)
    broken = tmp_path / "photos" / "broken.png"
    broken.write_bytes(b"no picture")
    photos.append(Photo("broken", broken, ("green",)))
    with client(Session(tmp_path / "review", photos, ModelProposals(segmenter(), tmp_path / "own"))) as one:
        for path in ("", "/mask", "/photo", "/thumb"):
            answer = one.get(f"/api/photos/2{path}")
            assert answer.status_code == 422
            assert "broken.png" in answer.json()["detail"]
        assert one.put("/api/photos/2/decision", json={"state": "accepted"}, headers=version(0)).status_code == 422
        assert one.put("/api/photos/2/decision", json={"state": "rejected"}, headers=version(0)).status_code == 200
        assert one.put("/api/photos/0/decision", json={"state": "accepted"}, headers=version(0)).status_code == 200


def test_masks_of_a_folder_without_a_model(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 2)
    masks = write_masks(tmp_path / "masks", photos)
    proposals = FolderProposals(masks, ("background", "green", "blue"), {"p0": Sureness(0.9), "p1": Sureness(0.4)})
    with client(Session(tmp_path / "review", photos, proposals)) as one:
        assert "blue is tagged, but not found" in one.get("/api/photos/0").json()["reason"]
        assert one.get("/api/photos/0/cam?class=1").status_code == 404
        row = one.put("/api/photos/0/tags", json={"tags": []}, headers=version(0)).json()
        assert row["found"] == []
        mask = np.frombuffer(one.get("/api/photos/0/mask").content, np.uint8)
        assert not mask.any()
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(masks / "p1.png")
    with client(Session(tmp_path / "review", photos, FolderProposals(masks, ("background", "green", "blue")))) as one:
        assert "masks need the photo's size" in one.get("/api/photos/1/mask").json()["detail"]


def test_many_clients_at_once_lose_no_decision(tmp_path: Path) -> None:
    session = open_session(tmp_path, count=40)
    with client(session) as one:
        won: list[int] = []

        def decide(number: int) -> None:
            for state in ("accepted", "rejected"):
                answer = one.put(f"/api/photos/{number % 40}/decision", json={"state": state}, headers=version(0))
                assert answer.status_code in (200, 409)
                won.append(answer.status_code)

        threads = [threading.Thread(target=decide, args=(number,)) for number in range(100)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert won.count(200) == 40
    verdicts = read_verdicts(tmp_path / "review")
    assert len(verdicts) == 40
    assert all(verdict.version == 1 for verdict in verdicts.values())
    lines = (tmp_path / "review" / "journal.jsonl").read_text().splitlines()
    assert len(lines) == 40


def test_a_deed_goes_to_the_photo_of_its_name_in_its_own_review(tmp_path: Path) -> None:
    with client(open_session(tmp_path / "one")) as one:
        about = one.get("/api/session").json()
    meant = {"x-review": about["review"], "x-photo": "p0"}
    path = "/api/photos/0/decision"
    with client(open_session(tmp_path / "two")) as other:  # at the same address, in the page's eyes
        refused = other.put(path, json={"state": "accepted"}, headers=version(0) | meant)
        assert refused.status_code == 412
        assert "Another review" in refused.json()["detail"]
        assert other.post("/api/undo", headers=meant).status_code == 412
        assert other.get("/api/rows", headers={"x-review": about["review"]}).status_code == 412
    photos = write_photos(tmp_path / "one" / "photos", 4)
    first = Photo("a0", photos[3].path.with_name("a0.png"), None)
    first.path.write_bytes(photos[3].path.read_bytes())
    session = Session(tmp_path / "one" / "review", [first, *photos], ModelProposals(segmenter(), tmp_path / "own"))
    with client(session) as one:  # the same review with a photo more, which comes first
        row = one.put(path, json={"state": "accepted"}, headers=version(0) | meant).json()
        assert (row["i"], row["name"], row["state"]) == (1, "p0", "accepted")
        listed = {"x-review": about["review"], "x-list": about["list"]}
        assert one.get("/api/rows", headers=listed).status_code == 412
        assert one.get("/api/photos/0", headers=listed).status_code == 412
        assert one.put(path, json={"state": "accepted"}, headers=version(0) | listed).status_code == 412
        gone = one.put(path, json={"state": "accepted"}, headers=version(0) | meant | {"x-photo": "%C3%A4"})
        assert gone.status_code == 404
        assert "ä is not among the photos" in gone.json()["detail"]
    (line,) = (tmp_path / "one" / "review" / "journal.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["photo"] == "p0"


def test_a_deed_that_is_asked_for_again_is_answered_and_not_done_again(tmp_path: Path) -> None:
    with client(open_session(tmp_path)) as one:
        same = version(0) | {"idempotency-key": "1"}
        for _ in range(2):
            row = one.put("/api/photos/0/decision", json={"state": "rejected"}, headers=same).json()
            assert (row["state"], row["version"]) == ("rejected", 1)
        other = version(0) | {"idempotency-key": "2"}
        assert one.put("/api/photos/0/decision", json={"state": "accepted"}, headers=other).status_code == 409
        assert one.get("/api/photos/0").json()["version"] == 1


def test_a_full_disk_asks_for_patience(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with client(open_session(tmp_path)) as one:
        monkeypatch.setattr("tagseg.data.review_journal.os.fsync", full)
        full_disk = one.put("/api/photos/0/decision", json={"state": "rejected"}, headers=version(0))
        assert full_disk.status_code == 507
        assert "No space left" in full_disk.json()["detail"]
        monkeypatch.undo()
        assert one.put("/api/photos/0/decision", json={"state": "rejected"}, headers=version(0)).status_code == 200
