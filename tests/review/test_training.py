"""What a review means for training: whose masks count, who is left out, whose tags hold."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tagseg.data.batches import digest_listed
from tagseg.data.palette import write_mask
from tagseg.data.reviewed import Reviewed, with_review
from tagseg.data.sources import DataSettings, open_sources
from tagseg.data.tagged import open_tagged
from tagseg.engine.identity import check_listed, same_listed
from tagseg.errors import UserError
from tagseg.recipe import load_recipe, make_recipe
from tagseg.review.photo import Photo
from tagseg.review.proposals import ModelProposals
from tagseg.review.session import Session
from tagseg.run_folder import RunFolder
from tagseg.workflows.report import report
from tagseg.workflows.train import train
from tests.review.photos import SIZE, segmenter, write_photos


def table(tmp_path: Path, count: int) -> tuple[Path, Path]:
    """A folder of photos and a table that lists the classes in another order than the review's."""
    write_photos(tmp_path / "photos", count)
    rows = "".join(f"p{number}.png,{'blue' if number % 2 else 'blue green'}\n" for number in range(count))
    (tmp_path / "tags.csv").write_text("file,tags\n" + rows)
    return tmp_path / "photos", tmp_path / "tags.csv"


def review(tmp_path: Path, count: int) -> Path:
    """Photo 0 accepted, 1 painted and accepted, 2 rejected, 3 put off, 4 with other tags, 5 painted but not decided."""
    folder = tmp_path / "review"
    photos = [Photo(f"p{i}", tmp_path / "photos" / f"p{i}.png", ("green", "blue")) for i in range(count)]
    session = Session(folder, photos, ModelProposals(segmenter(), folder / "proposed"))
    painted = np.ones(SIZE, np.uint8)
    session.decide(0, "accepted", 0)
    session.paint(1, painted, painted, 0)
    session.decide(1, "accepted", 1)
    session.decide(2, "rejected", 0)
    session.decide(3, "later", 0)
    session.retag(4, ["green"], 0)
    session.paint(5, painted, painted, 0)
    session.close()
    return folder


def test_each_photo_as_it_was_decided(tmp_path: Path) -> None:
    images, tags = table(tmp_path, 7)
    data = open_tagged(images, tags)
    assert data.classes == ("blue", "green")
    known, counts = with_review(data, review(tmp_path, 7))
    assert counts == Reviewed(accepted=1, corrected=1, rejected=1, retagged=1)
    assert str(counts).startswith("2 reviewed masks (1 accepted, 1 corrected; 1 photos rejected and left out, 1 with")
    photos = {photo.name: photo for photo in known.photos}
    assert sorted(photos) == ["p0", "p1", "p3", "p4", "p5", "p6"]
    assert [name for name in sorted(photos) if photos[name].true] == ["p0", "p1"]
    assert photos["p4"].tags == (2,)
    assert photos["p1"].tags == (1, 2)  # green was painted
    numbers = [photo.name for photo in known.photos]
    # the review's green is 1, the training's 2
    assert (known.true_mask(numbers.index("p1")) == 2).all()
    found = known.true_mask(numbers.index("p0"))
    assert set(found.ravel()) == {0, 1, 2}
    assert found[30, 79] == 1  # blue on the right
    assert known.true_mask(numbers.index("p3")) is None


def test_reviews_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    images, tags = table(tmp_path, 7)
    folder = review(tmp_path, 7)
    with pytest.raises(UserError, match="holds no review"):
        with_review(open_tagged(images, tags), tmp_path / "elsewhere")
    (tmp_path / "few.csv").write_text("file,tags\np4.png,blue\n")
    with pytest.raises(UserError, match="'green'"):
        with_review(open_tagged(images, tmp_path / "few.csv"), folder)
    other = tmp_path / "other"
    write_photos(other / "x", 1)
    with pytest.raises(UserError, match="other photos"):
        with_review(open_tagged(other), folder)
    (folder / "masks" / "p0.png").unlink()
    with pytest.raises(UserError, match="accept it again"):
        with_review(open_tagged(images, tags), folder)


def test_recipes_without_a_review_are_written_as_before(tmp_path: Path) -> None:
    assert "review" not in load_recipe("rrm-scenes").to_yaml()
    values = DataSettings(format="tagged", root=tmp_path, review=tmp_path / "r").model_dump(mode="json")
    assert values["review"] == str(tmp_path / "r")


@pytest.mark.parametrize(
    ("base", "learned"),
    [
        ("bmp-scenes", "image-level tags and 2 reviewed"),
        ("supervised-scenes", "the masks given and 2"),
        ("classifier-scenes", "image-level tags, reviewed (1 photos left out, 1 with"),
    ],
)
def test_a_training_says_how_many_of_each(tmp_path: Path, base: str, learned: str) -> None:
    images, tags = table(tmp_path, 7)
    masks = tmp_path / "pseudo"
    masks.mkdir()
    for number in range(7):
        Image.fromarray(np.zeros(SIZE, np.uint8)).save(masks / f"p{number}.png")
    data = {"format": "tagged", "root": str(images), "tags": str(tags), "review": str(review(tmp_path, 7))}
    data |= {"masks": str(masks)} if base.startswith("supervised") else {}
    values = load_recipe(base).model_dump(mode="json") | {"data": data | {"val": None}}
    values["train"] |= {"steps": 2, "warmup_steps": 0, "batch_size": 2, "crop": 64, "short_side": 64}
    values["model"]["start"] = None
    told: list[str] = []
    run = train(make_recipe(values, [], "small"), tmp_path / "run", say=told.append)
    assert any("1 accepted, 1 corrected; 1 photos rejected" in line for line in told)
    labels = RunFolder(run).result()["labels"]
    assert labels.startswith(learned)
    assert json.loads((run / "model.json").read_text())["training"]["labels"] == labels
    assert learned in report(run).read_text(encoding="utf-8")
    assert open_sources(make_recipe(values, [], "small").data, run).review == Reviewed(1, 1, 1, 1)


def test_a_training_goes_on_with_the_masks_that_it_was_begun_with(tmp_path: Path) -> None:
    data = open_tagged(*table(tmp_path, 7))
    folder = review(tmp_path, 7)
    known, _ = with_review(data, folder)
    before = digest_listed(known, with_masks=False)
    assert digest_listed(with_review(data, folder)[0], with_masks=False) == before
    assert same_listed(before.split("-")[0], before), "a version that knew nothing of masks"
    (true,) = [photo.true for photo in known.photos if photo.true is not None][:1]
    assert true is not None
    write_mask(true, np.zeros(SIZE, np.uint8))
    after = digest_listed(known, with_masks=False)
    assert not same_listed(before, after)
    with pytest.raises(UserError, match="begun with other photos, tags or masks"):
        check_listed(tmp_path, before, after)


def test_what_was_said_of_another_picture_does_not_count(tmp_path: Path) -> None:
    images, tags = table(tmp_path, 7)
    folder = review(tmp_path, 7)
    for number in (0, 2):
        Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(images / f"p{number}.png")
    known, counts = with_review(open_tagged(images, tags), folder)
    assert counts == Reviewed(corrected=1, retagged=1, replaced=2)
    assert "2 not counted since another picture has replaced the photo" in str(counts)
    assert {photo.name for photo in known.photos} == {f"p{number}" for number in range(7)}
    assert [photo.name for photo in known.photos if photo.true] == ["p1"]
