"""What a review of security found is held by tests: the table of docs/results/robustness.md names them, some stand here."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tagseg
from tagseg import places
from tagseg.data.review_journal import Journal
from tagseg.errors import UnwritableNameError, UserError
from tagseg.places import safe_name
from tests.colors import Colors

ROOT = Path(__file__).parents[1]
ENTRIES = range(1, 29)


def test_every_entry_of_the_table_has_its_test() -> None:
    text = (ROOT / "docs" / "results" / "robustness.md").read_text(encoding="utf-8")
    section = text.partition("## What a review of security found")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (\d+) \| [^|]+ \| (`.+::.+`) \|$", section, re.MULTILINE)
    assert sorted({int(number) for number, _ in rows}) == list(ENTRIES)
    for number, tests in rows:
        named = re.findall(r"`([\w/]+\.py)::(\w+)`", tests)
        assert named, number
        for file, name in named:
            assert f"def {name}(" in (ROOT / "tests" / file).read_text(encoding="utf-8"), (number, file, name)


@pytest.mark.parametrize(
    "name",
    ["CON", "NUL/x", "aux", "com1.png", "CONIN$", "trailing.", "trailing ", "deep./a", "a\x01b", "a|b", "a?", "x\\y:z"],
)
def test_names_that_windows_cannot_hold(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "ON_WINDOWS", True)
    with pytest.raises(UnwritableNameError, match="rename it"):
        safe_name(name)


@pytest.mark.parametrize("name", ["a:stream", "C:x", "\\\\host\\share", "/etc/passwd", "..", "a/../../b", "a\0b", ""])
def test_names_that_lead_outside_on_any_system(name: str) -> None:
    with pytest.raises(UnwritableNameError, match="leads outside"):
        safe_name(name)


def test_where_a_disk_ignores_case_two_photos_never_share_a_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photos").mkdir()
    for name in ("a.png", "A.png", "b.png"):
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "photos" / name)
    if len(list((tmp_path / "photos").iterdir())) < 3:
        pytest.skip("this disk ignores case")
    for module in ("tagseg.workflows.predict", "tagseg.data.inputs"):
        monkeypatch.setattr(f"{module}.ignores_case", lambda folder: True)
    model = tagseg.Segmenter(Colors(), {"crf": None})
    result = tagseg.predict(model, tmp_path / "photos", tmp_path / "out")
    assert result.done == 2
    assert len(result.problems) == 1
    assert "same name" in result.problems[0]


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_planted_lock_empties_no_file(tmp_path: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (bound,) = [line for line in project["dependencies"] if line.startswith("filelock")]
    assert tuple(map(int, bound.removeprefix("filelock>=").split("."))) >= (3, 20, 1)
    folder, victim = tmp_path / "review", tmp_path / "victim"
    folder.mkdir()
    victim.write_text("precious", encoding="utf-8")
    (folder / ".in-use").symlink_to(victim)
    with pytest.raises(UserError, match="cannot be written"):
        Journal(folder, ("background", "cat"))
    assert victim.read_text(encoding="utf-8") == "precious"


@pytest.mark.skipif(sys.platform == "win32", reason="other rights")
def test_compiled_functions_lie_where_their_owner_says(tmp_path: Path) -> None:
    """Whoever can write there can run code: so nowhere that others can write, and where SECURITY.md says to point it."""
    code = (
        "from tagseg.refine import mean_field_cpu as m\n"
        "print(*{f._cache.cache_path for f in vars(m).values() if hasattr(f, '_cache')}, sep='\\n')\n"
    )
    for folder in (None, tmp_path):
        given = {key: value for key, value in os.environ.items() if key != "NUMBA_CACHE_DIR"}
        given |= {} if folder is None else {"NUMBA_CACHE_DIR": str(folder)}
        words = [sys.executable, "-c", code]
        paths = subprocess.run(words, capture_output=True, text=True, check=True, env=given).stdout.split("\n")[:-1]
        assert paths
        for path in map(Path, paths):
            assert folder is None or path.is_relative_to(folder)
            there = next(place for place in (path, *path.parents) if place.exists())
            assert not there.stat().st_mode & 0o002, there
    assert "`NUMBA_CACHE_DIR`" in (ROOT / "SECURITY.md").read_text(encoding="utf-8")
