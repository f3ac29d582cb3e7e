from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tagseg.data.scenes import write_scenes
from tagseg.data.sources import DataSettings, SceneSettings, open_sources
from tagseg.errors import UserError


def pseudo_masks(folder: Path, names: list[str], size: tuple[int, int], value: int) -> Path:
    folder.mkdir()
    for name in names:
        Image.fromarray(np.full(size, value, np.uint8)).save(folder / f"{name}.png")
    return folder


def test_pseudo_masks_replace_those_of_the_training_list_alone(tmp_path: Path) -> None:
    small = SceneSettings(train=3, val=2, size=(64, 64))
    own = open_sources(DataSettings(scenes=small), tmp_path)
    names = [photo.name for photo in own.train.photos]
    masks = pseudo_masks(tmp_path / "masks", names, (64, 64), 2)
    assert own.val is not None
    settings = DataSettings(format="voc", root=tmp_path / "scenes", masks=masks, classes=own.train.classes[:2])
    sources = open_sources(settings, tmp_path)
    assert sources.val is not None
    mask = sources.train.mask(0)
    assert mask is not None
    assert (mask == 2).all(), "a pseudo mask stores the run's order"
    truth, whole = sources.val.mask(0), own.val.mask(0)
    assert truth is not None
    assert whole is not None
    assert (truth == np.where(whole <= 2, whole, np.where(whole == 255, 255, 0))).all()
    assert [photo.tags for photo in sources.train.photos] == [
        tuple(tag for tag in photo.tags if tag <= 2) for photo in own.train.photos
    ]
    (masks / f"{names[1]}.png").unlink()
    assert [photo.mask is None for photo in open_sources(settings, tmp_path).train.photos] == [False, True, False]


def test_masks_that_fit_no_photo_are_refused(tmp_path: Path) -> None:
    write_scenes(tmp_path / "scenes", train=2, val=1, size=(64, 64))
    data = {"format": "voc", "root": tmp_path / "scenes"}
    masks = pseudo_masks(tmp_path / "masks", ["other"], (64, 64), 0)
    with pytest.raises(UserError, match="has no mask of any photo"):
        open_sources(DataSettings(**data, masks=masks), tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        open_sources(DataSettings(**data, masks=tmp_path / "nowhere"), tmp_path)
    with pytest.raises(ValueError, match="truth is for format tagged"):
        DataSettings(**data, truth=masks)


def tagged_photos(root: Path) -> dict[str, object]:
    """Two photos tagged cat, with pseudo masks that say so: the beginning of a `data` block."""
    (root / "photos").mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (8, 6), "red").save(root / "photos" / f"{name}.jpg")
    (root / "tags.csv").write_text("file,tags\na.jpg,cat\nb.jpg,cat\n", encoding="utf-8")
    masks = pseudo_masks(root / "masks", ["a", "b"], (6, 8), 1)
    return {"format": "tagged", "root": root / "photos", "tags": root / "tags.csv", "masks": masks}


def test_a_folders_scores_are_measured_on_true_masks_where_masks_are_pseudo_masks(tmp_path: Path) -> None:
    data = tagged_photos(tmp_path)
    truth = pseudo_masks(tmp_path / "truth", ["b"], (6, 8), 0)
    val = open_sources(DataSettings.model_validate(data), tmp_path).val
    assert val is not None
    assert len(val) == 2
    sources = open_sources(DataSettings.model_validate(data | {"truth": truth}), tmp_path)
    assert sources.val is not None
    assert [photo.name for photo in sources.val.photos] == ["b"]
    assert sources.val.mask(0).max() == 0  # type: ignore[union-attr]
    assert sources.train.mask(1).min() == 1  # type: ignore[union-attr]
    assert open_sources(DataSettings.model_validate(data | {"val": None}), tmp_path).val is None


def test_true_masks_are_looked_at_before_scores_rest_on_them(tmp_path: Path) -> None:
    data = tagged_photos(tmp_path)
    truth = pseudo_masks(tmp_path / "truth", ["a", "b"], (6, 8), 0)
    val = open_sources(DataSettings.model_validate(data | {"truth": truth}), tmp_path).val
    assert val is not None
    assert any("no mask of the 2 photos tagged cat holds that class" in note for note in val.notes)
    pseudo_masks(tmp_path / "binary", ["a", "b"], (6, 8), 255)
    with pytest.raises(UserError, match="binary hold only 0 and 255"):
        open_sources(DataSettings.model_validate(data | {"truth": tmp_path / "binary"}), tmp_path)


