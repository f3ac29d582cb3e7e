"""No command writes over what it reads, or over what it did not write."""

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tagseg
from tagseg.data.photo import read_mask
from tagseg.errors import UserError
from tagseg.outputs import OUTPUTS
from tests.workflows.small_project import Project, command, settings

FORBIDDEN = {
    "the photos": "photos",
    "their parent": ".",
    "a subfolder": "photos/new",
    "a link to the photos": "link",
    "the masks": "masks",
    "below the masks": "masks/deep/new",
    "the table's folder": "tables",
}
"""Places of a project where the commands below have their inputs."""


def words(name: str, project: Project, out: Path) -> list[object]:
    """A command line that would write to `out`."""
    images, table, masks, run = project.photos, project.table, project.masks, project.run
    data = ["--images", images, "--tags", table, "--masks", masks]
    return {
        "train": ["train", *data, "--out", out, *settings(), "--method", "rrm"],
        "train --overwrite": ["train", *data, "--out", out, *settings(), "--method", "rrm", "--overwrite"],
        "train by a recipe": ["train", run / "recipe.yaml", "--out", out, "--overwrite"],
        "run": ["run", *data, "--out", out],
        "label": ["label", run, "--out", out, "--overwrite"],
        "label --images": ["label", run, "--images", images, "--tags", table, "--out", out],
        "predict": ["predict", run, images, "--out", out, "--overwrite"],
        "predict --tags": ["predict", run, images, "--tags", table, "--out", out, "--no-crf"],
        "predict a photo": ["predict", run, images / "0.png", "--out", out, "--overwrite", "--no-crf"],
        "refine": ["refine", masks, images, "--out", out, "--overwrite"],
        "export": ["export", run, "--out", out / "model.safetensors"],
        "evaluate": ["evaluate", masks, masks, "--out", out / "scores.json"],
        "compare": ["compare", run, "--out", out],
    }[name]


READS = {
    "label --images": ("photos", "tables"),
    "predict": ("photos",),
    "predict --tags": ("photos", "tables"),
    "predict a photo": ("photos/0.png",),
    "refine": ("photos", "masks"),
    "evaluate": ("masks",),
    "export": (),
}
"""What a command reads of the project besides its run; those that are not named read everything."""


@pytest.mark.parametrize("place", FORBIDDEN)
@pytest.mark.parametrize(
    "name", ["train", "train --overwrite", "train by a recipe", "run", "label", *READS, "compare"], ids=str
)
def test_no_command_writes_where_its_inputs_are(name: str, place: str, untouched: Project) -> None:
    project = untouched
    out = project.path / FORBIDDEN[place]
    before = project.contents()
    at = Path(os.path.realpath(out))
    reads = [project.path / part for part in READS.get(name, ("photos", "tables", "masks"))]
    if name == "evaluate":
        at /= "scores.json"
    if any(at == part or at in part.parents or part in at.parents for part in reads):
        with pytest.raises(UserError, match="choose another --out"):
            command(*words(name, project, out))
        assert project.contents() == before
    else:
        with suppress(UserError):
            command(*words(name, project, out))
        after = project.contents()
        assert after.items() >= before.items()
        for new in after.keys() - before.keys():
            (project.path / new).unlink()


@pytest.mark.parametrize("name", ["label", "predict", "compare", "export"])
def test_no_command_writes_over_the_run_it_reads(name: str, project: Project, tmp_path: Path) -> None:
    for place in (project.run, project.run / "checkpoints", project.run / "events" / "new"):
        with pytest.raises(UserError, match="choose another --out"):
            command(*words(name, project, place))
    assert "results are in" in command("predict", project.run, project.photos, "--out", project.run / "masks")
    other = tmp_path / "other"
    shutil.copytree(project.run, other)
    before = (other / "model.safetensors").read_bytes()
    with pytest.raises(UserError, match="is there already and is no export"):
        command("export", project.run, "--out", other / "model.safetensors")
    assert (other / "model.safetensors").read_bytes() == before


def test_python_is_guarded_as_the_command_line_is(project: Project) -> None:
    before = project.contents()
    data = tagseg.data.tagged.open_tagged(project.photos, project.table)
    model = tagseg.load(project.run)
    for call in (
        lambda: tagseg.label(model, data, project.photos, overwrite=True),
        lambda: tagseg.label(model, data, project.path / "photos" / "masks"),
        lambda: tagseg.predict(model, project.photos, project.photos, overwrite=True),
        lambda: tagseg.train(tagseg.recipe.load_recipe(project.run / "recipe.yaml"), project.path, overwrite=True),
    ):
        with pytest.raises(UserError, match="choose another --out"):
            call()
    assert project.contents() == before


