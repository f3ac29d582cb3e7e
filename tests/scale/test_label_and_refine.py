"""`label` and `refine` by shards leave what they leave without."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tagseg.cli.frame import app
from tagseg.data.class_lists import listed_classes
from tagseg.data.mask_numbers import TagTable
from tagseg.data.palette import write_mask
from tagseg.data.photo import read_mask
from tagseg.data.sources import DataSettings, open_sources
from tagseg.data.tagged import open_tagged
from tagseg.errors import UserError
from tagseg.scale.finish import finish, merge, rows
from tagseg.scale.places import open_place
from tagseg.workflows.label import label
from tagseg.workflows.refine import Refinement, refine_folder
from tagseg.workflows.shards import Shards, label_shards, list_in_table, list_tagged, read_tags, refine_shards
from tests.refine.test_lattice import photo_like
from tests.scale.test_shards import build, decode, draw

TAGS = ("green", "blue", "green blue")


def tagged(root: Path, count: int = 8) -> tuple[Path, Path]:
    """Photos, and a table that names all but the last."""
    names = sorted(draw(root / "photos", count))
    table = root / "tags.csv"
    table.write_text("file,tags\n" + "".join(f"{name}.png,{TAGS[i % 3]}\n" for i, name in enumerate(names[:-1])))
    return root / "photos", table


def test_label_by_shards_is_label(tmp_path: Path) -> None:
    photos, table = tagged(tmp_path)
    classes = ("green", "blue")
    data = open_tagged(photos, table, classes=classes)
    assert label(build(), data, tmp_path / "whole", confidence=0.9) == 7
    listed = list_tagged(lambda segmenter: open_tagged(photos, table, classes=classes))
    for number in (1, 0, 2):
        assert label_shards(build, listed, tmp_path / "parts", Shards(3, shard=f"{number}/3"), confidence=0.9) is None
    result = label_shards(build, listed, tmp_path / "parts", Shards(3), confidence=0.9)
    assert result is not None
    assert (result.photos, result.errors) == (7, ())
    assert merge(open_place(tmp_path / "parts"), "png", tmp_path / "png") == 7
    ours, theirs = tmp_path / "png", tmp_path / "whole"
    names = sorted(path.name for path in theirs.iterdir() if path.suffix)
    assert sorted(path.name for path in ours.iterdir() if path.suffix) == names
    assert all((ours / name).read_bytes() == (theirs / name).read_bytes() for name in names)
    training = DataSettings(format="tagged", root=photos, tags=table, masks=ours, val=None)
    assert open_sources(training, tmp_path).train.mask(0) is not None
    assert merge(open_place(tmp_path / "parts"), "png", ours) == 7, "the same command again"


def test_a_table_that_a_person_has_changed_is_left_alone(tmp_path: Path) -> None:
    photos, table = tagged(tmp_path)
    data = open_tagged(photos, table, classes=("green", "blue"))
    label(build(), data, tmp_path / "whole")
    label_shards(build, list_tagged(lambda segmenter: data), tmp_path / "parts", Shards(1))
    merge(open_place(tmp_path / "parts"), "png", tmp_path / "png")
    for out in (tmp_path / "whole", tmp_path / "png"):
        for name in ("confidence.csv", "classes.txt"):
            file, before = out / name, (out / name).read_bytes()
            file.write_text("file,confidence,note\np.00,0.9,looked at\n", encoding="utf-8")
            (out / "p.00.png").unlink(missing_ok=True)
            with pytest.raises(UserError, match=rf"{name} has been changed since tagseg wrote it"):
                label(build(), data, out) if out.name == "whole" else merge(open_place(tmp_path / "parts"), "png", out)
            assert "looked at" in file.read_text(encoding="utf-8")
            file.write_bytes(before)
    assert label(build(), data, tmp_path / "whole") == 1
    assert merge(open_place(tmp_path / "parts"), "png", tmp_path / "png") == 7


def test_label_from_a_tar_needs_a_table(tmp_path: Path) -> None:
    import tarfile

    photos, table = tagged(tmp_path)
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        for path in photos.iterdir():
            tar.add(path, path.name)
    archive = str(tmp_path / "photos.tar")
    listed = list_in_table(archive, read_tags(table, [archive], None, None, None, None))
    result = label_shards(build, listed, tmp_path / "out", Shards(2, container="png"))
    assert result is not None
    assert result.photos == 7
    first = read_mask(tmp_path / "out/masks/p.00.png")
    assert 2 not in first, "only green is a tag of it"
    data = list_tagged(lambda segmenter: open_tagged(photos, table, classes=("green", "blue", "red")))
    with pytest.raises(UserError, match="does not know the tag 'red'"):
        label_shards(build, data, tmp_path / "other", Shards(2))


def masked(root: Path, count: int = 5) -> tuple[Path, Path]:
    masks, images = root / "masks", root / "images"
    masks.mkdir()
    images.mkdir()
    for i in range(count):
        Image.fromarray(photo_like(24, 30, i)).save(images / f"{i}.png")
        mask = np.zeros((24, 30), np.uint8)
        mask[8 + i : 18, 10:22], mask[0, 0] = 7, 255
        write_mask(masks / f"{i}.png", mask)
    maps = np.random.default_rng(0).random((3, 24, 30), np.float32)
    (masks / "1.png").unlink()
    np.save(masks / "1.npy", maps / maps.sum(0))
    return masks, images


def test_refine_by_shards_is_refine(tmp_path: Path) -> None:
    masks, images = masked(tmp_path)
    how = Refinement((3.0, 3.0), (30.0, 10.0, 4.0), 5)
    assert refine_folder(masks, images, tmp_path / "whole", how) == 5
    (masks / "stray.png").write_bytes((masks / "0.png").read_bytes())
    (masks / "3.png").write_bytes(b"no mask")
    said: list[str] = []
    out = tmp_path / "parts"
    result = refine_shards(masks, images, out, Shards(2), how, device="cpu", say=said.append)
    assert result is not None
    assert "no photo stray" in result.left_out[0]
    assert (result.photos, result.masks, [name for name, _ in result.errors]) == (5, 4, ["3"])
    write_mask(masks / "3.png", np.full((24, 30), 4, np.uint8))
    retried = refine_shards(masks, images, out, Shards(2, retry_errors=True), how, device="cpu")
    assert retried is not None
    assert retried.errors == ()
    found = {facts["name"]: decode(png or b"") for facts, png in rows(open_place(out))}
    assert (found.pop("3") == 4).all()
    for name, mask in found.items():
        np.testing.assert_array_equal(mask, read_mask(tmp_path / f"whole/{name}.png"))
    assert merge(open_place(out), "png", tmp_path / "png") == 5
    assert not (tmp_path / "png/classes.txt").exists(), "nobody has named the classes"
    assert not (out / "classes.txt").exists()
    with pytest.raises(UserError, match="other model or settings"):
        refine_shards(masks, images, out, Shards(2), Refinement(), device="cpu")


def test_tags_tell_of_classes_that_no_mask_holds_by_shards_too(tmp_path: Path) -> None:
    masks, images = masked(tmp_path)
    table = tmp_path / "tags.csv"
    table.write_text("file,tags\n0,g\n1,g\n2,a;g\n3,a\n", encoding="utf-8")
    tags = TagTable(table, classes=tuple("abcdefg"))
    how = Refinement((3.0, 3.0), (30.0, 10.0, 4.0), 1)
    whole: list[str] = []
    refine_folder(masks, images, tmp_path / "whole", how, tags=tags, say=whole.append)
    said: list[str] = []
    result = refine_shards(masks, images, tmp_path / "parts", Shards(2), how, device="cpu", tags=tags, say=said.append)
    assert result is not None
    assert whole == said[: len(whole)]
    assert whole[0].startswith("no mask of the 2 photos tagged a holds that class")
    table.write_text("file,tags\nother,g\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"names none of the masks in .*masks: its rows"):
        refine_shards(masks, images, tmp_path / "new", Shards(2), how, device="cpu", tags=tags)
    assert not (tmp_path / "new").exists()
    with pytest.raises(UserError, match="is read by this command"):
        refine_shards(masks, images, table, Shards(2), how, device="cpu", tags=tags)


def test_objects_stored_as_255_are_refused_by_shards_too(tmp_path: Path) -> None:
    masks, images = masked(tmp_path)
    (masks / "1.npy").unlink()
    for path in masks.iterdir():
        mask = np.zeros((24, 30), np.uint8)
        mask[3:9, 3:9] = 255
        write_mask(path, mask)
    with pytest.raises(UserError, match="255 means ignored"):
        refine_shards(masks, images, tmp_path / "out", Shards(2), Refinement(), device="cpu")


def test_one_command_does_not_go_on_with_the_plan_of_another(tmp_path: Path) -> None:
    masks, images = masked(tmp_path)
    refine_shards(masks, images, tmp_path / "out", Shards(1), Refinement(), device="cpu")
    photos, table = tagged(tmp_path)
    listed = list_tagged(lambda segmenter: open_tagged(photos, table, classes=("green", "blue")))
    with pytest.raises(UserError, match="the plan of other command, `tagseg refine`"):
        label_shards(build, listed, tmp_path / "out", Shards(1))


def test_the_command_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos, table = tagged(tmp_path)
    monkeypatch.setattr("tagseg.prediction.load.load", lambda path, device: build())
    words = ["label", "run", "--images", str(photos), "--tags", str(table), "--out", str(tmp_path / "labels")]
    done = CliRunner().invoke(app, [*words, "--shards", "2"])
    assert (done.exit_code, "7 of 7 masks" in done.output) == (0, True), done.output
    masks, images = masked(tmp_path)
    words = ["refine", str(masks), str(images), "--out", str(tmp_path / "refined"), "--iterations", "1"]
    (tmp_path / "of-masks.csv").write_text("file,tags\n0,a\n1,b\n", encoding="utf-8")
    words += ["--tags", str(tmp_path / "of-masks.csv"), "--classes", "a,b,c,d,e,f,g"]
    done = CliRunner().invoke(app, [*words, "--shards", "3", "--shard", "1/3"])
    assert (done.exit_code, "Shard 1 of 3" in done.output) == (0, True), done.output
    done = CliRunner().invoke(app, [*words, "--shards", "3"])
    assert (done.exit_code, "5 of 5 masks" in done.output) == (0, True), done.output
    assert finish(open_place(tmp_path / "refined")).masks == 5
    for command in (["label", "run"], ["refine", str(masks), str(images)]):
        refused = CliRunner().invoke(app, [*command, "--retry-errors"])
        assert isinstance(refused.exception, UserError)
        assert "--retry-errors goes with --shards N" in str(refused.exception)


def test_refine_by_shards_hands_the_names_of_the_classes_on(tmp_path: Path) -> None:
    masks, images = masked(tmp_path)
    names = [f"class {number}" for number in range(1, 5)]  # 7 has none
    (masks / "classes.txt").write_text("".join(f"{name}\n" for name in ("background", *names)))
    refine_shards(masks, images, tmp_path / "parts", Shards(2), Refinement(), device="cpu")
    merge(open_place(tmp_path / "parts"), "png", tmp_path / "png")
    assert listed_classes(tmp_path / "png") == tuple(names)
    merge(open_place(tmp_path / "parts"), "coco", tmp_path / "coco")
    categories = json.loads((tmp_path / "coco/annotations.json").read_text())["categories"]
    assert [each["name"] for each in categories][:7] == [*names, "5", "6", "7"]
