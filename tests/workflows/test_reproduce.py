from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tagseg import cli
from tagseg.errors import UserError
from tagseg.progress import silence
from tagseg.recipe import Recipe
from tagseg.reproduce import plan
from tagseg.reproduce.claims import CLAIMS
from tagseg.reproduce.cost import Cost
from tagseg.reproduce.plan import Estimate, Setting, trainings
from tagseg.reproduce.table import DATA, Cell
from tagseg.reproduce.tables import PAPER_TABLES, figure_5
from tagseg.workflows import efficiency
from tagseg.workflows.reproduce import TEST_PLACE, pack_test_masks, reproduce
from tagseg.workflows.reproduce_page import markdown, measured

SMALL = (
    "data.scenes.train=4",
    "data.scenes.val=2",
    "data.scenes.size=[64, 64]",
    "train.crop=64",
    "train.batch_size=2",
    "train.workers=0",
    "model.weights=none",
    "predict.crf=null",
)


@pytest.fixture
def no_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "estimate", lambda *_: Estimate(2.0, 10**9))


def scenes(tmp_path: Path, steps: int = 2) -> Setting:
    return Setting("scenes", tmp_path / "data", steps, SMALL)


def table_lines(out: Path) -> list[str]:
    return [line for line in (out / "table.md").read_text().splitlines() if line.startswith("| ")]


@pytest.mark.usefixtures("no_measuring")
def test_a_table_from_its_classifier_to_its_page(tmp_path: Path) -> None:
    said: list[str] = []
    out = tmp_path / "out"
    table = PAPER_TABLES["asdt-table1"].only(("RRM, stage 1", "ASDT, DeepLab-v2 ResNet-101"))
    page = reproduce(table, scenes(tmp_path), out, say=said.append)
    assert page == out / "table.html"
    text = page.read_text()
    assert "shortened to 2 steps" in text
    assert "small twin scenes" in text
    head, *rows = table_lines(out)
    assert head.startswith("| row | val measured | minutes a seed")
    assert [row.split(" | ")[0] for row in rows] == ["| RRM, stage 1", "| ASDT, DeepLab-v2 ResNet-101"]
    place = out / "seed-0"
    assert sorted(path.name for path in place.iterdir() if path.is_dir()) == [
        "asdt", "asdt-masks", "asdt-resnet101", "classifier", "rrm", "scenes",
    ]  # fmt: skip
    facts = json.loads((place / "asdt-resnet101" / "scores.json").read_text())
    assert facts["labels"] == "pseudo masks"
    assert facts["tags_from"] == "tags.csv"
    (first, second) = json.loads((out / "results.json").read_text())["runs"]
    assert (first["row"], second["row"]) == ("RRM, stage 1", "ASDT, DeepLab-v2 ResNet-101")

    said.clear()  # nothing is trained again
    times = {path: path.stat().st_mtime_ns for path in place.rglob("model.safetensors")}
    reproduce(table, scenes(tmp_path), out, say=said.append)
    assert {path: path.stat().st_mtime_ns for path in place.rglob("model.safetensors")} == times
    assert "  asdt: there already" in said
    said.clear()  # a plan of other trainings says so of each, and of what is made from it
    reproduce(table, scenes(tmp_path, 3), out, dry_run=True, say=said.append)
    assert not any("there already" in line for line in said)
    classifier = place / "classifier" / "recipe.yaml"
    text = classifier.read_text()
    classifier.write_text(text.replace("steps: 2\n", "steps: 3\n"))
    reproduce(table, scenes(tmp_path), out, dry_run=True, say=said.append)
    assert not any("there already" in line for line in said)
    classifier.write_text(text)
    shutil.rmtree(place / "asdt-resnet101")  # what was lost is made again, from what is there
    reproduce(table, scenes(tmp_path), out, say=said.append)
    assert set(place.rglob("model.safetensors")) == set(times)

    said.clear()  # masks follow the settings of prediction
    flipped = Setting("scenes", tmp_path / "data", 2, (*SMALL, "predict.flip=true"))
    reproduce(table, flipped, out, say=said.append)
    assert "asdt-masks: its inputs have changed, so it is made anew." in said

    (out / ".tagseg-reproduce").unlink()  # a folder of a version that kept no record
    reproduce(table, flipped, out, say=said.append)
    (out / "table.md").write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match=r"table\.md has been changed since tagseg wrote it"):
        reproduce(table, flipped, out, say=said.append)


