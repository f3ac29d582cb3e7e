"""Prediction by shards: plan, work, finish; on a folder, in memory, from tar archives, into Parquet."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from tagseg.cli.by_shards import say_finished
from tagseg.cli.frame import app
from tagseg.errors import UserError
from tagseg.outputs import READERS
from tagseg.scale.containers import CONTAINERS
from tagseg.scale.finish import finish, merge, rows
from tagseg.scale.numbers import own_shards
from tagseg.scale.photos import list_photos
from tagseg.scale.places import open_place
from tagseg.scale.plan import read_manifest, read_plan
from tagseg.segmenter import Prediction, Segmenter
from tagseg.workflows.shards import Shards, predict_shards
from tests.colors import Colors


def build() -> Segmenter:
    return Segmenter(Colors(), {"crf": None})


def draw(folder: Path, count: int) -> dict[str, NDArray[np.uint8]]:
    """Photos of unlike sizes, and the masks that Colors gives them."""
    folder.mkdir(parents=True, exist_ok=True)
    masks = {}
    for number in range(count):
        random = np.random.default_rng(number)
        strongest = random.integers(0, 3, (8 + number % 3, 10)).astype(np.uint8)
        Image.fromarray(np.eye(3, dtype=np.uint8)[strongest] * 200).save(folder / f"p.{number:02}.png")
        masks[f"p.{number:02}"] = strongest
    return masks


def everything(folder: Path) -> dict[str, bytes]:
    """What must be equal however it was made: all files, less the seconds that work took."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            if path.parent.name == "records" or path.name == "_SUCCESS":
                content = json.dumps(json.loads(content) | {"seconds": 0}).encode()
            found[path.relative_to(folder).as_posix()] = content
    return found


def decode(png: bytes) -> NDArray[np.uint8]:
    return np.array(Image.open(io.BytesIO(png)))


@pytest.mark.parametrize("container", CONTAINERS)
def test_every_photo_comes_back_by_its_name(tmp_path: Path, container: str) -> None:
    masks = draw(tmp_path / "photos", 9)
    out = tmp_path / "out"
    result = predict_shards(build, [tmp_path / "photos"], out, Shards(4, container=container))
    assert result is not None
    assert (result.photos, result.masks, result.errors) == (9, 9, ())
    found = {facts["name"]: decode(png or b"") for facts, png in rows(open_place(out))}
    assert found.keys() == masks.keys()
    assert all(np.array_equal(found[name], masks[name]) for name in masks)
    index = [json.loads(line) for line in gzip.decompress((out / "index.jsonl.gz").read_bytes()).decode().splitlines()]
    assert [row["name"] for row in index] == sorted(masks)
    assert (out / "classes.txt").read_text() == "background\ngreen\nblue\n"


def test_shards_worked_one_by_one_twice_and_in_any_order_equal_one_call(tmp_path: Path) -> None:
    draw(tmp_path / "photos", 9)
    predict_shards(build, [tmp_path / "photos"], tmp_path / "whole", Shards(4))
    for number in (2, 0, 3, 2, 1):
        alone = predict_shards(build, [tmp_path / "photos"], tmp_path / "parts", Shards(4, shard=f"{number}/4"))
        assert alone is None
    finish(open_place(tmp_path / "parts"))
    assert everything(tmp_path / "parts") == everything(tmp_path / "whole")


def test_a_done_shard_is_not_done_again(tmp_path: Path) -> None:
    draw(tmp_path / "photos", 4)
    segmenter = build()
    method: Any = segmenter.method
    for _ in range(2):
        predict_shards(lambda: segmenter, [tmp_path / "photos"], tmp_path / "out", Shards(2))
    assert len(method.seen) == 4


@pytest.mark.parametrize("form", ["folder", "list", "tar"])
def test_a_plan_of_somebody_else_leads_to_no_photo_that_was_not_given(tmp_path: Path, form: str) -> None:
    draw(tmp_path / "private", 4)
    draw(tmp_path / "photos", 4)
    sources = {}
    for name in ("private", "photos"):
        folder = sources[name] = tmp_path / name
        if form == "list":
            sources[name] = tmp_path / f"{name}.txt"
            sources[name].write_text("".join(f"{path}\n" for path in sorted(folder.iterdir())))
        elif form == "tar":
            sources[name] = tmp_path / f"{name}.tar"
            with tarfile.open(sources[name], "w") as tar:
                tar.add(folder, arcname=".")
    out = tmp_path / "out"
    predict_shards(build, [sources["private"]], out, Shards(2, shard="0/2"))
    before = everything(out)
    for shards in (Shards(2, shard="1/2"), Shards(2)):
        with pytest.raises(UserError, match=r"manifest.jsonl.gz names '.*p.0\d.png' in .* none of the photos given"):
            predict_shards(build, [sources["photos"]], out, shards)
    assert everything(out) == before
    said: list[str] = []
    done = predict_shards(build, [sources["photos"], sources["private"]], out, Shards(2), say=said.append)
    assert done is not None
    assert ("made without 4 that are there now" in said[-1]) == (form != "tar"), "which is not read through again"
    assert done.masks == 4


