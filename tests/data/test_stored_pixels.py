"""How a file stores its pixels is looked up, not assumed: depth, signs, planes, white, pages, newer formats."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageFile

from tagseg.data import pictures
from tagseg.data.check import check_photos
from tagseg.data.folders import find_photos
from tagseg.data.given import as_photo
from tagseg.data.photo import look_at_photo, photo_size, read_mask, read_photo
from tagseg.data.suffixes import HAS_AVIF, HAS_HEIC
from tagseg.errors import UserError
from tests.limited import LIMITS, finished

Make = Callable[..., Path]
RAMP = np.tile(np.arange(0, 65536, 1024, dtype=np.uint16), (48, 1))  # (48, 64)
COLOR = np.stack([(RAMP >> shift) + 300 * shift for shift in (0, 1, 2)], axis=-1).astype(np.uint16)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_tiffs_of_16_bits(tmp_path: Path, byteorder: str, compression: str | None) -> None:
    path = tmp_path / "a.tif"
    words: dict[str, Any] = {"byteorder": byteorder, "compression": compression}
    tifffile.imwrite(path, RAMP, photometric="minisblack", **words)
    assert np.array_equal(read_photo(path)[..., 1], RAMP >> 8)
    tifffile.imwrite(path, RAMP, photometric="miniswhite", **words)
    if byteorder == "<":
        assert np.array_equal(read_photo(path)[..., 1], (65535 - RAMP) >> 8)
    else:  # Pillow knows no such file
        with pytest.raises(UserError, match=r"a\.tif is none of"):
            read_photo(path)
    tifffile.imwrite(path, COLOR, photometric="rgb", **words)
    assert np.array_equal(read_photo(path), COLOR >> 8)
    for tiles in ({}, {"tile": (16, 16)}, {"rowsperstrip": 5}):
        planes = np.moveaxis(COLOR, -1, 0).copy()
        tifffile.imwrite(path, planes, photometric="rgb", planarconfig="separate", **words, **tiles)
        assert np.array_equal(read_photo(path), COLOR >> 8), tiles
    assert photo_size(path) == (48, 64)


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_turned_tiff_keeps_its_meaning(tmp_path: Path, turn: int) -> None:
    """EXIF's orientations: of a picture whose first value stands out, where it stands upright."""
    path, gray = tmp_path / "a.tif", np.full((40, 50), 60000, np.uint16)
    gray[0, 0] = 5000
    corner = [(0, 0), (0, -1), (-1, -1), (-1, 0), (0, 0), (0, -1), (-1, -1), (-1, 0)][turn - 1]
    tags = [(274, "H", 1, turn, True)]
    for photometric, least, most in (("minisblack", 5000, 60000), ("miniswhite", 65535 - 60000, 65535 - 5000)):
        tifffile.imwrite(path, gray, photometric=photometric, extratags=tags)
        photo = read_photo(path)
        assert photo.shape[:2] == photo_size(path) == ((40, 50) if turn < 5 else (50, 40))
        assert sorted({*photo.flat}) == [least >> 8, most >> 8]
        assert photo[*corner, 0] == (5000 if photometric == "minisblack" else 65535 - 5000) >> 8
        with path.open("rb") as file, Image.open(file) as image:
            assert np.array_equal(as_photo(image), photo)


def test_tiffs_of_8_bits(tmp_path: Path) -> None:
    path, gray = tmp_path / "a.tif", (RAMP >> 8).astype(np.uint8)
    tifffile.imwrite(path, gray, photometric="miniswhite")
    assert np.array_equal(read_photo(path)[..., 1], 255 - gray)
    planes = np.moveaxis(COLOR >> 8, -1, 0).astype(np.uint8)
    tifffile.imwrite(path, planes, photometric="rgb", planarconfig="separate")
    assert np.array_equal(read_photo(path), COLOR >> 8)


