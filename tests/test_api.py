"""The public names: closed, typed, with paths as text; predictions that show and save themselves; the CRF without torch."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tagseg
from tagseg.cli.by_shards import Cut
from tagseg.data.photo import read_mask
from tagseg.data.scenes import write_scenes
from tagseg.errors import UserError
from tagseg.prediction.settings import PredictSettings
from tests.colors import Colors

ROOT = Path(__file__).parents[1]
PUBLIC = [
    "Prediction",
    "Recipe",
    "Segmenter",
    "UserError",
    "__version__",
    "check",
    "dense_crf",
    "evaluate",
    "label",
    "load",
    "load_recipe",
    "open_tagged",
    "predict",
    "run",
    "train",
]

CALLER = """
from pathlib import Path

import numpy as np
import tagseg
from numpy.typing import NDArray
from tagseg.refine import Lattice, dense_crf, probabilities_from_labels

recipe: tagseg.Recipe = tagseg.load_recipe("bmp-voc-animals", ["train.steps=3"])
run: Path = tagseg.train(recipe, "run", device="cpu")
page: Path = tagseg.run(images="photos", tags="tags.csv", out="chain")
segmenter: tagseg.Segmenter = tagseg.load("run", device="cpu")
prediction: tagseg.Prediction = segmenter.predict("photo.jpg", tags=["cow"])
mask: NDArray[np.uint8] = prediction.mask
prediction.save("mask.png")
count: int = tagseg.label(segmenter, tagseg.open_tagged("photos", "tags.csv"), "masks")
done: int = tagseg.predict("run", ["a.jpg", Path("b.jpg")], "out").done
miou: float = tagseg.evaluate("masks", "truth").scores.miou
fatal: bool = any(problem.fatal for problem in tagseg.check("photos", "tags.csv").problems)
image, maps = np.zeros((4, 5, 3), np.uint8), np.full((2, 4, 5), 0.5, np.float32)
refined: np.ndarray = dense_crf(image, maps, bilateral=(80, 13, 10), iterations=5, tags=[1])
many: list[np.ndarray] = tagseg.dense_crf([image], [maps], threads=1)
lattice: Lattice = Lattice.bilateral(image, 80, 13)
"""

WRONG = {
    "tagseg.dense_crf(image, maps, iteration=5)": "iteration",
    'tagseg.train("bmp", out=3)': "out",
    'tagseg.load("run").predict(3.5)': "predict",
    "lattice.filtr(maps)": "filtr",
}


def test_dir_shows_the_public_names_and_each_of_them_is_there() -> None:
    assert dir(tagseg) == sorted(PUBLIC) == sorted(tagseg.__all__)
    for name in PUBLIC:
        assert getattr(tagseg, name) is not None
    assert dir(__import__("tagseg.refine").refine) == sorted(tagseg.refine.__all__)
    with pytest.raises(AttributeError, match="no attribute 'predikt'"):
        tagseg.predikt  # noqa: B018


@pytest.mark.slow
def test_a_callers_types_are_checked(tmp_path: Path) -> None:
    (tmp_path / "caller.py").write_text(CALLER + "\n".join(WRONG) + "\n", encoding="utf-8")
    words = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--follow-imports=silent",
        "--cache-dir",
        str(tmp_path / "cache"),
    ]
    words += ["--config-file", str(ROOT / "pyproject.toml"), str(tmp_path / "caller.py")]
    found = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, check=False).stdout
    right = len(CALLER.splitlines())
    lines = [int(line.split(":")[1]) for line in found.splitlines() if "error:" in line and "caller.py" in line]
    assert sorted(set(lines)) == list(range(right + 1, right + 1 + len(WRONG))), found


def test_options_of_own_photos_are_refused_beside_a_recipe_or_chain(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for call in (
        lambda: tagseg.train("asdt-scenes", out, tags="t.csv"),
        lambda: tagseg.train("asdt-scenes", out, classes=["x"]),
        lambda: tagseg.train("asdt-scenes", out, method="bmp"),
        lambda: tagseg.run("chain-scenes", out, masks="m"),
    ):
        with pytest.raises(UserError, match="is for own photos, with --images"):
            call()
    assert not out.exists()


def test_paths_may_be_text(tmp_path: Path) -> None:
    write_scenes(tmp_path, train=3, val=1, size=(32, 32), seed=0)
    photos, tags = str(tmp_path / "JPEGImages"), tmp_path / "given.csv"
    tags.write_text((tmp_path / "tags.csv").read_text(encoding="utf-8").replace("JPEGImages/", ""), encoding="utf-8")
    assert not [problem for problem in tagseg.check(photos, str(tags)).problems if problem.fatal]
    assert len(tagseg.open_tagged(photos, str(tags))) == 4
    model = tagseg.Segmenter(Colors(), PredictSettings(crf=None))
    assert tagseg.predict(model, photos, str(tmp_path / "out")).done == 4
    scored = tagseg.evaluate(str(tmp_path / "out"), str(tmp_path / "out"), classes=["green", "blue"])
    assert scored.scores.pixel_accuracy == 1
    with pytest.raises(UserError, match="either a recipe or images"):
        tagseg.train(out=str(tmp_path / "run"))
    with pytest.raises(UserError, match="no recipe or file"):
        tagseg.train("nowhere", str(tmp_path / "run"))
    with pytest.raises(UserError, match="needs the photos"):
        tagseg.label(model, None, str(tmp_path / "masks"))


NAMES = {"confidence": "ignore_below", "labels_used": "labels", "model": "run", "chain": "recipe", "data": "images"}
"""Arguments of functions that have another name on the command line."""
ALONE = {
    "predict": {
        "more_images",
        "cut",
        "tagged_background",
        "scales",
        "flip",
        "merge",
        "long_side",
        "short_side",
        "precision",
        "tile",
    },
    "label": {
        "tags",
        "classes",
        "separator",
        "file_column",
        "tags_column",
        "cut",
        "tagged_background",
        "scales",
        "flip",
    }
    | {"precision", "dry_run", "use_tags"},
    "train": {"dry_run"},
    "run": {"dry_run"},
    "evaluate": {"out"},
    "check": {"out"},
}
"""Options that a program gives elsewhere: to `Segmenter.set`, to `open_tagged`, or that only a terminal needs."""


@pytest.mark.parametrize("name", ALONE)
def test_functions_take_what_the_commands_take(name: str) -> None:
    from inspect import signature

    from tagseg.cli.frame import app

    command = next(each.callback for each in app.registered_commands if each.name == name)
    assert command is not None
    own = {NAMES.get(key, key) for key in signature(getattr(tagseg, name)).parameters}
    given = set(signature(command).parameters) - set(signature(Cut).parameters) - ALONE[name]
    if name == "label":
        given.discard("confidence")  # its name before
        own.discard("tags")
    assert given <= own, given - own
    assert own - given <= {"say", "boundary"}, own - given


def test_tags_are_given_to_evaluate_and_places_to_label(tmp_path: Path) -> None:
    from tagseg.data.palette import write_mask

    for folder in ("masks", "truth"):
        (tmp_path / folder).mkdir()
        write_mask(tmp_path / folder / "a.png", np.ones((4, 4), np.uint8))
    (tmp_path / "tags.csv").write_text("photo;what\na;green|blue\n", encoding="utf-8")
    result = tagseg.evaluate(
        tmp_path / "masks",
        tmp_path / "truth",
        classes=["green", "blue"],
        tags=str(tmp_path / "tags.csv"),
        separator="|",
        file_column="photo",
        tags_column="what",
    )
    assert result.notes == (
        "no mask of the 1 photo tagged blue holds that class; check the order of the classes and the masks' numbers",
    )
    with pytest.raises(UserError, match="give one of them"):
        tagseg.label("run", tagseg.open_tagged, tmp_path / "out", places=["data.root=x"])  # type: ignore[arg-type]
    with pytest.raises(UserError, match="no device 'tpu'"):
        tagseg.label(tmp_path, None, tmp_path / "out", device="tpu")


def test_a_prediction_shows_and_saves_itself(tmp_path: Path) -> None:
    photo = np.zeros((4, 10, 3), np.uint8)
    photo[:, :3, 1] = 255
    photo[:, 3:, 0] = 255
    prediction = tagseg.Segmenter(Colors(), PredictSettings(crf=None)).predict(photo)
    assert repr(prediction) == "Prediction(10 x 4: background 70 %, green 30 %)"
    assert prediction != tagseg.Segmenter(Colors(), PredictSettings(crf=None)).predict(photo)  # no ambiguous truth
    assert {prediction: 1}[prediction] == 1
    prediction.save(str(tmp_path / "mask.png"))
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), prediction.mask)
    shown = prediction.overlay(Image.fromarray(photo))
    assert shown.size == (10, 4)
    assert (np.asarray(shown)[:, 3:] == photo[:, 3:]).all()  # background stays
    assert prediction._repr_png_().startswith(b"\x89PNG")
    with pytest.raises(UserError, match="give the photo predicted"):
        prediction.overlay(photo[:2])
    assert repr(tagseg.Segmenter(Colors())) == "Segmenter(colors, 2 classes: green, blue, on cpu)"


def test_the_dense_crf_on_arrays_imports_no_torch() -> None:
    code = (
        "import sys, numpy as np\n"
        "from tagseg.refine import dense_crf, Lattice, probabilities_from_labels\n"
        "image = np.zeros((6, 7, 3), np.uint8)\n"
        "maps = probabilities_from_labels(np.zeros((6, 7), np.uint8), 2, confidence=0.7)\n"
        "assert dense_crf(image, maps, tags=[1]).shape == (2, 6, 7)\n"
        "assert Lattice.bilateral(image, 80, 13).filter(maps).shape == (2, 6, 7)\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_there_is_one_default_for_the_dense_crf() -> None:
    from inspect import signature

    from tagseg.cli.masking import refine
    from tagseg.refine.settings import CRFSettings

    call, command, recipe = signature(tagseg.dense_crf).parameters, signature(refine).parameters, CRFSettings()
    assert call["gaussian"].default == recipe.gaussian
    assert call["bilateral"].default == recipe.bilateral
    assert call["bilateral"].default == tuple(command[name].default for name in ("sxy", "srgb", "weight"))
    assert call["iterations"].default == recipe.iterations == command["iterations"].default