def test_the_demo_takes_no_folder_of_others(project: Project) -> None:
    before = project.contents()
    for out in (project.path, project.photos, project.run.parent / "tables"):
        with pytest.raises(UserError, match="is not empty and holds no chain"):
            command("demo", "--out", out, "--overwrite")
    assert project.contents() == before


def test_a_persons_own_recipe_beside_their_photos_makes_no_run(project: Project) -> None:
    own = (project.run / "recipe.yaml").read_text(encoding="utf-8")
    (project.path / "recipe.yaml").write_text(f"# my own experiment\n{own}", encoding="utf-8")
    (project.path / "notes.md").write_text("mine", encoding="utf-8")
    before = project.contents()
    for more in ([], ["--overwrite"], ["--set", "train.steps=2", "--overwrite"]):
        with pytest.raises(UserError, match="which this command reads: choose another --out"):
            command("train", project.path / "recipe.yaml", "--out", project.path, *more)
        assert project.contents() == before


def test_a_recipe_alone_is_no_run(project: Project, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    out.mkdir()
    text = (project.run / "recipe.yaml").read_text(encoding="utf-8").replace("seed: 0", "seed: 7")
    (out / "recipe.yaml").write_text(text, encoding="utf-8")
    (out / "report.html").write_text("my thesis", encoding="utf-8")
    for more in ([], ["--overwrite"]):
        with pytest.raises(UserError, match="is not empty and holds no run: choose another --out"):
            project.train(out, *more)
    assert {path.name for path in out.iterdir()} == {"recipe.yaml", "report.html"}
    assert (out / "recipe.yaml").read_text(encoding="utf-8") == text


def test_overwriting_a_run_leaves_what_training_did_not_write(project: Project) -> None:
    foreign = ["notes.md", "masks/0.png", "checkpoints/mine.txt", "events/plot.png", "start/own.csv", "scenes/a.txt"]
    for name in foreign:
        path = project.run / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine", encoding="utf-8")
    old = (project.run / "model.safetensors").read_bytes()
    text = project.train(project.run, "--set", "train.seed=3", "--overwrite")
    assert "Model, scores and report are in" in text
    assert {name: (project.run / name).read_text(encoding="utf-8") for name in foreign} == dict.fromkeys(
        foreign, "mine"
    )
    assert (project.run / "model.safetensors").read_bytes() != old
    assert not (project.run / "replaced").exists()
    assert len(list((project.run / "events").glob("events.out.*"))) == 1


def renamed(out: Path, name: str) -> list[object]:
    """A command that makes results in a folder, by the format's name."""
    return ["--out", out] if name in ("label", "refine") else ["--out", out, "--format", name]


@pytest.mark.parametrize("name", ["label", "refine", *OUTPUTS])
def test_overwriting_results_spares_foreign_and_changed_files(name: str, project: Project, tmp_path: Path) -> None:
    first = {"label": ["label", project.run], "refine": ["refine", project.masks, project.photos]}
    words = first.get(name, ["predict", project.run, project.photos, "--no-crf"])
    out, mine = tmp_path / "out", tmp_path / "mine"
    command(*words, *renamed(out, name))
    made = sorted(path.relative_to(out) for path in out.rglob("*") if path.is_file() and path.name[0] != ".")
    assert made
    command(*words, *renamed(out, name), "--overwrite")

    # A folder of someone else's files of the same names.
    for file in made:
        (mine / file).parent.mkdir(parents=True, exist_ok=True)
        (mine / file).write_text("mine", encoding="utf-8")
    for more in ([], ["--overwrite"]):
        with pytest.raises(UserError, match="which this command did not write"):
            command(*words, *renamed(mine, name), *more)
    assert {(mine / file).read_text(encoding="utf-8") for file in made} == {"mine"}
    assert sorted(path.relative_to(mine) for path in mine.rglob("*") if path.is_file()) == made

    # One of tagseg's own, corrected by hand.
    corrected = out / made[-1]
    corrected.write_text("corrected", encoding="utf-8")
    foreign = out / "notes.txt"
    foreign.write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match="has been changed since tagseg wrote it"):
        command(*words, *renamed(out, name), "--overwrite")
    assert corrected.read_text(encoding="utf-8") == "corrected"
    corrected.unlink()
    command(*words, *renamed(out, name), "--overwrite")
    assert corrected.is_file()
    assert foreign.read_text(encoding="utf-8") == "mine"


