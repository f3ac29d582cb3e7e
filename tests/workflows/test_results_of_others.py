"""A folder of results leads nowhere else, whoever made it: no command follows a link in it that leads outside."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tagseg.data.palette import write_mask
from tagseg.data.paths import held
from tagseg.data.review_journal import Journal
from tagseg.data.sources import DataSettings, open_sources
from tagseg.data.tagged import open_tagged
from tagseg.errors import UserError
from tagseg.outputs import OUTPUTS, READERS
from tagseg.review.proposals import ModelProposals, read_facts
from tagseg.run_folder import RunFolder
from tagseg.scale.finish import finish, merge
from tagseg.scale.places import open_place
from tagseg.workflows.exchange import export_tasks
from tagseg.workflows.refine import Refinement
from tagseg.workflows.shards import Shards, refine_shards
from tagseg.workflows.trusted import is_sealed
from tests.review.photos import segmenter
from tests.workflows.small_project import Project, command, write_project

OUTSIDE = "leads outside of"
CLASSES = ["--classes", "cat,dog"]
READS = {
    "evaluate": lambda p, out: ["evaluate", p.masks, p.truth, "--out", out],
    "evaluate, of results as truth": lambda p, out: ["evaluate", p.truth, p.masks, "--out", out],
    "refine": lambda p, out: ["refine", p.masks, p.photos, "--out", out],
    "refine --shards": lambda p, out: ["refine", p.masks, p.photos, "--out", out, "--shards", "1"],
    "review": lambda p, out: ["review", p.masks, "--images", p.photos, "--review", out, "--no-browser", *CLASSES],
    "convert": lambda p, out: ["convert", p.masks, "--from", "masks", "--to", "png", "--out", out, *CLASSES],
    "export-tasks": lambda p, out: ["export-tasks", p.masks, "--images", p.photos, "--out", out, *CLASSES],
    "import": lambda p, out: (["import", p.masks, "--from", "masks", "--images", p.photos, "--review", out, *CLASSES]),
    "check": lambda p, out: ["check", "--images", p.photos, "--tags", p.table, "--masks", p.masks, "--out", out],
    "train": lambda p, out: (
        ["train", "--images", p.photos, "--tags", p.table, "--masks", p.masks, "--method", "rrm", "--out", out]
    ),
}
"""Commands that read a folder of masks."""


@pytest.fixture
def small(tmp_path: Path) -> Project:
    """A project, its masks twice: as true masks, and as results that bear a record."""
    project = write_project(tmp_path / "project")
    shutil.copytree(project.masks, project.path / "truth")
    (project.masks / ".tagseg-label").write_text("", encoding="utf-8")
    private = project.path / "private"
    shutil.copytree(project.truth, private)
    return project


def planted(project: Project, how: str) -> None:
    (project.masks / "1.png").unlink()
    if how == "file":
        (project.masks / "1.png").symlink_to(project.private / "1.png")
    else:
        (project.masks / "more").symlink_to(project.private, target_is_directory=True)


@pytest.mark.parametrize("how", ["file", "folder"])
@pytest.mark.parametrize("name", READS)
def test_no_command_follows_a_link_out_of_results(name: str, how: str, small: Project, tmp_path: Path) -> None:
    planted(small, how)
    with pytest.raises(UserError, match=OUTSIDE):
        command(*READS[name](small, tmp_path / "out"))
    assert not list((tmp_path / "out").rglob("*.png"))


def test_links_within_results_and_in_sets_of_ones_own_are_followed(small: Project, tmp_path: Path) -> None:
    (small.masks / "1.png").unlink()
    (small.masks / "1.png").symlink_to("0.png")
    assert "Written to" in command(*READS["evaluate"](small, tmp_path / "a.json"))
    for file in ("0.png", "2.png"):
        (small.truth / file).unlink()
        (small.truth / file).symlink_to(small.private / file)
    assert "Written to" in command(*READS["evaluate"](small, tmp_path / "b.json"))
    assert open_tagged(small.photos, small.table, masks=small.truth).mask(0) is not None


def test_masks_of_a_chain_of_training_are_held_too(small: Project) -> None:
    planted(small, "file")
    data = DataSettings(format="tagged", root=small.photos, tags=small.table, masks=small.masks, val=None)
    with pytest.raises(UserError, match=OUTSIDE):
        open_sources(data, small.path)


@pytest.mark.parametrize("format", ["folders", "coco", "yolo", "label-studio", "cvat"])
def test_no_format_is_read_through_a_link(format: str, small: Project, tmp_path: Path) -> None:
    out, private = tmp_path / format, tmp_path / "elsewhere"
    command("convert", small.truth, "--from", "masks", "--to", format, "--images", small.photos, "--out", out, *CLASSES)
    assert len(list(READERS[format](out).masks)) == 4
    out.rename(private)
    for name in sorted({path.relative_to(private).parts[0] for path in private.rglob("*") if path.is_file()}):
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(private, out)
        place = out / name
        shutil.rmtree(place) if place.is_dir() else place.unlink()
        place.symlink_to(private / name)
        if name.startswith(".") or (format, name) in (("coco", "images.json"), ("folders", "images")):
            continue  # nothing that is read back
        with pytest.raises(UserError, match=OUTSIDE):
            list(READERS[format](out).masks)
    assert OUTPUTS.keys() >= {format}


@pytest.mark.parametrize("name", ["journal.jsonl", "review.json", "masks"])
def test_a_review_writes_and_reads_through_no_link(name: str, tmp_path: Path) -> None:
    """A journal that led to a file without a line's end would have emptied it."""
    folder, victim = tmp_path / "review", tmp_path / "victim"
    Journal(folder, ("background", "cat")).close()
    place = folder / name
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    if name == "masks":
        victim.mkdir()
        write_mask(victim / "0.png", np.ones((4, 4), np.uint8))
    else:
        victim.write_text('{"classes": ["background", "cat"]}', encoding="utf-8")
    before = [path.read_bytes() for path in (victim, *victim.rglob("*")) if path.is_file()]
    place.symlink_to(victim)
    with pytest.raises(UserError, match=OUTSIDE):
        export_tasks(folder, tmp_path / "photos", tmp_path / "tasks", to="label-studio")
    if name != "masks":
        with pytest.raises(UserError, match=OUTSIDE):
            Journal(folder, ("background", "cat"))
    assert [path.read_bytes() for path in (victim, *victim.rglob("*")) if path.is_file()] == before


