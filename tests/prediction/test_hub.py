"""Models on the Hub, without a network: what is uploaded, and what is found in the cache."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import numpy as np
import pytest

import tagseg
from tagseg.errors import UserError
from tagseg.prediction.hub import fetch, is_address
from tagseg.segmenter import Segmenter
from tests.methods.small import build
from tests.workflows.small_project import command

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """A Hub that keeps what is uploaded where huggingface_hub looks for what it has fetched; no network is there."""
    calls: list[dict[str, object]] = []
    whole = huggingface_hub.snapshot_download

    def create_repo(self, repo, **more):  # type: ignore[no-untyped-def]
        calls.append({"create": repo, **more})

    def upload_folder(self, *, repo_id, folder_path, **more):  # type: ignore[no-untyped-def]
        calls.append({"upload": sorted(path.name for path in Path(folder_path).iterdir()), **more})
        place = tmp_path / "cache" / f"models--{repo_id.replace('/', '--')}"
        shutil.copytree(folder_path, place / "snapshots" / COMMIT)
        (place / "refs").mkdir()
        (place / "refs" / "main").write_text(COMMIT)
        return SimpleNamespace(oid=COMMIT)

    def offline(repo, **more):  # type: ignore[no-untyped-def]
        return whole(repo, cache_dir=tmp_path / "cache", local_files_only=True, **more)

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", create_repo)
    monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", upload_folder)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    return calls


def test_what_is_pushed_is_what_is_loaded(hub: list[dict[str, object]], tmp_path: Path) -> None:
    facts = {
        "training": {"title": "cows", "photos": 7, "labels": "image-level tags only", "command": "tagseg /home/me"}
    }
    segmenter = Segmenter(build("rrm"), {"crf": None}, facts)
    address = segmenter.push_to_hub("me/cows", private=True, message="first")
    assert address == f"hf://me/cows@{COMMIT}"
    assert hub == [
        {"create": "me/cows", "private": True, "exist_ok": True},
        {"upload": ["README.md", "model.json", "model.safetensors"], "revision": None, "commit_message": "first"},
    ]
    photo = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    for name in (address, "hf://me/cows", "hf://me/cows@main", Path("hf://me/cows@main")):
        again = tagseg.load(name)
        assert again.classes == segmenter.classes
        assert np.array_equal(again.predict(photo).probabilities, segmenter.predict(photo).probabilities)
    folder = fetch(address)
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlibrary_name: tagseg\npipeline_tag: image-segmentation\n---\n# cows")
    # folders of the own machine stay there
    assert "/home/me" not in card + (folder / "model.json").read_text(encoding="utf-8")
    assert json.loads((folder / "model.json").read_text(encoding="utf-8"))["training"]["photos"] == 7


def test_a_model_of_the_hub_is_exported_by_its_name(
    hub: list[dict[str, object]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = Segmenter(build("rrm")).push_to_hub("me/cows")
    for number, name in enumerate((address, "hf://me/cows", "hf://me/cows@main")):
        place = tmp_path / str(number)
        place.mkdir()
        monkeypatch.chdir(place)
        command("export", name, "--format", "safetensors")
        assert sorted(path.name for path in place.iterdir()) == ["cows.safetensors", "cows.safetensors.md"]


def test_mistakes_are_said(hub: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_address("runs/hf")
    for wrong in ("hf://", "hf://cows", "hf://me/cows@", "hf://me/../x", "hf://a/b/c", "hf://me/cows@a b"):
        with pytest.raises(UserError, match="hf://owner/name"):
            tagseg.load(wrong)
    with pytest.raises(UserError, match="me/none at v1 cannot be fetched"):
        tagseg.load("hf://me/none@v1")
    segmenter = Segmenter(build("rrm"))
    with pytest.raises(UserError, match="owner/name"):
        segmenter.push_to_hub("cows")

    def refuse(self, repo, **more):  # type: ignore[no-untyped-def]
        raise PermissionError("401\nUnauthorized")

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", refuse)
    with pytest.raises(UserError, match="401 Unauthorized"):
        segmenter.push_to_hub("me/cows")


def test_a_repository_that_holds_no_model(hub: list[dict[str, object]], tmp_path: Path) -> None:
    place = tmp_path / "cache" / "models--me--empty"
    (place / "snapshots" / COMMIT).mkdir(parents=True)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(COMMIT)
    with pytest.raises(UserError, match="holds no model"):
        tagseg.load("hf://me/empty")
