"""Run folders and weights of someone else: what they say is compared with what is there before memory is taken."""

import json
import pickle
import struct
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import tagseg
from tagseg.backbones.mxnet_file import read_mxnet_params
from tagseg.backbones.weights import read_weights
from tagseg.data.label_files import read_label_file
from tagseg.errors import UserError
from tagseg.segmenter import Segmenter
from tagseg.weights import save_weights
from tests.limited import LIMITS, refused
from tests.methods.small import build
from tests.test_foreign import BOMB


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    method = build("rrm")
    save_weights(folder / "model.safetensors", method)
    Segmenter(method).save(folder, {})
    return folder


def changed(run: Path, folder: Path, **changes: Any) -> Path:
    """The run with other values in model.json, by paths such as method__hidden."""
    facts = json.loads((run / "model.json").read_text())
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = facts
        for parent in parents:
            place = place[parent]
        place[last] = value
    (folder / "model.json").write_text(json.dumps(facts))
    if not (folder / "model.safetensors").exists():
        (folder / "model.safetensors").hardlink_to(run / "model.safetensors")
    return folder


def test_the_run_itself_is_loaded(run: Path, tmp_path: Path) -> None:
    assert tagseg.load(changed(run, tmp_path)).classes == ("background", "cat", "dog", "sheep")


NAMES = [f"class {i}" for i in range(300)]
WRONG: dict[str, dict[str, Any]] = {
    "very many classes": {"classes": ["background"] * 2_000_000},
    "more classes than a mask holds": {"classes": NAMES},
    "more classes than there are weights": {"classes": NAMES[:200]},
    "fewer classes": {"classes": ["background", "cat"]},
    "classes twice": {"classes": ["background", "cat", "cat", "dog"]},
    "classes as text": {"classes": "abcd"},
    "classes that are no text": {"classes": ["background", ["cat"], {"a": 1}, 3]},
    "no class": {"classes": []},
    "hidden without end": {"method__hidden": 10**8},
    "hidden of a large network": {"method__hidden": 4096},
    "another backbone": {"model__backbone": "mit_b0"},
    "a giant backbone": {"model__backbone": "vit_giant_patch14_dinov2", "model__output_stride": None},
    "a backbone of no name": {"model__backbone": "x" * 10_000},
    "a backbone that is no text": {"model__backbone": [1]},
    "a stride of no backbone": {"model__output_stride": 10**9},
    "a long side without end": {"predict__long_side": 10**6},
    "scales": {"predict__scales": [1000]},
    "a scale that is no number": {"predict__scales": [float("inf")]},
    "iterations": {"predict__crf__iterations": 10**9},
    "a method of no name": {"method__name": ["rrm"]},
    "no method": {"method": None},
    "no model": {"model": []},
}


@pytest.mark.parametrize("changes", WRONG.values(), ids=WRONG)
def test_a_wrong_description_is_one_short_sentence(run: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="model") as caught:
        tagseg.load(changed(run, tmp_path, **changes))
    assert len(str(caught.value)) < 2 * len(str(tmp_path)) + 500
    assert str(caught.value).isprintable()


@LIMITS
def test_a_wrong_description_takes_no_memory(run: Path, tmp_path: Path) -> None:
    names = ("very many classes", "hidden of a large network", "a giant backbone")
    for name in names:
        (tmp_path / name).mkdir()
        changed(run, tmp_path / name, **WRONG[name])
    code = f"""
    for name in {names}:
        try:
            tagseg.load(Path({str(tmp_path)!r}) / name)
        except UserError as error:
            last = error
        else:
            sys.exit(f"{{name}} was loaded")
    raise last
    """
    refused(code, above=700 << 20, seconds=240, imports="import tagseg, timm, tagseg.segmenter, tagseg.methods.rrm")


@pytest.mark.parametrize(
    "text", ["", "[" * 100_000, "{", "[1]", "null", '{"a": ' + "1" * 5000 + "}", BOMB], ids=range(7)
)
def test_a_description_that_is_none_is_named(run: Path, tmp_path: Path, text: str) -> None:
    changed(run, tmp_path)
    (tmp_path / "model.json").write_text(text)
    with pytest.raises(UserError, match=r"model\.json cannot be read"):
        tagseg.load(tmp_path)


