"""Weights from the hub: by commit, and of strangers as safetensors alone. No network is asked."""

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import timm

from tagseg.backbones import create_backbone
from tagseg.backbones.weights import hub_name
from tagseg.errors import UserError

COMMIT = "0123456789" * 4


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the hub's client is asked for; it has nothing."""
    asked: list[tuple[Any, ...]] = []

    def download(repository: str, filename: str, revision: str | None = None) -> str:
        asked.append((repository, filename, revision))
        raise ConnectionError

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    return asked


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ("hub", [("nvidia/mit-b0", name, None) for name in ("model.safetensors", "pytorch_model.bin")]),
        (f"hub@{COMMIT}", [("nvidia/mit-b0", name, COMMIT) for name in ("model.safetensors", "pytorch_model.bin")]),
        (f"someone/segformer@{COMMIT}", [("someone/segformer", "model.safetensors", COMMIT)]),
    ],
)
def test_what_is_asked_for(asked: list[Any], weights: str, expected: list[Any]) -> None:
    with pytest.raises(UserError, match="could not be fetched"):
        create_backbone("mit_b0", weights=weights)
    assert asked == expected


@pytest.mark.parametrize("name", ["mit_b0", "resnet18", "efficientnet_lite0"])
@pytest.mark.parametrize("weights", ["evil-org/evil-model", "hub@main", "evil-org/evil@v1", "hub@" + "x" * 100])
def test_nothing_is_asked_for_without_a_commit(asked: list[Any], name: str, weights: str) -> None:
    with pytest.raises(UserError) as caught:
        create_backbone(name, output_stride=None, weights=weights)
    assert len(str(caught.value)) < 300
    assert asked == []


def test_timm_is_asked_for_the_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, Any]] = []

    def create(name: str, **options: Any) -> Any:
        given.append(options)
        raise ConnectionError

    monkeypatch.setattr(timm, "create_model", create)
    for weights, overlay in (("hub", None), (f"hub@{COMMIT}", {"hf_hub_id": f"timm/resnet18.a1_in1k@{COMMIT}"})):
        with pytest.raises(UserError, match="could not be fetched"):
            create_backbone("resnet18", output_stride=None, weights=weights)
        assert given[-1]["pretrained"] is True
        assert given[-1].get("pretrained_cfg_overlay") == overlay


def test_files_are_files_whatever_they_are_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a").mkdir()
    for name in ("a/w.pth", "w.safetensors", "none", "/x/y.bin", "a/b/c"):
        assert hub_name(name) == (None, None)
    Path("a/b@c").write_bytes(b"")
    assert hub_name("a/b@c") == (None, None)
