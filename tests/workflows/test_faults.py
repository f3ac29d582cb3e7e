"""The table of faults: each command meets each fault at the same place, and ends in the same bits or a named error.

Training's own rows stand in tests/engine: SIGKILL, signals and a rank that dies in test_kills.py and test_processes.py, a
full disk, damaged checkpoints and a loss that is no number in test_checkpoint.py and test_fit.py.
"""

import builtins
import errno
import io
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import tagseg
from tagseg import files
from tagseg.data.tagged import open_tagged
from tagseg.errors import UserError
from tagseg.interrupt import Interrupted, Interruption
from tagseg.recipe import load_recipe
from tagseg.workflows.evaluate import write_json
from tagseg.workflows.export import export
from tagseg.workflows.report import report
from tests.workflows.small_project import Project, copied

pytestmark = pytest.mark.slow  # together about a minute

AT = {"train": 1, "evaluate": 3, "label": 3, "predict": 3, "export": 1, "report": 3}
"""The place at which the fault happens, of each command's loops."""


COMMANDS = list(AT)


def carry_out(name: str, project: Project, out: Path) -> None:
    """A command's work, its results below `out`."""
    if name == "train":
        tagseg.train(load_recipe(project.run / "recipe.yaml", ["train.steps=2"]), out / "run", say=str)
    elif name == "evaluate":
        write_json(tagseg.evaluate(project.masks, project.masks, labels_used="true masks"), out / "scores.json")
    elif name == "label":
        tagseg.label(tagseg.load(project.run), open_tagged(project.photos, project.table), out / "masks")
    elif name == "predict":
        result = tagseg.predict(tagseg.load(project.run), project.photos, out / "masks")
        assert not result.problems, result.problems[0]
    elif name == "export":
        export(tagseg.load(project.run), out / "model.safetensors")
    else:
        report(project.run)


def results(name: str, project: Project, out: Path) -> dict[str, bytes]:
    """What a command wrote, without the project's place and the order of a header's facts."""
    if name == "report":
        return {"report.html": (project.run / "report.html").read_bytes().replace(os.fsencode(project.path), b"HERE")}
    if name in ("train", "export"):
        tensors = {file.name: load_file(file) for file in out.rglob("model.safetensors")}
        return {name: b"".join(of[key].numpy().tobytes() for key in sorted(of)) for name, of in tensors.items()}
    found = sorted(path for pattern in ("*.png", "*.csv", "*.json") for path in out.rglob(pattern))
    place = os.fsencode(project.path)
    return {path.relative_to(out).as_posix(): path.read_bytes().replace(place, b"HERE") for path in found}


def left_over(project: Project, out: Path) -> list[Path]:
    return [*out.rglob(".tagseg-saving-*"), *project.path.rglob(".tagseg-saving-*")]


@pytest.fixture(scope="session")
def expected(trained_once: Project, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, bytes]]:
    """The results of a command that nothing disturbs, computed once."""
    known: dict[str, dict[str, bytes]] = {}

    def of(name: str) -> dict[str, bytes]:
        if name not in known:
            folder = tmp_path_factory.mktemp("whole")
            project = copied(trained_once, folder / "project")
            (folder / "out").mkdir()
            carry_out(name, project, folder / "out")
            known[name] = results(name, project, folder / "out")
            assert known[name]
        return known[name]

    return of


def at(place: int, fault: Callable[[], object]) -> Callable[[int], None]:
    """An injector: the fault at one place."""

    def injector(number: int) -> None:
        if number == place:
            fault()

    return injector


@pytest.mark.skipif(sys.platform != "linux", reason="forks a process that has used torch")
@pytest.mark.parametrize("name", COMMANDS)
def test_killed_and_carried_out_again(name: str, project: Project, tmp_path: Path, expected) -> None:  # type: ignore[no-untyped-def]
    whole, out = expected(name), tmp_path / "out"
    out.mkdir()
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        with Interruption(at(AT[name], lambda: os.kill(os.getpid(), signal.SIGKILL))):
            carry_out(name, project, out)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    carry_out(name, project, out)
    assert results(name, project, out) == whole
    assert not left_over(project, out)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("name", COMMANDS)
def test_signalled_and_carried_out_again(
    name: str, number: signal.Signals, project: Project, tmp_path: Path, expected
) -> None:  # type: ignore[no-untyped-def]
    whole, out = expected(name), tmp_path / "out"
    out.mkdir()
    with Interruption(at(AT[name], lambda: signal.raise_signal(number))), pytest.raises(Interrupted):
        carry_out(name, project, out)
    assert not left_over(project, out)
    carry_out(name, project, out)
    assert results(name, project, out) == whole


