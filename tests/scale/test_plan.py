"""A plan goes on with what it was made of, however that is spelled, and is made where nothing lies in its way."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tagseg.data.tagged import open_tagged
from tagseg.errors import UserError
from tagseg.scale.finish import finish, rows
from tagseg.scale.places import open_place
from tagseg.scale.plan import read_manifest, read_plan
from tagseg.workflows.refine import Refinement
from tagseg.workflows.shards import Shards, label_shards, list_tagged, predict_shards, read_tags, refine_shards
from tests.scale.test_label_and_refine import masked
from tests.scale.test_shards import build, decode, draw, everything


@pytest.fixture
def memory() -> Iterator[str]:
    fsspec = pytest.importorskip("fsspec")
    yield "memory://bucket"
    fsspec.filesystem("memory").rm("/bucket", recursive=True)


@pytest.mark.parametrize(
    "taken", ["masks/p.00.png", "shards/00000.jsonl", "records/x", "classes.txt", "index.jsonl.gz", "_SUCCESS"]
)
def test_a_new_plan_writes_over_nothing_of_a_person(tmp_path: Path, taken: str) -> None:
    draw(tmp_path / "photos", 2)
    file = tmp_path / "out" / taken
    file.parent.mkdir(parents=True)
    file.write_text("a person's")
    (tmp_path / "out/notes.txt").write_text("of no matter")
    before = everything(tmp_path / "out") if taken != "_SUCCESS" and "records" not in taken else None
    for container in ("png", "tar"):
        with pytest.raises(UserError, match=r"is there already, without a plan of shards: choose another --out"):
            predict_shards(build, [tmp_path / "photos"], tmp_path / "out", Shards(1, container=container))
    assert file.read_text() == "a person's"
    assert before is None or everything(tmp_path / "out") == before


def test_a_store_with_results_takes_no_new_plan(tmp_path: Path, memory: str) -> None:
    import fsspec

    draw(tmp_path / "photos", 2)
    fsspec.filesystem("memory").pipe("/bucket/out/masks/p.00.png", b"a person's")
    with pytest.raises(UserError, match=r"memory://bucket/out/masks is there already"):
        predict_shards(build, [tmp_path / "photos"], f"{memory}/out", Shards(1, container="png"))
    assert fsspec.filesystem("memory").find("/bucket/out") == ["/bucket/out/masks/p.00.png"]


def tagged(root: Path, tag: str) -> Path:
    table = root / "tags.csv"
    table.write_text("file,tags\n" + "".join(f"p.{number:02}.png,{tag}\n" for number in range(4)))
    return table


def test_photos_keep_the_tags_that_they_were_planned_with(tmp_path: Path) -> None:
    draw(tmp_path / "photos", 4)
    photos, out = tmp_path / "photos", tmp_path / "out"
    given = read_tags(tagged(tmp_path, "green"), [photos], None, None, None, None)
    predict_shards(build, [photos], out, Shards(2, shard="0/2"))
    before = everything(out)
    with pytest.raises(
        UserError, match=r"has 'p.0\d.png' with no tags, not with the tags 'green': give the tags of the"
    ):
        predict_shards(build, [photos], out, Shards(2), tags=given)
    assert everything(out) == before

    predict_shards(build, [photos], tmp_path / "green", Shards(2, shard="0/2"), tags=given)
    with pytest.raises(UserError, match="with the tags 'green', not with no tags"):
        predict_shards(build, [photos], tmp_path / "green", Shards(2))
    other = read_tags(tagged(tmp_path, "blue"), [photos], None, None, None, None)
    with pytest.raises(UserError, match="with the tags 'green', not with the tags 'blue'"):
        predict_shards(build, [photos], tmp_path / "green", Shards(2), tags=other)
    given = read_tags(tagged(tmp_path, "green"), [photos], None, None, None, None)
    assert predict_shards(build, [photos], tmp_path / "green", Shards(2), tags=given) is not None


def test_label_goes_on_with_the_same_tags_alone(tmp_path: Path) -> None:
    draw(tmp_path / "photos", 4)

    def label(shards: Shards) -> object:
        data = list_tagged(lambda _: open_tagged(tmp_path / "photos", tmp_path / "tags.csv", classes=("green", "blue")))
        return label_shards(build, data, tmp_path / "out", shards)

    tagged(tmp_path, "green;blue")
    label(Shards(2, shard="0/2"))
    tagged(tmp_path, "green")
    with pytest.raises(UserError, match="with the tags 'blue, green', not with the tags 'green'"):
        label(Shards(2))
    tagged(tmp_path, "blue;green")
    assert label(Shards(2)) is not None


def test_folders_named_from_the_one_above_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (masks, images), how = masked(tmp_path), Refinement((3.0, 3.0), (30.0, 10.0, 4.0), 1)
    (tmp_path / "real/work").mkdir(parents=True)
    (tmp_path / "work").symlink_to(tmp_path / "real/work")  # `work/..` is `real`, not the folder that the link is in
    for source in (masks, images):
        source.rename(tmp_path / "real" / source.name)
    monkeypatch.chdir(tmp_path / "work")
    masks, images = Path(os.pardir, masks.name), Path(os.pardir, images.name)
    for number in range(2):
        shards = Shards(2, shard=f"{number}/2")
        predict_shards(build, [images], "out", shards)
        refine_shards(masks, images, "refined", shards, how, device="cpu")
        predict_shards(build, [str(next(images.iterdir())), images / ".." / images.name], "single", shards)
    for out in ("out", "refined", "single"):
        assert finish(open_place(out)).errors == ()
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(UserError, match="none of the photos given"):
        predict_shards(build, [masks], "out", Shards(2))


def test_a_store_is_the_same_with_and_without_its_last_slash(tmp_path: Path, memory: str) -> None:
    import fsspec

    draw(tmp_path / "photos", 4)
    fsspec.filesystem("memory").put(str(tmp_path / "photos"), "/bucket/in", recursive=True)
    for number, source in enumerate((f"{memory}/in/", f"{memory}/in")):
        predict_shards(build, [source], tmp_path / "out", Shards(2, shard=f"{number}/2"))
    assert finish(open_place(tmp_path / "out")).masks == 4


def test_names_that_no_file_can_have_are_left_out_of_the_plan_with_a_word(tmp_path: Path) -> None:
    masks = draw(tmp_path / "photos", 2)
    clash = tmp_path / "photos" / "a.png"
    clash.mkdir()
    for file in (tmp_path / "photos/a.jpg", clash / "b.png"):
        Image.fromarray(np.full((8, 10, 3), (0, 200, 0), np.uint8)).save(file, format="PNG")
    long = "n" * 253
    (tmp_path / "photos" / f"{long}.p").write_bytes(b"")
    said: list[str] = []
    result = predict_shards(build, [tmp_path / "photos"], tmp_path / "out", Shards(1, container="png"), say=said.append)
    assert result is not None
    assert (result.masks, result.errors) == (3, ())
    assert any(
        "'a.jpg': its result would have the name of a folder of other results" in line for line in result.left_out
    )
    assert {facts["name"] for facts, png in rows(open_place(tmp_path / "out")) if decode(png or b"").any()} >= {
        "a.png/b"
    }
    assert {facts["name"] for facts, _ in rows(open_place(tmp_path / "out"))} == {*masks, "a.png/b"}
    whole = predict_shards(build, [tmp_path / "photos"], tmp_path / "tar", Shards(1))
    assert whole is not None
    assert whole.masks == 4, "a tar holds every name"
    place = open_place(tmp_path / "out")
    assert len(list(read_manifest(place, read_plan(place)))) == 3
