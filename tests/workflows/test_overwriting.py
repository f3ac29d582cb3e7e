"""One run in place of another: what --overwrite keeps, brings back and drops, killed anywhere."""

import shutil
from contextlib import suppress
from pathlib import Path

import pytest

import tagseg
from tagseg.errors import UserError
from tagseg.recipe import Recipe, load_recipe
from tagseg.run_folder import RunFolder
from tagseg.workflows.claim import claimed, drop_begun
from tagseg.workflows.trusted import is_sealed
from tests.workflows.small_project import Project

OLD = ("model.safetensors", "model.json", "scores.json", "report.html", "checkpoints/step-0000009.safetensors")
OLD += ("checkpoints/step-0000009.json", "events/events.out.tfevents.1", "start/model.safetensors", "start/recipe.yaml")


def old_run(out: Path) -> Recipe:
    """A finished run, each file with its own name in it, beside a file of someone else's."""
    recipe = load_recipe("asdt-scenes")
    for name in (*OLD, "notes.md", "checkpoints/notes.md"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(name, encoding="utf-8")
    (out / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
    return recipe


def is_whole(folder: Path, recipe: Recipe) -> bool:
    """Whether the old run lies in a folder."""
    files = all((folder / name).is_file() and (folder / name).read_text() == name for name in OLD)
    return files and (folder / "recipe.yaml").read_text(encoding="utf-8") == recipe.to_yaml()


class KilledError(BaseException):
    """Stands for a kill: nothing of tagseg's catches it."""


def test_killed_anywhere_an_overwriting_leaves_the_old_run_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = load_recipe("asdt-scenes", ["train.seed=5"])
    plain = {name: getattr(Path, name) for name in ("replace", "unlink", "rmdir", "mkdir")}
    left = [0]

    def counted(name: str):  # type: ignore[no-untyped-def]
        def call(self: Path, *words: object, **more: object) -> object:
            left[0] -= 1
            if left[0] == 0:
                raise KilledError
            return plain[name](self, *words, **more)

        return call

    moment, ended = 0, False
    while not ended:
        moment += 1
        out = tmp_path / str(moment)
        old = old_run(out)
        left[0] = moment
        with monkeypatch.context() as patched:
            for name in plain:
                patched.setattr(Path, name, counted(name))
            try:
                with claimed(new, out, overwrite=True, main=True):
                    write_new(out)
                ended = True
            except KilledError:
                pass
        finished_new = (out / "scores.json").is_file() and (out / "scores.json").read_text() == "new"
        for again in (new, old):
            copy = tmp_path / f"{moment}-{again.train.seed}"
            shutil.copytree(out, copy)
            overwrite = again is new
            refused = False
            try:
                with claimed(again, copy, overwrite=overwrite, main=True):
                    begun_new = (copy / "recipe.yaml").read_text(encoding="utf-8") == new.to_yaml()
                    assert begun_new == overwrite
                    assert is_whole(copy / "replaced" if begun_new else copy, old) or finished_new
            except UserError:  # the old recipe, where the new run has begun or is there
                refused = True
            if refused:
                assert again is old
                assert is_whole(copy / "replaced", old) or finished_new
            assert (copy / "notes.md").read_text() == "notes.md"
            assert (copy / "checkpoints" / "notes.md").is_file()
    assert moment > 25
    assert finished_new
    assert not (out / "replaced").exists()


def write_new(out: Path) -> None:
    """What a training writes, in its order."""
    for name in ("checkpoints/step-0000001.json", "model.safetensors", "model.json", "scores.json"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("new", encoding="utf-8")


def test_an_overwriting_that_cannot_begin_gives_the_old_run_back(project: Project, tmp_path: Path) -> None:
    out = tmp_path / "run"
    old = old_run(out)
    with (
        pytest.raises(UserError, match="no room"),
        claimed(load_recipe("asdt-scenes", ["train.seed=5"]), out, overwrite=True, main=True),
    ):
        raise UserError("no room")
    assert is_whole(out, old)
    assert not (out / "replaced").exists()
    shutil.rmtree(project.photos)
    before = {path: path.read_bytes() for path in project.run.rglob("*") if path.is_file()}
    with pytest.raises(UserError):
        project.train(project.run, "--overwrite")
    assert {path: path.read_bytes() for path in project.run.rglob("*") if path.is_file()} == before


def test_a_systems_file_in_replaced_is_no_run_that_waits_there(tmp_path: Path) -> None:
    out = tmp_path / "run"
    old, new = old_run(out), load_recipe("asdt-scenes", ["train.seed=5"])
    (out / "replaced").mkdir()
    (out / "replaced" / ".DS_Store").touch()
    with suppress(UserError), claimed(new, out, overwrite=True, main=True):
        assert is_whole(out / "replaced", old)
        raise UserError("no room")
    assert is_whole(out, old)


def test_dropping_what_was_begun_keeps_an_old_run_that_lies_in_halves(tmp_path: Path) -> None:
    out = tmp_path / "run"
    old = old_run(out)
    (out / "replaced").mkdir()
    for name in OLD[:4]:  # as a kill leaves it while the run is set aside
        (out / name).replace(out / "replaced" / name)
    drop_begun(out)
    assert is_whole(out, old)


def test_a_recipe_that_a_person_changed_is_not_removed(tmp_path: Path) -> None:
    with suppress(KilledError), claimed(load_recipe("asdt-scenes"), tmp_path, overwrite=False, main=True):
        raise KilledError
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(text := recipe.read_text(encoding="utf-8") + "# mine\n", encoding="utf-8")
    with (
        pytest.raises(UserError, match="another recipe"),
        claimed(load_recipe("asdt-scenes", ["train.seed=5"]), tmp_path, overwrite=False, main=True),
    ):
        pass
    assert recipe.read_text(encoding="utf-8") == text


def test_an_interrupted_overwriting_begins_anew_with_other_tags(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> str:
        raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr("tagseg.workflows.train.machine", killed)  # after the last checkpoint
        with pytest.raises(KilledError):
            project.train(project.run, "--overwrite")
    assert RunFolder(project.run / "replaced").finished
    tags = project.table.read_text(encoding="utf-8")
    project.table.write_text(tags.replace("1,cat", "1,dog"), encoding="utf-8")
    with pytest.raises(UserError, match=r"was begun with other photos, tags or masks.* or train anew with --overwrite"):
        project.train(project.run)
    project.train(project.run, "--overwrite")
    assert RunFolder(project.run).finished
    assert not (project.run / "replaced").exists()


def test_an_interrupted_overwriting_goes_on_with_the_same_command(tmp_path: Path) -> None:
    out = tmp_path / "run"
    old, new = old_run(out), load_recipe("asdt-scenes", ["train.seed=5"])
    for _ in range(2):
        with suppress(KilledError), claimed(new, out, overwrite=True, main=True):
            (out / "checkpoints" / "step-0000001.json").touch()
            raise KilledError
        assert is_whole(out / "replaced", old)
    assert (out / "checkpoints" / "step-0000001.json").is_file(), "what the first call had done is gone on with"
    with pytest.raises(UserError, match=r"the run that is being replaced is .*replaced"):
        tagseg.load(out)
    with claimed(new, out, overwrite=False, main=True):
        write_new(out)
    assert not (out / "replaced").exists()
    assert RunFolder(out).finished


def test_an_unfinished_run_goes_on_with_other_workers(tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = load_recipe("asdt-scenes", ["train.workers=3"])
    with suppress(KilledError), claimed(first, out, overwrite=False, main=True):
        (out / "checkpoints" / "step-0000001.json").touch()
        raise KilledError
    other = load_recipe("asdt-scenes", ["train.workers=0", "train.micro_batch=1"])
    for _ in range(2):
        with suppress(KilledError), claimed(other, out, overwrite=False, main=True):
            assert (out / "checkpoints" / "step-0000001.json").is_file()
            raise KilledError
        assert load_recipe(out / "recipe.yaml", stored=True).train.micro_batch == 1
        assert is_sealed(RunFolder(out))
    with (
        pytest.raises(UserError, match=r"train\.seed"),
        claimed(load_recipe("asdt-scenes", ["train.seed=9"]), out, overwrite=False, main=True),
    ):
        pass
