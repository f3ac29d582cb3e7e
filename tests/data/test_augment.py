"""Photo, mask and valid area are moved alike, and a sample follows from its seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tagseg.data.augment import Augment
from tagseg.data.photo import read_photo
from tests.limited import LIMITS, finished

FILL = (124, 116, 104)


def coordinates(height: int, width: int) -> np.ndarray:
    """A photo whose red and green tell where a pixel came from, in steps of 1 / 255 of the sides."""
    rows, columns = np.mgrid[0:height, 0:width]
    red = np.rint((rows + 0.5) / height * 255)
    green = np.rint((columns + 0.5) / width * 255)
    return np.stack([red, green, np.full((height, width), 9)], axis=2).astype(np.uint8)


def test_without_resizing_a_sample_is_a_piece_of_the_photo() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    photo[:, :, 0], photo[:, :, 1] = np.mgrid[0:50, 0:70]
    mask = np.random.default_rng(1).integers(0, 21, (50, 70), dtype=np.uint8)
    augment = Augment(32, FILL, scale=(1, 1), flip=False)
    seen = set()
    for seed in range(100):
        got, valid, got_mask = augment(photo, mask, scale=1.0, seed=seed)
        assert valid.all()
        y, x = int(got[0, 0, 0]), int(got[1, 0, 0])
        assert (got.permute(1, 2, 0).numpy() == photo[y : y + 32, x : x + 32]).all()
        assert (got_mask.numpy() == mask[y : y + 32, x : x + 32]).all()
        seen.add((y, x))
    assert {y for y, _ in seen} == set(range(19))
    assert min(x for _, x in seen) < 3
    assert max(x for _, x in seen) > 35


@pytest.mark.parametrize("size", [(40, 60), (60, 40), (33, 33), (200, 80), (9, 300)])
@pytest.mark.parametrize("scale", [0.5, 0.83, 1.0, 1.7])
@pytest.mark.parametrize("short_side", [None, 48])
def test_photo_mask_and_valid_area_stay_together(size: tuple[int, int], scale: float, short_side: int | None) -> None:
    """The mask holds the photo's own coordinates (coarsely), so a slip of either shows."""
    height, width = size
    photo = coordinates(height, width)
    augment = Augment(64, FILL, short_side=short_side, scale=(0.5, 2))
    factor = scale * (short_side / min(size) if short_side else 1)
    for axis in (0, 1):
        mask = (photo[:, :, axis] // 2).astype(np.uint8)
        for seed in range(6):
            got, valid, got_mask = augment(photo, mask, scale=scale, seed=seed)
            assert got.shape == (3, 64, 64)
            assert valid.shape == got_mask.shape == (64, 64)
            assert (valid == (got_mask != 255)).all()
            assert (got.permute(1, 2, 0)[~valid] == torch.tensor(FILL)).all()
            assert valid.any(0).sum() == min(64, max(1, round(width * factor)))
            assert valid.any(1).sum() == min(64, max(1, round(height * factor)))
            # Nearest against bilinear: at most half a source pixel, plus rounding of 8-bit values; border
            # pixels of the photo are averaged inwards by antialiasing.
            step = 255 / size[axis] * max(1, 1 / factor)
            difference = (got[axis].int() - 2 * got_mask.int()).abs()[valid].float()
            assert difference.max() <= 0.8 * step + 3


def test_half_of_the_samples_are_mirrored() -> None:
    photo = coordinates(64, 64)
    for flip, expected in ((True, (70, 130)), (False, (0, 0))):
        augment = Augment(64, FILL, scale=(1, 1), flip=flip)
        mirrored = 0
        for seed in range(200):
            got, _, _ = augment(photo, None, scale=1.0, seed=seed)
            mirrored += int(got[1, 0, 0] > got[1, 0, -1])
            assert got[0, 0, 0] < got[0, -1, 0]
        assert expected[0] <= mirrored <= expected[1]


def test_small_photos_lie_anywhere_in_the_crop() -> None:
    augment = Augment(40, FILL, scale=(1, 1))
    tops = set()
    for seed in range(300):
        got, valid, mask = augment(np.zeros((30, 40, 3), np.uint8), None, scale=1.0, seed=seed)
        assert mask is None
        rows = torch.nonzero(valid.any(1)).ravel()
        assert rows.tolist() == list(range(int(rows[0]), int(rows[0]) + 30))
        assert (got[:, valid] == 0).all()
        tops.add(int(rows[0]))
    assert tops == set(range(11))


def test_a_sample_follows_from_its_seed_alone() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    augment = Augment(48, FILL, color_jitter=(0.3, 0.3, 0.3, 0.1))
    torch.manual_seed(1)
    first = augment(photo, None, scale=0.9, seed=77)[0]
    torch.manual_seed(2)
    np.random.default_rng(5).random()
    assert torch.equal(first, augment(photo, None, scale=0.9, seed=77)[0])
    assert not torch.equal(first, augment(photo, None, scale=0.9, seed=78)[0])


def test_colors_change_only_the_photo_and_nothing_else_of_a_sample() -> None:
    photo = np.random.default_rng(0).integers(60, 180, (30, 30, 3), dtype=np.uint8)
    mask = np.random.default_rng(1).integers(0, 3, (30, 30), dtype=np.uint8)
    plain = Augment(40, FILL)
    for jitter in ((0.3, 0.3, 0.3, 0.1), (0.5, 0, 0, 0), (0, 0, 0, 0.2)):
        colored = Augment(40, FILL, color_jitter=jitter)
        for seed in range(5):
            a, valid_a, mask_a = plain(photo, mask, scale=1.0, seed=seed)
            b, valid_b, mask_b = colored(photo, mask, scale=1.0, seed=seed)
            assert torch.equal(valid_a, valid_b)
            assert torch.equal(mask_a, mask_b)
            assert torch.equal(a[:, ~valid_a], b[:, ~valid_a])
            assert not torch.equal(a, b)
    still = Augment(40, FILL, color_jitter=(0, 0, 0, 0))
    assert torch.equal(plain(photo, None, scale=1.0, seed=1)[0], still(photo, None, scale=1.0, seed=1)[0])


def test_scales_fill_their_range() -> None:
    augment = Augment(8, FILL, scale=(0.7, 1.3))
    scales = [augment.draw_scale(np.random.default_rng(seed)) for seed in range(200)]
    assert 0.7 <= min(scales) < 0.72
    assert 1.28 < max(scales) <= 1.3


def test_each_photo_gets_a_longer_side_of_its_own() -> None:
    augment = Augment(64, FILL, scale=(1, 1), long_side=(20, 30))
    sides = set()
    for seed in range(200):
        _, valid, _ = augment(np.zeros((50, 100, 3), np.uint8), None, scale=1.0, seed=seed)
        height, width = int(valid.any(1).sum()), int(valid.any(0).sum())
        assert abs(height - width / 2) <= 0.5
        sides.add(width)
    assert sides == set(range(20, 31))


def test_settings_and_mean_color() -> None:
    class Settings:
        crop, short_side, long_side, scale, flip = 96, 120, (140, 200), (0.5, 2.0), False
        color_jitter = (0.1, 0.2, 0.3, 0.0)
        scale_per = "photo"

    augment = Augment.from_settings(Settings(), fill=(0.485, 0.456, 0.5))
    assert augment == Augment(96, (124, 116, 128), 120, (0.5, 2.0), False, (0.1, 0.2, 0.3, 0.0), (140, 200), "photo")
    assert augment.min_side == 481
    assert Augment(96, FILL).min_side is None


def test_tiny_and_thin_photos() -> None:
    for size in ((1, 1), (1, 300), (300, 1)):
        got, valid, mask = Augment(32, FILL, short_side=16)(
            np.full((*size, 3), 7, np.uint8), np.ones(size, np.uint8), scale=0.7, seed=0
        )
        assert valid.any()
        assert (got[:, valid] == 7).all()
        assert (mask[valid] == 1).all()


@LIMITS
def test_a_strip_of_a_million_pixels_takes_no_more_memory_than_a_photo() -> None:
    """Resized to its shorter side it would ask for 93 GB."""
    imports = """
    import numpy as np, torch
    from tagseg.data.augment import Augment
    augment = Augment(160, (124, 116, 104), short_side=176)
    small = np.zeros((40, 60, 3), np.uint8)
    augment(small, small[..., 0].copy(), scale=1.3, seed=0)
    """
    code = """
    for shape in ((1, 1_000_000), (20_000, 4)):
        column = np.arange(max(shape)) * 200 // max(shape)
        photo = np.broadcast_to((column if shape[1] > 5 else column[:, None])[..., None], (*shape, 3)).astype(np.uint8)
        got, valid, mask = augment(photo, photo[..., 0].copy(), scale=1.3, seed=3)
        assert valid.all() and np.abs(got[0].int() - mask.int()).max() <= 3, shape
        print(int(got[0].float().mean()))
    """
    assert all(0 < int(line) < 200 for line in finished(code, above=1 << 29, imports=imports).split())


def test_the_mask_of_a_strip_is_cut_where_its_reduced_photo_is(tmp_path: Path) -> None:
    """A JPEG decoded at half its size, and a mask that is one where the photo is red."""
    red = np.repeat(np.random.default_rng(0).integers(0, 2, 5000 // 40, dtype=np.uint8), 40)
    mask = np.tile(red, (72, 1))
    Image.fromarray(np.stack([mask * 255, mask * 0, mask * 0], axis=-1)).save(tmp_path / "a.jpg", quality=95)
    augment = Augment(16, FILL, short_side=16, scale=(1, 1))
    photo = read_photo(tmp_path / "a.jpg", min_side=augment.min_side)
    assert photo.shape[:2] == (36, 2500)
    for seed in range(10):
        got, _, got_mask = augment(photo, mask, scale=1.0, seed=seed)
        sure = (got[0] < 64) | (got[0] > 192)
        assert sure.float().mean() > 0.8
        assert ((got[0] > 128) == (got_mask == 1))[sure].all()


def test_only_strips_are_cut_before_they_are_resized() -> None:
    """A photo of the largest aspect that is not cut gives what resizing the whole gives."""
    photo = np.random.default_rng(0).integers(0, 256, (20, 800, 3), dtype=np.uint8)
    augment = Augment(32, FILL, short_side=32, scale=(1, 1))
    whole = torch.nn.functional.interpolate(
        torch.from_numpy(photo).permute(2, 0, 1)[None].float(), (32, 1280), mode="bilinear", antialias=True
    )[0].round()
    got, _, _ = augment(photo, None, scale=1.0, seed=4)
    places = [
        i for i in range(1280 - 32) if (whole[:, :, i : i + 32] - got).abs().max() <= 1
        or (whole.flip(-1)[:, :, i : i + 32] - got).abs().max() <= 1
    ]  # fmt: skip
    assert len(places) == 1
