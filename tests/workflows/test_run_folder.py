"""What a run's and a chain's folder stand for: from anywhere, in any version, and while one run replaces another."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import tagseg
from tagseg.data.palette import write_mask
from tagseg.data.sources import open_sources
from tagseg.engine.checkpoint import Checkpoints, pack
from tagseg.engine.identity import identity
from tagseg.errors import UserError
from tagseg.recipe import load_recipe
from tagseg.run_folder import ChainFolder, RunFolder
from tagseg.workflows.claim import claimed
from tagseg.workflows.export import export
from tagseg.workflows.train import start_method
from tagseg.workflows.trusted import seal
from tests.workflows.small_project import Project, command, settings


def chain_of(project: Project, path: Path, *, last: str | None = "segmenter", done: bool = True) -> ChainFolder:
    """A chain's folder whose stages are the project's run."""
    names = ["teacher", "masks", "segmenter", "masks-2", "segmenter-2"]
    for name in ("teacher", "segmenter", "segmenter-2"):
        shutil.copytree(project.run, path / name)
    record = {name: {"inputs": "0", "done": True} for name in names} | {"report": {"inputs": "0", "done": done}}
    text = json.dumps({"stages": record} | ({"last": last} if last else {}))
    (path / "chain.json").write_text(text, encoding="utf-8")
    return ChainFolder(path)


@pytest.mark.slow
@pytest.mark.parametrize(("last", "stage"), [("segmenter", "segmenter"), (None, "segmenter-2")])
def test_a_chains_folder_stands_for_its_last_stage(
    last: str | None, stage: str, project: Project, tmp_path: Path
) -> None:
    chain = chain_of(project, tmp_path / "chain", last=last)
    assert chain.last_stage().path == chain.path / stage
    others = {"teacher", "segmenter", "segmenter-2"} - {stage}
    for name in others:  # whoever read these would fail
        (chain.path / name / "model.safetensors").unlink()
    photos = tmp_path / "photos"
    photos.mkdir()
    shutil.copy(project.photos / "0.png", photos)
    command("predict", chain.path, photos, "--out", tmp_path / "masks")
    assert (tmp_path / "masks" / "0.png").is_file()
    command("label", chain.path, "--out", tmp_path / "labels")
    assert (chain.path / stage / "pseudo_masks.json").is_file()
    command("export", chain.path, "--out", tmp_path / "model.safetensors")
    (chain.path / stage / "report.html").unlink()
    assert str(chain.path / stage / "report.html") in command("report", chain.path).replace(" ", "")
    assert (chain.path / stage / "report.html").is_file()
    with pytest.raises(UserError, match="choose another --out"):
        command("predict", chain.path, photos, "--out", chain.path / stage)


@pytest.mark.parametrize("text", ["{", "[]", '{"stages": {"teacher": 1}}', '{"stages": {"teacher": {"done": true}}}'])
def test_a_chain_that_is_not_complete_is_said_to_be(text: str, project: Project, tmp_path: Path) -> None:
    chain = chain_of(project, tmp_path / "chain", done=False)
    with pytest.raises(UserError, match="is a chain that is not complete: `tagseg run`"):
        tagseg.load(chain.path)
    chain.record.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"chain\.json|not complete"):
        tagseg.load(chain.path)


@pytest.mark.slow
def test_a_run_trained_with_relative_places_is_used_from_anywhere(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.path)
    here = Project(Path())
    here.train(Path("second"))
    stored = yaml.safe_load(Path("second/recipe.yaml").read_text(encoding="utf-8"))["data"]
    assert stored["root"] == str(project.photos)
    assert stored["tags"] == str(project.table)
    assert stored["masks"] == str(project.masks)
    assert "is finished" in here.train(Path("second")), "the same command, relative again"
    monkeypatch.chdir(tmp_path)
    command("label", project.path / "second", "--out", "masks")
    assert len(list(Path("masks").glob("*.png"))) == 4
    assert "The report is" in command("report", project.path / "second")


def made_relative(project: Project) -> None:
    """The run's recipe as older versions wrote it."""
    text = project.run.joinpath("recipe.yaml").read_text(encoding="utf-8").replace(f"{project.path}/", "")
    project.run.joinpath("recipe.yaml").write_text(text, encoding="utf-8")


