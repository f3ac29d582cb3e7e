"""Commands between formats, tools and reviews write over nothing that they read, and over nothing that is not theirs."""

from pathlib import Path

import pytest

from tagseg.errors import UserError
from tests.workflows.small_project import Project, command

BETWEEN = {
    "convert": ["convert", "masks", "--from", "masks", "--to", "png", "--classes", "cat,dog", "--out"],
    "convert to overlays": ["convert", "masks", "--from", "masks", "--to", "overlay-png", "--classes", "cat,dog",
                            "--images", "photos", "--out"],
    "export-tasks": ["export-tasks", "masks", "--images", "photos", "--classes", "cat,dog", "--out"],
    "import": ["import", "masks", "--from", "masks", "--images", "photos", "--classes", "cat,dog", "--review"],
    "review": ["review", "masks", "--images", "photos", "--classes", "cat,dog", "--no-browser", "--review"],
    "review of a run": ["review", "run", "--no-browser", "--review"],
}  # fmt: skip
"""Commands that write something else than results of a model, and what they read of the project."""


@pytest.mark.parametrize("place", ["photos", ".", "photos/new", "link", "masks", "masks/deep/new"])
@pytest.mark.parametrize("name", BETWEEN)
def test_no_command_between_formats_writes_where_its_inputs_are(name: str, place: str, untouched: Project) -> None:
    paths = {"photos": untouched.photos, "masks": untouched.masks, "run": untouched.run}
    line = BETWEEN[name]
    if place.startswith("masks") and "masks" not in line:
        pytest.skip("it reads none")
    if place in ("photos", "photos/new", "link") and "photos" not in line and name == "convert":
        pytest.skip("it reads none")
    words = [line[0], *(paths.get(word, word) if line[i] != "--from" else word for i, word in enumerate(line[1:]))]
    before = untouched.contents()
    with pytest.raises(UserError, match=r"choose another --(out|review)"):
        command(*words, untouched.path / place)
    assert untouched.contents() == before


@pytest.mark.parametrize("to", ["png", "coco", "label-studio", "cvat", "yolo", "folders", "overlay"])
def test_converting_spares_foreign_and_changed_files(to: str, project: Project, tmp_path: Path) -> None:
    out, mine = tmp_path / "out", tmp_path / "mine"
    words = [
        "convert",
        project.masks,
        "--from",
        "masks",
        "--classes",
        "cat,dog",
        "--images",
        project.photos,
        "--to",
        to,
    ]
    for _ in range(2):  # its own files are renewed
        assert "4 masks are in" in command(*words, "--out", out)
    made = sorted(path.relative_to(out) for path in out.rglob("*") if path.is_file() and path.name[0] != ".")
    for file in made:
        (mine / file).parent.mkdir(parents=True, exist_ok=True)
        (mine / file).write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match="which this command did not write"):
        command(*words, "--out", mine)
    assert {(mine / file).read_text(encoding="utf-8") for file in made} == {"mine"}
    kept = next(file for file in made if file.suffix in (".png", ".jpg", ".json", ".zip", ".txt"))
    (out / kept).write_text("corrected", encoding="utf-8")
    with pytest.raises(UserError, match="has been changed since tagseg wrote it"):
        command(*words, "--out", out)
    assert (out / kept).read_text(encoding="utf-8") == "corrected"
