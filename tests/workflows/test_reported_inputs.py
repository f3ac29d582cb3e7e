"""Inputs that people have reported, with their relatives, where no other file of tests is about their kind."""

import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tagseg.data.check import check_photos
from tagseg.data.masks import read_mask
from tagseg.data.palette import write_mask
from tagseg.errors import UserError
from tagseg.workflows.refine import refine_folder
from tests.workflows.small_project import Project, command
from tests.workflows.test_refine import HOW

MASK = np.zeros((24, 30), np.uint8)
MASK[6:18, 8:22] = 1


def photo(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (24, 30, 3), dtype=np.uint8)).save(path)


def mask(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_mask(path, MASK)


@pytest.mark.parametrize("name", ["café", "sub/über", "Å", "가"])
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_refine_finds_photos_as_all_commands_do(name: str, form: str, tmp_path: Path) -> None:
    other = {"NFC": "NFD", "NFD": "NFC"}[form]
    photo(tmp_path / "photos" / f"{unicodedata.normalize(form, name)}.jpg")
    mask(tmp_path / "masks" / f"{unicodedata.normalize(other, name)}.png")
    for hidden in (".ipynb_checkpoints/a-checkpoint.png", "._a.png", ".DS_Store/b.png"):
        mask(tmp_path / "masks" / hidden)
    assert refine_folder(tmp_path / "masks", tmp_path / "photos", tmp_path / "out", HOW) == 1
    assert read_mask(tmp_path / "out" / f"{unicodedata.normalize('NFC', name)}.png").shape == MASK.shape
    for inside in ("masks/refined", "masks", "photos/refined", "photos"):
        for _ in range(2):
            with pytest.raises(UserError, match="choose another --out"):
                refine_folder(tmp_path / "masks", tmp_path / "photos", tmp_path / inside, HOW)


@pytest.mark.parametrize("suffixes", [(".jpg", ".png"), (".png", ".tif"), (".JPG", ".jpeg")])
def test_photos_that_differ_in_their_suffix_are_not_picked(suffixes: tuple[str, str], tmp_path: Path) -> None:
    for seed, suffix in enumerate((*suffixes, ".bmp")):
        photo(tmp_path / "photos" / f"{'b' if suffix == '.bmp' else 'a'}{suffix}", seed)
    mask(tmp_path / "masks" / "a.png")
    mask(tmp_path / "masks" / "b.png")
    with pytest.raises(UserError, match=rf"1 of 2 files.*two photos a, a\{min(suffixes)}"):
        refine_folder(tmp_path / "masks", tmp_path / "photos", tmp_path / "out", HOW)
    assert [path.name for path in (tmp_path / "out").glob("*.png")] == ["b.png"]


@pytest.mark.parametrize("value", ["inf", "nan", "0", "-1", "1,inf", "1e308", "", "big"])
def test_scales_that_are_none_are_refused(value: str, untouched: Project, tmp_path: Path) -> None:
    for words in (["predict", untouched.run, untouched.photos], ["label", untouched.run]):
        with pytest.raises(UserError, match="scale"):
            command(*words, "--out", tmp_path / "out", "--scales", value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("place", ["masks", "cat/masks", "dog", "."])
def test_masks_never_become_a_class_of_their_photos(place: str, untouched: Project, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    for number, name in enumerate(("cat", "cat", "dog", "dog")):
        (photos / name).mkdir(parents=True, exist_ok=True)
        shutil.copy(untouched.photos / f"{number}.png", photos / name)
    before = {path: path.read_bytes() for path in photos.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match="choose another --out"):
        command("label", untouched.run, "--images", photos, "--out", photos / place)
    assert {path: path.read_bytes() for path in photos.rglob("*") if path.is_file()} == before
    assert check_photos(photos).per_class == {"cat": 2, "dog": 2}


@pytest.mark.parametrize("root", ["photos", "a/photos"])
def test_check_tells_files_of_one_name_apart(root: str, tmp_path: Path) -> None:
    for seed, name in enumerate(("cat/1.jpg", "dog/1.jpg", "dog/1.png", "cat/2.jpg")):
        photo(tmp_path / root / name, seed)
    (tmp_path / root / "cat" / "2.jpg").write_bytes(b"broken")
    write_mask((tmp_path / "1.png"), MASK[:5])
    mask(tmp_path / "masks" / "cat" / "1.png")
    shutil.copy(tmp_path / "1.png", tmp_path / "masks" / "cat" / "1.png")
    texts = [problem.text for problem in check_photos(tmp_path / root, masks=tmp_path / "masks").problems]
    for part in ("dog/1.png and dog/1.jpg", "cat/2.jpg", "cat/1.png"):
        assert any(part in text for text in texts), texts
