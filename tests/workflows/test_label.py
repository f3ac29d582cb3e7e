"""Pseudo masks: what is made anew, and what is passed over."""

import json
from pathlib import Path

import pytest
from PIL import Image

from tagseg.data.palette import write_mask
from tagseg.data.photo import read_mask
from tagseg.data.tagged import TaggedImages, open_tagged
from tagseg.interrupt import Interrupted
from tagseg.outputs.confidence import read_rows
from tagseg.workflows.label import label
from tests.workflows.test_predict import BLUE, GREEN, segmenter

CLASSES = ("green", "blue")


def photos(folder: Path, **tags: str) -> TaggedImages:
    """Blue photos with these tags, by name; those that are there stay as they are."""
    (folder / "photos").mkdir(parents=True, exist_ok=True)
    for name in tags:
        if not (folder / "photos" / f"{name}.png").exists():
            Image.new("RGB", (6, 4), BLUE).save(folder / "photos" / f"{name}.png")
    rows = [f"{name}.png,{tag}" for name, tag in tags.items()]
    (folder / "tags.csv").write_text("\n".join(["file,tags", *rows]), encoding="utf-8")
    return open_tagged(folder / "photos", folder / "tags.csv", classes=CLASSES)


def test_masks_of_other_tags_or_changed_photos_are_made_anew(tmp_path: Path) -> None:
    out, model = tmp_path / "out", segmenter()
    assert label(model, photos(tmp_path, a="green", b="blue", c="blue"), out) == 3
    assert (read_mask(out / "a.png") != 2).all()
    assert label(model, photos(tmp_path, a="blue", b="blue", c="blue"), out) == 1
    assert (read_mask(out / "a.png") == 2).all()
    Image.new("RGB", (6, 4), GREEN).save(tmp_path / "photos" / "b.png")
    data = photos(tmp_path, a="blue", b="green", c="blue")
    assert label(model, data, out) == 1
    assert (read_mask(out / "b.png") == 1).all()
    assert label(model, data, out) == 0
    assert set(read_rows(out / "confidence.csv")) == {"a", "b", "c"}


def test_masks_of_photos_that_are_gone_are_in_nobodys_way(tmp_path: Path) -> None:
    """A chain labels anew what is left."""
    model = segmenter()
    label(model, photos(tmp_path, a="green", b="green"), tmp_path / "masks")
    assert label(model.set(flip=True), photos(tmp_path, a="green"), tmp_path / "masks", overwrite=True) == 1


def test_without_tags_other_tags_change_nothing(tmp_path: Path) -> None:
    label(segmenter(), photos(tmp_path, a="green", b="blue"), tmp_path / "out", tags=False)
    assert label(segmenter(), photos(tmp_path, a="blue", b="blue"), tmp_path / "out", tags=False) == 0


def test_masks_of_an_older_record_count_as_made(tmp_path: Path) -> None:
    """It does not tell of which tags."""
    out = tmp_path / "out"
    label(segmenter(), photos(tmp_path, a="green", b="blue"), out)
    record = out / ".tagseg-label"
    rows = [json.loads(line) for line in record.read_text(encoding="utf-8").split("\n") if line]
    record.write_text("".join(f"\n{json.dumps(row[:2])}" for row in rows), encoding="utf-8")
    assert label(segmenter(), photos(tmp_path, a="blue", b="blue"), out) == 0


def test_an_interrupted_renewal_keeps_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, data = tmp_path / "out", photos(tmp_path, a="green", b="blue", c="blue")
    label(segmenter(), data, out)

    def stop(path: Path, mask: object) -> None:
        if path.name == "c.png":
            raise Interrupted
        write_mask(path, mask)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr("tagseg.workflows.label.write_mask", stop)
        with pytest.raises(Interrupted):
            label(segmenter(), data, out, overwrite=True)
    assert label(segmenter(), data, out, overwrite=True) == 1
    assert set(read_rows(out / "confidence.csv")) == {"a", "b", "c"}
