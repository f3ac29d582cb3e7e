"""Benchmarks and notebooks name what tagseg has, though only a person runs them."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tagseg.data.sources import DataSettings

ROOT = Path(__file__).parents[1]
PROGRAMS = [*sorted((ROOT / "benchmarks").glob("*.py")), *sorted((ROOT / "docs").rglob("*.ipynb"))]


def sources(program: Path) -> str:
    """The Python of a program, or of a notebook's cells."""
    text = program.read_text(encoding="utf-8")
    if program.suffix == ".py":
        return text
    cells = [cell["source"] for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    return "\n".join("".join(lines) for lines in cells)


def imported(text: str) -> Iterator[tuple[str, str]]:
    """Modules of tagseg, and the names that are taken from them."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "tagseg":
            yield from ((str(node.module), alias.name) for alias in node.names)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_what_a_program_imports_is_there(program: Path) -> None:
    for module, name in imported(sources(program)):
        found = importlib.import_module(module)
        assert hasattr(found, name) or importlib.util.find_spec(f"{module}.{name}"), f"{module} has no {name}"


def test_oracles_take_the_place_of_what_their_methods_do() -> None:
    spec = importlib.util.spec_from_file_location("claim_oracles", ROOT / "benchmarks/claim_oracles.py")
    assert spec is not None
    assert spec.loader is not None
    oracles = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(oracles)
    for part, (_, plain, told) in oracles.METHOD.items():
        own = {name for name, value in vars(told).items() if callable(value) and not name.startswith("_")}
        assert own, part
        assert own <= vars(plain).keys(), f"{part}: {own - vars(plain).keys()} is called by nothing"


def test_a_step_is_measured_in_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("step", ROOT / "benchmarks/step.py")
    assert spec is not None
    assert spec.loader is not None
    step = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(step)
    for module, name in ((step.rrm, "reliable_labels"), (step.rrm, "begin_energy"), (step.asdt, "begin_energy")):
        monkeypatch.setattr(module, name, getattr(module, name))  # the benchmark replaces them for good
    monkeypatch.setattr(step.ClassTeacher, "raw_cams", step.ClassTeacher.raw_cams)
    small = ["train.crop=64", "train.batch_size=2", "model.weights=none", "method.hidden=8", "method.cam_scales=[1.0]"]
    recipe = step.recipe_for("asdt-voc-animals-reference", small, None)
    data = DataSettings.model_validate({"scenes": {"train": 4, "val": 2, "size": [64, 64]}})
    parts = step.measure(recipe.model_copy(update={"data": data}), steps=1, warmup=0)
    assert {"data", "forward", "labels", "multi-scale CAM", "backward", "optimizer", "total"} <= set(parts)
