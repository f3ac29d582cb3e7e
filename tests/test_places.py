"""Files and folders are known by what they are, on disks that number them and on those that do not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from tagseg.data.folders import look_into
from tagseg.errors import UserError
from tagseg.files import make_folder
from tagseg.places import check_output


@pytest.fixture(params=[False, True], ids=["numbered", "not numbered"])
def root(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two folders with a photo each, and a link to one of them."""
    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(tmp_path / "photos" / name / "1.png")
    (tmp_path / "link").symlink_to("photos")
    if request.param:
        real = Path.stat

        def unnumbered(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
            found = real(path, follow_symlinks=follow_symlinks)
            return os.stat_result((found.st_mode, 0, *found[2:]))

        monkeypatch.setattr(Path, "stat", unnumbered)
    return tmp_path


def test_every_folder_is_read_once(root: Path) -> None:
    (root / "photos" / "again").symlink_to("a")
    (root / "photos" / "b" / "circle").symlink_to(root / "photos")
    found = look_into(root / "photos")
    assert list(found.photos) == ["a/1.png", "b/1.png"]
    assert sorted(found.broken) == ["again", "b/circle"]


def test_results_go_beside_the_inputs_and_never_onto_them(root: Path) -> None:
    check_output(root / "out", [root / "photos", root / "photos" / "a" / "1.png"])
    (root / "out").mkdir()
    check_output(root / "out", [root / "photos"])
    for out, sentence in ((root / "link", "is read by"), (root, "holds"), (root / "link" / "a", "lies inside")):
        with pytest.raises(UserError, match=sentence):
            check_output(out, [root / "photos"])


def test_a_folder_that_stands_there_twice_is_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a folder is mounted a second time below the photos."""
    real, first = Path.stat, (root / "photos" / "a").stat()

    def same(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        found = real(path, follow_symlinks=follow_symlinks)
        return os.stat_result((*found[:1], first.st_ino, *found[2:])) if path.name == "b" else found

    monkeypatch.setattr(Path, "stat", same)
    found = look_into(root / "photos")
    if first.st_ino:
        assert list(found.photos) == ["a/1.png"]
        assert any("(b): nothing there, or leading in circles" in problem.text for problem in found.not_read())
    else:
        assert list(found.photos) == ["a/1.png", "b/1.png"]


@pytest.mark.parametrize("address", ["s3://bucket/results", "gs://bucket", "hf://datasets/owner/name"])
def test_the_address_of_a_store_makes_no_folder(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"^{address} is no place on this machine"):
        make_folder(Path(address))
    make_folder(Path("s3/results"))
    assert [path.name for path in tmp_path.iterdir()] == ["s3"]
