"""The chain as a person types it, on scenes small enough for seconds."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

import tagseg
from tagseg import cli
from tagseg.data.photo import read_mask
from tagseg.data.scenes import write_scenes
from tagseg.engine.fit import fit
from tagseg.errors import UserError
from tagseg.interrupt import Interrupted
from tagseg.recipe import load_recipe, start_recipe
from tagseg.shipped import shipped_chains
from tagseg.workflows.chain import load_chain
from tagseg.workflows.dry_run import plan_training

STAGES = ("classifier", "teacher", "segmenter")
TRAIN = ["train.steps=1", "train.crop=64", "train.short_side=null", "train.batch_size=4", "train.workers=0"]
SMALL = [
    "segmenter.train.warmup_steps=0",
    "data.scenes.train=4",
    "data.scenes.val=2",
    "data.scenes.size=[64, 64]",
    *(f"{stage}.{setting}" for stage in STAGES for setting in TRAIN),
    *(f"{stage}.method.cam_scales=[1.0]" for stage in STAGES[:2]),
    *(f"{stage}.method.{setting}" for stage in STAGES[1:] for setting in ("hidden=8", "dilation=1")),
]


def run(out: Path, *more: str, chain: str = "chain-scenes") -> str:
    words = [word for setting in [*SMALL, *more] for word in ("--set", setting)]
    result = CliRunner().invoke(cli.app, ["run", chain, "--out", str(out), *words])
    if result.exception is not None:
        raise result.exception
    return " ".join(result.output.split())


def times(out: Path) -> dict[str, int]:
    places = [f"{stage}/model.safetensors" for stage in STAGES]
    places += [*(f"masks/{path.name}" for path in (out / "masks").glob("*.png")), "scores.json", "report.html"]
    return {place: (out / place).stat().st_mtime_ns for place in places}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chain that was stopped after its teacher, and gone on with."""
    out = tmp_path_factory.mktemp("chain") / "out"

    def stop(*_: object, **__: object) -> int:
        raise Interrupted

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tagseg.workflows.run.label", stop)
        with pytest.raises((Interrupted, SystemExit)):  # the command line turns it into an exit status
            run(out)
    before = (out / "teacher" / "model.safetensors").stat().st_mtime_ns
    assert not (out / "segmenter").exists()
    text = run(out)
    assert "classifier: nothing has changed. teacher: nothing has changed." in text
    assert (out / "teacher" / "model.safetensors").stat().st_mtime_ns == before
    return out