@pytest.mark.parametrize(
    ("dtype", "sentence"),
    [
        ("int8", "holds signed integers"),
        ("int16", "holds signed integers"),
        ("int32", "holds signed integers"),
        ("uint32", "holds 32-bit integers"),
        ("float32", "holds floating-point values"),
        ("float64", r"is none of|floating-point"),
        ("complex64", r"is none of|floating-point"),
    ],
)
def test_values_that_a_photo_cannot_have_are_refused(tmp_path: Path, dtype: str, sentence: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.full((48, 64), 100).astype(dtype))
    with pytest.raises(UserError, match=rf"a\.tif ({sentence})"):
        read_photo(tmp_path / "a.tif")


def test_the_first_page_that_is_no_thumbnail_is_read(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(np.full((6, 8), 9, np.uint8), subfiletype=1)
        writer.write(np.full((48, 64), 200, np.uint8))
        writer.write(np.full((48, 64), 90, np.uint8))
    assert read_photo(tmp_path / "a.tif").shape == (48, 64, 3)
    assert int(read_photo(tmp_path / "a.tif")[0, 0, 0]) == 200
    assert photo_size(tmp_path / "a.tif") == (48, 64)
    facts = look_at_photo(tmp_path / "a.tif", dark=25)
    assert (facts.pages, facts.brightest, facts.flat, facts.height) == (3, 200, True, 48)


def test_check_names_photos_that_show_nothing_and_pages_that_are_not_read(tmp_path: Path, table: Make) -> None:
    images = tmp_path / "images"
    images.mkdir()
    rng = np.random.default_rng(0)
    twelve_bits = rng.integers(0, 4096, (48, 64), np.uint16)  # in a file that says 16
    tifffile.imwrite(images / "dark.tif", twelve_bits)
    tifffile.imwrite(images / "pages.tif", rng.integers(0, 256, (31, 48, 64), np.uint8), photometric="minisblack")
    Image.new("RGB", (64, 48), (9, 200, 40)).save(images / "flat.png")
    Image.fromarray(rng.integers(0, 256, (33, 1700, 3), np.uint8)).save(images / "thin.png")
    almost = np.zeros((480, 640, 3), np.uint8)
    almost[100, 100] = 255
    Image.fromarray(almost).save(images / "stars.png")
    result = check_photos(images, table("file,tags\ndark,a\npages,a\nflat,a\nthin,a\nstars,a\n"))
    assert result.ok
    assert {problem.kind: problem.text for problem in result.problems} == {
        "empty photo": "flat.png is of one color all over",
        "several pages": "pages.tif has 31 pages, of which one is read; save those you need as photos of their own",
        "thin photo": "thin.png is 1700 x 33 pixels, more than 50 times as long as wide; cut it",
    }
    assert result.problems[0].text == (
        "dark.tif is nearly black (its brightest value is 15 of 255); was it stored with fewer bits?"
    )


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("turn", [1, 3, 6, 8])
def test_a_look_gives_the_size_that_reading_gives(tmp_path: Path, suffix: str, turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    path = tmp_path / f"a.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    Image.fromarray(noise).save(path, exif=exif)
    facts = look_at_photo(path, dark=25)
    assert (facts.height, facts.width) == read_photo(path).shape[:2] == photo_size(path)
    assert not facts.flat
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=rf"a\.{suffix}"):
        look_at_photo(path, dark=25)


def test_transparency_of_16_bits(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "a.png", transparency=2048)
    assert read_photo(tmp_path / "a.png")[0, :4, 0].tolist() == [0, 4, 255, 12]
    eight = (RAMP >> 8).astype(np.uint8)
    Image.fromarray(eight).save(tmp_path / "b.png", transparency=8)
    assert np.array_equal(read_photo(tmp_path / "b.png"), read_photo(tmp_path / "a.png"))


@pytest.mark.parametrize("suffix", ["jfif", "jpe", "jif", "JPG"])
def test_jpegs_under_their_other_names(photos: Make, suffix: str) -> None:
    images = photos("a.jpg")
    (images / "a.jpg").rename(images / f"a.{suffix}")
    [(name, path)] = find_photos(images).items()
    assert (name, read_photo(path).shape) == (f"a.{suffix}", (40, 48, 3))


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize(
    "suffix",
    [
        pytest.param("heic", marks=pytest.mark.skipif(not HAS_HEIC, reason="pillow-heif is not there")),
        pytest.param("avif", marks=pytest.mark.skipif(not HAS_AVIF, reason="this Pillow reads no AVIF")),
    ],
)
def test_photos_of_phones(tmp_path: Path, suffix: str, turn: int) -> None:
    """Right side up, whatever the file says about turning, and of the size that is said without decoding."""
    upright = np.zeros((64, 96, 3), np.uint8)
    upright[:32, :48], upright[32:, 48:] = (250, 10, 10), (10, 10, 250)
    exif = Image.Exif()
    exif[0x0112] = turn
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1), 7: upright[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(upright, -1),
    }[turn]  # fmt: skip
    path = tmp_path / f"a.{suffix}"
    if suffix == "heic":
        stored = upright  # the file itself turns its picture, EXIF only repeats it
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif, quality=95)
    photo = read_photo(path)
    assert photo.shape == (64, 96, 3)
    assert photo_size(path) == (64, 96)
    assert np.abs(photo[[10, 50, 10], [10, 80, 80]].astype(int) - [[250, 10, 10], [10, 10, 250], [0, 0, 0]]).max() < 40
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match=rf"a\.{suffix}"):
        read_photo(path)


