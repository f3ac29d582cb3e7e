"""The generated pictures: exact, repeatable, and posing the problem they are meant to pose."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from tagseg.data.scenes import SCENE_CLASSES, draw_scene, remove_unfinished, write_scenes
from tagseg.data.voc import open_voc
from tagseg.errors import UserError


def fingerprint(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scenes") / "scenes"
    write_scenes(root, train=24, val=6, size=(96, 128), seed=3)
    return root


def test_opens_as_a_voc_folder(root: Path) -> None:
    train, val = open_voc(root, "train"), open_voc(root, "val")
    assert train.classes == SCENE_CLASSES
    assert (len(train), len(val)) == (24, 6)
    assert open_voc(root, "train", tags="masks") == train
    assert train.photo(0).shape == (96, 128, 3)
    for i in range(len(val)):
        present = set(np.unique(val.mask(i)).tolist()) - {0}
        assert tuple(sorted(present)) == val.photos[i].tags


def test_the_same_seed_gives_the_same_files(root: Path, tmp_path: Path) -> None:
    write_scenes(tmp_path / "again", train=24, val=6, size=(96, 128), seed=3)
    assert fingerprint(tmp_path / "again") == fingerprint(root)
    write_scenes(tmp_path / "other", train=24, val=6, size=(96, 128), seed=4)
    same = fingerprint(root).items() & fingerprint(tmp_path / "other").items()
    assert {name for name, _ in same} == {
        "labels.txt",
        "ImageSets/Segmentation/train.txt",
        "ImageSets/Segmentation/val.txt",
    }


def test_pictures_do_not_depend_on_how_many_there_are(root: Path, tmp_path: Path) -> None:
    write_scenes(tmp_path / "few", train=2, val=1, size=(96, 128), seed=3)
    for name in ("JPEGImages/scene_00002.jpg", "SegmentationClass/scene_00001.png"):
        assert fingerprint(tmp_path / "few")[name] == fingerprint(root)[name]


def test_a_finished_folder_is_left_alone_and_an_unfinished_one_is_finished(tmp_path: Path) -> None:
    write_scenes(tmp_path, train=3, val=1, size=(64, 64))
    before = fingerprint(tmp_path)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    write_scenes(tmp_path, train=3, val=1, size=(64, 64))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == times
    # As a killed run leaves it: the marker says so, and files are missing.
    marker = tmp_path / "scenes.json"
    marker.write_text(marker.read_text(encoding="utf-8").replace("true", "false"), encoding="utf-8")
    (tmp_path / "JPEGImages" / "scene_00001.jpg").unlink()
    (tmp_path / "tags.csv").unlink()
    write_scenes(tmp_path, train=3, val=1, size=(64, 64))
    assert fingerprint(tmp_path) == before


def test_other_folders_are_not_written_into(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(UserError, match="holds something else than these scenes; choose another folder"):
        write_scenes(tmp_path, train=1, val=1)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]
    write_scenes(tmp_path / "a", train=1, val=1, size=(64, 64))
    with pytest.raises(UserError, match="holds something else"):
        write_scenes(tmp_path / "a", train=2, val=1, size=(64, 64))
    with pytest.raises(UserError, match="sides of at least 32 pixels"):
        write_scenes(tmp_path / "b", train=1, val=1, size=(64, 16))


def test_what_a_system_or_a_kill_leaves_makes_a_folder_no_other(tmp_path: Path) -> None:
    left = tmp_path / "JPEGImages" / ".tagseg-saving-1"
    left.mkdir(parents=True)
    for file in (left / "new.jpg", tmp_path / ".DS_Store", tmp_path / "JPEGImages" / "Thumbs.db"):
        file.touch()
    write_scenes(tmp_path, train=1, val=1, size=(64, 64))
    remove_unfinished(tmp_path)
    assert not left.exists()
    assert (tmp_path / ".DS_Store").is_file()


def test_the_class_shows_in_a_small_part() -> None:
    """Seen over many pictures, most of a class's pixels have colors that all classes share."""
    colors: dict[int, list[np.ndarray]] = {}
    shares, tags = [], []
    for seed in range(60):
        photo, mask = draw_scene((128, 128), seed)
        assert photo.dtype == mask.dtype == np.uint8
        shares.append((mask > 0).mean())
        tags.append(len(np.unique(mask)) - 1)
        for kind in range(1, 7):
            colors.setdefault(kind, []).append(photo[mask == kind] // 32)
    histograms = np.stack(
        [
            np.histogramdd(np.concatenate(colors[kind]), bins=8, range=[(0, 8)] * 3, density=True)[0].ravel()
            for kind in range(1, 7)
        ]
    )
    histograms /= histograms.sum(1, keepdims=True)
    for a in range(6):
        others = histograms[[b for b in range(6) if b != a]].mean(0)
        shared = np.minimum(histograms[a], others).sum()
        assert 0.45 < shared < 0.85, (SCENE_CLASSES[a], shared)
    assert 0.1 < np.mean(shares) < 0.3
    assert np.mean(np.array(tags) >= 2) > 0.4
    assert min(tags) >= 1


def moved(mask: np.ndarray, combine: np.ufunc, times: int) -> np.ndarray:
    """The mask grown (logical_or) or shrunk (logical_and) by some pixels."""
    for _ in range(times):
        mask = combine.reduce([mask, *(np.roll(mask, shift, axis) for axis in (0, 1) for shift in (-1, 1))])
    return mask


def test_masks_end_where_the_fish_end() -> None:
    """Brightness jumps from sea bed to body between the last pixel outside the mask and the first one inside."""
    rings: dict[str, list[float]] = {"far": [], "outer": [], "inner": [], "deep": []}
    for seed in range(20):
        photo, mask = draw_scene((128, 128), seed)
        grown = [moved(mask > 0, np.logical_or, times) for times in range(4)]
        shrunk = [moved(mask > 0, np.logical_and, times) for times in range(4)]
        rings["far"].append(photo.max(axis=2)[grown[3] & ~grown[2]].mean())
        rings["outer"].append(photo.max(axis=2)[grown[1] & ~grown[0]].mean())
        rings["inner"].append(photo.max(axis=2)[shrunk[0] & ~shrunk[1]].mean())
        rings["deep"].append(photo.max(axis=2)[shrunk[2] & ~shrunk[3]].mean())
    far, outer, inner, deep = (float(np.mean(rings[name])) for name in rings)
    assert deep - far > 80
    assert -0.02 < (outer - far) / (deep - far) < 0.1
    assert 0.65 < (inner - far) / (deep - far) < 0.85