def test_proposals_of_a_review_are_its_own(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious", encoding="utf-8")
    for name in ("facts.jsonl", ".made-by"):
        folder = tmp_path / name / "proposed"
        folder.mkdir(parents=True)
        (folder / name).symlink_to(victim)
        with pytest.raises(UserError, match=OUTSIDE):
            ModelProposals(segmenter(), folder).begin()
    with pytest.raises(UserError, match=OUTSIDE):
        read_facts(tmp_path / "facts.jsonl" / "proposed")
    assert victim.read_text(encoding="utf-8") == "precious"


def finish_and_merge(out: Path, png: Path) -> None:
    finish(open_place(out))
    merge(open_place(out), "png", png)


@pytest.mark.parametrize("name", ["plan.json", "manifest.jsonl.gz", "records", "shards", "index.jsonl.gz"])
def test_shards_are_read_and_written_through_no_link(name: str, small: Project, tmp_path: Path) -> None:
    out, private = tmp_path / "out", tmp_path / "elsewhere"
    how = Refinement(iterations=1)
    refine_shards(small.truth, small.photos, out, Shards(1), how, device="cpu")
    out.rename(private)
    shutil.copytree(private, out)
    place = out / name
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    place.symlink_to(private / name)
    before = {path: path.stat().st_mtime_ns for path in private.rglob("*")}
    with pytest.raises(UserError, match=OUTSIDE):
        finish_and_merge(out, tmp_path / "png")
    if name != "shards":  # what is done is not opened again
        with pytest.raises(UserError, match=OUTSIDE):
            refine_shards(small.truth, small.photos, out, Shards(1), how, device="cpu")
    assert {path: path.stat().st_mtime_ns for path in private.rglob("*")} == before


def test_photos_in_someone_elses_run_are_no_links(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its report would show them, in a folder that goes back to that person."""
    import yaml

    shutil.move(project.photos, project.run / "photos")
    (project.run / "photos" / "tags.csv").write_bytes(project.table.read_bytes())
    file = project.run / "recipe.yaml"
    values = yaml.safe_load(file.read_text(encoding="utf-8"))
    own = {"root": str(project.run / "photos"), "tags": str(project.run / "photos" / "tags.csv"), "masks": None}
    values["data"] |= own
    file.write_text(yaml.safe_dump(values), encoding="utf-8")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another account"))
    assert "4 masks written" in command("label", project.run, "--out", tmp_path / "masks")
    secret = tmp_path / "secret.png"
    shutil.move(project.run / "photos" / "1.png", secret)
    (project.run / "photos" / "1.png").symlink_to(secret)
    for words in (["report", project.run], ["label", project.run, "--out", tmp_path / "others"]):
        with pytest.raises(UserError, match=OUTSIDE):
            command(*words)
    assert not (tmp_path / "others").exists()


def test_a_recipe_and_a_seal_that_are_links_are_not_ones_own(project: Project, tmp_path: Path) -> None:
    assert is_sealed(RunFolder(project.run))
    other = tmp_path / "theirs"
    other.mkdir()
    for name in ("recipe.yaml", ".trained-here"):
        (other / name).symlink_to(project.run / name)
    assert not is_sealed(RunFolder(other))


def test_compare_reads_no_mask_through_a_link(project: Project, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    shutil.copytree(project.masks, masks)
    (masks / "1.png").unlink()
    (masks / "1.png").symlink_to(project.masks / "1.png")
    with pytest.raises(UserError, match=OUTSIDE):
        command("compare", project.run, masks, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_held_says_what_leads_outside(tmp_path: Path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    Image.new("L", (2, 2)).save(tmp_path / "secret.png")
    (tmp_path / "in" / "a.png").symlink_to(tmp_path / "secret.png")
    (tmp_path / "in" / "b.json").write_text(json.dumps(1), encoding="utf-8")
    (tmp_path / "in" / "c.json").symlink_to("b.json")
    for name in ("b.json", "c.json", "deep/none.json"):
        assert held(tmp_path / "in" / name, tmp_path / "in") == tmp_path / "in" / name
    for name in ("a.png", "../secret.png", "deep/../../secret.png"):
        with pytest.raises(UserError, match=rf"{OUTSIDE} .*/in, as a folder of results never does"):
            held(tmp_path / "in" / name, tmp_path / "in")
