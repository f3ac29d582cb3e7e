"""Exported models: equal to the model, readable without torch, described in the file."""

import json
import math
import re
import shutil
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

import tagseg
from tagseg.errors import UserError
from tagseg.methods import METHODS
from tagseg.methods.build import build_method
from tagseg.outputs.model_files import write_torch
from tagseg.prediction.model_card import model_card
from tagseg.prediction.segmenter import Segmenter
from tagseg.prediction.settings import PredictSettings
from tagseg.recipe import ModelSettings
from tagseg.weights import save_weights
from tagseg.workflows.export import export
from tests.colors import Colors

BACKBONE = ModelSettings(backbone="test_efficientnet", output_stride=None, weights="none")
FACTS = {
    "training": {
        "title": "ASDT on fish | tagged",
        "labels": "image-level tags only",
        "photos": 15,
        "scores": {"without tags": {"P_s + CRF": {"miou": 61.25, "photos": 4}}},
        "machine": "2 cores",
        "minutes": 3.5,
        "command": "tagseg train mine",
    }
}
SIZES = [(1, 65, 97), (3, 40, 33), (1, 1, 1), (1, 128, 200)]


def small(name: str = "asdt", **values: object) -> Segmenter:
    torch.manual_seed(0)
    settings = METHODS[name].Settings.model_validate(
        {"name": name} | ({"cam_scales": [1.0], "hidden": 8, "dilation": 1} if name == "asdt" else {}) | values
    )
    method = build_method(settings, BACKBONE, ("cat, tabby", "犬"))
    method.backbone.license = "Apache-2.0"
    return Segmenter(method, PredictSettings(flip=True, scales=(1.0, 0.5)), FACTS)


@pytest.fixture(scope="module")
def model() -> Segmenter:
    return small()


