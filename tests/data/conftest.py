from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def photos(tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder of small photos, all different: photos("a.jpg", "sub/b.png") -> folder."""

    def make(*names: str, folder: str = "images", size: tuple[int, int] = (40, 48)) -> Path:
        root = tmp_path / folder
        root.mkdir(parents=True, exist_ok=True)
        for name in names:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            rng = np.random.default_rng([ord(letter) for letter in name])
            Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
        return root

    return make


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., Path]:
    """Writes a table of tags: table("file,tags\\na.jpg,cat") -> path."""

    def write(text: str | bytes, name: str = "tags.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write