def test_finish_names_the_shards_that_are_missing(tmp_path: Path) -> None:
    draw(tmp_path / "photos", 6)
    predict_shards(build, [tmp_path / "photos"], tmp_path / "out", Shards(3, shard="1"))
    with pytest.raises(UserError, match=r"2 of 3 shards are still to be done \(0, 2\)"):
        finish(open_place(tmp_path / "out"))


def test_a_container_without_its_record_is_taken_over(tmp_path: Path) -> None:
    """What a kill between the two writes leaves."""
    draw(tmp_path / "photos", 6)
    predict_shards(build, [tmp_path / "photos"], tmp_path / "out", Shards(2))
    before = everything(tmp_path / "out")
    (tmp_path / "out/records/00001.json").unlink()
    predict_shards(build, [tmp_path / "photos"], tmp_path / "out", Shards(2))
    assert everything(tmp_path / "out") == before


class Failing(Colors):
    """Fails on photos of 9 rows."""

    def segment(self, image_B3HW: Any) -> Any:
        if image_B3HW.shape[2] == 9:
            raise RuntimeError("no room")
        return super().segment(image_B3HW)


def test_a_photo_that_fails_costs_itself_alone_and_is_retried(tmp_path: Path) -> None:
    masks = draw(tmp_path / "photos", 9)
    (tmp_path / "photos/broken.jpg").write_bytes(b"\xff\xd8 nothing")
    failing = Segmenter(Failing(), {"crf": None})
    # the digest tells models apart by their weights, which are equal here: the mended model may go on
    result = predict_shards(lambda: failing, [tmp_path / "photos"], tmp_path / "out", Shards(3))
    assert result is not None
    failed = [name for name, mask in masks.items() if mask.shape[0] == 9]
    assert [name for name, _ in result.errors] == ["broken", *failed]
    assert "no room" in dict(result.errors)[failed[0]]
    (tmp_path / "photos/broken.jpg").unlink()
    Image.new("RGB", (10, 8), (0, 200, 0)).save(tmp_path / "photos/broken.jpg")
    retried = predict_shards(build, [tmp_path / "photos"], tmp_path / "out", Shards(3, retry_errors=True))
    assert retried is not None
    assert retried.errors == ()
    found = {facts["name"]: decode(png or b"") for facts, png in rows(open_place(tmp_path / "out"))}
    assert found.keys() == {*masks, "broken"}
    assert all(np.array_equal(found[name], masks[name]) for name in masks)
    with pytest.raises(UserError, match="no photo failed"):
        predict_shards(build, [tmp_path / "photos"], tmp_path / "out", Shards(3, retry_errors=True))


def test_a_photo_that_takes_too_long_becomes_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(tmp_path / "photos", 4)
    whole = Segmenter.predict

    def slow(self: Segmenter, photo: Any, **settings: Any) -> Prediction:
        while photo.shape[0] == 10:
            pass
        return whole(self, photo, **settings)

    monkeypatch.setattr(Segmenter, "predict", slow)
    result = predict_shards(build, [tmp_path / "photos"], tmp_path / "out", Shards(1, timeout=0.3))
    assert result is not None
    assert result.errors == (("p.02", "p.02.png took more than 0.3 seconds"),)


def test_other_settings_are_refused(tmp_path: Path) -> None:
    draw(tmp_path / "photos", 3)
    predict_shards(build, [tmp_path / "photos"], tmp_path / "out", Shards(2))
    with pytest.raises(UserError, match="the plan of other shards"):
        predict_shards(build, [tmp_path / "photos"], tmp_path / "out", Shards(3))
    with pytest.raises(UserError, match="the plan of other container"):
        predict_shards(build, [tmp_path / "photos"], tmp_path / "out", Shards(2, container="png"))
    with pytest.raises(UserError, match="the plan of other model or settings"):
        predict_shards(build, [tmp_path / "photos"], tmp_path / "out", Shards(2), crf=False)


@pytest.fixture
def memory() -> Iterator[str]:
    fsspec = pytest.importorskip("fsspec")
    yield "memory://bucket"
    fsspec.filesystem("memory").rm("/bucket", recursive=True)