@pytest.mark.usefixtures("no_measuring")
def test_a_dry_run_says_the_plan_and_does_nothing(tmp_path: Path) -> None:
    said: list[str] = []
    setting = Setting("published", tmp_path / "data")
    assert (
        reproduce(PAPER_TABLES["asdt-table3"], setting, tmp_path / "out", seeds=(0, 1), dry_run=True, say=said.append)
        is None
    )
    assert f"{tmp_path / 'data/voc12'} is not there: tagseg data prepare voc12 --root {tmp_path / 'data/voc12'}" in said
    assert any("tagseg data prepare caltech256" in line for line in said)
    assert "  extra-asdt: asdt on wide_resnet38, 20,000 steps, about 2.0 hours a seed" in said
    assert said[-1] == "Left in all: about 24.0 hours on this machine, 12.0 GB of disk."
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="voc12 is not there"):
        reproduce(PAPER_TABLES["asdt-table3"], setting, tmp_path / "out", say=said.append)


@pytest.mark.parametrize("name", PAPER_TABLES)
def test_every_table_has_recipes_on_its_data(name: str, tmp_path: Path) -> None:
    table = PAPER_TABLES[name]
    for on in ("published", "voc-animals", "scenes"):
        if on == "scenes" and any(stage.extra for stage in table.needed()):
            continue  # photos of another set show none of their classes
        made = trainings(table, Setting(on, tmp_path), 3)
        assert {row.stage for row in table.rows} <= {training.name for training in made}
        for training in made:
            assert training.recipe.train.seed == 3
            names = [t.name for t in made[: made.index(training)]]
            assert training.start is None or training.start in names
            assert training.masks is None or training.masks in names
            if on == "published":
                assert training.recipe.data.root == tmp_path / table.data


@pytest.mark.parametrize("name", CLAIMS)
def test_every_claim_has_recipes_on_its_twin(name: str, tmp_path: Path) -> None:
    made = trainings(CLAIMS[name], Setting("voc-animals", tmp_path), 1)
    assert len(made) == len(CLAIMS[name].rows) + 1  # one classifier for all
    recipes = [training.recipe.model_copy(update={"title": ""}).to_yaml() for training in made]
    assert len(set(recipes)) == len(recipes)
    with pytest.raises(UserError, match="is of voc-animals alone"):
        trainings(CLAIMS[name], Setting("scenes", tmp_path), 1)


def scored(**branches: float) -> dict[str, object]:
    """What a run's scores.json holds of one stage."""
    by_branch = {name: {"miou": value} for name, value in branches.items()}
    return {"scores": {"without tags": by_branch}, "minutes": 5.0, "photos": 8, "machine": "here", "tags_from": "tags"}


def test_a_row_is_compared_with_the_one_that_differs_in_the_claim_alone(tmp_path: Path) -> None:
    rows = ("no feedback", "feedback", "max pooling, no feedback", "max pooling, normalized")
    table = CLAIMS["claim-feedback"].only(rows)
    stages = [row.stage for row in table.rows]
    figures = (
        [(40, 30, 44), (39, 29, 43), (35, 36, 40), (38.5, 38, 40.5)],
        [(38, 28, 42), (38, 28, 42), (33, 32, 38), (35.5, 35, 37)],
    )
    results = [
        {stage: scored(CAM=cam, BSP=bsp, P_s=p_s) for stage, (cam, bsp, p_s) in zip(stages, one, strict=True)}
        for one in figures
    ]
    lines = markdown(table, Setting("voc-animals", tmp_path), (0, 1), results).splitlines()
    gains = lines[lines.index("Seed by seed:") + 4 :]
    assert gains[:2] == [
        "| feedback | no feedback | CAM | -0.50 | 0.50 | -1.0, +0.0 |",
        "| feedback | no feedback | P_s | -0.50 | 0.50 | -1.0, +0.0 |",
    ]
    assert "| max pooling, no feedback | no feedback | CAM | -5.00 | 0.00 | -5.0, -5.0 |" in gains
    assert "| max pooling, normalized | max pooling, no feedback | CAM | +3.00 | 0.50 | +3.5, +2.5 |" in gains
    assert "| max pooling, normalized | max pooling, no feedback | P_s | -0.25 | 0.75 | +0.5, -1.0 |" in gains