def test_a_header_of_a_bare_file_is_read_with_the_same_care(run: Path, tmp_path: Path) -> None:
    tensors = read_weights(run / "model.safetensors")
    for number, text in enumerate(["[" * 100_000, "[]", '{"method": {"name": {}}}', "\x1b[31m"]):
        path = tmp_path / f"{number}.safetensors"
        save_file(tensors, path, metadata={"tagseg": text})
        with pytest.raises(UserError, match=rf"{number}\.safetensors cannot be read"):
            tagseg.load(path)


def bad_pickles(folder: Path) -> list[Path]:
    files = {
        "marker.pth": pickle.dumps({"a": Touch(str(folder / "PWNED"))}),
        "cut.pth": pickle.dumps({"a": 1})[:-3],
        "empty.pth": b"",
        "text.pth": b"hello\n" * 50,
        "legacy.pth": pickle.dumps(119547037146038801333356) + pickle.dumps(1001) + b"\x80\x02}." * 3,
        "deep.pth": b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".",
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    torch.save([1, 2], folder / "list.pth")
    torch.save({"a": torch.zeros(1 << 20)}, folder / "plain.pth")
    with ZipFile(folder / "plain.pth") as plain, ZipFile(folder / "bomb.pth", "w", ZIP_DEFLATED) as packed:
        for member in plain.namelist():
            packed.writestr(member, plain.read(member))
    return [*(folder / name for name in files), folder / "list.pth", folder / "bomb.pth"]


class Touch:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path(self.path),)


def test_pickles_run_nothing_and_end_in_a_sentence(tmp_path: Path) -> None:
    for path in bad_pickles(tmp_path):
        with pytest.raises(UserError, match=path.name):
            read_weights(path)
    assert not (tmp_path / "PWNED").exists()


def mxnet(shape: tuple[int, ...], data: bytes = b"\0" * 16) -> bytes:
    array = struct.pack("<IiI", 0xF993FAC9, 0, len(shape)) + struct.pack(f"<{len(shape)}q", *shape)
    array += struct.pack("<iii", 1, 0, 0) + data
    return struct.pack("<QQQ", 0x112, 0, 1) + array + struct.pack("<QQ", 1, 1) + b"a"


def test_sizes_of_an_mxnet_file_are_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "a.params"
    path.write_bytes(mxnet((2, 2)))
    assert read_mxnet_params(path)["a"].shape == (2, 2)
    for shape in ((2**62, 2**62, 0), (0, 2**63 - 1), (2**62, 4), (2**40,), (0,) * 32, (2**31, 2**31, 2**31)):
        path.write_bytes(mxnet(shape))
        with pytest.raises(UserError, match=r"a\.params"):
            read_mxnet_params(path)


def test_sizes_of_a_safetensors_file_are_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    for header in (
        b'{"a":{"dtype":"F32","shape":[1152921504606846976],"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"X9","shape":[1],"data_offsets":[0,4]}}',
        b"[" * 100_000,
    ):
        path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 4)
        with pytest.raises(UserError, match=r"a\.safetensors"):
            read_weights(path)
    path.write_bytes(struct.pack("<Q", 2**63) + b"{}")
    with pytest.raises(UserError, match=r"a\.safetensors"):
        read_weights(path)


def test_numbers_of_another_kind_become_floats(run: Path, tmp_path: Path) -> None:
    changed(run, tmp_path)
    tensors = read_weights(run / "model.safetensors")
    name = next(name for name, tensor in tensors.items() if tensor.ndim == 4)
    for other in (tensors[name].to(torch.int64), tensors[name].to(torch.bfloat16), tensors[name].double()):
        (tmp_path / "model.safetensors").unlink()
        save_file(tensors | {name: other}, tmp_path / "model.safetensors")
        # other kinds of numbers are taken for floats, as they always were
        result = tagseg.load(tmp_path).predict(np.zeros((33, 40, 3), np.uint8), crf=False)
        assert np.isfinite(result.probabilities).all()


@LIMITS
def test_places_that_a_pickle_of_tags_numbers_take_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "cls_labels.npy"
    np.save(path, {"a": np.ones(2, np.float32)}, allow_pickle=True)  # type: ignore[arg-type]
    content = path.read_bytes()
    start = content.index(b"\n") + 1
    for put in (b"r" + struct.pack("<I", 2**32 - 1), b"p4294967295\n"):
        path.write_bytes(content[: start + 2] + b"N" + put + b"0" + content[start + 2 :])
        with pytest.raises(UserError, match="it numbers"):
            read_label_file(path, ("cat", "dog"), ["a"])
