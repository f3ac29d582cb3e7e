import os
import sys

import numpy as np
import pytest
from PIL import Image

from tagseg.data.palette import DISPLAY, PALETTE, color, overlay, write_mask
from tagseg.errors import UserError
from tagseg.files import replacing


def test_voc_colors():
    # The devkit's first entries, its last class and the border's cream.
    assert PALETTE[:5].tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128]]
    assert PALETTE[[15, 20, 255]].tolist() == [[192, 128, 128], [0, 64, 128], [224, 224, 192]]
    assert len({tuple(c) for c in PALETTE.tolist()}) == 256


def test_display_colors_are_distinct_and_not_dark():
    assert len({tuple(c) for c in DISPLAY.tolist()}) == 256
    first = DISPLAY[1:21].astype(int)
    apart = np.abs(first[:, None] - first[None]).sum(-1)[~np.eye(20, dtype=bool)]
    assert apart.min() > 60
    assert DISPLAY[1:255].max(axis=1).min() > 110
    assert color(1) == "#e6404c"


@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (64, 3)])
def test_a_mask_keeps_its_values(tmp_path, shape):
    mask = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    path = tmp_path / "ein Bild, 猫.png"
    write_mask(path, mask)
    with Image.open(path) as image:
        assert image.mode == "P"
        assert np.array_equal(np.array(image), mask)
        assert np.array_equal(np.array(image.convert("RGB")), PALETTE[mask])


def test_overlay_keeps_background_and_mixes_the_rest():
    photo = np.full((6, 6, 3), 100, np.uint8)
    mask = np.zeros((6, 6), np.uint8)
    mask[1:5, 1:5] = 1
    mask[5, 5] = 255
    plain = overlay(photo, mask, 0.5, outlines=False)
    assert np.array_equal(plain[mask == 0], photo[mask == 0])
    assert plain[2, 2].tolist() == np.rint(0.5 * 100 + 0.5 * DISPLAY[1]).tolist()
    assert plain[5, 5].tolist() == np.rint([177.5] * 3).tolist()
    lined = overlay(photo, mask, 0.5)
    assert lined[1, 1].tolist() == [255] * 3
    assert np.array_equal(lined[2:4, 2:4], plain[2:4, 2:4])
    assert np.array_equal(lined[mask == 0], photo[mask == 0])


def test_an_interrupted_write_leaves_the_old_file_and_no_rubbish(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old", encoding="utf-8")

    def interrupted():
        with replacing(path) as temporary:
            temporary.write_text("half", encoding="utf-8")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_one_sentence(tmp_path, monkeypatch):
    def full(self, *args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(UserError, match=r"m\.png cannot be written: No space left on device"):
        write_mask(tmp_path / "m.png", np.zeros((2, 2), np.uint8))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="needs a folder that refuses writing")
def test_a_read_only_folder_is_one_sentence(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(UserError, match="cannot be written"):
            write_mask(tmp_path / "m.png", np.zeros((2, 2), np.uint8))
    finally:
        tmp_path.chmod(0o700)


def test_a_missing_folder_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match=r"m\.png cannot be written: No such file"):
        write_mask(tmp_path / "missing" / "m.png", np.zeros((2, 2), np.uint8))
