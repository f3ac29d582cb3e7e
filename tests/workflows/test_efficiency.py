"""What networks cost: which measurements are used again, and which files are written over."""

import json
from pathlib import Path

import pytest

from tagseg.errors import UserError
from tagseg.reproduce.cost import Cost
from tagseg.workflows.efficiency import efficiency
from tagseg.workflows.train import machine

ON = "scenes"


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The networks that were measured, at a cost of nothing."""
    names: list[str] = []

    def alone(recipe: str, *_: object) -> Cost:
        names.append(recipe)
        return Cost(1, 1.0, 1.0, 1.0, 1.0, 1.0, 1, 8)

    monkeypatch.setattr("tagseg.workflows.efficiency._alone", alone)
    return names


def test_what_was_measured_on_this_device_is_not_measured_again(measured: list[str], tmp_path: Path) -> None:
    efficiency(ON, tmp_path, device="cpu", say=str)
    count = len(measured)
    assert count > 0
    efficiency(ON, tmp_path, device="cpu", say=str)
    assert len(measured) == count
    file = tmp_path / "results.json"
    assert json.loads(file.read_text(encoding="utf-8"))["device"] == "cpu"


def test_costs_of_a_version_that_did_not_note_the_device_are_measured_again(
    measured: list[str], tmp_path: Path
) -> None:
    old = {"machine": machine(), "on": ON, "costs": {"asdt-voc12": {}}}
    (tmp_path / "results.json").write_text(json.dumps(old), encoding="utf-8")
    (tmp_path / "table.md").write_text("old", encoding="utf-8")
    efficiency(ON, tmp_path, device="cpu", say=str)
    assert "asdt-voc12" in measured
    assert (tmp_path / "table.md").read_text(encoding="utf-8") != "old"


@pytest.mark.parametrize(("name", "text"), [("results.json", "{"), ("results.json", "[1]"), ("table.md", "mine")])
def test_files_of_others_are_not_written_over(name: str, text: str, measured: list[str], tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="which this command did not write: choose another --out"):
        efficiency(ON, tmp_path, device="cpu", say=str)
    assert (tmp_path / name).read_text(encoding="utf-8") == text
    assert not measured