def test_masks_corrected_by_hand_are_kept_when_labeling_goes_on(project: Project, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command("label", project.run, "--out", out)
    Image.fromarray(np.full((48, 64), 1, np.uint8)).save(out / "0.png")
    (out / "1.png").unlink()
    assert "1 masks written" in command("label", project.run, "--out", out)
    assert (read_mask(out / "0.png") == 1).all()


def test_refined_masks_of_other_settings_are_not_mixed(project: Project, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command("refine", project.masks, project.photos, "--out", out)
    (out / "3.png").unlink()
    with pytest.raises(UserError, match="another model, format or setting"):
        command("refine", project.masks, project.photos, "--out", out, "--weight", "50")
    assert "1 masks refined" in command("refine", project.masks, project.photos, "--out", out)


def test_no_result_goes_through_a_link(project: Project, tmp_path: Path) -> None:
    (project.photos / "sub").mkdir()
    shutil.move(project.photos / "0.png", project.photos / "sub" / "0.png")
    out, outside = tmp_path / "out", tmp_path / "outside"
    out.mkdir()
    outside.mkdir()
    (out / "sub").symlink_to(outside)
    with pytest.raises(UserError, match="is a link: results never go through one"):
        command("predict", project.run, project.photos, "--out", out)
    assert not list(outside.iterdir())


@pytest.mark.parametrize(
    "name", ["checkpoints", "events", "metrics.jsonl", "scores.json", "start", "replaced", ".in-use"]
)
def test_training_writes_through_no_link_of_a_run_folder(name: str, project: Project, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "step-0000123.safetensors").write_text("precious", encoding="utf-8")
    victim = outside / "file"
    victim.write_text("precious", encoding="utf-8")
    place = project.run / name
    if place.is_dir():
        shutil.rmtree(place)
    place.unlink(missing_ok=True)
    place.symlink_to(victim if "." in name else outside)
    for more in ([], ["--overwrite"]):
        with pytest.raises(UserError, match="is a link, and training writes through none"):
            command("train", project.run / "recipe.yaml", "--out", project.run, *more)
    assert {path.name for path in outside.iterdir()} == {"step-0000123.safetensors", "file"}
    assert victim.read_text(encoding="utf-8") == "precious"


def test_planted_temporary_files_are_not_followed(project: Project, tmp_path: Path) -> None:
    victim, out = tmp_path / "victim", tmp_path / "out"
    victim.write_text("precious", encoding="utf-8")
    out.mkdir()
    (out / ".images.json.tmp").symlink_to(victim)
    command("predict", project.run, project.photos, "--out", out, "--format", "coco")
    assert victim.read_text(encoding="utf-8") == "precious"
    assert len(json.loads((out / "annotations.json").read_text(encoding="utf-8"))["images"]) == 4
    record = out / ".tagseg-predict"
    record.unlink()
    record.symlink_to(victim)
    with pytest.raises(UserError, match=r"did not write|is a link"):
        command("predict", project.run, project.photos, "--out", out, "--format", "coco")
    assert victim.read_text(encoding="utf-8") == "precious"


@pytest.mark.parametrize("text", ["my notes", '{"rows": 1}', "{"])
def test_scores_go_over_no_foreign_file(text: str, project: Project, tmp_path: Path) -> None:
    out = tmp_path / "scores.json"
    out.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="holds no scores of `tagseg evaluate`"):
        command("evaluate", project.masks, project.masks, "--out", out)
    assert out.read_text(encoding="utf-8") == text
    out.unlink()
    for _ in range(2):  # its own it renews
        command("evaluate", project.masks, project.masks, "--out", out)
    assert json.loads(out.read_text(encoding="utf-8"))["miou"] == 100


def test_a_comparison_goes_over_no_foreign_file(project: Project, tmp_path: Path) -> None:
    out = tmp_path / "comparison"
    out.mkdir()
    (out / "compare.md").write_text("my notes", encoding="utf-8")
    with pytest.raises(UserError, match="did not write"):
        command("compare", project.run, "--out", out)
    assert (out / "compare.md").read_text(encoding="utf-8") == "my notes"
