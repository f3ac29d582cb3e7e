"""What `tagseg review` and `tagseg serve` open, and what they refuse."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from tagseg.cli import app
from tagseg.data.class_lists import listed_classes
from tagseg.errors import UserError
from tagseg.review.proposals import read_facts
from tagseg.segmenter import Segmenter
from tagseg.weights import save_weights
from tagseg.workflows.review import open_review
from tests.methods.small import build
from tests.review.photos import write_masks, write_photos


def run(folder: Path, seed: int = 0) -> Path:
    """A run folder with a small model that knows cat, dog and sheep."""
    segmenter = Segmenter(build("rrm", hidden=8 + seed), {"crf": None})
    folder.mkdir()
    save_weights(folder / "model.safetensors", segmenter.method)
    segmenter.save(folder, {})
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    write_photos(tmp_path / "photos", 3)
    (tmp_path / "photos" / "p0.jpg").write_bytes((tmp_path / "photos" / "p0.png").read_bytes())  # the same name
    (tmp_path / "tags.csv").write_text("file,tags\np0.png,dog\np1.png,dog;cat\n")
    (tmp_path / "photos" / "p0.jpg").unlink()
    return tmp_path / "photos"


def test_a_model_labels_what_the_table_names_and_the_rest_without_tags(tmp_path: Path, photos: Path) -> None:
    session = open_review(run(tmp_path / "run"), tmp_path / "review", images=photos, tags=tmp_path / "tags.csv")
    assert session.classes == ("background", "cat", "dog", "sheep")
    assert [session.tags(i) for i in range(3)] == [("dog",), ("cat", "dog"), None]
    masks = [session.mask(i)[0] for i in range(3)]
    assert set(np.unique(masks[0])) <= {0, 2}
    assert len(session.order(3)) == 3
    session.close()
    made = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "review/proposed").glob("*.png")}
    assert sorted(made) == ["p0.png", "p1.png", "p2.png"]

    again = open_review(tmp_path / "run", tmp_path / "review", images=photos, tags=tmp_path / "tags.csv")
    again.look(0)
    again.close()
    assert (tmp_path / "review/proposed/p0.png").stat().st_mtime_ns == made["p0.png"]  # not labeled again
    other = open_review(run(tmp_path / "other", 8), tmp_path / "review", images=photos, tags=tmp_path / "tags.csv")
    other.look(0)
    assert list(read_facts(tmp_path / "review/proposed")) == ["p0"]  # the other masks are of another model
    assert (tmp_path / "review/proposed/p0.png").stat().st_mtime_ns != made["p0.png"]
    other.close()


def test_a_chain_s_folder_is_reviewed_by_its_last_stage(tmp_path: Path, photos: Path) -> None:
    chain = tmp_path / "chain"
    chain.mkdir()
    stages = {"teacher": {}, "segmenter": {}, "report": {"done": True}}
    (chain / "chain.json").write_text(json.dumps({"stages": stages, "last": "segmenter"}), encoding="utf-8")
    (run(chain / "segmenter") / "scores.json").write_text("{}", encoding="utf-8")
    session = open_review(chain, tmp_path / "review", images=photos)
    assert (session.title, session.classes) == ("chain", ("background", "cat", "dog", "sheep"))
    session.close()
    for place in (chain, chain / "masks", chain / "segmenter", chain / "segmenter/checkpoints"):
        with pytest.raises(UserError, match=r"choose another --review"):
            open_review(chain, place, images=photos)
        assert not (place / "review.json").exists()
    open_review(chain, chain / "review", images=photos).close()
    open_review(chain, chain / "segmenter/review", images=photos).close()
    masks = write_masks(tmp_path / "masks", write_photos(photos, 3))
    with pytest.raises(UserError, match=r"choose another --review"):
        open_review(masks, chain, images=photos, model=chain)
    (chain / "segmenter/scores.json").unlink()
    with pytest.raises(UserError, match="is a chain that is not complete"):
        open_review(chain, tmp_path / "other", images=photos)


def test_a_folder_of_masks_takes_its_classes_from_what_there_is(tmp_path: Path, photos: Path) -> None:
    masks = write_masks(tmp_path / "masks", write_photos(photos, 3))
    for options, names in (
        ({"classes": ("green", "blue")}, ("green", "blue")),
        ({"tags": tmp_path / "tags.csv"}, ("cat", "dog")),
        ({"model": run(tmp_path / "run")}, ("cat", "dog", "sheep")),
    ):
        session = open_review(masks, tmp_path / f"r{len(names)}{names[0]}", images=photos, **options)  # type: ignore[arg-type]
        assert session.classes[1:] == names
        assert session.proposals.can_label is ("model" in options)
        session.close()
    (masks / "classes.txt").write_text("background\nfish\n")
    session = open_review(masks, tmp_path / "r", images=photos)
    assert session.classes == ("background", "fish")
    session.retag(0, [], 0)
    assert not session.mask(0)[0].any()
    session.close()


def test_a_list_beside_the_masks_numbers_them_whatever_the_model_s_order_is(tmp_path: Path, photos: Path) -> None:
    masks = write_masks(tmp_path / "masks", write_photos(photos, 3))
    (masks / "classes.txt").write_text("background\nsheep\ncat\n")
    model = run(tmp_path / "run")
    for number, classes in enumerate((None, ("dog", "sheep", "cat"))):
        session = open_review(masks, tmp_path / f"r{number}", images=photos, model=model, classes=classes)
        names = ("background", *(classes or ("sheep", "cat")))
        assert session.classes == names
        session.retag(0, ["sheep"], None)
        assert set(np.unique(session.mask(0)[0])) <= {0, names.index("sheep")}
        session.close()
    with pytest.raises(UserError, match="does not know 'fish'"):
        open_review(masks, tmp_path / "other", images=photos, model=model, classes=("fish", "cat"))


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        ("background/cat/dog", ("cat", "dog")),
        ("background/1 euro/2 euro/5 cent/255-dpi", ("1 euro", "2 euro", "5 cent", "255-dpi")),
        ("background/cat//dog", ("cat", "dog")),
        ("background/cat/dog/__ignore__", ("cat", "dog")),
        ("0 background/1 cat/2 dog", ("cat", "dog")),
        ("cat/dog", ("cat", "dog")),
        ("background/1 cat/2 dog", "not every class"),
        ("background/cat/cat", "stands twice"),
        ("background", ()),
    ],
)
def test_a_list_beside_masks_is_read_as_people_write_it(tmp_path: Path, lines: str, names: tuple[str, ...]) -> None:
    (tmp_path / "labels.txt").write_text("another\nlist\n")
    (tmp_path / "classes.txt").write_text(lines.replace("/", "\n") + "\n")
    if isinstance(names, str):
        with pytest.raises(UserError, match=names):
            listed_classes(tmp_path)
    else:
        assert listed_classes(tmp_path) == names


@pytest.mark.parametrize("row", ["p0.png,nan,", "p0.png,0.5,nan", "p0.png,inf,0.5"])
def test_a_confidence_that_is_no_number_is_said(tmp_path: Path, photos: Path, row: str) -> None:
    masks = write_masks(tmp_path / "masks", write_photos(photos, 3))
    (masks / "confidence.csv").write_text(f"file,confidence,expected_iou\np1.png,0.5,\n{row}\n")
    with pytest.raises(UserError, match=r"confidence.csv, line 3: the table needs .* with a number"):
        open_review(masks, tmp_path / "review", images=photos, classes=("green", "blue"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"source": "nothing", "images": "photos"}, "does not exist"),
        ({"source": "masks"}, "--images"),
        ({"source": "masks", "images": "photos"}, "--classes"),
        ({"source": "masks", "images": "elsewhere", "classes": ("a",)}, "no mask of any photo"),
        ({"source": "masks", "images": "empty", "classes": ("a",)}, "holds no photo"),
    ],
)
def test_what_is_missing_is_said(tmp_path: Path, photos: Path, options: dict[str, Any], said: str) -> None:
    write_masks(tmp_path / "masks", write_photos(photos, 3))
    (tmp_path / "empty").mkdir()
    (tmp_path / "elsewhere").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "elsewhere" / "other.png")
    given = {key: tmp_path / value if isinstance(value, str) else value for key, value in options.items()}
    with pytest.raises(UserError, match=said):
        open_review(folder=tmp_path / "review", **given)
    assert not (tmp_path / "review").exists()


def test_a_run_that_is_not_finished_is_no_folder_of_masks(tmp_path: Path, photos: Path) -> None:
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "recipe.yaml").touch()
    with pytest.raises(UserError, match=r"run is not finished: `tagseg train` with the same --out goes on with it"):
        open_review(run, tmp_path / "review")


def test_a_photo_that_the_model_cannot_take_does_not_end_the_others(tmp_path: Path, photos: Path) -> None:
    session = open_review(run(tmp_path / "run"), tmp_path / "review", images=photos)
    whole = session.proposals.describe

    def describe(name: str, *more: Any) -> Any:
        if name == "p1":
            raise RuntimeError("out of luck")
        return whole(name, *more)

    session.proposals.describe = describe  # type: ignore[method-assign]
    session.start()
    session._worker.join(60)
    rows = session.rows()[1]
    assert [row["broken"] for row in rows] == [False, True, False]
    assert "out of luck" in rows[1]["reason"]
    session.close()


@pytest.mark.parametrize("command", ["serve", "serve --label-studio", "review"])
def test_the_commands_open_what_they_say(tmp_path: Path, photos: Path, command: str, monkeypatch, capsys) -> None:  # type: ignore[no-untyped-def]
    served: list[Any] = []

    def listen(application: Any, address: Any, *, say: Any, browser: bool) -> None:
        say(address.url)
        served.append((application, address))

    monkeypatch.setattr("tagseg.web.listen.listen", listen)
    monkeypatch.chdir(tmp_path)
    words, *more = command.split()
    images = ["--images", str(photos)] if command != "serve" else []
    app([words, str(run(tmp_path / "run")), *more, *images, "--port", "0", "--no-browser"], standalone_mode=False)
    ((application, address),) = served
    url = address.url
    address.socket.close()
    assert url in capsys.readouterr().out.replace("\n", "")
    with TestClient(application, base_url=url) as client:
        path = {"serve": "/info", "review": "/api/session"}.get(command, "/versions")
        assert client.get(path).status_code == 200
        assert client.get(path, headers={"host": "evil.example"}).status_code == 400


def test_a_folder_of_masks_is_reviewed_without_torch(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 2)
    write_masks(tmp_path / "masks", photos)
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "import tagseg.cli\n"
        "from tagseg.review.app import create_app\n"
        "from tagseg.workflows.review import open_review\n"
        "session = open_review(Path('masks'), Path('review'), images=Path('photos'), classes=('green', 'blue'))\n"
        "create_app(session)\n"
        "assert session.look(0).proposal is not None\n"
        "session.decide(0, 'accepted', None)\n"
        "assert 'torch' not in sys.modules, 'torch takes half a gigabyte'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