@pytest.mark.parametrize("name", COMMANDS)
def test_a_disk_that_takes_no_more(
    name: str, project: Project, tmp_path: Path, expected, monkeypatch: pytest.MonkeyPatch
) -> None:  # type: ignore[no-untyped-def]
    whole, out = expected(name), tmp_path / "out"
    out.mkdir()

    def full(*_: object, **__: object) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before, page = project.contents(), results(name, project, out)  # of a report the page that training made
    with monkeypatch.context() as patched:
        patched.setattr(files, "mkdtemp", full)
        with pytest.raises(UserError, match=os.strerror(errno.ENOSPC)):
            carry_out(name, project, out)
    done = results(name, project, out)
    assert done == page or done.items() <= whole.items(), "what is there is whole"
    assert project.contents() == before
    carry_out(name, project, out)
    assert results(name, project, out) == whole


def refuse_writing(folders: list[Path], code: int, patched: pytest.MonkeyPatch) -> None:
    """Make every call that would change what lies in the folders fail, as a read-only disk does; root ignores permissions."""

    def lies_within(path: object) -> bool:
        if isinstance(path, int):
            return False
        place = Path(os.path.abspath(os.fsdecode(path)))  # type: ignore[arg-type] # noqa: PTH100
        return any(folder == place or folder in place.parents for folder in folders)

    def guarded(plain: Callable[..., object], writes: Callable[..., bool]) -> Callable[..., object]:
        def call(path: object, *words: object, **more: object) -> object:
            if writes(*words, **more) and lies_within(path):
                raise OSError(code, os.strerror(code), str(path))
            return plain(path, *words, **more)

        return call

    def opens_to_write(mode: str = "r", *_: object, **__: object) -> bool:
        return any(letter in mode for letter in "wax+")

    def flags_to_write(flags: int, *_: object, **__: object) -> bool:
        return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))

    for module in (builtins, io):
        patched.setattr(module, "open", guarded(module.open, opens_to_write))
    patched.setattr(os, "open", guarded(os.open, flags_to_write))
    for name in ("mkdir", "unlink", "rmdir", "replace", "rename", "symlink", "link"):
        patched.setattr(os, name, guarded(getattr(os, name), lambda *_, **__: True))


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_folder_that_takes_nothing(
    name: str, code: int, project: Project, tmp_path: Path, expected, monkeypatch: pytest.MonkeyPatch
) -> None:  # type: ignore[no-untyped-def]
    whole, out = expected(name), tmp_path / "out"
    out.mkdir()
    before = {path: path.read_bytes() for path in project.path.rglob("*") if path.is_file()}
    with monkeypatch.context() as patched:
        refuse_writing([out, project.run], code, patched)
        with pytest.raises(UserError, match=os.strerror(code)):
            carry_out(name, project, out)
    assert {path: path.read_bytes() for path in project.path.rglob("*") if path.is_file()} == before
    assert not [path for path in out.rglob("*") if path.is_file()]
    carry_out(name, project, out)
    assert results(name, project, out) == whole


def test_a_true_mask_that_is_cut_short_is_named_by_evaluate(project: Project, tmp_path: Path) -> None:
    for cut in (0, 30, -20):
        broken = copied(project, tmp_path / f"cut {cut}")
        mask = broken.masks / "1.png"
        mask.write_bytes(mask.read_bytes()[:cut])
        with pytest.raises(UserError, match=r"1\.png"):
            carry_out("evaluate", broken, tmp_path)
    assert not (tmp_path / "scores.json").exists()


@pytest.mark.parametrize(
    ("name", "cut"),
    [*((name, -1) for name in ("label", "predict", "export", "report")), ("predict", 0), ("predict", 1000)],
)
def test_a_model_that_is_cut_short_is_named(name: str, cut: int, project: Project, tmp_path: Path) -> None:
    weights = project.run / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:cut])
    page = (project.run / "report.html").read_bytes()
    with pytest.raises(UserError, match=r"model\.safetensors cannot be read"):
        carry_out(name, project, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert (project.run / "report.html").read_bytes() == page


@pytest.mark.parametrize("name", ["train", "evaluate", "label", "predict", "report"])
def test_a_photo_that_vanishes_is_named(name: str, project: Project, tmp_path: Path) -> None:
    victims = [folder / f"{number}.png" for folder in (project.photos, project.masks) for number in range(4)]
    victims = [path for path in victims if (path.parent == project.masks) == (name == "evaluate")]
    out = tmp_path / "out"
    out.mkdir()
    page = (project.run / "report.html").read_bytes()
    with (
        Interruption(at(1, lambda: [path.unlink() for path in victims[1:]])),
        pytest.raises((UserError, AssertionError), match=r"[1-3]\.png"),
    ):
        carry_out(name, project, out)
    assert not left_over(project, out)
    assert (project.run / "report.html").read_bytes() == page
    if name in ("label", "predict"):
        assert {path.name for path in (out / "masks").glob("*.png")} == {"0.png"}, "the photo that was there is done"
