"""A bad option is named before anything is made."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from tagseg.errors import UserError
from tests.workflows.small_project import Project, command, write_project

DATA = ["--images", "photos", "--tags", "tables/tags.csv"]
REFINE = ["refine", "masks", "photos", "--out", "out"]
EVALUATE = ["evaluate", "masks", "masks", "--out", "out/scores.json"]
CONVERT = ["convert", "masks", "--from", "masks", "--out", "out", "--images", "photos"]
TASKS = ["export-tasks", "masks", "--images", "photos", "--out", "out"]
BAD = {
    "train: a key": (["train", *DATA, "--out", "out", "--set", "train.stepps=3"], "stepps"),
    "train: a value": (["train", *DATA, "--out", "out", "--set", "train.steps=-1"], r"train\.steps"),
    "train: the CRF": (["train", *DATA, "--out", "out", "--set", "predict.crf.iterations=-2"], "iterations"),
    "train: a method": (["train", *DATA, "--out", "out", "--method", "bpm"], "bpm"),
    "train: a device": (["train", *DATA, "--out", "out", "--method", "rrm", "--device", "tpu"], "no device 'tpu'"),
    "train: classes": (["train", *DATA, "--out", "out", "--classes", "cat,cat"], "stands twice"),
    "train: a recipe": (["train", "rrm-scenes", "--out", "out", "--set", "scenes=1"], "scenes"),
    "run: a key": (["run", "chain-scenes", "--out", "out", "--set", "segmenter.train.stepps=1"], "stepps"),
    "run: a device": (["run", "chain-scenes", "--out", "out", "--device", "tpu"], "no device 'tpu'"),
    "demo: a seed": (["demo", "--out", "out", "--seed", "-1"], "seed"),
    "demo: a device": (["demo", "--out", "out", "--device", "tpu"], "no device 'tpu'"),
    "check: classes": (["check", *DATA, "--out", "out", "--classes", "background"], "background"),
    "refine: sxy": ([*REFINE, "--sxy", "-3"], r"bilateral\.0"),
    "refine: srgb": ([*REFINE, "--srgb", "nan"], r"bilateral\.1"),
    "refine: weight": ([*REFINE, "--weight", "inf"], r"bilateral\.2"),
    "refine: iterations": ([*REFINE, "--iterations", "-1"], "iterations"),
    "refine: probability": (
        [*REFINE, "--label-probability", "1.5"],
        "--label-probability should lie between 0.5 and 1",
    ),
    "refine: a device": ([*REFINE, "--device", "tpu"], "no device 'tpu'"),
    "refine: sxy by shards": ([*REFINE, "--shards", "2", "--sxy", "-3"], r"bilateral\.0"),
    "refine: a shard": ([*REFINE, "--shards", "2", "--shard", "2/2"], "shard 2 of 2 does not exist"),
    "refine: a shard in words": ([*REFINE, "--shards", "2", "--shard", "one"], "--shard should be a number"),
    "refine: too many shards": ([*REFINE, "--shards", "100001"], "--shards should be from 1 to"),
    "refine: a container": ([*REFINE, "--shards", "2", "--container", "rar"], "--container should be one of"),
    "refine: an engine": ([*REFINE, "--shards", "2", "--engine", "dask"], "--engine should be local or ray"),
    "refine: ray by parts": ([*REFINE, "--shards", "2", "--engine", "ray", "--shard", "0/2"], "leave out --shard"),
    "refine: overwrite": ([*REFINE, "--shards", "2", "--overwrite"], "--overwrite does not go with --shards"),
    "evaluate: classes": ([*EVALUATE, "--classes", "a,a"], "stands twice"),
    "evaluate: an empty class": ([*EVALUATE, "--classes", "a,,b"], "is empty"),
    "evaluate: a list": ([*EVALUATE, "--split", "val"], "no folder in VOC.s layout"),
    "convert: a format": ([*CONVERT, "--to", "jpg"], "no format 'jpg'"),
    "convert: classes": ([*CONVERT, "--to", "cvat", "--classes", "a:b,c"], "CVAT's labelmap"),
    "export-tasks: a tool": ([*TASKS, "--to", "paint", "--classes", "a,b"], "no tool 'paint'"),
    "export-tasks: a state": ([*TASKS, "--state", "nice", "--classes", "a,b"], "no states"),
    "export-tasks: classes": ([*TASKS, "--to", "cvat", "--classes", "#a,b"], "CVAT's labelmap"),
    "import: a format": (
        ["import", "masks", "--from", "paint", "--images", "photos", "--review", "out"],
        "no format 'paint'",
    ),
    "review: classes": (
        ["review", "masks", "--images", "photos", "--review", "out", "--no-browser", "--classes", "a,a"],
        "stands twice",
    ),
    "review: a host": (
        ["review", "masks", "--images", "photos", "--review", "out", "--classes", "a,b", "--host", "nowhere.invalid"],
        "nowhere",
    ),
    "review: columns": (
        ["review", "masks", "--images", "photos", "--review", "out", "--classes", "a,b", "--separator", ";"],
        "--separator goes with --tags",
    ),
    "review: a place": (
        ["review", "masks", "--images", "photos", "--review", "out", "--set", "data.root=photos"],
        "give one of them",
    ),
    "convert: classes of masks that name their own": (
        ["convert", "coco", "--from", "coco", "--to", "png", "--out", "out", "--classes", "dog,cat"],
        "coco has the classes cat, dog: leave --classes out",
    ),
    "export-tasks: classes of a review that has its own": (
        ["export-tasks", "reviewed", "--images", "photos", "--out", "out", "--classes", "dog,cat"],
        "reviewed has the classes cat, dog: leave --classes out",
    ),
    "import: other classes than the review's": (
        ["import", "coco", "--from", "coco", "--images", "photos", "--review", "reviewed", "--classes", "dog,cat"],
        "reviewed has the classes cat, dog: leave --classes out",
    ),
    "serve: a folder": (["serve", "run", "--images", "photos"], "--images goes with --label-studio"),
    "run: no photos": (["run", "--out", "out", "--tags", "tables/tags.csv"], "--tags goes with --images"),
    "run: no photos of a method": (["run", "--out", "out", "--method", "bogus"], "--method goes with --images"),
    "run: nothing to set": (["run", "--out", "out", "--set", "rounds=1"], "--set goes with a chain or --images"),
    "refine: classes": ([*REFINE, "--classes", "cat,dog"], "--classes goes with --tags"),
    "refine: workers": ([*REFINE, "--shards", "2", "--workers", "2"], "--workers goes with --engine ray"),
    "evaluate: columns": ([*EVALUATE, "--tags-column", "tags"], "--tags-column goes with --tags"),
    "export-tasks: a photo URL": ([*TASKS, "--to", "cvat", "--photo-url", "http://x"], "--photo-url goes with --to"),
    "export-tasks: tags": ([*TASKS, "--to", "cvat", "--tags", "tables/tags.csv"], "--tags goes with --to label-studio"),
    "data prepare: test photos": (["data", "prepare", "coco14", "--root", "out", "--test"], "--test goes with voc12"),
    "train: tags beside a recipe": (
        ["train", "asdt-scenes", "--tags", "t.csv", "--out", "out"],
        "--set data.tags=VALUE",
    ),
    "train: a method beside a recipe": (["train", "asdt-scenes", "--method", "bmp", "--out", "out"], "another recipe"),
    "run: masks beside a chain": (["run", "chain-scenes", "--masks", "m", "--out", "out"], "--set data.masks=VALUE"),
    "run: a column without photos": (["run", "--file-column", "f", "--out", "out"], "--file-column goes with --images"),
    "reproduce: seeds": (["reproduce", "asdt-table4", "--on", "scenes", "--out", "out", "--seeds", "0,0"], "--seeds"),
    "reproduce: a table": (["reproduce", "table-99", "--out", "out"], "no table"),
    "reproduce: a device": (["reproduce", "asdt-table4", "--out", "out", "--device", "tpu"], "no device 'tpu'"),
    "reproduce: a place": (["reproduce", "efficiency", "--on", "mars", "--out", "out"], "--on is one of"),
    "data prepare: a set": (["data", "prepare", "voc13", "--root", "out"], "no data set 'voc13'"),
}
OF_A_RUN = {
    "label: a probability": (["label", "run", "--out", "out", "--ignore-below", "nan"], "--ignore-below should be"),
    "label: percent": (["label", "run", "--out", "out", "--ignore-below", "50"], "--ignore-below should be"),
    "label: by shards": (["label", "run", "--out", "out", "--ignore-below", "-1", "--shards", "2"], "--ignore-below"),
    "label: a dry run by shards": (
        ["label", "run", "--out", "out", "--dry-run", "--shards", "2"],
        "--dry-run does not",
    ),
    "label: tags without photos": (
        ["label", "run", "--out", "out", "--tags", "tables/tags.csv"],
        "--tags goes with --images: add that, or leave --tags out",
    ),
    "label: classes without photos": (["label", "run", "--out", "out", "--classes", "a"], "--classes goes with"),
    "label: columns without photos": (
        ["label", "run", "--out", "out", "--file-column", "file", "--dry-run"],
        "--file-column goes with --images",
    ),
    "label: tags without photos by shards": (
        ["label", "run", "--out", "out", "--tags", "tables/tags.csv", "--shards", "2"],
        "--tags goes with --images",
    ),
    "review: tags without photos": (
        ["review", "run", "--review", "out", "--tags", "tables/tags.csv", "--no-browser"],
        "--tags goes with --images",
    ),
    "review: a second model": (
        ["review", "run", "--review", "out", "--model", "run", "--no-browser"],
        "--model goes with a folder of masks",
    ),
    "review: classes of a run": (
        ["review", "run", "--images", "photos", "--review", "out", "--classes", "dog,cat", "--no-browser"],
        "run has the classes cat, dog: leave --classes out",
    ),
    "predict: classes without tags": (
        ["predict", "run", "photos", "--out", "out", "--classes", "cat,dog"],
        "--classes goes with --tags",
    ),
    "label: scales": (["label", "run", "--out", "out", "--scales", "0"], "scales"),
    "label: a device": (["label", "run", "--out", "out", "--device", "tpu"], "no device 'tpu'"),
    "label: a place": (["label", "run", "--out", "out", "--set", "train.steps=1"], "only places"),
    "predict: a format": (["predict", "run", "photos", "--out", "out", "--format", "gif"], "no format 'gif'"),
    "predict: scales": (["predict", "run", "photos", "--out", "out", "--scales", "1,x"], "scales"),
    "predict: a merge": (["predict", "run", "photos", "--out", "out", "--merge", "median"], "merge"),
    "predict: a precision": (["predict", "run", "photos", "--out", "out", "--precision", "fp8"], "precision"),
    "predict: classes": (
        ["predict", "run", "photos", "--out", "out", "--tags", "tables/tags.csv", "--classes", "cow"],
        "does not know the class",
    ),
    "predict: a photo URL": (["predict", "run", "photos", "--out", "out", "--photo-url", "http://x"], "--photo-url"),
    "predict: a format by shards": (
        ["predict", "run", "photos", "--out", "out", "--format", "coco", "--shards", "2"],
        "--format does not go with --shards",
    ),
    "export: a format": (["export", "run", "--out", "out/model.onnx", "--format", "tflite"], "no export format"),
    "export: an ending": (["export", "run", "--out", "out/model.pt2", "--format", "onnx"], "should end in"),
    "compare: a device": (["compare", "run", "--out", "out", "--device", "tpu"], "no device 'tpu'"),
    "compare: a place": (["compare", "run", "--out", "out", "--set", "train.steps=1"], "only places"),
    "report: a device": (["report", "run", "--device", "tpu"], "no device 'tpu'"),
}


def before_and_after(project: Project) -> list[tuple[str, int]]:
    """Every file and folder but the photos' own, with the time of its last change."""
    return sorted((str(path), path.stat().st_mtime_ns) for path in project.path.rglob("*") if path.name != ".in-use")


