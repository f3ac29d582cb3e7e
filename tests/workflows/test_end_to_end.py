"""The commands as a person types them, on scenes small enough for seconds."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from filelock import FileLock
from PIL import Image
from typer.testing import CliRunner

import tagseg
from tagseg import cli
from tagseg.data.photo import read_mask
from tagseg.data.scenes import write_scenes
from tagseg.errors import UserError
from tagseg.outputs.confidence import read_rows
from tagseg.outputs.inert import markdown
from tagseg.recipe import load_recipe

SMALL = [
    "data.scenes.train=8",
    "data.scenes.val=3",
    "data.scenes.size=[64, 64]",
    "train.crop=64",
    "train.short_side=null",
    "train.batch_size=4",
    "train.workers=0",
    "train.log_every=1",
]
HEADS = ["method.cam_scales=[1.0]", "method.hidden=8", "method.dilation=1"]


def run(*words: str, code: int = 0) -> str:
    """Run the command line in this process, as `main` does, and return all it printed."""
    result = CliRunner().invoke(cli.app, [str(word) for word in words])
    if code == 0 and result.exception is not None:
        raise result.exception
    if code:
        assert isinstance(result.exception, UserError) or result.exit_code == code, result.output
        return str(result.exception) if isinstance(result.exception, UserError) else result.output
    return result.output


def settings(*more: str) -> list[str]:
    return [word for setting in [*SMALL, *more] for word in ("--set", setting)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ASDT trained for four steps from a classifier of two."""
    folder = tmp_path_factory.mktemp("trained")
    start, out = folder / "start", folder / "run"
    run("train", "classifier-scenes", "--out", start, *settings("train.steps=2", "method.cam_scales=[1.0]"))
    run("train", "asdt-scenes", "--out", out, *settings(*HEADS, "train.steps=4", f"model.start={start}"))
    return out


def test_a_run_folder_holds_what_the_readme_says(trained: Path) -> None:
    files = {path.name for path in trained.iterdir()}
    assert files >= {
        "recipe.yaml",
        "metrics.jsonl",
        "events",
        "checkpoints",
        "model.safetensors",
        "model.json",
        "report.html",
    }
    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert {"loss", "class", "student labels", "wave", "lr"} <= set(rows[0])
    scores = json.loads((trained / "scores.json").read_text(encoding="utf-8"))["scores"]["without tags"]
    assert list(scores) == [name + crf for name in ("P_ct", "P_st", "P_s", "combined") for crf in ("", " + CRF")]
    assert all(scores[name]["photos"] == 3 for name in scores)
    assert yaml.safe_load((trained / "recipe.yaml").read_text(encoding="utf-8"))["train"]["steps"] == 4


def test_a_finished_run_is_left_alone(trained: Path) -> None:
    before = (trained / "model.safetensors").stat().st_mtime_ns
    start = trained.parent / "start"
    text = run("train", "asdt-scenes", "--out", trained, *settings(*HEADS, "train.steps=4", f"model.start={start}"))
    assert "is finished" in text
    assert (trained / "model.safetensors").stat().st_mtime_ns == before


def test_another_recipe_in_the_same_folder_is_refused(trained: Path) -> None:
    text = run("train", "asdt-scenes", "--out", trained, "--set", "train.steps=3", code=2)
    assert "another recipe" in text
    assert str(trained) in text


