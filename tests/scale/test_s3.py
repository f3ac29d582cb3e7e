"""An object store as S3 is, played by moto on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tagseg.errors import UserError
from tagseg.scale.finish import rows
from tagseg.scale.places import open_place
from tagseg.workflows.refine import Refinement
from tagseg.workflows.shards import Shards, label_shards, list_in_table, predict_shards, read_tags, refine_shards
from tests.scale.test_label_and_refine import masked, tagged
from tests.scale.test_shards import build, decode, draw

pytest.importorskip("s3fs")
moto = pytest.importorskip("moto.server")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1"}
    for key, value in (keys | {"AWS_ENDPOINT_URL": f"http://{host}:{port}"}).items():
        monkeypatch.setenv(key, value)
    import s3fs

    files = s3fs.S3FileSystem(skip_instance_cache=True)
    if not files.exists("photos"):  # moto keeps buckets from one server to the next
        files.mkdir("photos")
    yield "s3://photos"
    server.stop()


def test_photos_and_masks_on_s3(tmp_path: Path, bucket: str) -> None:
    import s3fs

    masks = draw(tmp_path / "in", 6)
    s3fs.S3FileSystem(skip_instance_cache=True).put(str(tmp_path / "in"), "photos/in", recursive=True)
    for number in (1, 0, 1):
        predict_shards(build, [f"{bucket}/in"], f"{bucket}/out", Shards(2, shard=f"{number}/2"))
    result = predict_shards(build, [f"{bucket}/in"], f"{bucket}/out", Shards(2))
    assert result is not None
    assert (result.masks, result.errors) == (6, ())
    found = {facts["name"]: decode(png or b"").tolist() for facts, png in rows(open_place(f"{bucket}/out"))}
    assert found == {name: mask.tolist() for name, mask in masks.items()}


def test_labels_and_refined_masks_on_s3(tmp_path: Path, bucket: str) -> None:
    import s3fs

    photos, table = tagged(tmp_path)
    there = f"{bucket}/tagged"
    s3fs.S3FileSystem(skip_instance_cache=True).put(str(photos), "photos/tagged", recursive=True)
    listed = list_in_table(there, read_tags(table, [there], None, None, None, None))
    labels = label_shards(build, listed, f"{bucket}/labels", Shards(2))
    here = list_in_table(str(photos), read_tags(table, [str(photos)], None, None, None, None))
    label_shards(build, here, tmp_path / "labels", Shards(2))
    assert labels is not None
    assert (labels.masks, labels.errors) == (7, ())
    assert stored(f"{bucket}/labels") == stored(tmp_path / "labels")

    masks, images = masked(tmp_path)
    how = Refinement((3.0, 3.0), (30.0, 10.0, 4.0), 5)
    refined = refine_shards(masks, images, f"{bucket}/refined", Shards(2), how, device="cpu")
    assert refined is not None
    assert (refined.masks, refined.errors) == (5, ())
    refine_shards(masks, images, tmp_path / "refined", Shards(2), how, device="cpu")
    assert stored(f"{bucket}/refined") == stored(tmp_path / "refined")


def stored(place: str | Path) -> dict[str, bytes | None]:
    return {facts["name"]: png for facts, png in rows(open_place(place))}


def test_a_key_that_is_taken_is_not_overwritten(tmp_path: Path, bucket: str) -> None:
    place = open_place(f"{bucket}/x")
    assert place.write("a", b"first", new=True)
    assert not place.write("a", b"second", new=True)
    assert place.read("a") == b"first"
    assert place.read("a", start=1, size=3) == b"irs"
    with pytest.raises(UserError, match="does not exist"):
        place.read("b")


def test_a_store_that_does_not_answer_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_MAX_ATTEMPTS": "1"}.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"s3://photos/in.* cannot be reached"):
        list(open_place("s3://photos/in").find())