def test_what_a_row_is_compared_with_is_another_row_of_its_table() -> None:
    for table in CLAIMS.values():
        names = [row.name for row in table.rows]
        assert all(row.above is None or names.index(row.above) < names.index(row.name) for row in table.rows)


def test_row_i_is_rrm_and_the_rows_differ_in_who_teaches(tmp_path: Path) -> None:
    made = {t.name: t.recipe for t in trainings(PAPER_TABLES["asdt-table4"], Setting("published", tmp_path), 0)}
    one = made["asdt-row-i"].method.model_dump()
    assert (one["teaching"], one["seg_teacher_weight"], one["student_weight"]) == ("class-teacher", 0, 1)
    five = made["asdt-row-v"].method.model_dump()
    assert (five["seg_teacher_weight"], five["student_weight"]) == (0.5, 0.5)
    for row, teaching in (("ii", "seg-teacher"), ("iii", "max"), ("iv", "mean")):
        assert made[f"asdt-row-{row}"].method.model_dump() == five | {"teaching": teaching}


def test_the_figures_grid(tmp_path: Path) -> None:
    table = figure_5((75, 150), (2, 4))
    waves = {
        t.name: t.recipe.method.model_dump().get("wave") for t in trainings(table, Setting("published", tmp_path), 0)
    }
    assert waves["asdt-T150-tau4"]["high"] == 112  # 38 steps of 150 by the seg-teacher
    assert waves["asdt-T75-tau2"]["high"] == 37
    with pytest.raises(UserError, match="leaves one teacher no step"):
        figure_5((75,), (1,))


def test_the_archive_that_vocs_server_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Model:
        def predict(self, photo: np.ndarray) -> object:
            class Prediction:
                mask = np.full(photo.shape[:2], 7 if made["by"] == "one" else 9, dtype=np.uint8)

            return Prediction

    monkeypatch.setattr("tagseg.workflows.reproduce.load", lambda _, **__: Model())
    made = {"by": "one"}
    monkeypatch.setattr("tagseg.workflows.reproduce.made_by", lambda *_: made["by"])
    Image.new("RGB", (9, 5)).save(tmp_path / "2008_000006.jpg")
    archive = tmp_path / "test.tar"
    pack_test_masks(tmp_path, {"2008_000006": tmp_path / "2008_000006.jpg"}, tmp_path / "masks", archive)
    with tarfile.open(archive) as tar:
        assert tar.getnames() == [f"{TEST_PLACE}/2008_000006.png"]
        with Image.open(tar.extractfile(tar.getnames()[0])) as image:  # type: ignore[arg-type]
            assert image.mode == "P"
            assert (np.array(image) == 7).all()
            assert np.array(image).shape == (5, 9)
    made["by"] = "another model"
    pack_test_masks(tmp_path, {"2008_000006": tmp_path / "2008_000006.jpg"}, tmp_path / "masks", archive)
    with tarfile.open(archive) as tar, Image.open(tar.extractfile(tar.getnames()[0])) as image:  # type: ignore[arg-type]
        assert (np.array(image) == 9).all()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["asdt-table9"], "there are asdt-table1"),
        (["asdt-table4", "--on", "voc"], "--on is one of published, voc-animals, scenes"),
        (["asdt-table4", "--taus", "3"], "--taus goes with asdt-fig5"),
        (["asdt-table4", "--seeds", "a"], "numbers separated by commas"),
        (["asdt-table4", "--row", "VI"], "its rows are I class-teacher"),
        (["asdt-table4", "--seeds", "nan"], "--seeds should be numbers"),
        (["asdt-table4", "--seeds", "0,inf"], "--seeds should be numbers"),
        (["asdt-fig5", "--periods", "inf"], "--periods should be numbers"),
        (["asdt-fig5", "--taus", "nan"], "--taus should be numbers"),
        (["efficiency", "--seeds", "0,1"], "--seeds goes with a TABLE of trainings"),
        (["efficiency", "--row", "one"], "--row goes with"),
        (["efficiency", "--set", "train.steps=1"], "--set goes with"),
        (["efficiency", "--steps", "9"], "--steps goes with"),
        (["efficiency", "--data", "sets"], "--data goes with"),
        (["efficiency", "--taus", "3"], "--taus goes with"),
        (["efficiency", "--no-hours"], "--no-hours goes with"),
        (["--on", "scenes"], "--on goes with a TABLE"),
    ],
)
def test_mistakes_are_said(words: list[str], said: str) -> None:
    result = CliRunner().invoke(cli.app, ["reproduce", *words])
    assert isinstance(result.exception, UserError)
    assert said in str(result.exception)


