"""A review's masks and its journal agree, whatever is taken back, refused or torn."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tagseg.data.palette import write_mask
from tagseg.data.photo import read_mask
from tagseg.data.review_journal import read_verdicts
from tagseg.errors import UserError
from tagseg.review.photo import Photo
from tagseg.review.proposals import FACTS, FolderProposals, ModelProposals, read_facts
from tagseg.review.session import Answered, Changed, Session
from tests.review.photos import SIZE, open_session, segmenter, write_masks, write_photos

CLASSES = ("background", "green", "blue")


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    one = open_session(tmp_path)
    yield one
    one.close()


def again(folder: Path, count: int = 4) -> Session:
    """The session of `open_session` once more, its photos as they are now."""
    photos = [Photo(f"p{number}", folder / "photos" / f"p{number}.png", ("green", "blue")) for number in range(count)]
    return Session(folder / "review", photos, ModelProposals(segmenter(), folder / "review" / "proposed"))


def kept(session: Session) -> list[int]:
    """The values of the first photo's mask as training takes it."""
    return np.unique(read_mask(session.folder / "masks" / "p0.png")).tolist()


def files(session: Session) -> dict[str, bytes]:
    folders = [session.folder / kind for kind in ("masks", "touched")]
    return {path.name + folder.name: path.read_bytes() for folder in folders for path in folder.glob("*.png")}


