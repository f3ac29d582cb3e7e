"""Wide ResNet-38: its size by hand, and the weight files that exist of it, made here."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from tagseg.backbones import create_backbone
from tagseg.errors import UserError


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    return create_backbone("wide_resnet38", output_stride=8, weights="none").eval()


def test_parameter_count_by_hand(backbone) -> None:
    def basic(inputs: int, middle: int, outputs: int, shortcut: bool) -> int:
        norms = 2 * inputs + 2 * middle
        return norms + 9 * inputs * middle + 9 * middle * outputs + (inputs * outputs if shortcut else 0)

    def bottleneck(inputs: int, outputs: int) -> int:
        quarter, half = outputs // 4, outputs // 2
        norms = 2 * inputs + 2 * quarter + 2 * half
        return norms + inputs * outputs + inputs * quarter + 9 * quarter * half + half * outputs

    expected = (
        9 * 3 * 64
        + basic(64, 128, 128, True) + 2 * basic(128, 128, 128, False)
        + basic(128, 256, 256, True) + 2 * basic(256, 256, 256, False)
        + basic(256, 512, 512, True) + 5 * basic(512, 512, 512, False)
        + basic(512, 512, 1024, True) + 2 * basic(1024, 512, 1024, False)
        + bottleneck(1024, 2048) + bottleneck(2048, 4096)
        + 2 * 4096
    )  # fmt: skip
    assert sum(parameter.numel() for parameter in backbone.parameters()) == expected


def test_grid_of_the_published_crop() -> None:
    # 321 -> 161 -> 81 -> 41: each stage of stride 2 rounds up.
    with torch.device("meta"):
        backbone = create_backbone("wide_resnet38", output_stride=8, weights="none")
        stages = backbone.stages(torch.empty(1, 3, 321, 321))
    assert [stage.shape[2] for stage in stages] == [161, 81, 41, 41, 41]
    assert stages[-1].shape[1] == 4096


def test_dropout_is_active_in_training(backbone) -> None:
    image = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(backbone.eval()(image), backbone(image))
        backbone.train()
        assert not torch.equal(backbone(image), backbone(image))
        backbone.eval()


def constants(backbone) -> dict[str, torch.Tensor]:
    """A different whole number for each tensor, in its shape, without taking the memory."""
    state = backbone.state_dict()
    keys = [key for key in state if not key.endswith("num_batches_tracked")]
    return {key: torch.tensor(float(place % 251)).expand(state[key].shape) for place, key in enumerate(keys)}


def assert_loaded(backbone, expected: dict[str, torch.Tensor]) -> None:
    state = backbone.state_dict()
    assert all((state[key] == value).all() for key, value in expected.items())


def test_psa_file(backbone, tmp_path: Path) -> None:
    expected = constants(backbone)
    assert {"conv1a.weight", "b2.conv_branch1.weight", "b4_5.bn_branch2b1.running_var", "b7.conv_branch2b2.weight",
            "bn7.bias"} <= set(expected)  # fmt: skip
    torch.save(expected | {"fc8.weight": torch.zeros(20, 4096, 1, 1)}, tmp_path / "res38_cls.pth")
    loaded = create_backbone("wide_resnet38", output_stride=8, weights=tmp_path / "res38_cls.pth")
    assert_loaded(loaded, expected)


def mxnet_name(key: str) -> str:
    """The ImageNet release's name of one of our tensors."""
    layer, field = key.rsplit(".", 1)
    is_norm = "bn" in layer
    names = {"weight": "gamma" if is_norm else "weight", "bias": "beta", "running_mean": "moving_mean",
             "running_var": "moving_var"}  # fmt: skip
    match = re.fullmatch(r"b(\d)(?:_(\d))?\.(conv|bn)_branch(\w+)", layer)
    if match is not None:
        stage, place, kind, branch = match.groups()
        block = "a" if place is None else f"b{place}" if stage in "45" else "abc"[int(place)]
        layer = f"{'bn' if kind == 'bn' else 'res'}{stage}{block}_branch{branch}"
    return f"{'aux' if 'running' in field else 'arg'}:{layer}_{names[field]}"


def mxnet_file(arrays: dict[str, np.ndarray], version: int) -> bytes:
    parts = [struct.pack("<QQQ", 0x112, 0, len(arrays))]
    for array in arrays.values():
        if version == 0:
            parts.append(struct.pack(f"<I{array.ndim}I", array.ndim, *array.shape))
        else:
            parts.append(struct.pack("<I", {1: 0xF993FAC8, 2: 0xF993FAC9}[version]))
            parts.append(struct.pack("<i", 0) if version == 2 else b"")
            parts.append(struct.pack(f"<I{array.ndim}q", array.ndim, *array.shape))
        parts += [struct.pack("<iii", 1, 0, {"f": 0, "u": 3}[array.dtype.kind]), array.tobytes()]
    parts.append(struct.pack("<Q", len(arrays)))
    parts += [struct.pack("<Q", len(name.encode())) + name.encode() for name in arrays]
    return b"".join(parts)


def test_mxnet_file(backbone, tmp_path: Path) -> None:
    expected = constants(backbone)
    arrays = {mxnet_name(key): value.to(torch.uint8).numpy() for key, value in expected.items()}
    arrays["arg:linear1000_weight"] = np.zeros((1000, 16), np.uint8)
    path = tmp_path / "ilsvrc-cls_rna-a1_cls1000_ep-0001.params"
    path.write_bytes(mxnet_file(arrays, 2))
    assert_loaded(create_backbone("wide_resnet38", output_stride=8, weights=path), expected)


def test_broken_mxnet_files_are_refused(tmp_path: Path) -> None:
    from tagseg.backbones.mxnet_file import read_mxnet_params

    path = tmp_path / "small.params"
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    for version in (0, 1, 2):
        whole = mxnet_file({"arg:a_weight": values, "aux:b": values[0]}, version)
        path.write_bytes(whole)
        read = read_mxnet_params(path)
        assert list(read) == ["arg:a_weight", "aux:b"]
        assert np.array_equal(read["arg:a_weight"].numpy(), values)
        for end in range(len(whole)):
            path.write_bytes(whole[:end])
            with pytest.raises(UserError, match=r"small\.params"):
                read_mxnet_params(path)
    for broken in (b"PK" + whole, struct.pack("<QQQ", 0x112, 0, 2**60), whole[:24] + b"\xff" * (len(whole) - 24)):
        path.write_bytes(broken)
        with pytest.raises(UserError, match=r"small\.params"):
            read_mxnet_params(path)
    path.write_bytes(mxnet_file({"arg:a_weight": values}, 2))
    with pytest.raises(UserError, match="lacks conv1a"):
        create_backbone("wide_resnet38", output_stride=8, weights=path)