@pytest.mark.slow
def test_the_run_of_an_older_version_is_read_from_where_it_was_trained(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_relative(project)
    monkeypatch.chdir(project.path)
    with pytest.raises(UserError, match=r"reads data\.root from .*photos, which nobody on this account"):
        command("label", "run", "--out", tmp_path / "masks")
    places = [
        word for place in ("root=photos", "tags=tables/tags.csv", "masks=masks") for word in ("--set", f"data.{place}")
    ]
    command("label", "run", "--out", tmp_path / "masks", *places)
    assert "is finished" in Project(Path()).train(Path("run")), "from here on it is known"
    command("label", "run", "--out", tmp_path / "more")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"reads its root from .*photos, which is not there: put it back, or give"):
        command("report", project.run)


@pytest.mark.parametrize(("place", "key"), [("photos", "root"), ("tables", "tags"), ("masks", "masks")])
@pytest.mark.slow
def test_data_that_has_moved_is_named(place: str, key: str, project: Project, tmp_path: Path) -> None:
    (project.path / place).rename(project.path / "elsewhere")
    for words in (["report", project.run], ["label", project.run, "--out", tmp_path / "l"], ["compare", project.run]):
        with pytest.raises(UserError, match=rf"reads its {key} from .*{place}.*, which is not there"):
            command(*words)


CHANGED = {
    "a class more": ("file,tags\n0,cat\n1,cat\n2,dog\n3,bird\n", "did not learn 'bird'"),
    "another class": ("file,tags\n0,cat\n1,cat\n2,ant\n3,ant\n", "did not learn 'ant' and 'dog' is no longer"),
    "a class less": ("file,tags\n0,cat\n1,cat\n2,cat\n3,\n", "'dog' is no longer among them"),
}