def stroke() -> tuple[Any, Any]:
    mask, touched = np.ones(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
    mask[:5, :5], touched[:5, :5] = 255, 1
    return mask, touched


def test_an_undo_gives_an_accepted_photo_the_mask_of_its_tags(session: Session) -> None:
    session.decide(0, "accepted", None)
    assert kept(session) == [0, 1, 2]
    session.decide(0, "rejected", None)
    session.retag(0, ["green"], None)
    session.step("undo")
    assert (session.verdict(0).state, session.tags(0)) == ("accepted", ("green",))
    assert kept(session) == [0, 1]


def test_an_undo_gives_the_mask_that_was_accepted_whatever_is_proposed_now(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 2)
    masks = write_masks(tmp_path / "masks", photos)
    session = Session(tmp_path / "review", photos, FolderProposals(masks, CLASSES))
    for index in (0, 1):
        session.decide(index, "accepted", None)
    session.close()
    write_mask(masks / "p0.png", np.full(SIZE, 2, np.uint8))
    write_mask(masks / "p1.png", np.ones((2, 2), np.uint8))  # no mask of its photo
    session = Session(tmp_path / "review", photos, FolderProposals(masks, CLASSES))
    for index in (0, 1):
        session.decide(index, "rejected", None)
    assert [session.step("undo"), session.step("undo")] == [1, 0]
    assert [session.verdict(index).state for index in (0, 1)] == ["accepted", "accepted"]
    assert [np.unique(session.mask(index)[0]).tolist() for index in (0, 1)] == [[0, 1], [0, 1]]
    assert kept(session) == [0, 1]
    session.close()


def test_an_undo_brings_no_dropped_stroke_back(session: Session) -> None:
    session.paint(0, *stroke(), None)
    session.decide(0, "accepted", None)
    session.decide(0, "later", None)
    session.reset(0, None)
    session.step("undo")
    assert session.verdict(0).state == "accepted"
    assert kept(session) == [0, 1, 2]


def test_a_request_that_is_sent_again_takes_no_second_decision_back(session: Session) -> None:
    for index in (0, 1):
        session.decide(index, "rejected", None)
    assert [session.step("undo", "one"), session.step("undo", "one")] == [1, 1]
    assert [session.verdict(index).state for index in (0, 1)] == ["rejected", "open"]
    folder, photos = session.folder, session.photos
    session.close()  # nor after a kill
    again = Session(folder, photos, session.proposals)
    assert again.step("undo", "one") == 1
    assert again.step("undo", "two") == 0
    again.close()


@pytest.mark.parametrize("deed", ["retag", "reset", "paint", "decide", "undo"])
def test_a_mask_is_there_before_the_journal_and_put_back_where_that_is_refused(
    session: Session, deed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mask, touched = stroke()
    if deed == "reset":
        session.paint(0, mask, touched, None)
    session.decide(0, "accepted", None)
    if deed in ("decide", "undo"):
        session.decide(0, "rejected", None)
        (session.folder / "masks" / "p0.png").unlink()
    before, verdict, seen = files(session), str(session.verdict(0)), []

    def full(entry: Any) -> None:
        seen.append(files(session))
        raise UserError("the disk is full")

    deeds = {
        "retag": lambda: session.retag(0, ["green"], None),
        "reset": lambda: session.reset(0, None),
        "paint": lambda: session.paint(0, mask, touched, None),
        "decide": lambda: session.decide(0, "accepted", None),
        "undo": lambda: session.step("undo"),
    }
    with monkeypatch.context() as patch:
        patch.setattr(session.journal, "append", full)
        with pytest.raises(UserError, match="full"):
            deeds[deed]()
    assert files(session) == before
    assert str(session.verdict(0)) == verdict
    deeds[deed]()  # what the page sends again
    assert seen[0]["p0.pngmasks"] == files(session)["p0.pngmasks"] != before.get("p0.pngmasks")


def test_tags_that_cannot_be_labeled_are_not_kept(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    session.decide(0, "accepted", None)

    def describe(*given: Any) -> Any:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(session.proposals, "describe", describe)
    with pytest.raises(UserError, match="out of luck"):
        session.retag(0, ["green"], None)
    assert read_verdicts(session.folder)["p0"].tags is None
    assert kept(session) == [0, 1, 2]


def test_a_name_that_is_not_utf_8_is_labeled_once(tmp_path: Path) -> None:
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    path = write_photos(tmp_path / "photos", 1)[0].path
    path = path.rename(path.with_name(f"{name}.png"))
    session = Session(tmp_path / "review", [Photo(name, path, None)], ModelProposals(segmenter(), tmp_path / "own"))
    assert session.look(0).problem == ""
    assert list(read_facts(tmp_path / "own")) == [name]
    session.close()


@pytest.mark.parametrize("side", [(60, 80), (40, 50)])
def test_a_photo_that_was_replaced_is_labeled_again(tmp_path: Path, side: tuple[int, int]) -> None:
    session = open_session(tmp_path)
    before, path = session.mask(0)[0].copy(), session.photos[0].path
    session.close()
    Image.fromarray(np.full((*side, 3), (0, 0, 200), np.uint8)).save(path)
    session = again(tmp_path)
    assert session.mask(0)[0].shape == side
    assert np.unique(session.mask(0)[0]).tolist() == [2]
    assert session.row(0)["found"] == [2]
    assert not np.array_equal(before, session.mask(0)[0])
    session.close()


def test_copied_photos_and_the_facts_of_an_older_version_are_not_labeled_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = open_session(tmp_path)
    for index in (0, 1):
        session.look(index)
    os.utime(session.photos[0].path, (1, 1))
    session.close()
    facts = tmp_path / "review" / "proposed" / FACTS
    rows = [json.loads(line) for line in facts.read_text().splitlines()]
    for key in ("stamp", "sha256"):
        del rows[1][key]
    facts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    session = again(tmp_path)
    monkeypatch.setattr(session.proposals, "_label", lambda *_: pytest.fail("labeled again"))
    assert [session.look(index).problem for index in (0, 1)] == ["", ""]
    session.close()


def test_a_photo_that_is_gone_since_it_was_labeled_keeps_its_mask(session: Session) -> None:
    before = session.mask(0)[0].copy()
    session.photos[0].path.unlink()
    assert np.array_equal(session.mask(0)[0], before)
    session.decide(0, "accepted", None)
    assert kept(session) == [0, 1, 2]


def test_a_photo_whose_probabilities_are_no_numbers_is_a_problem(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = session.proposals.segmenter.probabilities  # type: ignore[attr-defined]
    monkeypatch.setattr(session.proposals.segmenter, "probabilities", lambda *given: whole(*given) * np.nan)  # type: ignore[attr-defined]
    assert "the model's probabilities are no numbers" in session.look(0).problem
    assert session.row(0)["doubt"] is None
    monkeypatch.undo()
    assert session.look(1).problem == ""


def test_a_tick_that_is_taken_back_gives_the_mask_of_the_folder(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 2)
    masks = write_masks(tmp_path / "masks", photos)
    model = ModelProposals(segmenter(), tmp_path / "review" / "proposed")
    for number, again in enumerate((None, model)):
        session = Session(tmp_path / f"review{number}", photos, FolderProposals(masks, CLASSES, model=again))
        session.retag(0, ["blue"], None)
        assert np.unique(session.mask(0)[0]).tolist() == ([0, 2] if again else [0])
        assert session.row(0)["retagged"]
        session.retag(0, ["blue", "green"], None)
        assert np.array_equal(session.mask(0)[0], read_mask(masks / "p0.png"))
        assert not session.row(0)["retagged"]
        session.close()


def test_a_model_numbers_its_masks_as_the_folder_does(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 2)
    masks = write_masks(tmp_path / "masks", photos)
    classes = ("background", "blue", "green")
    model = ModelProposals(segmenter(), tmp_path / "review" / "proposed", classes)
    session = Session(tmp_path / "review", photos, FolderProposals(masks, classes, model=model))
    session.look(1)
    session.retag(0, ["green"], None)
    session.decide(0, "accepted", None)
    row, mask = session.row(0), read_mask(session.folder / "masks" / "p0.png")
    assert (row["tags"], row["found"]) == ([2], [2])
    assert mask[30, 30] == 2
    assert mask[30, 75] == 0
    assert mask.max() == read_mask(tmp_path / "review" / "proposed" / "p0.png").max() == 2
    heat = session.proposals.cam(photos[0].path, 2)
    assert heat is not None
    assert heat[30, 30] > 0.9 > 0.1 > heat[30, 75]
    assert [index for index, _ in session.order(2)] == [1], "p0 is decided"
    session.decide(0, "open", None)
    assert len(session.order(2)) == 2, "photos that the model describes and others are compared with each other"
    session.close()
    with pytest.raises(UserError, match="does not know 'cow', a class of the masks"):
        ModelProposals(segmenter(), tmp_path / "review" / "proposed", ("background", "cow"))


def test_a_start_that_is_refused_changes_nothing(tmp_path: Path) -> None:
    session = open_session(tmp_path)
    session.look(0)
    proposed = tmp_path / "review" / "proposed"
    (proposed / ".made-by").write_text("another model")
    before = (proposed / FACTS).read_bytes()
    with pytest.raises(UserError, match="Another `tagseg review`"):
        open_session(tmp_path)
    assert (proposed / FACTS).read_bytes() == before
    assert (proposed / ".made-by").read_text() == "another model"
    session.close()
    open_session(tmp_path).close()
    assert read_facts(proposed) == {}


def test_a_deed_that_is_sent_again_is_done_once(session: Session) -> None:
    mask, touched = stroke()
    session.paint(0, mask, touched, 0, id="first")
    session.reset(0, 1, id="other")  # by another window, before the first one asks again
    with pytest.raises(Answered):
        session.paint(0, mask, touched, 0, id="first")
    assert session.verdict(0).version == 2
    session.close()
    once_more = again(session.folder.parent)
    with pytest.raises(Answered):  # known by the journal, behind a restart too
        once_more.decide(0, "accepted", 2, id="other")
    once_more.close()


@pytest.mark.parametrize("side", [SIZE, (40, 30)])
def test_what_was_said_of_a_photo_does_not_pass_to_its_replacement(tmp_path: Path, side: tuple[int, int]) -> None:
    session = open_session(tmp_path)
    session.paint(0, *stroke(), 0)
    session.decide(0, "accepted", 1)
    session.retag(1, ["green"], 0)
    session.decide(1, "rejected", 1)
    session.close()
    for number in (0, 1):
        Image.fromarray(np.full((*side, 3), (0, 200, 0), np.uint8)).save(tmp_path / "photos" / f"p{number}.png")
    session = again(tmp_path)
    for index in (0, 1):
        session.look(index)
        row = session.row(index)
        assert (row["state"], row["painted"], row["retagged"]) == ("open", False, False)
        assert row["reason"].startswith("another picture than before")
    assert session.mask(0)[0].shape == side
    assert session.step("undo") is None  # those decisions are of other pictures
    aside = read_mask(tmp_path / "review" / "replaced" / "p0.png")
    assert (aside[:5, :5] == 255).all(), "what a person painted is lost"
    session.decide(0, "accepted", session.verdict(0).version)
    assert read_mask(tmp_path / "review" / "masks" / "p0.png").shape == side
    assert "another picture" not in session.row(0)["reason"]
    session.close()
    session = again(tmp_path)
    assert session.verdict(0).state == "accepted"
    session.close()


def test_a_photo_that_is_replaced_while_the_page_is_open_takes_no_stroke(session: Session) -> None:
    session.decide(0, "accepted", 0)
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(session.photos[0].path)
    with pytest.raises(Changed):
        session.paint(0, *stroke(), 1)
    assert session.verdict(0).state == "open"


def test_a_copied_folder_of_photos_is_no_replacement_and_an_older_journal_holds(tmp_path: Path) -> None:
    session = open_session(tmp_path)
    session.decide(0, "accepted", 0)
    session.close()
    os.utime(tmp_path / "photos" / "p0.png", (1, 1))
    session = again(tmp_path)
    assert session.verdict(0).state == "accepted"
    session.close()
    path = tmp_path / "review" / "journal.jsonl"
    (line,) = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    del line["file"]
    path.write_text(json.dumps(line) + "\n", encoding="utf-8")
    Image.fromarray(np.zeros((9, 7, 3), np.uint8)).save(tmp_path / "photos" / "p0.png")
    session = again(tmp_path)
    assert session.verdict(0).state == "accepted"  # nothing tells yet
    assert session.mask(0)[0].shape == (9, 7)
    assert session.verdict(0).state == "open"
    session.close()


def test_a_photo_that_was_saved_anew_is_the_same_picture(tmp_path: Path) -> None:
    session = open_session(tmp_path)
    path = session.photos[0].path
    noise = np.random.default_rng(0).integers(0, 256, (15, 20, 3), dtype=np.uint8)
    photo = Image.fromarray(noise).resize(SIZE[::-1], Image.Resampling.BICUBIC)
    photo.save(path)
    session.paint(0, *stroke(), 0)
    session.decide(0, "accepted", 1)
    session.close()
    photo.save(path, format="JPEG", quality=70, exif=Image.Exif())  # other bytes, the same to a person
    session = again(tmp_path)
    assert (session.verdict(0).state, session.verdict(0).painted) == ("accepted", True)
    session.close()
    one_part = np.array(photo)
    one_part[20:30, 30:40] = 255 - one_part[20:30, 30:40]  # another photo of the same scene
    Image.fromarray(one_part).save(path, format="PNG")
    session = again(tmp_path)
    assert session.verdict(0).state == "open"
    session.close()


def test_accepting_again_brings_a_mask_that_was_lost_back(session: Session) -> None:
    session.paint(0, *stroke(), 0)
    session.decide(0, "accepted", 1)
    (session.folder / "masks" / "p0.png").unlink()
    session.decide(0, "accepted", 2)
    assert kept(session) == [0, 1, 2]
