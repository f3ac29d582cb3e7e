"""Methods of other packages: found by module:Class or an entry point, trained on own photos, and not run from a stored model."""

import importlib
import re
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

import tagseg
from tagseg import cli
from tagseg.data.scenes import write_scenes
from tagseg.errors import UserError
from tagseg.methods import METHODS, find_method
from tagseg.recipe import make_recipe

GUIDE = Path(__file__).parents[2] / "docs" / "your-method.md"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The guide's method as a module outside tagseg."""
    code = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)[0]
    (tmp_path / "elsewhere_mil.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield "elsewhere_mil:MIL"
    sys.modules.pop("elsewhere_mil", None)


def test_a_method_elsewhere_trains_on_own_photos_and_its_report_shows_it(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_scenes(tmp_path / "scenes", train=3, val=1, size=(64, 64), seed=3)
    photos, out = tmp_path / "scenes" / "JPEGImages", tmp_path / "run"
    tags = (tmp_path / "scenes" / "tags.csv").read_text(encoding="utf-8").replace("JPEGImages/", "")
    (tmp_path / "tags.csv").write_text(tags, encoding="utf-8")
    words = ["train", "--images", str(photos), "--tags", str(tmp_path / "tags.csv"), "--method", package]
    words += ["--out", str(out), "--set", "train.steps=1", "--set", "train.batch_size=2", "--set", "train.workers=0"]
    result = CliRunner().invoke(cli.app, words)
    assert result.exception is None, result.output
    assert yaml.safe_load((out / "recipe.yaml").read_text(encoding="utf-8"))["method"]["name"] == package
    page = (out / "report.html").read_text(encoding="utf-8")
    assert ">CAM" in page
    assert "P_mil" in page
    photo = np.full((40, 50, 3), 90, np.uint8)
    assert tagseg.load(out).predict(photo).mask.shape == (40, 50)

    del sys.modules["elsewhere_mil"]  # as another process finds the run
    with pytest.raises(UserError, match=r"import elsewhere_mil first, or set TAGSEG_METHODS=elsewhere_mil:MIL"):
        tagseg.load(out)
    monkeypatch.setenv("TAGSEG_METHODS", package)
    assert tagseg.load(out).predict(photo).mask.shape == (40, 50)


def test_an_entry_point_is_a_method_by_its_name(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("mil", package, "tagseg.methods")
    monkeypatch.setattr("tagseg.methods.entry_points", lambda group: [point] if group == "tagseg.methods" else [])
    assert find_method("mil", stored=True).__name__ == "MIL"
    recipe = make_recipe({"method": {"name": "mil", "sharpness": 2}, "train": {}}, [], "mine")
    assert (recipe.method.name, recipe.method.sharpness) == ("mil", 2)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("bpm", "no method called 'bpm'; did you mean bmp, or for one of your own module:Class"),
        ("nowhere_at_all:MIL", "nowhere_at_all:MIL cannot be imported: No module named 'nowhere_at_all'"),
        (".mine:MIL", ".mine:MIL cannot be imported"),
        (":MIL", ":MIL cannot be imported"),
        ("json:MIL", "json:MIL cannot be imported"),
        ("json:JSONDecoder", "json:JSONDecoder is no tagseg.methods.Method"),
        (7, "no method called '7'"),
    ],
)
def test_names_of_no_method_are_refused(name: object, sentence: str) -> None:
    with pytest.raises(UserError, match=re.escape(sentence)):
        make_recipe({"method": {"name": name}, "train": {}}, [], "mine")


BROKEN = {
    "syntax": ("class X(:\n", "invalid syntax"),
    "name": ("X = nowhere\n", "name 'nowhere' is not defined"),
    "file": ("X = open('/nowhere/at/all')\n", "No such file or directory"),
    "key": ("X = {}['weights']\n", "it lacks 'weights'"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_code_of_others_that_fails_is_said_in_a_sentence(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, words = BROKEN[kind]
    module = f"elsewhere_broken_{kind}"
    (tmp_path / f"{module}.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    point = EntryPoint("mine", f"{module}:X", "tagseg.methods")
    monkeypatch.setattr("tagseg.methods.entry_points", lambda group: [point])
    for name in (f"{module}:X", "mine"):
        with pytest.raises(UserError, match=re.escape(f"the method {name} cannot be imported: ") + f".*{words}"):
            make_recipe({"method": {"name": name}, "train": {}}, [], "mine")


def test_a_method_without_settings_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "from tagseg.methods import Method\n\n\nclass X(Method):\n    pass\n"
    (tmp_path / "elsewhere_bare.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    with pytest.raises(UserError, match=r"elsewhere_bare:X needs Settings, a class made from tagseg\.methods\.method"):
        make_recipe({"method": "elsewhere_bare:X", "train": {}}, [], "mine")


@pytest.mark.parametrize("name", METHODS)
def test_every_method_says_what_own_photos_start_from_and_what_its_branches_are(name: str) -> None:
    method = METHODS[name]
    assert method.own_photos is not None
    assert tagseg.load_recipe(method.own_photos).method.name == name
    assert set(method.drawn) <= set(method.meanings)
    recipe = tagseg.load_recipe(method.own_photos)
    assert recipe.method.scaled(1.0) == recipe.method
    half = recipe.method.scaled(0.5)
    assert type(half).model_validate(half.model_dump()) == half
