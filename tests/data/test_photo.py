"""Photos and masks as people bring them, and what is said about those that cannot be read."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tagseg.data.photo import browser_type, look_at_photo, page_count, photo_size, read_mask, read_photo
from tagseg.errors import UserError

RED, GREEN, BLUE, WHITE = (220, 30, 20), (20, 200, 40), (30, 40, 210), (255, 255, 255)


def quarters(height: int = 40, width: int = 60) -> np.ndarray:
    """Red, green; blue, white."""
    photo = np.empty((height, width, 3), dtype=np.uint8)
    photo[: height // 2, : width // 2], photo[: height // 2, width // 2 :] = RED, GREEN
    photo[height // 2 :, : width // 2], photo[height // 2 :, width // 2 :] = BLUE, WHITE
    return photo


def corners(photo: np.ndarray) -> np.ndarray:
    h, w = photo.shape[:2]
    return photo[[h // 4, h // 4, -h // 4, -h // 4], [w // 4, -w // 4, w // 4, -w // 4]].astype(int)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "gif", "webp", "jpg"])
def test_every_format_gives_the_same_picture(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    options = {"webp": {"lossless": True}, "jpg": {"quality": 95, "subsampling": 0}}.get(suffix, {})
    Image.fromarray(quarters()).save(path, **options)
    photo = read_photo(path)
    assert photo.dtype == np.uint8
    assert photo.shape == (40, 60, 3)
    assert photo.flags.writeable
    assert np.abs(corners(photo) - [RED, GREEN, BLUE, WHITE]).max() <= (0 if suffix not in ("jpg", "gif") else 6)
    assert photo_size(path) == (40, 60)


def test_cmyk_is_not_inverted(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.tif"):
        Image.fromarray(quarters()).convert("CMYK").save(tmp_path / name)
        assert np.abs(corners(read_photo(tmp_path / name)) - [RED, GREEN, BLUE, WHITE]).max() <= 12


def test_sixteen_bits_keep_their_upper_byte(tmp_path: Path) -> None:
    values = np.array([[0, 255, 256, 32768], [65535, 65280, 4096, 511]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    Image.fromarray(values).save(tmp_path / "a.tif")
    for name in ("a.png", "a.tif"):
        photo = read_photo(tmp_path / name)
        assert (photo == (values >> 8).astype(np.uint8)[:, :, None]).all(), name


def test_floating_point_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.ones((4, 4), dtype=np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(UserError, match=r"a\.tif holds floating-point values; save it with 8 or 16 bits"):
        read_photo(tmp_path / "a.tif")


def test_transparency_lies_over_white(tmp_path: Path) -> None:
    alpha = np.dstack([quarters(), np.full((40, 60), 255, np.uint8)])
    alpha[:20, :30, 3] = 0
    alpha[:20, 30:, 3] = 128
    Image.fromarray(alpha).save(tmp_path / "a.png")
    Image.fromarray(alpha).convert("LA").save(tmp_path / "gray.png")
    top = corners(read_photo(tmp_path / "a.png"))
    assert (top[0] == WHITE).all()
    assert np.abs(top[1] - (np.array(GREEN) + 255) / 2).max() <= 1
    assert (top[2] == BLUE).all()
    assert (corners(read_photo(tmp_path / "gray.png"))[0] == WHITE).all()


def test_palette_with_a_transparent_entry(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1], [1, 0]], dtype=np.uint8), mode="P")
    image.putpalette([*RED, *GREEN])
    image.save(tmp_path / "a.png", transparency=0)
    assert read_photo(tmp_path / "a.png").tolist() == [[[*WHITE], [*GREEN]], [[*GREEN], [*WHITE]]]


@pytest.mark.parametrize("mode", ["1", "L"])
def test_gray_and_black_and_white(tmp_path: Path, mode: str) -> None:
    Image.fromarray(np.array([[0, 255]], dtype=np.uint8)).convert(mode).save(tmp_path / "a.png")
    assert read_photo(tmp_path / "a.png").tolist() == [[[0, 0, 0], [255, 255, 255]]]


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, suffix: str, orientation: int) -> None:
    # How the camera stored the upright picture: the inverse of what the orientation asks for.
    stored = {
        1: lambda p: p,
        2: lambda p: p[:, ::-1],
        3: lambda p: p[::-1, ::-1],
        4: lambda p: p[::-1],
        5: lambda p: p.transpose(1, 0, 2),
        6: lambda p: np.rot90(p, 1),
        7: lambda p: p[::-1, ::-1].transpose(1, 0, 2),
        8: lambda p: np.rot90(p, -1),
    }[orientation](quarters())
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    options = {"webp": {"lossless": True}, "jpg": {"quality": 95, "subsampling": 0}}.get(suffix, {})
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif, **options)
    photo = read_photo(path)
    assert photo.shape == (40, 60, 3)
    assert np.abs(corners(photo) - [RED, GREEN, BLUE, WHITE]).max() <= 6
    assert photo_size(path) == (40, 60)


@pytest.mark.parametrize("suffix", ["gif", "png", "webp"])
def test_first_frame_of_an_animation(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (12, 10), color) for color in (BLUE, RED, GREEN)]
    options = {"lossless": True} if suffix == "webp" else {}
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], **options)
    photo = read_photo(tmp_path / f"a.{suffix}")
    assert photo.shape == (10, 12, 3)
    assert (photo == BLUE).all()


def test_one_pixel(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), RED).save(tmp_path / "a.png")
    assert read_photo(tmp_path / "a.png").tolist() == [[[*RED]]]


def test_min_side_reduces_large_jpegs_only(tmp_path: Path) -> None:
    Image.fromarray(quarters(800, 1203)).save(tmp_path / "a.jpg", quality=95)
    Image.fromarray(quarters(800, 1203)).save(tmp_path / "a.png")
    small = read_photo(tmp_path / "a.jpg", min_side=200)
    assert small.shape == (200, 301, 3)
    assert np.abs(corners(small) - [RED, GREEN, BLUE, WHITE]).max() <= 6
    assert read_photo(tmp_path / "a.jpg", min_side=201).shape == (400, 602, 3)
    assert read_photo(tmp_path / "a.jpg", min_side=900).shape == (800, 1203, 3)
    assert read_photo(tmp_path / "a.png", min_side=100).shape == (800, 1203, 3)


def test_phones_store_several_pictures_in_one_jpeg(tmp_path: Path) -> None:
    first, second = Image.fromarray(quarters(400, 600)), Image.new("RGB", (60, 40))
    first.save(tmp_path / "a.mpo", save_all=True, append_images=[second], quality=95)
    (tmp_path / "a.mpo").rename(tmp_path / "a.jpg")
    for min_side, shape in ((None, (400, 600, 3)), (100, (100, 150, 3))):
        photo = read_photo(tmp_path / "a.jpg", min_side=min_side)
        assert photo.shape == shape
        assert np.abs(corners(photo) - [RED, GREEN, BLUE, WHITE]).max() <= 6
    assert photo_size(tmp_path / "a.jpg") == (400, 600)


def test_truncated_files_are_named(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for suffix in ("jpg", "png", "webp", "gif", "bmp", "tif"):
        path = tmp_path / f"a.{suffix}"
        Image.fromarray(noise).save(path)
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
        with pytest.raises(UserError, match=rf"a\.{suffix} .*(replace it or leave it out)"):
            read_photo(path)


def test_what_is_no_photo(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("not a photo", encoding="utf-8")
    (tmp_path / "page.png").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>", encoding="utf-8")
    (tmp_path / "folder.jpg").mkdir()
    for name, reason in (
        ("empty.jpg", "is empty"),
        ("text.jpg", "is none of JPEG, PNG"),
        ("page.png", "is none of JPEG, PNG"),
        ("folder.jpg", "is a folder"),
        ("absent.jpg", "does not exist"),
    ):
        for read in (read_photo, photo_size, read_mask):
            with pytest.raises(UserError, match=reason.replace("JPEG, ", "") if read is read_mask else reason) as error:
                read(tmp_path / name)
            assert name in str(error.value)


def test_formats_off_the_list_are_refused(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.pcx")
    (tmp_path / "a.pcx").rename(tmp_path / "a.jpg")
    with pytest.raises(UserError, match="is none of JPEG"):
        read_photo(tmp_path / "a.jpg")


def _png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [10_001, 20_000, 60_000])
def test_decompression_bombs_are_refused_before_decoding(tmp_path: Path, side: int) -> None:
    path = tmp_path / "huge.png"
    path.write_bytes(_png_header(side, side))
    for read in (read_photo, read_mask):
        with pytest.raises(UserError, match=r"huge\.png has .*pixels.*shrink it or leave it out"):
            read(path)


def test_a_long_strip_below_the_cap_is_read(tmp_path: Path) -> None:
    Image.new("RGB", (20_000, 30), RED).save(tmp_path / "a.png")
    assert read_photo(tmp_path / "a.png").shape == (30, 20_000, 3)
    with pytest.raises(UserError, match="more than the cap of 1,000"):
        read_photo(tmp_path / "a.png", pixel_cap=1000)


def test_names_from_everywhere(tmp_path: Path) -> None:
    for name in ("Füße 1.png", "猫, собака.png", "a;b|c 'd'.png", "😀.png"):
        Image.new("RGB", (3, 2), GREEN).save(tmp_path / name)
        assert read_photo(tmp_path / name).shape == (2, 3, 3)


def test_masks_keep_their_indices(tmp_path: Path) -> None:
    values = np.array([[0, 1, 255], [7, 20, 0]], dtype=np.uint8)
    palette = Image.fromarray(values, mode="P")
    palette.putpalette(list(np.random.default_rng(0).integers(0, 256, 768)))
    palette.save(tmp_path / "palette.png")
    Image.fromarray(values).save(tmp_path / "gray.png")
    Image.fromarray(values > 0).save(tmp_path / "bits.png")
    assert read_mask(tmp_path / "palette.png").tolist() == values.tolist()
    assert read_mask(tmp_path / "gray.png").tolist() == values.tolist()
    assert read_mask(tmp_path / "bits.png").tolist() == (values > 0).astype(int).tolist()


def test_masks_in_color_are_refused(tmp_path: Path) -> None:
    Image.fromarray(quarters()).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"mask .*a\.png has mode RGB, not class indices; save it as a palette"):
        read_mask(tmp_path / "a.png")
    Image.fromarray(quarters()).save(tmp_path / "a.jpg")
    with pytest.raises(UserError, match=r"mask .*a\.jpg is none of PNG"):
        read_mask(tmp_path / "a.jpg")


def _encoded(suffix: str) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise).save(buffer, format=suffix, **({"exif": exif} if suffix in ("JPEG", "PNG", "TIFF") else {}))
    return buffer.getvalue()


ENCODED = {suffix: _encoded(suffix) for suffix in ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")}


@pytest.mark.filterwarnings("ignore")
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
@given(
    suffix=st.sampled_from(sorted(ENCODED)),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6),
    cut=st.floats(0, 1),
)
def test_mutated_files_give_a_photo_or_one_sentence(
    tmp_path: Path, suffix: str, changes: list[tuple[float, int]], cut: float
) -> None:
    data = bytearray(ENCODED[suffix])
    for at, value in changes:
        data[int(at * len(data))] = value
    path = tmp_path / "mutated.jpg"
    path.write_bytes(data[: len(data) if cut > 0.5 else int(2 * cut * len(data))])
    found, sentences = {}, []
    for read in (read_photo, read_mask, photo_size):
        try:
            found[read] = read(path)
        except UserError as error:
            sentences.append(str(error))
    assert all("mutated.jpg" in sentence and "\n" not in sentence for sentence in sentences)
    if read_photo in found:
        assert found[read_photo].dtype == np.uint8
        assert found[read_photo].shape == (*found[photo_size], 3)


@pytest.mark.parametrize("target", [-4, 100])
def test_a_tiff_whose_next_page_was_cut_off_is_read_and_has_one(tmp_path: Path, target: int) -> None:
    path = tmp_path / "scan.tif"
    Image.fromarray(quarters()).save(path)
    content = bytearray(path.read_bytes())
    first = struct.unpack_from("<I", content, 4)[0]
    entries = struct.unpack_from("<H", content, first)[0]
    struct.pack_into("<I", content, first + 2 + 12 * entries, len(content) + target)
    path.write_bytes(content)
    assert np.array_equal(read_photo(path), quarters())
    assert page_count(path) == 1
    assert look_at_photo(path, dark=0).pages == 1


def test_an_orientation_that_there_is_not_swaps_no_sides(tmp_path: Path) -> None:
    image, exif = Image.fromarray(quarters()), Image.Exif()
    exif[0x0112] = 9
    image.save(tmp_path / "a.jpg", exif=exif)
    facts = look_at_photo(tmp_path / "a.jpg", dark=0)
    assert (facts.height, facts.width) == photo_size(tmp_path / "a.jpg") == (40, 60)


def test_what_browsers_show_in_another_way_is_told(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 3
    photo = Image.fromarray(quarters())
    for suffix, format in (("jpg", "jpeg"), ("png", "png"), ("webp", "webp")):
        photo.save(tmp_path / f"plain.{suffix}")
        assert browser_type(tmp_path / f"plain.{suffix}") == f"image/{format}"
        photo.save(tmp_path / f"turned.{suffix}", exif=turned)
    assert browser_type(tmp_path / "turned.jpg") == "image/jpeg"  # every browser turns it
    assert browser_type(tmp_path / "turned.webp") is None
    assert browser_type(tmp_path / "turned.png") is None
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
    photo.save(tmp_path / "xmp.jpg", xmp=xmp)
    assert photo_size(tmp_path / "xmp.jpg") == (60, 40)
    assert browser_type(tmp_path / "xmp.jpg") is None
    photo.save(tmp_path / "a.tif")
    (tmp_path / "a.tif").rename(tmp_path / "tiff.jpg")
    assert browser_type(tmp_path / "tiff.jpg") is None
    photo.save(tmp_path / "moving.png", save_all=True, append_images=[Image.new("RGB", photo.size)])
    assert browser_type(tmp_path / "moving.png") is None
