"""What stood in a new person's way in the first hour, and what that person sees now: commands on tiny data, and their words."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import tagseg
from tagseg import cli
from tagseg.cli.frame import class_names
from tagseg.data.classes import check_classes
from tagseg.errors import UserError
from tagseg.methods import METHODS
from tagseg.progress import silence, silent, tracked
from tagseg.recipe import load_recipe
from tagseg.reproduce import cost
from tagseg.reproduce.cost import Cost
from tagseg.run_folder import RunFolder
from tagseg.workflows import dry_run, train
from tagseg.workflows.stages import stages
from tests.workflows.conftest import project, trained_once, untouched  # noqa: F401
from tests.workflows.small_project import Project, command, settings

ROOT = Path(__file__).parents[1]


def photos(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        pixels = np.random.default_rng(i).integers(0, 255, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


def table(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def looked(*words: object) -> str:
    """What a command printed, without the lines of its table."""
    return " ".join(command(*words).replace("│", " ").split())


def refused(*words: object) -> str:
    with pytest.raises(UserError) as error:
        command(*words)
    return str(error.value)


def test_a_workbook_is_a_table(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (("Foto", "Merkmale"), ("a.jpg", "maize"), ("b.jpg", "rust")):
        book.active.append(row)
    book.save(tmp_path / "tags.xlsx")
    said = looked("check", "--images", photos(tmp_path / "photos", "a.jpg", "b.jpg"), "--tags", tmp_path / "tags.xlsx")
    assert "2 photos, 2 classes" in said


def test_tags_of_two_words_are_noticed_and_every_command_takes_a_separator(tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos", "a.jpg", "b.jpg")
    tags = table(tmp_path / "tags.csv", "file,tags\na.jpg,yellow rust\nb.jpg,healthy leaf\n")
    assert "tags are split at spaces" in looked("check", "--images", folder, "--tags", tags)
    said = looked("check", "--images", folder, "--tags", tags, "--separator", ";")
    assert "yellow rust" in said
    assert "split at spaces" not in said
    for name in ("train", "run", "label", "predict"):
        assert "--separator" in command(name, "--help")


def test_what_is_no_photo_is_counted_by_its_ending(tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos", "a.jpg", "b.jpg")
    (folder / "c.NEF").write_bytes(b"raw")
    tags = table(tmp_path / "tags.csv", "file,tags\na.jpg,x\nb.jpg,y\n")
    assert "1 .nef file is not read (c.NEF); convert to JPEG or PNG" in looked(
        "check", "--images", folder, "--tags", tags
    )


def test_tables_that_people_have_are_read(tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos", "a.jpg", "b.jpg")
    columns = table(tmp_path / "columns.csv", "photo,maize,rust\na.jpg,1,0\nb.jpg,1,1\n")
    rows = table(tmp_path / "rows.csv", "file,tags\na.jpg,maize\nb.jpg,maize\nb.jpg,rust\n")
    for tags in (columns, rows):
        said = looked("check", "--images", folder, "--tags", tags)
        assert "2 photos, 2 classes" in said
        assert "maize + rust" in said


def test_a_name_in_other_letters_is_found_or_suggested(tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos", "IMG_0000.JPG", "b.jpg")
    tags = table(tmp_path / "tags.csv", "file,tags\nIMG_0000.jpg,x\nb.jpg,y\n")
    said = CliRunner().invoke(cli.app, ["check", "--images", str(folder), "--tags", str(tags)]).output
    assert "2 photos, 2 classes" in " ".join(said.split()) or "did you mean IMG_0000.JPG?" in said


def test_of_many_problems_five_are_named(tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos", *(f"{i}.jpg" for i in range(9)))
    tags = table(tmp_path / "tags.csv", "file,tags\n0.jpg,x\n1.jpg,y\n")
    assert "6.jpg and 2 more have no row among the tags" in looked("check", "--images", folder, "--tags", tags)


def test_check_ends_with_the_next_command(untouched: Project) -> None:  # noqa: F811
    said = looked("check", "--images", untouched.photos, "--tags", untouched.table)
    assert f"Next: tagseg train --images {untouched.photos} --tags {untouched.table} --out runs/mine" in said


def test_the_next_command_reads_the_table_as_the_check_did(tmp_path: Path) -> None:
    folder = photos(tmp_path / "my photos", "a.jpg", "b.jpg")
    tags = table(tmp_path / "tags.csv", "Nr;Foto;Merkmale\n1;a.jpg;maize+rust\n2;b.jpg;rust\n")
    words = ["--tags", str(tags), "--classes", "rust,maize", "--separator", "+"]
    words += ["--file-column", "Foto", "--tags-column", "Merkmale"]
    said = looked("check", "--images", folder, *words)
    assert f"Next: tagseg train --images '{folder}' {' '.join(words)} --out runs/mine" in said


def test_a_training_says_what_is_there_and_what_comes_next(project: Project) -> None:  # noqa: F811
    out = project.path / "another"
    said = project.train(out)
    assert f"open {out / 'report.html'}" in said
    assert f"Next: tagseg predict {out} PHOTOS --out masks --format overlay" in said
    assert "There are no scores" not in said
    page = (out / "report.html").stat().st_mtime_ns
    assert f"{out} is finished; --overwrite trains it anew." in project.train(out)
    assert (out / "report.html").stat().st_mtime_ns == page, "a finished run makes nothing anew"
    with pytest.raises(UserError, match=r"train\.steps: 1 there, 2 here"):
        project.train(out, "--set", "train.steps=2")


def test_moved_photos_are_said_before_the_model_is_opened(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    project.photos.rename(project.path / "elsewhere")
    monkeypatch.setattr("tagseg.prediction.load.load", lambda *_, **__: pytest.fail("the model was opened"))
    said = refused("label", project.run, "--out", project.path / "masks")
    assert f"reads its root from {project.photos}, which is not there" in said
    assert "--set data.root=" in said


def test_labels_have_a_legend_and_a_way_to_look_at_them(project: Project) -> None:  # noqa: F811
    out = project.path / "labels"
    said = command("label", project.run, "--out", out, "--ignore-below", "0.1")
    assert "4 masks written" in said
    assert (out / "classes.txt").read_text().split() == ["background", "cat", "dog"]
    assert f"To look at them: tagseg review {out} --images PHOTOS" in said
    told = command("label", project.run, "--out", project.path / "same", "--confidence", "0.1")
    assert "--confidence is now --ignore-below." in told


@pytest.mark.parametrize("words", [["serve", "run"], ["review", "run", "--review", "review"]])
def test_the_way_to_a_page_is_printed_with_quiet_too(
    words: list[str],
    project: Project,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(project.path)
    monkeypatch.setattr("tagseg.web.listen.listen", lambda _, address, *, say, browser: say(address.url))
    try:
        said = command("--quiet", *words, "--host", "0.0.0.0", "--port", "0")
    finally:
        silence(False)
    assert "/?token=" in said
    assert "Then: " not in said


def test_dry_runs_write_nothing(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr(dry_run, "training_seconds", lambda recipe, *_: 2.0 * recipe.train.steps)
    monkeypatch.setattr(dry_run, "measure", lambda *_, **__: Cost(1, 1, 1, 2.0, 1, 1.5, 2, 64))
    out = project.path / "new"
    data = ["--images", project.photos, "--tags", project.table, "--out", out, "--dry-run"]
    said = command("train", *data, *settings("train.steps=90"))
    assert "4 photos, classes: cat, dog; on " in said
    assert "90 steps of 2 photos, crop 64: about 3:00." in said
    assert f"{out} would be made. Nothing was written." in said
    chain = command("run", *data)
    assert "Stage 2 of 2: supervised" in chain
    assert "Nothing was written." in chain
    assert "4 photos would get masks of background, cat, dog" in command(
        "label", project.run, "--out", out, "--dry-run"
    )
    said = command("predict", project.run, "--images", project.photos, "--out", out, "--dry-run", "--format", "coco")
    assert f"4 photos would be segmented as coco into {out}." in said
    assert not out.exists()


def test_steps_of_the_classifier_alone_are_measured_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "step_seconds", lambda recipe, classes, device, step: 1.0 if step == 0 else 3.0)
    recipe = load_recipe("mentor-tile-defects")
    assert cost.training_seconds(recipe, 5, "cpu") == 200 * 1.0 + 250 * 3.0
    assert cost.training_seconds(load_recipe("mentor-tile-defects", ["train.steps=150"]), 5, "cpu") == 150.0
    assert cost.training_seconds(load_recipe("bmp-scenes"), 6, "cpu") == 250 * 3.0


def test_stages_have_one_estimate(tmp_path: Path) -> None:
    first, own = train._stages(load_recipe("bmp-scenes", ["train.steps=100"]), None)
    assert str(first) == "Stage 1 of 2: "
    assert str(own) == "Stage 2 of 2: "
    assert first is not None
    assert first.later == 100 * METHODS["bmp"].step_cost / METHODS["classifier"].step_cost
    assert [str(each) for each in stages([load_recipe("supervised-scenes")])] == [""]


def test_plain_logs_hear_of_progress_and_quiet_ones_do_not(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 10_000, 15))
    monkeypatch.setattr("tagseg.progress.time.monotonic", lambda: float(next(clock)))
    assert list(tracked(range(20), "Labeling", 20)) == list(range(20))
    assert "Labeling: 3 of 20" in capsys.readouterr().err
    silence()
    try:
        assert list(tracked(range(20), "Labeling", 20)) == list(range(20))
        assert not capsys.readouterr().err
    finally:
        silence(False)


def test_quiet_leaves_the_results_alone(untouched: Project) -> None:  # noqa: F811
    assert "finished" in command("--quiet", "info", untouched.run)
    assert silent()
    said = command("--quiet", "predict", untouched.run, untouched.photos, "--out", untouched.path / "quiet")
    assert not said
    assert "finished" in command("info", untouched.run)
    assert not silent()
    assert "--install-completion" in command("--help")


def test_info_knows_a_run(untouched: Project) -> None:  # noqa: F811
    said = command("info", untouched.run)
    assert "finished" in said
    assert f"tagseg predict {untouched.run}" in said
    facts = json.loads(CliRunner().invoke(cli.app, ["info", str(untouched.run), "--json"]).output)
    assert facts["classes"] == ["cat", "dog"]


def test_masks_of_others_enter_a_comparison(project: Project) -> None:  # noqa: F811
    masks, scores = project.path / "theirs", project.path / "theirs.json"
    shutil.copytree(project.masks, masks)
    command("evaluate", masks, project.masks, "--classes", "cat,dog", "--out", scores)
    said = command("compare", project.run, masks, scores, "--out", project.path / "comparison")
    assert said.count("100.0") == 2
    text = (project.path / "comparison" / "compare.md").read_text()
    assert str(masks) in text
    assert "at least one run" in refused("compare", masks, "--out", project.path / "none")
    (masks / "0.png").unlink()
    assert "is no run, and it holds no mask" in refused("compare", project.run, masks, "--out", project.path / "none")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["train", "bmp-voc12x"], "did you mean bmp-voc12-mit_b1?"),
        (["train", "bmp-scenes", "--set", "train.stps=2"], "there is no such key; did you mean steps?"),
        (["train", "bmp-scenes", "--set", "model.weights=null"], "should be embedded, none, hub"),
        (["train", "bmp-scenes", "--set", "train.warmup_steps=300"], "set train.warmup_steps too, such as 0"),
        (["train", "--images", "PHOTOS", "--tags", "TABLE", "--method", "bpm"], "did you mean bmp"),
        (["predict", "RUN", "PHOTOS", "--format", "labelstudio"], "did you mean label-studio?"),
        (["recipes", "bpm-voc-animals"], "did you mean bmp-voc-animals?"),
    ],
)
def test_a_slip_hears_what_was_meant(words: list[str], sentence: str, untouched: Project) -> None:  # noqa: F811
    places = {"PHOTOS": untouched.photos, "TABLE": untouched.table, "RUN": untouched.run}
    out = ["--out", untouched.path / "nowhere"] if words[0] != "recipes" else []
    assert sentence in refused(*(places.get(word, word) for word in words), *out)


def test_a_warm_up_that_nobody_asked_for_follows_the_steps() -> None:
    assert load_recipe("bmp-scenes", ["train.steps=10"]).train.warmup_steps == 2
    assert load_recipe("bmp-scenes", ["train.steps=100"]).train.warmup_steps == 20


def test_a_folder_that_is_no_voc_says_where_to_get_it(tmp_path: Path) -> None:
    (tmp_path / "VOC2012").mkdir()
    said = refused("train", "classifier-voc12", "--set", f"data.root={tmp_path / 'VOC2012'}", "--out", tmp_path / "run")
    assert "is no folder in VOC's layout" in said
    assert "tagseg data prepare voc12" in said


def test_python_finds_its_names_and_takes_what_a_service_holds(untouched: Project) -> None:  # noqa: F811
    assert {"load", "predict", "train", "label", "evaluate", "Segmenter"} <= set(dir(tagseg))
    with pytest.raises(UserError):
        tagseg.evaluate("a", "b")
    segmenter = tagseg.load(str(untouched.run), device="cpu")
    assert repr(segmenter).startswith("Segmenter(rrm, 2 classes: cat, dog")
    file = sorted(untouched.photos.iterdir())[0]
    with Image.open(file) as photo:
        found = segmenter.predict(photo)
    assert (segmenter.predict(file.read_bytes()).mask == found.mask).all()
    assert repr(found).startswith("Prediction(64 x 48: ")
    found.save(str(untouched.path / "mask.png"))
    assert found.overlay(file).size == (64, 48)
    with pytest.raises(UserError, match="list"):
        segmenter.predict([file])  # type: ignore[arg-type]


def test_recipes_fit_a_screen_and_show_themselves() -> None:
    assert len(CliRunner().invoke(cli.app, ["recipes"]).output.splitlines()) <= 40
    assert "67.3" in command("recipes", "tscd-voc12-mit_b1")


def test_an_export_needs_its_packages_before_it_works(untouched: Project, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    said = refused("export", untouched.run, "--format", "onnx", "--out", untouched.path / "m.onnx")
    assert "onnxruntime" in said
    assert "pip install" in said


def test_the_page_about_the_run_folder_names_every_file() -> None:
    page = (ROOT / "docs" / "run-folder.md").read_text(encoding="utf-8")
    assert not [name for name in RunFolder.WRITTEN if name.partition("/")[0] not in page and "pseudo" not in name]
    assert "tensorboard --logdir" in page
    assert "HF_HOME" in page


def test_names_of_classes_that_are_empty_are_refused() -> None:
    assert class_names("cat, dog,") == ("cat", "dog")
    for text in ("cat,,dog", ",cat", ""):
        with pytest.raises(UserError, match="is empty"):
            class_names(text)
    with pytest.raises(UserError, match="not a text"):
        check_classes("dog")