def test_a_store_gives_what_a_folder_gives(tmp_path: Path, memory: str) -> None:
    import fsspec

    draw(tmp_path / "photos", 7)
    predict_shards(build, [tmp_path / "photos"], tmp_path / "whole", Shards(3))
    files = fsspec.filesystem("memory")
    files.put(str(tmp_path / "photos"), "/bucket/in", recursive=True)
    predict_shards(build, [f"{memory}/in"], f"{memory}/out", Shards(3))
    files.get("/bucket/out/", str(tmp_path / "parts"), recursive=True)
    ours, theirs = everything(tmp_path / "whole"), everything(tmp_path / "parts")
    assert {key for key in ours if key.startswith("shards/")}
    assert {key: ours[key] for key in ours if key.startswith("shards/")} == {
        key: theirs[key] for key in theirs if key.startswith("shards/")
    }


def test_tar_in_parquet_out(tmp_path: Path) -> None:
    masks = draw(tmp_path / "photos", 5)
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        for path in sorted((tmp_path / "photos").iterdir()):
            tar.add(path, path.name)
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        tar.addfile(tarfile.TarInfo("../out.png"))
    photos, problems = list_photos([tmp_path / "photos.tar"], out=str(tmp_path / "out"))
    assert [photo.name for photo in photos] == sorted(masks)
    assert "no plain file" in problems[0]
    assert "leads outside" in problems[1]
    predict_shards(build, [tmp_path / "photos.tar"], tmp_path / "out", Shards(2, container="parquet"))
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(tmp_path / "out/shards/00000.parquet")
    first = table.to_pylist()[0]
    assert np.array_equal(decode(first["mask"]["bytes"]), masks[first["name"]])
    assert sum(first["pixels"]) == first["height"] * first["width"]


def test_masks_leave_in_the_formats_of_predict(tmp_path: Path) -> None:
    masks = draw(tmp_path / "photos", 5)
    predict_shards(build, [tmp_path / "photos"], tmp_path / "out", Shards(2))
    for format in ("coco", "png", "label-studio"):
        assert merge(open_place(tmp_path / "out"), format, tmp_path / format) == 5
        stored = READERS[format](tmp_path / format)
        assert {name: mask.tolist() for name, mask in stored.masks} == {name: m.tolist() for name, m in masks.items()}
    tasks = json.loads((tmp_path / "label-studio/label-studio.json").read_text(encoding="utf-8"))
    assert tasks[0]["data"]["image"].startswith("/data/local-files/?d=photos/p."), (
        "from the folder above the photos' own"
    )
    with pytest.raises(UserError, match="needs the photos"):
        merge(open_place(tmp_path / "out"), "overlay", tmp_path / "overlay")


def test_shards_are_neighbors_of_about_equally_many_bytes(tmp_path: Path) -> None:
    draw(tmp_path / "photos", 40)
    predict_shards(build, [tmp_path / "photos"], tmp_path / "out", Shards(4, shard="0"))
    place = open_place(tmp_path / "out")
    listed = list(read_manifest(place, read_plan(place)))
    assert [row for row in listed if row[0] == 2] == list(read_manifest(place, read_plan(place), 2))
    shards = [shard for shard, _ in listed]
    assert shards == sorted(shards)
    sizes = [sum(photo.size for shard, photo in listed if shard == number) for number in range(4)]
    assert max(sizes) < 1.3 * min(sizes)


def test_a_changed_list_is_noticed(tmp_path: Path) -> None:
    draw(tmp_path / "photos", 3)
    predict_shards(build, [tmp_path / "photos"], tmp_path / "out", Shards(2))
    manifest = tmp_path / "out/manifest.jsonl.gz"
    manifest.write_bytes(gzip.compress(gzip.decompress(manifest.read_bytes()).replace(b"p.01", b"p.07")))
    with pytest.raises(UserError, match="not the list of the plan"):
        predict_shards(build, [tmp_path / "photos"], tmp_path / "out", Shards(2))