@pytest.mark.parametrize("place", ["masks", "truth"])
def test_two_masks_of_one_name_are_refused(tmp_path: Path, place: str) -> None:
    data = tagged_photos(tmp_path)
    pseudo_masks(tmp_path / "truth", ["a", "b"], (6, 8), 1)
    settings = DataSettings.model_validate(data | {"truth": tmp_path / "truth"})
    for beside in ("a.jpg", "a.txt"):  # no masks: an overlay, and a note
        (tmp_path / place / beside).write_bytes((tmp_path / "photos" / "a.jpg").read_bytes())
    sources = open_sources(settings, tmp_path)
    assert sources.val is not None
    assert [data.mask(0).max() for data in (sources.train, sources.val)] == [1, 1]  # type: ignore[union-attr]
    Image.new("L", (8, 6), 2).save(tmp_path / place / "a.tif")
    with pytest.raises(UserError, match=rf"{place} holds two masks called a \(a\.png, a\.tif\); remove one"):
        open_sources(settings, tmp_path)


def extra_photos(root: Path, *, listed: bool = True) -> Path:
    """A second source: one folder a class, a table, and a class that the data set lacks."""
    for name in ("banded", "train"):
        (root / "photos" / name).mkdir(parents=True)
        Image.new("RGB", (8, 6), "red").save(root / "photos" / name / "1.jpg")
    (root / "tags.csv").write_text(
        "file,tags\nphotos/banded/1.jpg,banded\nphotos/train/1.jpg,train\n", encoding="utf-8"
    )
    if listed:
        (root / "classes.txt").write_text("banded\ntrain\n", encoding="utf-8")
    return root


def test_a_second_source_of_photos_is_trained_on_and_never_scored(tmp_path: Path) -> None:
    small = SceneSettings(train=3, val=2, size=(64, 64))
    own = open_sources(DataSettings(scenes=small), tmp_path)
    root = extra_photos(tmp_path / "more")
    both = open_sources(DataSettings(scenes=small, extra={"root": root}), tmp_path)  # type: ignore[arg-type]
    assert both.val == own.val
    assert both.train.photos[:3] == own.train.photos
    (added,) = both.train.photos[3:]  # that of another class is left out
    assert (added.name, added.mask) == ("extra/photos/banded/1", None)
    assert [both.train.classes[tag - 1] for tag in added.tags] == ["banded"]
    assert both.train.tags_from == "tags.csv; of more: tags.csv"
    assert {root, root / "tags.csv"} <= set(both.train.places)

    masks = tmp_path / "masks"  # stage 2 reads pseudo masks of both
    for photo in both.train.photos:
        (masks / photo.name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", Image.open(photo.photo).size, 1).save(masks / f"{photo.name}.png")
    second = open_sources(DataSettings(scenes=small, extra={"root": root}, masks=masks), tmp_path)  # type: ignore[arg-type]
    assert all(photo.mask is not None for photo in second.train.photos)
    assert second.train.mask(3) is not None


def test_a_second_source_whose_tags_are_unknown(tmp_path: Path) -> None:
    small = SceneSettings(train=3, val=2, size=(64, 64))
    root = extra_photos(tmp_path / "more", listed=False)
    with pytest.raises(UserError, match="'train', which is not among the classes"):
        open_sources(DataSettings(scenes=small, extra={"root": root}), tmp_path)  # type: ignore[arg-type]
    (root / "notes.psd").write_bytes(b"8BPS")
    (root / "tags.csv").write_text("file,tags\nphotos/banded/1.jpg,banded\nphotos/train/1.jpg,NA\n", encoding="utf-8")
    notes = open_sources(DataSettings(scenes=small, extra={"root": root}), tmp_path).train.notes  # type: ignore[arg-type]
    assert ["read as no tag" in note or ".psd" in note for note in notes] == [True, True]
    (root / "tags.csv").write_text("file,tags\nphotos/train/1.jpg,\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"data\.extra: no photo of .* shows one of"):
        open_sources(DataSettings(scenes=small, extra={"root": root}), tmp_path)  # type: ignore[arg-type]


def test_no_more_classes_than_masks_hold() -> None:
    names = tuple(f"c{i}" for i in range(254))
    assert DataSettings(classes=names[:253]).classes == names[:253]
    with pytest.raises(ValueError, match="at most 253"):
        DataSettings(classes=names)