def named(project: Project, words: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.path)
    before = before_and_after(project)
    with pytest.raises(UserError, match=sentence):
        command(*words)
    assert before_and_after(project) == before


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = write_project(tmp_path_factory.mktemp("options") / "project")
    masks = (project.masks, "--from", "masks", "--classes", "cat,dog")
    command("convert", *masks, "--to", "coco", "--out", project.path / "coco")
    command("import", *masks, "--images", project.photos, "--review", project.path / "reviewed")
    return project


@pytest.mark.parametrize("name", BAD)
def test_a_bad_option_is_named_before_anything_is_made(
    name: str, photos: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    named(photos, *BAD[name], monkeypatch)


@pytest.mark.parametrize(
    "words",
    [
        ["demo", "--out"],
        ["check", "--images"],
        ["check", *DATA, "--out"],
        ["train", "classifier-scenes", "--out"],
        ["train", "classifier-scenes", "--dry-run", "--out"],
        ["run", "chain-scenes", "--out"],
        ["reproduce", "asdt-table4", "--on", "scenes", "--out"],
        ["data", "prepare", "voc12", "--root"],
        ["data", "check", "voc12", "--root"],
        ["review", "masks", "--images", "photos", "--classes", "cat,dog", "--no-browser", "--review"],
        ["import", "coco", "--from", "coco", "--images", "photos", "--review"],
        ["convert", "coco", "--from", "coco", "--to", "png", "--out"],
        ["evaluate", "masks", "masks", "--classes", "cat,dog", "--out"],
        ["export", "hf://owner/name", "--out"],
        ["finish", "masks", "--format", "png", "--to"],
    ],
)
def test_no_folder_is_made_of_the_address_of_a_store(
    words: list[str], photos: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    named(photos, [*words, "s3://bucket/results"], "^s3://bucket/results is no place on this machine", monkeypatch)


@pytest.mark.parametrize("name", OF_A_RUN)
def test_a_bad_option_of_a_command_on_a_run_is_named_before_anything_is_made(
    name: str, untouched: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    named(untouched, *OF_A_RUN[name], monkeypatch)


def test_finish_and_check_look_at_all_their_options_first(
    tmp_path: Path, photos: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos.path)
    parts = tmp_path / "parts"
    command(*REFINE[:3], "--out", parts, "--shards", "1", "--iterations", "1")
    (parts / "_SUCCESS").unlink()
    for words, sentence in (
        (["--format", "png"], "go together"),
        (["--to", tmp_path / "to"], "go together"),
        (["--format", "gif", "--to", tmp_path / "to"], "no format 'gif'"),
        (["--format", "yolo", "--to", tmp_path / "to"], "needs the photos themselves"),
    ):
        with pytest.raises(UserError, match=sentence):
            command("finish", parts, *words)
        assert not (parts / "_SUCCESS").exists()
        assert not (tmp_path / "to").exists()
    (tmp_path / "notes.csv").write_text("mine", encoding="utf-8")
    broken = tmp_path / "broken"
    shutil.copytree(photos.photos, broken)
    (broken / "0.png").write_bytes(np.zeros(9, np.uint8).tobytes())
    with pytest.raises(UserError, match="holds something else than a list of problems"):
        command("check", "--images", broken, "--tags", photos.table, "--out", tmp_path / "notes.csv")
