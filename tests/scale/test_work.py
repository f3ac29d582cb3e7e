"""A shard loses no photo to another one's trouble."""

from __future__ import annotations

import errno
import tarfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tagseg.errors import UserError
from tagseg.scale.finish import rows
from tagseg.scale.places import Folder, open_place
from tagseg.workflows.shards import Shards, predict_shards
from tests.scale.test_shards import build, decode, draw


@pytest.mark.parametrize("fault", [OSError(errno.ESTALE, "Stale file handle"), MemoryError(), RuntimeError("odd")])
@pytest.mark.parametrize("container", ["tar", "png"])
def test_a_photo_that_cannot_be_read_is_the_one_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception, container: str
) -> None:
    masks = draw(tmp_path / "photos", 6)
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        for path in sorted((tmp_path / "photos").iterdir()):
            tar.add(path, path.name)
    with tarfile.open(tmp_path / "photos.tar") as tar:
        bad = tar.getmember("p.02.png").offset_data - tarfile.BLOCKSIZE
    whole = Folder.read

    def read(self: Folder, key: str, *, start: int = 0, size: int | None = None) -> bytes:
        if start == bad:
            raise fault
        return whole(self, key, start=start, size=size)

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "read", read)
        shards = Shards(1, container=container)
        result = predict_shards(build, [tmp_path / "photos.tar"], tmp_path / "out", shards)
    assert result is not None
    assert (result.photos, result.masks) == (6, 5)
    ((name, why),) = result.errors
    assert (name, type(fault).__name__ in why) == ("p.02", True)
    found = {facts["name"]: decode(png or b"") for facts, png in rows(open_place(tmp_path / "out"))}
    assert found.keys() == masks.keys() - {"p.02"}
    again = predict_shards(build, [tmp_path / "photos.tar"], tmp_path / "out", Shards(1, retry_errors=True))
    assert again is not None
    assert (again.masks, again.errors) == (6, ())
    found = {facts["name"]: decode(png or b"") for facts, png in rows(open_place(tmp_path / "out"))}
    assert all(np.array_equal(found[name], masks[name]) for name in masks)


def test_a_time_that_cannot_be_kept_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    draw(tmp_path / "photos", 2)
    said: list[Any] = []

    def work() -> None:
        try:
            predict_shards(build, [tmp_path / "photos"], tmp_path / "out", Shards(1, timeout=9))
        except UserError as error:
            said.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert said == ["--timeout needs a system with alarms, and the main thread: leave it out here."]
    with pytest.raises(UserError, match="--engine ray has no alarms for --timeout"):
        predict_shards(build, [tmp_path / "photos"], tmp_path / "out", Shards(1, timeout=9, engine="ray"))
    assert not (tmp_path / "out").exists()