@pytest.mark.usefixtures("no_measuring")
def test_a_plan_and_a_table_are_told_with_quiet_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--quiet", "reproduce", "asdt-table4", "--on", "scenes", "--out", str(tmp_path / "out")]
    try:
        assert "Left in all" in CliRunner().invoke(cli.app, [*words, "--dry-run"]).output
        page = tmp_path / "table.html"
        page.with_suffix(".md").write_text("| row | measured |")
        monkeypatch.setattr("tagseg.workflows.reproduce.reproduce", lambda *_, **__: page)
        assert CliRunner().invoke(cli.app, words).output == "| row | measured |\n"
    finally:
        silence(False)


@pytest.mark.parametrize("on", ["scenes", "voc-animals"])
def test_networks_are_measured_with_the_classes_of_their_data(
    on: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    measured: list[int] = []

    def measure(recipe: Recipe, classes: int, **_: object) -> Cost:
        measured.append(classes)
        return Cost(1, 1, 1, 2.0, 1, 1.5, 2, 64)

    monkeypatch.setattr(efficiency, "_alone", lambda *words: efficiency._measure(*words, 1))
    monkeypatch.setattr(efficiency, "measure", measure)
    efficiency.efficiency(on, tmp_path / "out", device="cpu", say=str)
    assert set(measured) == {DATA[on].classes}


def test_tables_are_listed() -> None:
    result = CliRunner().invoke(cli.app, ["reproduce"])
    assert all(name in result.output for name in (*PAPER_TABLES, "efficiency"))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_several_processes_make_one_table(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    run = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "tagseg"]
    words = ["reproduce", "asdt-table1", "--on", "scenes", "--no-hours", "--steps", "2", "--device", "cpu", "--out"]
    rows = ["--row", "ASDT, DeepLab-v2 ResNet-101"]
    told = [word for setting in SMALL for word in ("--set", setting)]
    environment = os.environ | {"PYTHONPATH": str(root / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *run, *words, str(tmp_path / "out"), *rows, *told]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("Pseudo masks of 4 photos") == 1
    (row,) = table_lines(tmp_path / "out")[1:]
    assert row.startswith("| ASDT, DeepLab-v2 ResNet-101 | ")


def test_a_branch_that_a_run_lacks_has_no_score(tmp_path: Path) -> None:
    result = {"scores": {"without tags": {"P_s": {"miou": 1.0}, "P_s + CRF": {"miou": 2.0}}}}
    assert measured(result, Cell("student", "P_s")) == 2
    assert measured(result, Cell("val")) == 2
    assert measured(result, Cell("teacher", "P_st")) is None
    assert measured(result, Cell("teacher", "P_st"), instead=True) == 2, "in a difference the student stands for it"


def test_weights_go_to_the_stages_of_their_backbone(tmp_path: Path) -> None:
    setting = Setting("published", tmp_path, None, ("model.weights=res38.params",))
    found = {each.name: each.recipe.model for each in trainings(PAPER_TABLES["asdt-table1"], setting, 0)}
    weights = {model.backbone: model.weights for model in found.values()}
    assert weights.pop("wide_resnet38") == "res38.params"
    assert weights
    assert "res38.params" not in weights.values()


def test_a_table_with_photos_of_another_set_is_refused_on_scenes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="show no class of the scenes"):
        trainings(PAPER_TABLES["asdt-table3"], scenes(tmp_path), 0)
