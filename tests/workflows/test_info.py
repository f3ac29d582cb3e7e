"""What `tagseg info` says of a finished run, of one that is under way, and of other folders."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from tagseg import quoting
from tagseg.cli import PANELS
from tagseg.cli.frame import app
from tagseg.errors import UserError
from tests.workflows.small_project import Project, command


def test_a_finished_run(project: Project) -> None:
    text = command("info", project.run)
    assert "is a run" in text
    assert "finished" in text
    assert f"tagseg predict {project.run} PHOTOS" in text
    facts = json.loads(command("info", project.run, "--json"))
    assert facts["state"] == "finished"
    assert facts["scores"]
    assert all(0 <= value <= 100 for value in facts["scores"].values())
    assert facts["size"] > (project.run / "model.safetensors").stat().st_size


def test_places_are_quoted_for_the_shell(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    spaced = project.run.rename(project.run.parent / "my run")
    assert f"tagseg label '{spaced}' --out" in command("info", spaced)
    monkeypatch.setattr(quoting, "os", SimpleNamespace(name="nt"))
    assert f'tagseg export "{spaced}" --out' in command("info", spaced)
    assert quoting.shell_line("tagseg", "predict", "runs\\mine", "C:\\my photos") == (
        'tagseg predict runs\\mine "C:\\my photos"'
    )


def test_a_run_under_way(project: Project) -> None:
    (project.run / "scores.json").unlink()
    assert re.search(r"step \d+ of 1; the command that began it goes on", command("info", project.run))


def test_another_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no run and no chain"):
        command("info", tmp_path)


def test_help_lists_every_command_in_a_panel() -> None:
    text = CliRunner().invoke(app, ["--help"]).output
    places = [text.index(panel) for panel in PANELS]
    assert places == sorted(places)
    commands = {str(each.name) for each in [*app.registered_commands, *app.registered_groups]}
    assert commands == {name for names in PANELS.values() for name in names}