def test_labels_use_the_tags_and_go_on_where_they_stopped(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "masks"
    text = run("label", trained, "--out", out)
    scores = json.loads((trained / "pseudo_masks.json").read_text(encoding="utf-8"))
    assert f"mIoU {scores['miou']:.1f} % against the true masks of 8 of these photos" in text
    masks = sorted(out.glob("*.png"))
    assert len(masks) == 8
    tags = dict(
        line.split(",") for line in (trained / "scenes" / "tags.csv").read_text(encoding="utf-8").split() if "," in line
    )
    classes = (trained / "scenes" / "labels.txt").read_text(encoding="utf-8").split()
    for path in masks:
        given = {classes.index(tag) + 1 for tag in _cell(trained, path.stem).split()}
        assert set(np.unique(read_mask(path)).tolist()) <= given | {0}
    assert tags
    masks[0].unlink()
    kept = masks[1].stat().st_mtime_ns
    table = (out / "confidence.csv").read_text(encoding="utf-8").splitlines()
    torn = "\n".join([table[0], *table[2:], table[1][:-3]])  # as a kill leaves it: the row of the missing mask is cut
    (out / "confidence.csv").write_text(torn, encoding="utf-8")
    with (out / ".tagseg-label").open("a", encoding="utf-8") as record:
        record.write('\n["confidence.csv", null]')  # begun, not finished
    assert "1 masks written" in run("label", trained, "--out", out)
    assert masks[0].is_file()
    assert masks[1].stat().st_mtime_ns == kept
    assert (out / "confidence.csv").read_text(encoding="utf-8").splitlines() == table
    assert table[0] == "file,confidence,expected_iou"
    assert [line.partition(",")[0] for line in table[1:]] == [path.stem for path in masks]
    assert all(0 < row.confidence <= 1 for row in read_rows(out / "confidence.csv").values())


def test_labels_are_read_as_the_options_say_and_not_mixed_with_others(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "masks"
    run("label", trained, "--out", out)

    def objects() -> int:
        return sum(int((read_mask(path) > 0).sum()) for path in out.glob("*.png"))

    before, times = objects(), {path: path.stat().st_mtime_ns for path in out.iterdir()}
    words = ["label", trained, "--out", out, "--tagged-background", "0.01", "--scales", "1,1.5", "--flip"]
    text = run(*words, code=1)
    assert "holds results of another model, format or setting" in text
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == times
    run(*words, "--overwrite")
    assert objects() > before
    assert "0 masks written" in run(*words)


def _cell(trained: Path, name: str) -> str:
    for line in (trained / "scenes" / "tags.csv").read_text(encoding="utf-8").splitlines()[1:]:
        file, _, tags = line.partition(",")
        if Path(file).stem == name:
            return tags
    raise AssertionError(name)


def test_unsure_pixels_are_written_as_ignore(trained: Path, tmp_path: Path) -> None:
    for least in ("0.0", "1.0"):
        run("label", trained, "--out", tmp_path / least, "--confidence", least)
    names = [path.name for path in (tmp_path / "1.0").glob("*.png")]
    assert names
    for name in names:
        whole, sure = (read_mask(tmp_path / least / name) for least in ("0.0", "1.0"))
        assert not (whole == 255).any()
        assert (sure == 255).mean() > 0.5
        assert np.array_equal(sure[sure != 255], whole[sure != 255])


def test_predictions_have_the_photos_names_and_sizes_and_a_palette(trained: Path, tmp_path: Path) -> None:
    photos = tmp_path / "new photos"
    photos.mkdir()
    Image.new("RGB", (50, 30), "green").save(photos / "a, b.jpg")
    Image.new("L", (1, 1)).save(photos / "tiny.png")
    run("predict", trained, photos, "--out", tmp_path / "out")
    with Image.open(tmp_path / "out" / "a, b.png") as mask:
        assert (mask.mode, mask.size) == ("P", (50, 30))
    assert read_mask(tmp_path / "out" / "tiny.png").shape == (1, 1)


def test_a_broken_photo_is_named_and_the_others_are_done(trained: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.new("RGB", (40, 40), "red").save(photos / "good.jpg")
    (photos / "bad.jpg").write_text("no photo", encoding="utf-8")
    text = run("predict", trained, photos, "--out", tmp_path / "out", code=2)
    assert "1 photo(s) could not be read" in text
    assert (tmp_path / "out" / "good.png").is_file()


def test_masks_are_scored_against_truth(trained: Path, tmp_path: Path) -> None:
    run("predict", trained, trained / "scenes" / "JPEGImages", "--out", tmp_path / "masks")
    run(
        "evaluate",
        tmp_path / "masks",
        trained / "scenes",
        "--split",
        "val",
        "--labels",
        "tags only",
        "--out",
        tmp_path / "s.json",
    )
    written = json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))
    own = json.loads((trained / "scores.json").read_text(encoding="utf-8"))["scores"]["without tags"]["combined + CRF"]
    assert written["miou"] == pytest.approx(own["miou"], abs=1e-3)
    assert written["labels_used"] == "tags only"


def test_python_gives_the_same_as_the_command(trained: Path, tmp_path: Path) -> None:
    photo = sorted((trained / "scenes" / "JPEGImages").glob("*.jpg"))[0]
    run("predict", trained, photo, "--out", tmp_path)
    prediction = tagseg.load(trained).predict(photo)
    assert prediction.classes[0] == "background"
    assert prediction.probabilities.shape == (len(prediction.classes), *prediction.mask.shape)
    assert np.array_equal(prediction.mask, read_mask(tmp_path / f"{photo.stem}.png"))
    tagged = tagseg.load(trained).predict(photo, tags=[prediction.classes[2]])
    assert set(np.unique(tagged.mask).tolist()) <= {0, 2}
    with pytest.raises(UserError, match="does not know the tag 'whale'"):
        tagseg.load(trained).predict(photo, tags=["whale"])


def test_runs_are_compared_side_by_side(trained: Path, tmp_path: Path) -> None:
    text = run("compare", trained, "--out", tmp_path / "comparison")
    assert "combined" in text
    rows = json.loads((tmp_path / "comparison" / "compare.json").read_text(encoding="utf-8"))
    assert [row["branch"] for row in rows] == ["P_ct", "P_st", "P_s", "combined"]
    assert (tmp_path / "comparison" / "compare.html").stat().st_size > 10_000
    lines = (tmp_path / "comparison" / "compare.md").read_text(encoding="utf-8").splitlines()
    assert [line.split(" | ")[0].strip("| *") for line in lines[3:7]] == ["P_ct", "P_st", "P_s", "combined"]
    machine = json.loads((trained / "scores.json").read_text(encoding="utf-8"))["machine"]
    assert lines[6].endswith(" | A |")
    assert lines[8:] == [f"- A: {markdown(machine)}"]
    assert max(map(len, lines[:7])) <= 120
    # fewer photos; photos of the same names
    for name, others in (("fewer", "data.scenes.val=2"), ("others", "data.scenes.seed=1")):
        small = settings(*HEADS, "train.steps=1", "model.start=null", others)
        run("train", "rrm-scenes", "--out", tmp_path / name, *small)
        assert "other photos or classes" in run("compare", trained, tmp_path / name, "--out", tmp_path / "c", code=2)


def test_two_trainings_never_share_a_folder(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(trained, out)
    command = ["train", out / "recipe.yaml", "--out", out]
    with FileLock(out / ".in-use"):
        assert "Another training is at work" in run(*command, code=2)
        assert "Another training is at work" in run(*command, "--overwrite", code=2)
        assert (out / "scores.json").is_file()
    assert "is finished" in " ".join(run(*command).split())  # a long folder breaks the line
    assert not (out / ".in-use").exists()


def test_seeds_of_one_recipe_share_their_rows(trained: Path, tmp_path: Path) -> None:
    other = tmp_path / "other seed"
    shutil.copytree(trained, other)
    recipe = yaml.safe_load((other / "recipe.yaml").read_text(encoding="utf-8"))
    recipe["train"]["seed"] = 5
    (other / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    facts = json.loads((other / "scores.json").read_text(encoding="utf-8"))
    one = json.loads((trained / "scores.json").read_text(encoding="utf-8"))["scores"]["without tags"]["P_s"]["miou"]
    facts["scores"]["without tags"]["P_s"]["miou"] = one + 3
    (other / "scores.json").write_text(json.dumps(facts), encoding="utf-8")
    for folder, score in ((trained, 40.0), (other, 42.0)):
        (folder / "pseudo_masks.json").write_text(json.dumps({"miou": score}), encoding="utf-8")

    run("compare", trained, other, "--out", tmp_path / "c")
    rows = json.loads((tmp_path / "c" / "compare.json").read_text(encoding="utf-8"))
    assert [row["branch"] for row in rows] == ["P_ct", "P_st", "P_s", "combined"]
    assert rows[2]["before CRF"] == [one, one + 3]
    text = (tmp_path / "c" / "compare.md").read_text(encoding="utf-8")
    assert "seeds 0, 5**, image-level tags only |" in text
    assert f"{one + 1.5:.1f} ({one:.1f} to {one + 3:.1f})" in text
    assert "41.0 (40.0 to 42.0)" in text
    run("compare", trained, trained, "--out", tmp_path / "c")  # one seed twice is no second seed
    assert len(json.loads((tmp_path / "c" / "compare.json").read_text(encoding="utf-8"))) == 8

    changed = [tmp_path / "changed" / each.name for each in (trained, other)]  # a folder's name is no name of a group
    for source, folder in zip((trained, other), changed, strict=True):
        shutil.copytree(source, folder)
        values = yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8"))
        values["train"]["weight_decay"] = 0.123  # another recipe of the same title
        (folder / "recipe.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    run("compare", trained, other, *changed, "--out", tmp_path / "c")
    names = {row["run"] for row in json.loads((tmp_path / "c" / "compare.json").read_text(encoding="utf-8"))}
    assert sorted(name.rpartition("(")[2] for name in names) == sorted(f"{each} ...)" for each in (trained, changed[0]))
    page = (tmp_path / "c" / "compare.html").read_text(encoding="utf-8")
    assert all(name in page for name in names)


def test_own_photos_go_from_check_to_masks_to_report(tmp_path: Path) -> None:
    write_scenes(tmp_path / "scenes", train=15, val=1, size=(64, 64), seed=3)
    photos = tmp_path / "photos"
    shutil.copytree(tmp_path / "scenes" / "JPEGImages", photos)
    for path in photos.iterdir():
        if path.stem not in (tmp_path / "scenes" / "ImageSets" / "Segmentation" / "train.txt").read_text().split():
            path.unlink()
    lines = (tmp_path / "scenes" / "tags.csv").read_text(encoding="utf-8").splitlines()
    rows = [line.replace("JPEGImages/", "") for line in lines[1:] if (photos / Path(line.split(",")[0]).name).is_file()]
    table = tmp_path / "tags.csv"
    table.write_text("\n".join(["file,tags", *rows]), encoding="utf-8")
    assert "15" in run("check", "--images", photos, "--tags", table)
    out = tmp_path / "run"
    small = ["train.steps=2", "train.batch_size=4", "train.workers=0", *HEADS, "model.start_train.steps=1"]
    words = [word for setting in small for word in ("--set", setting)]
    text = run("train", "--images", photos, "--tags", table, "--method", "asdt", "--out", out, *words)
    assert "15 photos" in text
    assert (out / "report.html").is_file()
    recipe, start = (yaml.safe_load((folder / "recipe.yaml").read_text()) for folder in (out, out / "start"))
    assert (start["method"]["name"], start["train"]["steps"]) == ("classifier", 1)
    assert recipe["train"]["crop"] == start["train"]["crop"] == 64
    wave = recipe["method"]["wave"]  # of 400 steps, for 2
    assert (wave["period"], wave["high"], wave["warmup"]) == (1, 0, 1)
    run("label", out, "--out", tmp_path / "masks")
    assert len(list((tmp_path / "masks").glob("*.png"))) == 15


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["train"], "either a recipe"),
        (["train", "nothing-like-it"], "no recipe or file"),
        (["train", "asdt-scenes", "--set", "train.steps=x"], "train.steps"),
        (["train", "rrm-scenes", "--set", "model.start_train.stepz=1"], "train.stepz: there is no such key"),
        (["label", "nowhere"], "nowhere is no run folder"),
        (["predict", "nowhere", "photos"], "holds no finished model"),
        (["report", "nowhere"], "is no run folder"),
        (["evaluate", "nowhere", "truth"], "does not exist"),
    ],
)
def test_mistakes_end_in_one_sentence(
    words: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = run(*words, code=2)
    assert sentence in text
    assert "\n" not in text.strip()
    assert not list(tmp_path.iterdir()), "a mistake leaves nothing behind"


def test_the_version_is_printed() -> None:
    assert run("--version").strip() == f"tagseg {tagseg.__version__}"


def test_recipes_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    text = run("recipes")
    assert "asdt-scenes" in text
    assert load_recipe("asdt-scenes").title


def test_a_start_without_the_backbones_weights_is_refused(trained: Path, tmp_path: Path) -> None:
    words = settings(*HEADS, "train.steps=1", f"model.start={trained}", "model.backbone=resnet18", "model.weights=none")
    text = run("train", "asdt-scenes", "--out", tmp_path / "run", *words, code=2)
    assert (
        "holds no weights of the backbone resnet18: it is of a model on efficientnet_lite0; set model.backbone to"
        in text
    )