def test_a_chain_goes_from_photos_to_a_segmenter_and_a_report(done: Path) -> None:
    assert len(list((done / "masks").glob("*.png"))) == 4
    recipe = yaml.safe_load((done / "segmenter" / "recipe.yaml").read_text(encoding="utf-8"))
    assert recipe["data"]["masks"] == str(done / "masks")
    assert recipe["method"]["name"] == "supervised"
    teacher = yaml.safe_load((done / "teacher" / "recipe.yaml").read_text(encoding="utf-8"))
    assert teacher["model"]["start"] == str(done / "classifier")
    scores = json.loads((done / "scores.json").read_text(encoding="utf-8"))
    assert list(scores["stage 1"]["without tags"])[-1] == "combined + CRF"
    assert list(scores["stage 2"]["without tags"]) == ["P_s", "P_s + CRF"]
    assert scores["stage 2"]["without tags"]["P_s"]["photos"] == 2
    assert scores["pseudo masks, tags used, training photos"]["stage 1"]["photos"] == 4
    page = (done / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg") == 2 * 4, "photo, both stages and truth of both val photos"
    assert "stage 1: asdt" in page
    assert "stage 2: segmenter" in page


def test_stages_are_passed_over_until_their_inputs_change(done: Path) -> None:
    before = times(done)
    text = run(done)
    assert text.count("nothing has changed") == 6
    assert times(done) == before
    text = run(done, "label.confidence=1")
    assert text.count("nothing has changed") == 2
    assert "masks: its inputs have changed" in text
    after = times(done)
    assert {place for place in before if after[place] == before[place]} == {
        "classifier/model.safetensors",
        "teacher/model.safetensors",
    }
    assert all((read_mask(path) == 255).any() for path in (done / "masks").glob("*.png"))


def test_what_was_begun_on_other_masks_is_dropped_and_on_the_same_gone_on_with(
    done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(done)
    weights, step = done / "segmenter" / "model.safetensors", done / "segmenter" / "checkpoints" / "step-0000001.json"
    before = weights.read_bytes()

    def stop(*args: object, **kinds: object) -> None:
        fit(*args, **kinds)  # type: ignore[arg-type]
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr("tagseg.workflows.train.fit", stop)
        with pytest.raises((Interrupted, SystemExit)):
            run(done, "label.ignore_below=1")
        begun = step.stat().st_mtime_ns
        with pytest.raises((Interrupted, SystemExit)):
            run(done, "label.ignore_below=1")
        assert step.stat().st_mtime_ns == begun, "the same inputs: gone on with"
    assert "segmenter: its inputs have changed" in run(done)
    assert step.stat().st_mtime_ns != begun
    assert weights.read_bytes() == before


def test_scores_and_report_follow_the_settings_of_prediction(done: Path) -> None:
    run(done)
    before = times(done)
    run(done, "segmenter.predict.crf=null")
    after = times(done)
    assert all(after[file] != before[file] for file in ("scores.json", "report.html"))
    assert all(after[file] == before[file] for file in before if file.startswith("masks/"))
    scores = json.loads((done / "scores.json").read_text(encoding="utf-8"))
    assert list(scores["stage 2"]["without tags"]) == ["P_s"]


def test_a_second_round_learns_from_the_first_segmenters_masks(done: Path) -> None:
    run(done)
    before = (done / "segmenter" / "model.safetensors").stat().st_mtime_ns
    text = run(done, "rounds=2")
    assert text.count("nothing has changed") == 4, "classifier, teacher, masks, segmenter"
    assert (done / "segmenter" / "model.safetensors").stat().st_mtime_ns == before
    assert "The model is " in text
    assert "segmenter-2;" in text
    recipe = yaml.safe_load((done / "segmenter-2" / "recipe.yaml").read_text(encoding="utf-8"))
    assert recipe["data"]["masks"] == str(done / "masks-2")
    scores = json.loads((done / "scores.json").read_text(encoding="utf-8"))
    assert scores["stage 3"]["without tags"]["P_s"]["photos"] == 2
    assert list(scores["pseudo masks, tags used, training photos"]) == ["stage 1", "stage 2"]
    page = (done / "report.html").read_text(encoding="utf-8")
    assert "stage 3: segmenter" in page
    assert page.count("data:image/jpeg") == 2 * 5, "photo, three stages and truth of both val photos"
    assert "segmenter-2" not in run(done), "back to one round"


def test_a_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("important", encoding="utf-8")
    with pytest.raises(UserError, match="not empty and holds no chain"):
        run(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six photos, their tags in tags.csv beside their folder, true masks of two of them in masks."""
    scenes = tmp_path / "scenes"
    write_scenes(scenes, train=5, val=1, size=(64, 64), seed=3)
    folder = tmp_path / "photos"
    shutil.copytree(scenes / "JPEGImages", folder)
    table = (scenes / "tags.csv").read_text(encoding="utf-8")
    (tmp_path / "tags.csv").write_text(table.replace("JPEGImages/", ""), encoding="utf-8")
    (tmp_path / "masks").mkdir()
    for mask in sorted((scenes / "SegmentationClass").glob("*.png"))[:2]:
        shutil.copy(mask, tmp_path / "masks")
    return folder


def own(photos: Path, out: Path, *more: str, stages: tuple[str, ...] = STAGES) -> str:
    train = ("steps=1", "batch_size=2", "workers=0", "warmup_steps=0")
    small = [f"{stage}.train.{setting}" for stage in stages for setting in train]
    small += [f"{stage}.method.hidden=8" for stage in STAGES[1:]]
    words = ["run", "--images", str(photos), "--tags", str(photos.parent / "tags.csv"), "--out", str(out), *more]
    result = CliRunner().invoke(cli.app, [*words, *(word for setting in small for word in ("--set", setting))])
    if result.exception is not None:
        raise result.exception
    return " ".join(result.output.split())


def test_a_segmenter_can_start_from_the_chains_classifier_and_keep_it(tmp_path: Path) -> None:
    out = tmp_path / "out"
    start = load_chain("chain-scenes").teacher.model.start
    more = (f"segmenter.model.start={start}", "segmenter.method.tag_weight=1.0")
    run(out, *more)
    recipe = yaml.safe_load((out / "segmenter" / "recipe.yaml").read_text(encoding="utf-8"))
    assert recipe["model"]["start"] == str(out / "classifier")
    assert minutes(out, "teacher") + minutes(out, "segmenter") == pytest.approx(
        minutes(out) + minutes(out, "classifier"), abs=0.03
    ), "the classifier counts once"
    assert not (out / "segmenter" / "start").exists()
    losses = (out / "segmenter" / "metrics.jsonl").read_text(encoding="utf-8")
    assert '"class"' in losses
    assert run(out, *more).count("nothing has changed") == 6
    assert "classifier: its inputs have changed" in run(out, *more, "classifier.train.seed=5")


def test_own_photos_go_through_the_whole_chain_in_one_command(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    text = own(photos, out, "--method", "bmp")
    assert "6 photos, median short side 64 px" in text
    assert len(list((out / "masks").glob("*.png"))) == 6
    names = [yaml.safe_load((out / stage / "recipe.yaml").read_text())["method"]["name"] for stage in STAGES]
    assert names == ["classifier", "bmp", "supervised"]
    segmenter = yaml.safe_load((out / "segmenter" / "recipe.yaml").read_text())
    assert (segmenter["method"]["decoder"], segmenter["method"]["foreground_share"]) == ("segformer", 0.6)
    assert segmenter["predict"]["tagged_background"] == 0.6
    assert segmenter["train"]["crop"] == 64
    assert json.loads((out / "scores.json").read_text(encoding="utf-8"))["stage 2"] == {}
    assert "stage 2: segmenter" in (out / "report.html").read_text(encoding="utf-8")
    assert own(photos, out, "--method", "bmp").count("nothing has changed") == 8
    prediction = tagseg.load(out / "segmenter-2").predict(photos / sorted(p.name for p in photos.iterdir())[0])
    assert prediction.mask.shape == (64, 64)


def test_few_photos_go_through_mentor_and_a_segmenter_that_goes_on_from_it(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    text = own(photos, out, stages=("teacher", "segmenter"))
    assert "6 photos, median short side 64 px, no GPU, few photos: 1 steps of 2 photos, whole, 64 px long" in text
    assert "Small marks: " in text
    recipes = [yaml.safe_load((out / stage / "recipe.yaml").read_text()) for stage in ("teacher", "segmenter")]
    assert [recipe["method"]["name"] for recipe in recipes] == ["mentor", "supervised"]
    assert recipes[1]["model"]["start"] == str(out / "teacher")
    assert not (out / "classifier").exists()
    prediction = tagseg.load(out).predict(photos / sorted(p.name for p in photos.iterdir())[0])
    assert prediction.mask.shape == (64, 64)


def copied(photos: Path, folder: Path) -> Path:
    """The photos and their table in another folder, with times of their own."""
    shutil.copytree(photos, folder / "photos", copy_function=shutil.copyfile)
    shutil.copyfile(photos.parent / "tags.csv", folder / "tags.csv")
    return folder / "photos"


def test_photos_that_were_copied_elsewhere_are_the_same_until_one_changes(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, few = tmp_path / "out", ("teacher", "segmenter")

    def stop(*_: object, **__: object) -> None:
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr("tagseg.workflows.train.fit", stop)
        with pytest.raises((Interrupted, SystemExit)):
            own(photos, out, stages=few)
    second = copied(photos, tmp_path / "second")
    assert "inputs have changed" not in own(second, out, stages=few), "an unfinished stage goes on"
    assert yaml.safe_load((out / "teacher/recipe.yaml").read_text())["data"]["root"] == str(second)
    before = (out / "teacher/model.safetensors").stat().st_mtime_ns
    third = copied(second, tmp_path / "third")
    text = own(third, out, stages=few)
    assert text.count("nothing has changed") == len(json.loads((out / "chain.json").read_text())["stages"])
    assert (out / "teacher/model.safetensors").stat().st_mtime_ns == before
    out = out.rename(tmp_path / "moved")
    text = own(third, out, stages=few)
    assert "inputs have changed" not in text, "a chain that was moved is the same, whatever its stages start from"

    file = sorted(third.iterdir())[0]
    file.write_bytes(sorted(third.iterdir())[1].read_bytes())
    assert "teacher: its inputs have changed" in own(third, out, stages=few)
    assert (out / "teacher/model.safetensors").stat().st_mtime_ns != before


def test_true_masks_of_own_photos_are_for_scores_alone(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    own(photos, out, "--masks", str(tmp_path / "masks"), "--method", "rrm", "--set", "rounds=1")
    scores = json.loads((out / "scores.json").read_text(encoding="utf-8"))
    assert scores["stage 2"]["without tags"]["P_s"]["photos"] == 2
    assert scores["labels"] == "image-level tags only"
    segmenter = yaml.safe_load((out / "segmenter" / "recipe.yaml").read_text())
    assert segmenter["data"]["masks"] == str(out / "masks"), "stage 2 learns from pseudo masks"
    assert segmenter["data"]["truth"] == str(tmp_path / "masks")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["chain-scenes", "--images", "photos"], "either a chain"),
        (["--images", "photos", "--method", "bpm"], "no method called 'bpm'; did you mean bmp"),
        (["--images", "photos", "--method", "supervised"], "the teacher learns from tags"),
        (["--images", "nowhere"], "nowhere"),
    ],
)
def test_mistakes_with_own_photos_leave_nothing(
    words: list[str], sentence: str, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos.parent)
    result = CliRunner().invoke(cli.app, ["run", *words, "--tags", "tags.csv", "--out", "out"])
    assert isinstance(result.exception, UserError)
    assert sentence in str(result.exception)
    assert not (photos.parent / "out").exists()


@pytest.mark.parametrize("name", shipped_chains())
def test_shipped_chains_name_recipes_that_fit(name: str) -> None:
    assert shipped_chains()[name].startswith("# ")
    chain = load_chain(name, ["seed=5"])
    assert chain.title
    assert (chain.classifier is None) == (chain.teacher.model.start is None)
    recipes = [recipe for recipe in (chain.classifier, chain.teacher, chain.segmenter) if recipe is not None]
    assert {recipe.train.seed for recipe in recipes} == {5}
    assert all(recipe.data == chain.teacher.data for recipe in recipes)


@pytest.mark.parametrize(
    ("text", "override", "sentence"),
    [
        ("teacher: asdt-scenes", "", "teacher and segmenter have to be given"),
        ("teacher: asdt-scenes\nsegmenter: supervised-scenes\nhead: 1", "", "no such key as 'head'"),
        ("teacher: supervised-scenes\nsegmenter: supervised-scenes", "", "the teacher learns from tags"),
        ("teacher: asdt-scene\nsegmenter: supervised-scenes", "", "did you mean asdt-scenes"),
        ("teacher: {train: {steps: 3}}\nsegmenter: supervised-scenes", "", "teacher should be the name of a recipe"),
        (
            "teacher: asdt-scenes\nsegmenter: supervised-scenes",
            "segmenter.train.stepz=3",
            "train.stepz: there is no such key",
        ),
        ("teacher: asdt-scenes\nsegmenter: supervised-scenes", "train.steps=3", "a chain has the keys"),
        ("teacher: asdt-scenes\nsegmenter: supervised-scenes", "label.confidence=2", "from 0 to 1"),
        (
            "teacher: asdt-scenes\nsegmenter: supervised-scenes",
            "segmenter.data.scenes.seed=9",
            "the photos are those of all stages; write 'data.scenes.seed=9'",
        ),
        (
            "teacher: asdt-scenes\nsegmenter: {base: supervised-scenes, data: {root: elsewhere}}",
            "",
            "'segmenter.data.root=.*: the photos are those of all stages",
        ),
        ("teacher: asdt-scenes\nsegmenter: supervised-scenes", "rounds=0", "from 1 to 9"),
        ("teacher: asdt-scenes\nsegmenter: supervised-scenes\nrounds: many", "", "from 1 to 9"),
        ("[", "", "cannot be read as YAML"),
        ("- 1", "", "is not a chain"),
    ],
)
def test_wrong_chains_are_refused_by_name(text: str, override: str, sentence: str, tmp_path: Path) -> None:
    file = tmp_path / "chain.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=sentence):
        load_chain(str(file), [override] if override else [])


def test_a_recipe_is_no_chain() -> None:
    with pytest.raises(UserError, match="a single recipe is run by `tagseg train`"):
        load_chain("asdt-scenes")
    with pytest.raises(UserError, match="did you mean chain-scenes"):
        load_chain("chain-scene")


def test_own_photos_are_trained_on_from_a_folder_of_pseudo_masks(done: Path, tmp_path: Path) -> None:
    scenes, masks, table = done / "scenes", tmp_path / "masks", tmp_path / "tags.csv"
    shutil.copytree(done / "masks", masks)
    names = sorted(path.stem for path in masks.glob("*.png"))
    lines = (scenes / "tags.csv").read_text(encoding="utf-8").splitlines()[1:]
    rows = [line for line in lines if Path(line.split(",")[0]).stem in names]
    table.write_text("\n".join(["file,tags", *(row.removeprefix("JPEGImages/") for row in rows)]), encoding="utf-8")
    classes = (scenes / "labels.txt").read_text(encoding="utf-8").split()
    words = ["train", "--method", "supervised", "--images", scenes / "JPEGImages", "--tags", table, "--masks", masks]
    words += ["--classes", ",".join(name for name in classes if name != "background"), "--out", tmp_path / "out"]
    words += [word for setting in [*TRAIN, "train.warmup_steps=0", "method.hidden=8"] for word in ("--set", setting)]
    result = CliRunner().invoke(cli.app, [str(word) for word in words])
    assert result.exception is None, result.output
    recipe = yaml.safe_load((tmp_path / "out" / "recipe.yaml").read_text(encoding="utf-8"))
    assert recipe["data"]["masks"] == str(masks)
    prediction = tagseg.load(tmp_path / "out").predict(scenes / "JPEGImages" / f"{names[0]}.jpg")
    assert prediction.mask.shape == (64, 64)
    (masks / f"{names[0]}.png").unlink()
    words[words.index("--out") + 1] = tmp_path / "other"
    with pytest.raises(UserError, match=f"needs one for every photo, and {names[0]} has none"):
        raise CliRunner().invoke(cli.app, [str(word) for word in words]).exception or AssertionError


def test_segmenters_go_on_from_the_teacher_and_learn_small_marks_drawn_anew(tmp_path: Path) -> None:
    out = tmp_path / "chain"
    marked = ("label.small_marks=true", "segmenter.model.start=teacher")
    assert "Small marks: " in run(out, *marked)
    assert {path.name for path in (out / "marks").glob("*.png")} == {
        path.name for path in (out / "masks").glob("*.png")
    }
    recipe = yaml.safe_load((out / "segmenter" / "recipe.yaml").read_text())
    assert (recipe["data"]["masks"], recipe["model"]["start"]) == (str(out / "marks"), str(out / "teacher"))
    assert "marks: nothing has changed." in run(out, *marked)
    assert minutes(out) == minutes(out, "segmenter"), "a run's minutes hold those of the run it goes on from"


def minutes(out: Path, stage: str = "") -> float:
    return float(json.loads((out / stage / "scores.json").read_text(encoding="utf-8"))["minutes"])


def test_a_switch_of_small_marks_is_true_or_false(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"label.small_marks should be true or false and is 'some'"):
        run(tmp_path / "chain", "label.small_marks=some")


def test_what_a_run_is_carried_out_with_trains_no_stage_anew(done: Path) -> None:
    run(done)
    before = times(done)
    assert run(done, "teacher.train.log_every=3", "segmenter.train.workers=1").count("nothing has changed") == 6
    assert times(done) == before


def test_a_stage_that_lost_its_weights_is_named_or_trained_anew(done: Path, tmp_path: Path) -> None:
    run(done)
    copy = tmp_path / "out"
    shutil.copytree(done, copy)
    weights = copy / "teacher" / "model.safetensors"
    weights.unlink()
    with pytest.raises(UserError, match=rf"{re.escape(str(weights))} is missing: remove"):
        run(copy)
    shutil.rmtree(weights.parent)
    weights.parent.mkdir()
    assert "teacher: nothing" not in run(copy)
    assert weights.is_file()


def test_a_chains_classifier_follows_its_teacher() -> None:
    changes = ["model.start_train={steps: 7}", "model.backbone=efficientnet_lite1", "model.weights=none"]
    chain = load_chain("chain-voc-animals-mentor", [f"teacher.{change}" for change in changes])
    assert chain.classifier == start_recipe(chain.teacher, "classifier-voc-animals").model_copy(
        update={"data": chain.teacher.data, "title": chain.classifier.title}
    )
    assert (chain.classifier.train.steps, chain.classifier.model.backbone) == (7, "efficientnet_lite1")
    assert load_chain("chain-voc-animals-mentor", ["classifier.train.steps=9"]).classifier.train.steps == 9


def test_a_dry_run_writes_nothing_and_says_what_would_be_refused(tmp_path: Path) -> None:
    root, out = tmp_path / "scenes", tmp_path / "out"
    recipe = load_recipe("classifier-scenes", [f"data.root={root}", "train.crop=64", "train.batch_size=2"])
    assert f"{out} would be made." in plan_training(recipe, out, device="cpu")
    assert list(tmp_path.iterdir()) == []
    out.mkdir()
    (out / "mine.txt").write_text("mine", encoding="utf-8")
    assert f"{out} is not empty and holds no run: it would be refused." in plan_training(recipe, out, device="cpu")