@pytest.mark.parametrize(("table", "words"), CHANGED.values(), ids=CHANGED)
@pytest.mark.slow
def test_a_finished_run_is_not_read_with_other_classes(
    table: str, words: str, project: Project, tmp_path: Path
) -> None:
    before = {path: path.read_bytes() for path in project.run.rglob("*") if path.is_file()}
    project.table.write_text(table, encoding="utf-8")
    shutil.rmtree(project.masks)
    project.masks.mkdir()
    recipe = yaml.safe_load((project.run / "recipe.yaml").read_text(encoding="utf-8"))
    recipe["data"]["masks"] = None
    (project.run / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    seal(RunFolder(project.run))
    before[project.run / ".trained-here"] = (project.run / ".trained-here").read_bytes()
    before[project.run / "recipe.yaml"] = (project.run / "recipe.yaml").read_bytes()
    for line in (
        ["train", project.run / "recipe.yaml", "--out", project.run],
        ["report", project.run],
        ["label", project.run, "--out", tmp_path / "masks"],
    ):
        with pytest.raises(UserError, match=words):
            command(*line)
    assert {path: path.read_bytes() for path in before} == before


def test_the_same_names_in_another_order_are_other_classes(project: Project) -> None:
    with pytest.raises(UserError, match=r"their order differs|another recipe"):
        project.train(project.run, "--classes", "dog,cat")
    scores = json.loads((project.run / "scores.json").read_text(encoding="utf-8"))
    scores["classes"] = ["dog", "cat"]
    (project.run / "scores.json").write_text(json.dumps(scores), encoding="utf-8")
    with pytest.raises(UserError, match="their order differs"):
        command("report", project.run)


def test_a_refused_recipe_is_named_by_what_differs(project: Project) -> None:
    with pytest.raises(UserError, match=r"another recipe \(train\.steps: 1 there, 2 here\)"):
        project.train(project.run, "--set", "train.steps=2")
    more = [word for key in ("steps=2", "lr=0.5", "seed=4", "workers=1") for word in ("--set", f"train.{key}")]
    with pytest.raises(UserError, match=r"there, .* here; .* and 1 more\): choose another --out"):
        project.train(project.run, *more)


def test_a_training_goes_on_with_its_own_photos_and_tags_alone(project: Project, tmp_path: Path) -> None:
    run = tmp_path / "run"
    project.train(run)
    (run / "scores.json").unlink()  # as a kill before the end leaves it
    tags = project.table.read_text(encoding="utf-8")
    for changed in (tags.replace("2,dog", "2,cat"), tags.replace("3,dog\n", "")):
        project.table.write_text(changed, encoding="utf-8")
        with pytest.raises(UserError, match=f"The run in {run} was begun with other photos, tags or masks"):
            project.train(run)
    project.table.write_text(tags.replace("0,cat\n1,cat", "1,cat\n0,cat"), encoding="utf-8")  # rows alone
    project.train(run)
    assert (run / "scores.json").is_file()


def test_a_start_that_learned_from_other_tags_is_refused(project: Project, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(project.run, out / "start")
    recipe = load_recipe(project.run / "recipe.yaml", ["model.start=photos-classifier"], stored=True)
    photos = open_sources(recipe.data, out).train
    with pytest.raises(UserError, match="another recipe"):  # the tags are the same
        start_method(recipe, photos.classes, out, photos=photos)
    project.table.write_text("file,tags\n0,cat\n1,dog\n2,dog\n3,dog\n", encoding="utf-8")
    photos = open_sources(recipe.data, out).train
    with pytest.raises(UserError, match=r"start was begun with other photos, tags or masks"):
        start_method(recipe, photos.classes, out, photos=photos)
    scores = json.loads((out / "start" / "scores.json").read_text(encoding="utf-8"))
    del scores["listed"]  # of a version that kept none
    (out / "start" / "scores.json").write_text(json.dumps(scores), encoding="utf-8")
    with pytest.raises(UserError, match="another recipe"):
        start_method(recipe, photos.classes, out, photos=photos)


def test_a_folder_in_which_nothing_was_learned_takes_a_corrected_recipe(tmp_path: Path) -> None:
    out = tmp_path / "out"
    given = ["train", "rrm-scenes", "--out", out, *settings("data.scenes.train=2", "data.scenes.val=1")]
    for setting, problem in (
        ("model.backbone=nonsense", "nonsense has no embedded weights"),
        ("model.weights=missing.safetensors", r"missing\.safetensors"),
    ):
        with pytest.raises(UserError, match=problem):
            command(*given, "--set", setting)
        assert (out / "recipe.yaml").is_file()
    (out / "notes.md").write_text("mine", encoding="utf-8")
    left = out / "scenes" / "JPEGImages" / ".tagseg-saving-1"  # by a kill while scenes are written
    left.mkdir()
    for file in (left / "new.jpg", left.parent / ".DS_Store"):
        file.touch()
    command(*given, "--set", "model.weights=none", "--set", "data.scenes.train=3")
    assert len(list((out / "scenes/JPEGImages").glob("*.jpg"))) == 4
    assert not left.exists()
    assert (out / "notes.md").read_text(encoding="utf-8") == "mine"
    with pytest.raises(UserError, match=r"another recipe \(data\.scenes\.train: 3 there, 2 here\)"):
        command(*given, "--set", "model.weights=none")


@pytest.mark.slow
def test_a_finished_run_answers_at_once_and_a_missing_report_is_made(project: Project) -> None:
    page = project.run / "report.html"
    before = page.stat().st_mtime_ns
    text = project.train(project.run)
    assert "is finished" in text
    assert "Change them with --set" not in text
    assert page.stat().st_mtime_ns == before
    page.unlink()
    project.train(project.run)
    assert page.is_file()


def test_what_a_system_puts_in_a_folder_makes_it_no_other(project: Project, tmp_path: Path) -> None:
    for folder in (project.run, project.run / "checkpoints", tmp_path / "empty"):
        folder.mkdir(exist_ok=True)
        (folder / ".DS_Store").touch()
        (folder / "Thumbs.db").touch()
    (project.run / "scores.json").unlink()  # no longer finished: checkpoints tell what it is
    assert RunFolder(project.run).holds_run()
    with claimed(load_recipe("asdt-scenes"), tmp_path / "empty", overwrite=False, main=True):
        assert (tmp_path / "empty" / "recipe.yaml").is_file()


def test_a_run_with_a_value_that_is_no_longer_allowed_is_still_used(project: Project, tmp_path: Path) -> None:
    file = project.run / "recipe.yaml"
    values = yaml.safe_load(file.read_text(encoding="utf-8"))
    values["train"]["channels_last"] = True
    file.write_text(yaml.safe_dump(values), encoding="utf-8")
    (project.run / ".trained-here").unlink()
    seal(RunFolder(project.run))
    assert "4 masks written" in command("label", project.run, "--out", tmp_path / "masks")


def test_scores_of_other_photos_than_todays_are_not_compared(project: Project, tmp_path: Path) -> None:
    mask = project.masks / "3.png"
    content = mask.read_bytes()
    mask.unlink()
    with pytest.raises(UserError, match=r"was scored on 4 photos, and its data hold 3 .* now"):
        command("compare", project.run, "--out", tmp_path / "out")
    command("report", project.run)
    page = " ".join((project.run / "report.html").read_text(encoding="utf-8").split())
    assert "Scores are of 4 photos" in page
    assert "The data hold 3 such photos now." in page
    mask.write_bytes(content)
    command("compare", project.run, "--out", tmp_path / "out")


def test_masks_of_other_classes_are_named(project: Project, tmp_path: Path) -> None:
    shutil.copytree(project.masks, tmp_path / "masks")
    write_mask(tmp_path / "masks" / "1.png", np.full((48, 64), 7, np.uint8))
    with pytest.raises(UserError, match=r"masks/1\.png: the prediction holds the value 7, but there are 3 classes"):
        command("compare", project.run, tmp_path / "masks", "--out", tmp_path / "out")


def test_masks_of_another_order_and_a_truth_without_a_score_are_compared(project: Project, tmp_path: Path) -> None:
    swapped = tmp_path / "swapped"
    shutil.copytree(project.masks, swapped)
    (swapped / "classes.txt").write_text("background\ndog\ncat\n", encoding="utf-8")
    for path in swapped.glob("*.png"):
        write_mask(path, np.array([0, 2, 1], np.uint8)[np.array(Image.open(path))])
    command("compare", project.run, swapped, "--out", tmp_path / "out")
    *_, masks = json.loads((tmp_path / "out" / "compare.json").read_text(encoding="utf-8"))
    assert masks["after CRF"] == [100]
    write_mask(project.masks / "3.png", np.full((48, 64), 255, np.uint8))
    scores = tmp_path / "scores.json"
    command("evaluate", project.masks, project.masks, "--classes", "cat,dog", "--out", scores)
    assert "100" in command("compare", project.run, scores, "--out", tmp_path / "out")


def test_weights_of_single_classes_are_those_of_the_same_classes(project: Project, tmp_path: Path) -> None:
    stored = tagseg.load(project.run, device="cpu").method
    recipe = load_recipe(project.run / "recipe.yaml", [f"model.start={project.run}"], stored=True)
    same, _ = start_method(recipe, ("cat", "dog"), tmp_path)
    said: list[str] = []
    other, _ = start_method(recipe, ("dog", "horse"), tmp_path, say=said.append)
    key, inner = "heads.class.classifier.weight", next(iter(stored.backbone.state_dict()))
    assert torch.equal(same.state_dict()[key], stored.state_dict()[key])
    assert not torch.equal(other.state_dict()[key], stored.state_dict()[key])
    assert torch.equal(other.backbone.state_dict()[inner], stored.backbone.state_dict()[inner])
    assert "knows the classes cat, dog" in said[0]


def test_a_file_of_weights_tells_its_classes_where_it_can(project: Project, tmp_path: Path) -> None:
    exported, bare = tmp_path / "exported.safetensors", tmp_path / "bare.safetensors"
    export(tagseg.load(project.run, device="cpu"), exported)
    shutil.copy(project.run / "model.safetensors", bare)
    stored, key = tagseg.load(project.run, device="cpu").method, "heads.class.classifier.weight"
    settings = load_recipe(project.run / "recipe.yaml", stored=True).train
    optimizer = torch.optim.SGD(stored.parameters(), lr=0.1)
    Checkpoints(tmp_path).save(1, pack(stored, optimizer), {"identity": identity(stored, settings)})
    for file, words, taken in (
        (exported, "knows the classes cat, dog", False),
        (project.run / "model.safetensors", "knows the classes cat, dog", False),
        (tmp_path / "step-0000001.safetensors", "knows the classes cat, dog", False),
        (bare, "names no classes, so those of its weights are taken to be in this run's order", True),
    ):
        recipe = load_recipe(project.run / "recipe.yaml", [f"model.start={file}"], stored=True)
        said: list[str] = []
        method, _ = start_method(recipe, ("dog", "cat"), tmp_path, say=said.append)
        assert words in said[0]
        assert torch.equal(method.state_dict()[key], stored.state_dict()[key]) == taken
