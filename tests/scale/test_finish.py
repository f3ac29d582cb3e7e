"""What is left at the end: an index that names files, retries that end, masks with their photos' names."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tagseg.cli.frame import app
from tagseg.data.photo import PIXEL_CAP
from tagseg.errors import UserError
from tagseg.scale.containers import CONTAINERS, Parquet
from tagseg.scale.finish import finish, merge
from tagseg.scale.places import open_place
from tagseg.segmenter import Segmenter
from tagseg.workflows.shards import Shards, predict_shards
from tests.scale.test_shards import Failing, build, draw


def index(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress((out / "index.jsonl.gz").read_bytes()).decode().splitlines()]


def failing() -> Segmenter:
    return Segmenter(Failing(), {"crf": None})


def rewrite(photo: Path) -> None:
    """The same pixels in a file of another size."""
    with Image.open(photo) as image:
        image.load()
    image.save(photo, compress_level=0)


def test_the_index_names_photos_and_shards_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(tmp_path / "photos/lookout", 2)
    monkeypatch.chdir(tmp_path)
    predict_shards(failing, ["photos"], "out", Shards(1))
    predict_shards(build, ["photos"], "out", Shards(1, retry_errors=True))
    assert index(tmp_path / "out") == [
        {"name": "lookout/p.00", "file_name": "lookout/p.00.png", "shard": "shards/00000"},
        {"name": "lookout/p.01", "file_name": "lookout/p.01.png", "shard": "retry-1/shards/00000"},
    ]


def test_a_retry_that_was_interrupted_is_ended_by_the_same_command(tmp_path: Path) -> None:
    draw(tmp_path / "photos", 9)
    photos, out = [tmp_path / "photos"], tmp_path / "out"
    first = predict_shards(failing, photos, out, Shards(4))
    assert first is not None
    assert len(first.errors) == 3
    predict_shards(build, photos, out, Shards(2, shard="0/2", retry_errors=True))
    with pytest.raises(
        UserError, match=r"retry-1: 1 of 2 shards are .* \(1\): give the command .* with --retry-errors"
    ):
        finish(open_place(out))
    # the shards are those of the retry's own plan
    last = predict_shards(build, photos, out, Shards(4, retry_errors=True))
    assert last is not None
    assert (last.masks, last.errors) == (9, ())
    assert not (out / "retry-2").exists()


def test_a_late_task_of_an_array_ends_a_retry_and_begins_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(tmp_path / "photos", 9)
    photos, out = [tmp_path / "photos"], tmp_path / "out"
    predict_shards(failing, photos, out, Shards(4))  # three photos fail
    for number in range(4):  # as many shards as tasks, though photos are fewer
        monkeypatch.setenv("JOB_COMPLETION_INDEX", str(number))
        assert predict_shards(failing, photos, out, Shards(4, retry_errors=True)) is None
    said: list[str] = []
    predict_shards(failing, photos, out, Shards(4, shard="4/6", retry_errors=True), say=said.append)
    assert said == ["None of the 4 shards is for this task, as --shard says."]
    assert not (out / "retry-2").exists()
    assert len(finish(open_place(out)).errors) == 3


def test_a_retry_leads_to_no_photo_that_was_not_given_and_keeps_its_tags(tmp_path: Path) -> None:
    draw(tmp_path / "private", 4)
    draw(tmp_path / "photos", 4)
    predict_shards(failing, [tmp_path / "private"], tmp_path / "out", Shards(2))
    with pytest.raises(UserError, match="none of the photos given"):
        predict_shards(build, [tmp_path / "photos"], tmp_path / "out", Shards(2, retry_errors=True))
    with pytest.raises(UserError, match="with no tags, not with the tags 'green'"):
        predict_shards(
            build,
            [tmp_path / "private"],
            tmp_path / "out",
            Shards(2, retry_errors=True),
            tags=lambda segmenter, files: dict.fromkeys(files, ("green",)),
        )
    assert not (tmp_path / "out/retry-1").exists()


def test_a_retry_is_of_the_same_model_and_settings(tmp_path: Path) -> None:
    draw(tmp_path / "photos", 4)
    predict_shards(failing, [tmp_path / "photos"], tmp_path / "out", Shards(2))
    with pytest.raises(UserError, match="the plan of other model or settings"):
        predict_shards(build, [tmp_path / "photos"], tmp_path / "out", Shards(2, retry_errors=True), crf=False)
    assert not (tmp_path / "out/retry-1").exists()
    raised = predict_shards(
        build, [tmp_path / "photos"], tmp_path / "out", Shards(2, retry_errors=True), pixel_cap=PIXEL_CAP + 1
    )
    assert raised is not None
    assert raised.errors == (), "what was too large may be allowed"


def test_photos_that_changed_since_their_masks_were_made_are_refused_and_repaired_ones_are_not(tmp_path: Path) -> None:
    draw(tmp_path / "photos", 4)
    photos, out = [tmp_path / "photos"], tmp_path / "out"
    first = predict_shards(failing, photos, out, Shards(2, shard="0/2"))
    assert first is None
    broken = json.loads((out / "records/00000.json").read_text())["errors"][0][0]
    rewrite(tmp_path / f"photos/{broken}.png")  # repaired
    rewrite(tmp_path / "photos/p.03.png")  # its turn is still to come
    assert predict_shards(failing, photos, out, Shards(2)) is not None
    whole = next(path for path in sorted((tmp_path / "photos").iterdir()) if path.stem != broken)
    os.utime(whole, (1, 1))
    assert predict_shards(failing, photos, out, Shards(2)) is not None, "a copy"
    content = whole.read_bytes()
    whole.write_bytes(content[:-1] + b"x")  # another file of the same size
    with pytest.raises(UserError, match=f"'{whole.name}' in"):
        predict_shards(failing, photos, out, Shards(2))
    whole.write_bytes(content)
    assert predict_shards(failing, photos, out, Shards(2)) is not None
    rewrite(whole)
    with pytest.raises(UserError, match=f"'{whole.name}' in .* has changed since its mask in .* was made"):
        predict_shards(failing, photos, out, Shards(2))


def test_photos_that_came_later_are_named(tmp_path: Path) -> None:
    draw(tmp_path / "photos", 3)
    photos, out = [tmp_path / "photos"], tmp_path / "out"
    predict_shards(build, photos, out, Shards(2))
    predict_shards(build, photos, out, Shards(2))
    (tmp_path / "photos/q.png").write_bytes((tmp_path / "photos/p.00.png").read_bytes())
    said: list[str] = []
    done = predict_shards(build, photos, out, Shards(2), say=said.append)
    assert done is not None
    assert done.masks == 3
    assert "the plan of 3 photos, made without 1 that are there now, such as 'q.png'" in said[-1]


@pytest.mark.parametrize("container", CONTAINERS)
def test_masks_leave_with_the_names_of_their_photos(tmp_path: Path, container: str) -> None:
    draw(tmp_path / "photos", 3)
    predict_shards(build, [tmp_path / "photos"], tmp_path / "out", Shards(2, container=container))
    merge(open_place(tmp_path / "out"), "coco", tmp_path / "coco")
    images = json.loads((tmp_path / "coco/annotations.json").read_text())["images"]
    assert sorted(image["file_name"] for image in images) == [f"p.0{number}.png" for number in range(3)]


def test_parquet_of_an_older_version_is_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    draw(tmp_path / "photos", 3)
    predict_shards(build, [tmp_path / "photos"], tmp_path / "out", Shards(1, container="parquet"))
    file = tmp_path / "out/shards/00000.parquet"
    parquet.write_table(parquet.read_table(file).drop_columns(["file_name"]), file)
    assert all("file_name" not in facts for facts, _ in Parquet.read(file))
    assert merge(open_place(tmp_path / "out"), "coco", tmp_path / "coco") == 3


def test_a_mask_of_any_size_is_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    masks = draw(tmp_path / "photos", 2)
    predict_shards(build, [tmp_path / "photos"], tmp_path / "out", Shards(1))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 9)  # twice as many raise
    assert merge(open_place(tmp_path / "out"), "png", tmp_path / "png") == 2
    monkeypatch.undo()
    assert all(np.array_equal(np.array(Image.open(tmp_path / f"png/{name}.png")), masks[name]) for name in masks)


def test_masks_are_not_written_to_a_folder_named_like_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(tmp_path / "photos", 2)
    predict_shards(build, [tmp_path / "photos"], tmp_path / "out", Shards(1))
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["finish", "out", "--format", "png", "--to", "s3://bucket/masks"])
    assert isinstance(result.exception, UserError)
    assert "s3://bucket/masks is no place on this machine" in str(result.exception)
    assert not (tmp_path / "s3:").exists()