@pytest.mark.parametrize(
    ("told", "environment", "numbers"),
    [
        (None, {}, None),
        ("3/10", {"SLURM_ARRAY_TASK_ID": "1"}, [3]),
        (None, {"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_COUNT": "4"}, [1, 5, 9]),
        (None, {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_COUNT": "10"}, [2]),
        # the tasks 3 and 7 of an array are sent again: each does its own shard
        (
            None,
            {
                "SLURM_ARRAY_TASK_ID": "7",
                "SLURM_ARRAY_TASK_MIN": "3",
                "SLURM_ARRAY_TASK_MAX": "7",
                "SLURM_ARRAY_TASK_COUNT": "2",
            },
            [7],
        ),
        (None, {"JOB_COMPLETION_INDEX": "9"}, [9]),
        (None, {"LSB_JOBINDEX": "1"}, [0]),
        (None, {"LSB_JOBINDEX": "0"}, None),
        (None, {"TAGSEG_SHARD": "0", "TAGSEG_SHARDS": "5", "JOB_COMPLETION_INDEX": "9"}, [0, 5]),
    ],
)
def test_the_shards_of_a_process(told: str | None, environment: dict[str, str], numbers: list[int] | None) -> None:
    found = own_shards(told, 10, environment)
    assert (None if found is None else found[0]) == numbers


@pytest.mark.parametrize("told", ["10/10", "a/3", "1/b", "-1/3", ""])
def test_wrong_shards_are_refused(told: str) -> None:
    with pytest.raises(UserError, match="--shard"):
        own_shards(told, 10, {})


@pytest.mark.parametrize("url", ["ftp://host/photos", "s3://a::zip://b", "http://host/x"])
def test_other_places_are_refused(url: str) -> None:
    with pytest.raises(UserError, match="no place that is known"):
        open_place(url)


def test_the_command_line_goes_on_finishes_and_uses_tags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    masks = draw(tmp_path / "photos", 5)
    (tmp_path / "tags.csv").write_text("file,tags\np.01.png,blue\n")
    monkeypatch.setattr("tagseg.prediction.load.load", lambda path, device: build())
    words = ["predict", "run", str(tmp_path / "photos"), "--out", str(tmp_path / "out"), "--shards", "2"]
    words += ["--tags", str(tmp_path / "tags.csv")]
    first = CliRunner().invoke(app, [*words, "--shard", "1/2"])
    assert (first.exit_code, "Shard 1 of 2" in first.output) == (0, True), first.output
    early = CliRunner().invoke(app, ["finish", str(tmp_path / "out")])
    assert isinstance(early.exception, UserError)
    assert "1 of 2 shards are still to be done" in str(early.exception)
    assert CliRunner().invoke(app, words).exit_code == 0
    done = CliRunner().invoke(app, ["finish", str(tmp_path / "out"), "--format", "png", "--to", str(tmp_path / "png")])
    assert (done.exit_code, "5 of 5 masks" in done.output) == (0, True), done.output
    stored = dict(READERS["png"](tmp_path / "png").masks)
    assert set(np.unique(stored["p.01"])) == {0, 2}, "only background and the tag"
    assert np.array_equal(stored["p.02"], masks["p.02"])


@pytest.mark.parametrize(
    "words",
    [
        ["--shard", "1/2"],
        ["--retry-errors"],
        ["--engine", "ray"],
        ["--timeout", "3"],
        ["--container", "parquet"],
        ["--workers", "4"],
        ["--address", "auto"],
    ],
)
def test_words_of_shards_alone_are_refused_without_them(tmp_path: Path, words: list[str]) -> None:
    result = CliRunner().invoke(app, ["predict", "run", str(tmp_path), *words])
    assert isinstance(result.exception, UserError)
    assert f"{words[0]} goes with --shards N" in str(result.exception)


def test_results_never_go_into_the_photos(tmp_path: Path) -> None:
    draw(tmp_path / "photos", 2)
    for out in (tmp_path / "photos", tmp_path / "photos/masks", tmp_path):
        with pytest.raises(UserError, match="choose another --out"):
            predict_shards(build, [tmp_path / "photos"], out, Shards(1))


def test_what_is_left_out_is_told_each_time_and_is_no_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(tmp_path / "photos", 2)
    (tmp_path / "photos/raw.cr2").write_bytes(b"raw")
    for _ in range(2):
        done = predict_shards(build, [tmp_path / "photos"], tmp_path / "out", Shards(2))
        assert done is not None
        assert done.masks == 2
        assert "raw.cr2" in done.left_out[0]
        with pytest.raises(UserError, match="1 of what was given had to be left out"):
            say_finished(done, str(tmp_path / "out"))


def test_an_archive_that_was_packed_anew_gives_no_photo_the_mask_of_another(tmp_path: Path) -> None:
    draw(tmp_path / "photos", 4)
    paths = sorted((tmp_path / "photos").iterdir())
    content = max((path.read_bytes() for path in paths), key=len)

    def pack(order: list[Path]) -> None:
        with tarfile.open(tmp_path / "photos.tar", "w") as tar:
            for path in order:
                info = tarfile.TarInfo(path.name)
                padded = path.read_bytes().ljust(len(content), b"\0")  # all of one size
                info.size, info.mtime = len(padded), 7
                tar.addfile(info, io.BytesIO(padded))

    pack(paths)
    source = [tmp_path / "photos.tar"]
    assert predict_shards(build, source, tmp_path / "out", Shards(2, shard="0/2")) is None
    pack(paths[::-1])
    done = predict_shards(build, source, tmp_path / "out", Shards(2))
    assert done is not None
    assert [why.partition(":")[0].endswith("packed anew") for _, why in done.errors] == [True, True]
