"""A run or a recipe of someone else leads to no place that the person did not name."""

import os
import shutil
from pathlib import Path

import pytest
import yaml

import tagseg
from tagseg.errors import UserError
from tagseg.run_folder import RunFolder
from tagseg.workflows.trusted import is_sealed, seal
from tests.workflows.small_project import Project, command, settings

READS = {
    "report": lambda run, out: ["report", run],
    "label": lambda run, out: ["label", run, "--out", out],
    "compare": lambda run, out: ["compare", run, "--out", out],
    "review": lambda run, out: ["review", run, "--review", out, "--no-browser"],
}
"""Commands that read the photos of a run."""


def by_someone_else(project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """From here on this is another account."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another account"))


def named(project: Project, *keys: str) -> list[str]:
    places = {"root": project.photos, "tags": project.table, "masks": project.masks}
    return [word for key in keys for word in ("--set", f"data.{key}={places[key]}")]


def rewritten(project: Project, **data: object) -> None:
    file = project.run / "recipe.yaml"
    values = yaml.safe_load(file.read_text(encoding="utf-8"))
    values["data"] |= {key: value if value is None else str(value) for key, value in data.items()}
    file.write_text(yaml.safe_dump(values), encoding="utf-8")


@pytest.mark.parametrize("name", READS)
def test_a_run_from_elsewhere_reads_nothing_that_was_not_named(
    name: str, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_someone_else(project, monkeypatch, tmp_path)
    page = (project.run / "report.html").read_bytes()
    opened: list[str] = []
    plain = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path=".": opened.append(os.fspath(path)) or plain(path))
    for more in ([], named(project, "root"), named(project, "root", "masks")):
        with pytest.raises(UserError, match=r"recipe\.yaml reads data\.(root|tags) from .* add --set data\.") as caught:
            command(*READS[name](project.run, tmp_path / "out"), *more)
        assert f"data.tags={project.table}" in str(caught.value), "every place is told at once"
    assert not [path for path in opened if path.startswith((str(project.photos), str(project.masks)))]
    assert (project.run / "report.html").read_bytes() == page
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["report", "label", "compare"])
def test_what_is_named_is_read(name: str, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_someone_else(project, monkeypatch, tmp_path)
    command(*READS[name](project.run, tmp_path / "out"), *named(project, "root", "tags", "masks"))


def test_a_changed_recipe_is_no_longer_ones_own(project: Project, tmp_path: Path) -> None:
    private = tmp_path / "private"
    shutil.copytree(project.photos, private)
    assert "The report is" in command("report", project.run)
    rewritten(project, root=private)
    with pytest.raises(UserError, match=r"reads data\.root from .*private"):
        command("report", project.run)
    seal(RunFolder(project.run))  # stands for training by that recipe
    assert "The report is" in command("report", project.run)


def test_a_place_within_the_run_is_the_runs_own(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.move(project.photos, project.run / "photos")
    rewritten(project, root=project.run / "photos", tags=None, masks=None)
    (project.run / "photos" / "tags.csv").write_bytes(project.table.read_bytes())
    rewritten(project, tags=project.run / "photos" / "tags.csv")
    by_someone_else(project, monkeypatch, tmp_path)
    assert "4 masks written" in command("label", project.run, "--out", tmp_path / "masks")
    shutil.move(project.run / "photos", tmp_path / "private")
    (project.run / "photos").symlink_to(tmp_path / "private")
    with pytest.raises(UserError, match=r"reads data\.root from"):
        command("label", project.run, "--out", tmp_path / "others")


def test_moved_photos_are_named_with_their_new_place(project: Project, tmp_path: Path) -> None:
    project.photos.rename(project.path / "moved")
    with pytest.raises(
        UserError, match=r"is not there: put it back, or give its new place with --set data\.root=PLACE"
    ):
        command("label", project.run, "--out", tmp_path / "masks")
    words = ["--set", f"data.root={project.path / 'moved'}"]
    assert "4 masks written" in command("label", project.run, "--out", tmp_path / "masks", *words)
    with pytest.raises(UserError, match="only places can be given"):
        command("report", project.run, "--set", "train.steps=2")
    with pytest.raises(UserError, match="give one of them"):
        command("label", project.run, "--images", project.path / "moved", *words, "--out", tmp_path / "m")


def test_training_seals_a_run_and_the_same_command_seals_an_old_one(project: Project) -> None:
    run = RunFolder(project.run)
    assert is_sealed(run)
    run.seal.unlink()
    project.train(project.run)
    assert is_sealed(run)
    run.seal.write_text("0" * 64)
    assert not is_sealed(run)
    run.seal.unlink()
    run.seal.mkdir()
    assert not is_sealed(run)


def test_without_a_home_training_and_its_report_work_all_the_same(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "no home"
    home.write_text("a file", encoding="utf-8")
    monkeypatch.setenv("XDG_STATE_HOME", str(home))
    (project.run / "report.html").unlink()
    assert "Model, scores and report are in" in project.train(project.run)
    assert (project.run / "report.html").is_file()


def test_an_account_without_a_home_has_no_seal(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr(Path, "home", no_home)
    assert not is_sealed(RunFolder(project.run))


def test_the_key_is_the_accounts_alone(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    run = RunFolder(project.run)
    assert not is_sealed(run)
    assert not (tmp_path / "state").exists(), "looking makes none"
    seal(run)
    assert is_sealed(run)
    key = tmp_path / "state" / "tagseg" / "key"
    assert key.stat().st_mode & 0o077 == 0
    assert key.read_bytes().hex() not in run.seal.read_text()


STAGES = "title: chain\nteacher: {{base: rrm-scenes}}\nsegmenter: {{base: supervised-scenes}}\ndata: {data}\n"


@pytest.mark.parametrize("kind", ["train", "run"])
def test_a_recipe_of_someone_else_never_leads_outside(
    kind: str, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "downloads"
    (here / "set").mkdir(parents=True)
    monkeypatch.chdir(here)
    data = f"{{format: tagged, root: {project.photos}, tags: {project.table}}}"
    text = f"base: rrm-scenes\ndata: {data}\n" if kind == "train" else STAGES.format(data=data)
    file = here / "set" / "recipe.yaml"
    out = tmp_path / "out"
    words = [kind, file, "--out", out]

    file.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"reads data\.root from .*--set data\.root=.* --set data\.tags="):
        command(*words)
    with pytest.raises(UserError, match=r"reads data\.tags"):
        command(*words, *named(project, "root"))
    (here / "set" / "linked").symlink_to(project.photos)
    file.write_text(text.replace(str(project.photos), "set/linked"), encoding="utf-8")
    with pytest.raises(UserError, match=r"reads data\.root from set/linked"):
        command(*words, *named(project, "tags"))
    with pytest.raises(UserError, match=r"reads data\.root"):
        (tagseg.train if kind == "train" else tagseg.run)(file, out)
    assert not out.exists()


@pytest.mark.parametrize(("key", "place"), [("weights", "/etc/hostname"), ("start", "/etc")])
def test_weights_of_a_foreign_recipe_are_named_too(
    key: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.yaml").write_text(f"base: rrm-scenes\nmodel: {{{key}: {place}}}\n", encoding="utf-8")
    with pytest.raises(UserError, match=rf"reads model\.{key} from {place}"):
        command("train", "r.yaml", "--out", "run")


@pytest.mark.slow
def test_a_recipe_beside_its_photos_is_trained_and_ones_own_run_is_repeated(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f"base: rrm-scenes\ndata: {{format: tagged, root: {project.photos}, tags: {project.table}}}\n"
    (project.path / "mine.yaml").write_text(text, encoding="utf-8")
    out = tmp_path / "run"
    command("train", project.path / "mine.yaml", "--out", out, *settings())
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    command("train", out / "recipe.yaml", "--out", tmp_path / "again")
    by_someone_else(project, monkeypatch, tmp_path)
    with pytest.raises(UserError, match=r"reads data\.root"):
        command("train", out / "recipe.yaml", "--out", tmp_path / "third")