def test_a_picture_of_another_format_is_told_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "a.psd").write_bytes(b"8BPS" + bytes(60))
    with pytest.raises(UserError, match=r"a\.psd has a format that is not read; convert to JPEG or PNG"):
        read_photo(tmp_path / "a.psd")


def test_pipes_are_refused_and_not_waited_for(tmp_path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no pipes")
    os.mkfifo(tmp_path / "a.png")
    for read in (read_photo, read_mask, photo_size):
        with pytest.raises(UserError, match="is no regular file but a pipe or a device"):
            read(tmp_path / "a.png")
        with pytest.raises(UserError, match="is no regular file"):
            read(Path("/dev/zero"))


def test_no_switch_of_the_process_is_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server's own cap of Pillow stays what it is, and is not what counts here."""
    Image.new("RGB", (300, 200)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_photo(tmp_path / "a.png").shape == (200, 300, 3)
        assert photo_size(tmp_path / "a.png") == (200, 300)
    assert Image.MAX_IMAGE_PIXELS == 1000


def test_large_photos_wait_for_one_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only as many are decoded at a time as there is memory for; one that needs more than all waits to be alone."""
    Image.new("RGB", (300, 200)).save(tmp_path / "a.png")
    memory = pictures._Memory(2 * 300 * 200 * pictures.BYTES_A_PIXEL)
    monkeypatch.setattr(pictures, "_memory", memory)
    monkeypatch.setattr(pictures, "SMALL", 0)
    highest, loading = 0, ImageFile.ImageFile.load

    def load(self: Image.Image, *args: Any) -> Any:
        nonlocal highest
        highest = max(highest, memory.used)
        return loading(self, *args)

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    threads = [threading.Thread(target=read_photo, args=(tmp_path / "a.png",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert 0 < highest <= memory.limit
    assert memory.used == 0
    memory.limit = 5
    assert read_photo(tmp_path / "a.png").shape == (200, 300, 3)


@LIMITS
def test_a_large_photo_of_16_bits_takes_what_a_large_photo_takes(tmp_path: Path) -> None:
    """6000 x 6000 pixels: 72 MB as stored, 108 MB as RGB; through int64 it had been 600 MB and more."""
    imports = f"""
    import numpy as np
    from PIL import Image
    from tagseg.data.photo import read_photo
    path = Path({str(tmp_path)!r})
    Image.fromarray(np.zeros((6000, 6000), np.uint16)).save(path / "gray.png", compress_level=1)
    Image.new("LA", (6000, 6000), (7, 255)).save(path / "clear.png", compress_level=1)
    Image.new("L", (20, 20)).save(path / "small.png")
    read_photo(path / "small.png")
    """
    code = """
    for name in ("gray.png", "clear.png"):
        print(read_photo(path / name).shape)
    """
    assert finished(code, above=420 << 20, imports=imports).splitlines() == ["(6000, 6000, 3)"] * 2