@pytest.fixture(scope="module")
def onnx_file(model: Segmenter, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("onnx") / "model.onnx"
    lines = export(model, out)
    assert str(out) in lines[0]
    return out


@pytest.fixture(scope="module")
def torch_file(model: Segmenter, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("torch") / "model.pt2"
    export(model, out, "torch")
    return out


def photos(count: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def expected(model: Segmenter, photo_BHW3: np.ndarray) -> torch.Tensor:
    with torch.no_grad():
        return model.method.segment(torch.from_numpy(photo_BHW3).permute(0, 3, 1, 2).float() / 255)


def test_onnxruntime_gives_the_models_probabilities_at_any_size(model: Segmenter, onnx_file: Path) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(onnx_file)
    for size in SIZES:
        photo_BHW3 = photos(*size)
        probability_BKHW, mask_BHW = session.run(None, {"photo": photo_BHW3})
        wanted_BKHW = expected(model, photo_BHW3)
        np.testing.assert_allclose(probability_BKHW, wanted_BKHW.numpy(), atol=1e-4)
        assert mask_BHW.dtype == np.uint8
        assert np.array_equal(mask_BHW, probability_BKHW.argmax(1))
        assert (mask_BHW == wanted_BKHW.argmax(1).numpy()).mean() > 0.999


def test_the_mask_is_the_same_where_no_torch_is_installed(model: Segmenter, onnx_file: Path, tmp_path: Path) -> None:
    photo_HW3 = photos(1, 65, 97)[0]
    np.save(tmp_path / "photo.npy", photo_HW3)
    script = """
        import importlib.abc, json, sys

        class NoTorch(importlib.abc.MetaPathFinder):
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in ("torch", "tagseg", "timm"):
                    raise ImportError(f"{name} is not installed here")

        sys.meta_path.insert(0, NoTorch())
        import numpy as np
        import onnxruntime
        session = onnxruntime.InferenceSession(sys.argv[1])
        facts = session.get_modelmeta().custom_metadata_map
        mask = session.run(["mask"], {"photo": np.load(sys.argv[2])[None]})[0][0]
        assert "torch" not in sys.modules
        np.save(sys.argv[3], mask)
        print(json.dumps(json.loads(facts["classes"])))
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), onnx_file, tmp_path / "photo.npy", tmp_path / "mask.npy"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == ["background", "cat, tabby", "犬"]
    mask = expected(model, photo_HW3[None]).argmax(1)[0].numpy()
    assert (np.load(tmp_path / "mask.npy") == mask).mean() > 0.999


def test_a_graph_that_holds_for_one_size_only_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="for photos of any size; export it with --format safetensors"):
        export(small("classifier"), tmp_path / "model.pt2")  # its CAM's scales are rounded to pixels
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", sorted(set(METHODS) - {"asdt", "classifier"}))
def test_every_system_that_segments_can_be_exported(name: str, tmp_path: Path) -> None:
    lines = export(small(name), tmp_path / "model.pt2")
    assert "Checked on photos of two sizes" in lines[1]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("mentor", {"pooling": "soft"}),  # what few photos get
        pytest.param("bmp", {"pooling": "soft"}, marks=pytest.mark.slow),
        ("supervised", {"decoder": "segformer", "tag_weight": 1, "gate": {"power": 1, "tagged_background": 0.6}}),
    ],
)
def test_a_graph_of_the_chosen_settings_holds_for_photos_of_any_size(
    name: str, values: dict[str, object], tmp_path: Path
) -> None:
    for file in ("model.onnx", "model.pt2"):
        lines = export(small(name, **values), tmp_path / file)
        assert "Checked on photos of two sizes" in lines[1]


@pytest.mark.parametrize("frozen_norm", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_embedded_backbones_are_saved_by_torch_too(frozen_norm: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    backbone = ModelSettings(backbone="efficientnet_lite0", output_stride=16, frozen_norm=frozen_norm)
    settings = METHODS["supervised"].Settings.model_validate({"name": "supervised", "segmenter": "segformer"})
    segmenter = Segmenter(build_method(settings, backbone, ("cat",)), PredictSettings(), FACTS)
    export(segmenter, tmp_path / "model.pt2")
    module = torch.export.load(tmp_path / "model.pt2").module()
    photo_BHW3 = photos(1, 97, 130)
    torch.testing.assert_close(
        module(torch.from_numpy(photo_BHW3))[0], expected(segmenter, photo_BHW3), atol=1e-4, rtol=0
    )


def test_what_torch_cannot_save_is_said_and_leaves_no_file(tmp_path: Path) -> None:
    class Rounding(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Conv2d(3, 2, 1)

        def segment(self, image_B3HW: torch.Tensor) -> torch.Tensor:
            half = image_B3HW[..., : math.ceil(image_B3HW.shape[-1] / 2)].mean((1, 2, 3), keepdim=True)
            return (self.layer(image_B3HW) + half).softmax(1)

    with pytest.raises(UserError, match=r"cannot save Rounding .* export it with --format onnx or safetensors"):
        write_torch(Rounding(), {}, tmp_path / "model.pt2")
    assert not list(tmp_path.iterdir())


def test_the_onnx_file_describes_itself(onnx_file: Path) -> None:
    import onnx

    content = onnx.load(onnx_file)
    onnx.checker.check_model(content)
    facts = {entry.key: entry.value for entry in content.metadata_props}
    assert (facts["method"], facts["license"]) == ("asdt", "Apache-2.0")
    assert "uint8 RGB" in facts["input"]
    assert json.loads(facts["tagseg"])["training"]["photos"] == 15
    assert content.opset_import[0].version >= 18
    assert [output.name for output in content.graph.output] == ["probabilities", "mask"]
    assert (onnx_file.parent / "model.onnx.md").read_text(encoding="utf-8") == facts["card"]


def test_torch_export_gives_the_models_probabilities(model: Segmenter, torch_file: Path) -> None:
    facts = {"tagseg.json": ""}
    module = torch.export.load(torch_file, extra_files=facts).module()
    for size in SIZES[:2]:
        photo_BHW3 = photos(*size)
        probability_BKHW = module(torch.from_numpy(photo_BHW3))[0]
        torch.testing.assert_close(probability_BKHW, expected(model, photo_BHW3), atol=1e-4, rtol=0)
    assert json.loads(facts["tagseg.json"])["classes"] == ["background", "cat, tabby", "犬"]
    assert {path.name for path in torch_file.parent.iterdir()} == {"model.pt2", "model.pt2.md"}


def test_a_bare_safetensors_file_is_a_model(model: Segmenter, tmp_path: Path) -> None:
    out = tmp_path / "elsewhere" / "fish.safetensors"
    export(model, out)
    moved = tmp_path / "bare.safetensors"
    out.rename(moved)
    loaded = tagseg.load(moved)
    photo = photos(1, 40, 33)[0]
    assert np.array_equal(loaded.predict(photo).mask, model.predict(photo).mask)
    assert (loaded.classes, loaded.settings, loaded.facts) == (model.classes, model.settings, FACTS)
    assert loaded.method.backbone.license == "Apache-2.0"
    with safe_open(moved, framework="np") as content:
        assert content.metadata()["license"] == "Apache-2.0"
        assert "image-level tags only" in content.metadata()["card"]
    for name, tensor in model.method.state_dict().items():
        assert torch.equal(loaded.method.state_dict()[name], tensor), name


def test_a_run_folder_is_a_model_and_its_facts_stay(model: Segmenter, tmp_path: Path) -> None:
    save_weights(tmp_path / "model.safetensors", model.method)
    Segmenter(model.method, model.settings).save(tmp_path, FACTS)
    for path in (tmp_path, tmp_path / "model.safetensors"):
        loaded = tagseg.load(path)
        assert loaded.facts == FACTS
        assert loaded.describe() == model.describe()


def test_what_is_no_model_is_refused_without_running_it(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self):  # type: ignore[no-untyped-def]
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"weights": Harmful()}, tmp_path / "model.pt2")
    torch.save({"weights": Harmful()}, tmp_path / "pickle.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "wrong.safetensors", metadata={"tagseg": "[1]"})
    sentences = {
        "model.pt2": "no model that can be loaded",
        "pickle.safetensors": "cannot be read as safetensors",
        "other.safetensors": "holds no finished model",
        "wrong.safetensors": "the description of a model of this version",
        "missing.safetensors": "holds no finished model",
    }
    for name, sentence in sentences.items():
        with pytest.raises(UserError, match=sentence):
            tagseg.load(tmp_path / name)
    assert not (tmp_path / "ran").exists()


def test_the_card_says_what_the_model_learned_from_and_how_it_scored(model: Segmenter) -> None:
    card = model_card(model.describe())
    for words in (
        "# ASDT on fish \\| tagged", "cat, tabby", "15 photos", "image-level tags only", "Apache-2.0", "without tags",
        "| P_s + CRF | 61.2 | 4 |", "tagseg train mine",
    ):  # fmt: skip
        assert words in card
    assert "None were measured" in model_card(Segmenter(Colors()).describe())


def test_a_network_that_no_graph_can_hold_is_refused(tmp_path: Path) -> None:
    class Looks(Colors):
        def segment(self, image_B3HW: torch.Tensor) -> torch.Tensor:
            return super().segment(image_B3HW) if image_B3HW.mean() > 0.5 else image_B3HW

    with pytest.raises(UserError, match=r"Looks cannot be written as a graph .* --format safetensors"):
        export(Segmenter(Looks()), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("out", "format", "sentence"),
    [
        ("model.tflite", None, "no export format '.tflite'; there are onnx, torch, safetensors"),
        ("model.onnx", "tflite", "no export format 'tflite'"),
        ("model.onnx", "safetensors", r"should end in \.safetensors"),
        ("folder.onnx", None, "is a folder"),
    ],
)
def test_mistakes_are_named(out: str, format: str | None, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(UserError, match=sentence):
        export(Segmenter(Colors()), tmp_path / out, format)
    assert [path.name for path in tmp_path.iterdir()] == ["folder.onnx"]


def test_the_code_of_the_guide_runs(
    model: Segmenter, onnx_file: Path, torch_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(onnx_file, tmp_path / "model.onnx")
    shutil.copy(torch_file, tmp_path / "model.pt2")
    export(model, tmp_path / "model.safetensors")
    Image.fromarray(photos(1, 65, 97)[0]).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    guide = (Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    assert len(blocks) == 3
    names: list[dict[str, object]] = [{}, {}, {}]
    for block, scope in zip(blocks, names, strict=True):
        exec(block, scope)
    assert np.array_equal(names[0]["mask"], names[1]["mask"])
    assert names[2]["prediction"].mask.shape == (65, 97)


def texts(path: Path) -> bytes:
    """Everything that a file holds, unpacked."""
    if path.suffix != ".pt2":
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        return b"".join(archive.read(name) for name in archive.namelist())


def test_an_exported_file_names_no_folder_of_this_machine(onnx_file: Path, torch_file: Path) -> None:
    places = {
        str(Path(tagseg.__file__).parent),
        str(Path(torch.__file__).parent),
        str(Path(__file__).parent),
        sys.prefix,
    }
    for file in (onnx_file, torch_file):
        for each in (file, file.with_name(file.name + ".md")):
            assert not [place for place in places if place.encode() in texts(each)]


@pytest.mark.parametrize(
    ("command", "kept"),
    [
        (
            "tagseg train /home/jo/secret/r.yaml --set data.root=/mnt/secret/photos",
            "tagseg train r.yaml --set data.root=photos",
        ),
        ("tagseg train --tags ~/secret/tags.csv --out ~jo/secret/run", "tagseg train --tags tags.csv --out run"),
        (r"tagseg train C:\Users\secret\r.yaml \\host\secret\x.csv", "tagseg train r.yaml x.csv"),
        (
            "tagseg train '/home/jo secret/my r.yaml' 'data.root=/mnt/a secret/b'",
            "tagseg train 'my r.yaml' data.root=b",
        ),
        (
            """tagseg train --images '/home/jo/o'"'"'secret of a/photos' --out '/mnt/it'"'"'s secret/my run'""",
            "tagseg train --images photos --out 'my run'",
        ),
        (
            "tagseg train runs/a/r.yaml ./b ../c 1/2 https://a.b/c",
            "tagseg train runs/a/r.yaml ./b ../c 1/2 https://a.b/c",
        ),
    ],
)
def test_the_command_travels_without_the_folders_of_its_words(tmp_path: Path, command: str, kept: str) -> None:
    model = small()
    model.facts = {"training": {**FACTS["training"], "command": command}}
    export(model, tmp_path / "m.safetensors")
    for each in tmp_path.iterdir():
        assert b"secret" not in each.read_bytes()
    assert tagseg.load(tmp_path / "m.safetensors").facts["training"]["command"] == kept
    assert kept.replace("|", "") in (tmp_path / "m.safetensors.md").read_text()


def test_names_of_classes_travel_as_they_are(tmp_path: Path) -> None:
    names = ("C++/Java", "no helmet /person")
    settings = METHODS["supervised"].Settings.model_validate({"name": "supervised"})
    facts = {"training": {**FACTS["training"], "classes": list(names), "tags_from": "/home/jo/secret/tags.csv"}}
    export(Segmenter(build_method(settings, BACKBONE, names), None, facts), tmp_path / "m.safetensors")
    loaded = tagseg.load(tmp_path / "m.safetensors")
    assert loaded.classes == ("background", *names)
    assert loaded.facts["training"]["classes"] == list(names)
    assert loaded.facts["training"]["tags_from"] == "tags.csv"
    assert "C++/Java, no helmet /person" in (tmp_path / "m.safetensors.md").read_text(encoding="utf-8")


def test_an_export_that_fails_leaves_the_older_one_with_its_card(tmp_path: Path) -> None:
    class Looks(Colors):
        def segment(self, image_B3HW: torch.Tensor) -> torch.Tensor:
            return super().segment(image_B3HW) if image_B3HW.mean() > 0.5 else image_B3HW

    def contents() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    export(small("supervised"), tmp_path / "m.pt2")
    before = contents()
    with pytest.raises(UserError, match="cannot be written as a graph"):
        export(Segmenter(Looks()), tmp_path / "m.pt2")
    assert contents() == before
    newer = small("supervised")
    newer.facts = {"training": {"title": "newer"}}
    export(newer.set(long_side=512), tmp_path / "m.pt2")
    assert "# newer" in (tmp_path / "m.pt2.md").read_text(encoding="utf-8")


def test_an_export_says_that_no_graph_scales_photos(tmp_path: Path) -> None:
    assert not any("scale" in line for line in export(small("supervised"), tmp_path / "m.pt2"))
    lines = export(small("supervised").set(short_side=300), tmp_path / "m.pt2")
    assert "shorter side has 300 pixels: scale them before" in lines[-1]


@pytest.mark.parametrize(
    "training",
    [
        [],
        "x",
        {"scores": [1]},
        {"scores": {"without tags": 1}},
        {"scores": {"without tags": {"main": {"miou": "x"}}}},
    ],
)
def test_a_description_of_training_that_no_card_can_show_is_refused(training: object, tmp_path: Path) -> None:
    model = small("supervised")
    save_weights(tmp_path / "model.safetensors", model.method)
    Segmenter(model.method, model.settings).save(tmp_path, {"training": training})
    with pytest.raises(UserError, match=r"model\.json cannot be read .*its (training|scores)"):
        tagseg.load(tmp_path)
    Segmenter(model.method, model.settings).save(tmp_path, {"training": None})
    assert "None were measured" in model_card(tagseg.load(tmp_path).describe())
    # a score without its photos, or with no true pixel, is shown
    Segmenter(model.method, model.settings).save(tmp_path, {"training": {"scores": {"p": {"main": {"miou": None}}}}})
    assert "| main | - | ? |" in model_card(tagseg.load(tmp_path).describe())
