import io
import re
from base64 import b64decode
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from tagseg.errors import UserError
from tagseg.outputs.report import (
    ClassBars,
    Example,
    ReportData,
    ScoreRow,
    ScoreTable,
    branch_table,
    heat_panel,
    mask_panel,
    photo_panel,
    spread,
    write_report,
)

CLASSES = ("background", "cat", "<script>alert(1)</script>")
VOID = {"meta", "link", "img", "br", "line", "rect", "path", "circle"}


def example(name="a, b 猫", shape=(40, 60), seed=0, **settings):
    rng = np.random.default_rng(seed)
    photo = rng.integers(0, 256, (*shape, 3)).astype(np.uint8)
    mask = np.zeros(shape, np.uint8)
    mask[10:30, 10:30] = 2
    mask[0] = 255
    panels = (
        photo_panel(photo, name),
        heat_panel("class-teacher", photo, mask / 255.0, name),
        mask_panel("final mask", photo, mask, CLASSES, name, note="71.2"),
    )
    return Example(name, panels, "best", "mIoU 71.2", (2, 255), **settings)


def full(**settings):
    rows = [{"step": s + 1, "loss": 2.0 - s / 100, "a": 1.0, "b": 0.5, "wave": float(s % 10 < 3)} for s in range(99)]
    rows.append({"step": 100, "loss": 1.0, "a": 0.5, "b": 0.5, "wave": 0.0, "scores": {"miou": 0.6}})
    rows[49]["scores"] = {"miou": 0.4}
    values = {
        "title": "Run <one>",
        "classes": CLASSES,
        "lead": "A lead.",
        "protocol": "Scores on 5 photos; labels used: image-level tags only.",
        "figures": (("71.2 %", "mIoU"), ("4 min", "training")),
        "tables": (branch_table("Val", {"P_ct": {"miou": 50.0}, "P_s": {"miou": 60.25}, "P_s + CRF": {"miou": 61.0}}),),
        "bars": ClassBars("IoU by class", CLASSES, {"P_ct": (90.0, None, 30.0), "P_s + CRF": (95.0, 40.0, 50.0)}),
        "rows": rows,
        "examples": (example(), example("second", seed=1)),
        "facts": (("Machine", "2 cores & more"),),
        "command": "tagseg train asdt-scenes --out run",
        "recipe": "title: x\nsteps: <100>\n",
    }
    return ReportData(**{**values, **settings})


class Page(HTMLParser):
    """The elements of a page, checked to be closed in order."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.words = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def written(tmp_path, data):
    write_report(data, tmp_path / "report.html")
    return Page((tmp_path / "report.html").read_text(encoding="utf-8"))


def test_everything_is_on_the_page(tmp_path):
    page = written(tmp_path, full())
    expected = [
        *("Run <one>", "image-level tags only", "71.2 %", "61.0", "IoU by class", "Loss", "Score while training"),
        *("pulse wave", "a, b 猫", "best", "final mask", "2 cores & more", "steps: <100>", "tagseg train"),
    ]
    for words in expected:
        assert words in page.text
    assert len(page.all("img")) == 6
    assert len(page.all("svg")) == 3
    assert page.all("html") == [{"lang": "en"}]


def test_nothing_comes_from_outside_and_nothing_runs(tmp_path):
    page = written(tmp_path, full())
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:|url\(|@import|file:|<script", text)
    for tag, attributes in page.elements:
        assert not any(name.startswith("on") for name in attributes), tag
    for image in page.all("img"):
        assert image["src"].startswith("data:image/jpeg;base64,")
    assert "default-src 'none'" in page.all("meta")[2]["content"]


def test_pictures_have_words_and_links_have_targets(tmp_path):
    page = written(tmp_path, full())
    for image in page.all("img"):
        assert len(image["alt"]) > 10
    assert "<script>alert(1)</script> 17 %" in page.all("img")[2]["alt"]
    for chart in page.all("svg"):
        assert "over 100 steps" in chart["aria-label"]
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for link in page.all("a"):
        assert link["href"].removeprefix("#") in ids


def test_parts_without_content_are_left_out(tmp_path):
    page = written(tmp_path, ReportData("Only a title", ("background", "cat")))
    assert page.all("section") == page.all("svg") == page.all("img") == []
    assert "Only a title" in page.text


def test_the_page_stays_small_whatever_the_photos(tmp_path):
    noise = tuple(example(f"photo {i}", shape=(400, 360), seed=i) for i in range(9))
    written(tmp_path, full(examples=noise))
    assert (tmp_path / "report.html").stat().st_size < 3_000_000


def test_a_picture_keeps_its_content(tmp_path):
    photo = np.zeros((20, 30, 3), np.uint8)
    photo[:, :15] = (200, 60, 20)
    page = written(tmp_path, full(examples=(Example("x", (photo_panel(photo, "x"),)),)))
    (image,) = page.all("img")
    assert (image["width"], image["height"]) == ("30", "20")
    stored = np.array(Image.open(io.BytesIO(b64decode(image["src"].partition(",")[2]))))
    assert np.abs(stored.astype(int) - photo).mean() < 8


def test_the_same_data_give_the_same_bytes(tmp_path):
    write_report(full(), tmp_path / "a.html")
    write_report(full(), tmp_path / "b.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_a_folder_that_is_missing_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match=r"report\.html cannot be written"):
        write_report(full(), tmp_path / "missing" / "report.html")


def test_one_class_and_254(tmp_path):
    for count in (1, 254):
        names = ("background", *(f"class {i}" for i in range(count)))
        bars = ClassBars("IoU", names, {"P_s": tuple(50.0 for _ in names)})
        page = written(tmp_path, ReportData("x", names, bars=bars))
        assert len(page.all("tr")) == count + 1


def test_branch_table():
    table = branch_table(
        "Val",
        {"P_ct": {"miou": 50.0}, "P_ct + CRF": {"miou": 52.0}, "final": {"miou": None}},
        meanings={"P_ct": "class-teacher: the CAM of the classifier"},
    )
    assert table.columns == ("before CRF", "after CRF")
    assert table.rows[0] == ScoreRow("P_ct", (50.0, 52.0), "class-teacher: the CAM of the classifier")
    assert table.rows[1].values == (None, None)
    assert table.best == 52.0
    assert branch_table("Val", {"P_s": {"miou": 1.0}}).columns == ("mIoU",)
    assert ScoreTable("empty", (), ()).best is None


SCORES = {f"p{i:02}": i / 20 for i in range(20)}


def test_spread_shows_the_range():
    chosen = spread(SCORES, 0, 8)
    assert len({name for name, _ in chosen}) == 8
    by_why = {why: [name for name, w in chosen if w == why] for why in ("best", "median", "worst", "random")}
    assert by_why["best"] == ["p19", "p18"]
    assert by_why["worst"] == ["p01", "p00"]
    assert by_why["median"] == ["p10", "p09"]
    assert len(by_why["random"]) == 2


def test_spread_follows_from_seed_and_scores_alone():
    shuffled = dict(sorted(SCORES.items(), key=lambda item: hash((item[1], 3))))
    assert spread(SCORES, 5, 9) == spread(shuffled, 5, 9)
    assert {tuple(spread(SCORES, seed, 9)) for seed in range(5)} != {tuple(spread(SCORES, 0, 9))}


@pytest.mark.parametrize("photos", range(6))
@pytest.mark.parametrize("count", [1, 2, 3, 4, 8])
def test_spread_of_few_photos(photos, count):
    scores = {**dict(list(SCORES.items())[:photos]), "none": float("nan")}
    chosen = spread(scores, 0, count)
    assert len({name for name, _ in chosen}) == len(chosen) == min(photos, count)
    assert "none" not in dict(chosen)


def test_points_gained_have_their_sign_and_no_bar(tmp_path):
    rows = (ScoreRow("feedback", (0.35, -0.04)), ScoreRow("both", (-2.0, None)))
    page = tmp_path / "page.html"
    write_report(full(tables=(ScoreTable("Points", ("CAM", "P_s"), rows, gains=True),)), page)
    table = page.read_text(encoding="utf-8").split("</table>")[0].split("<table")[1]
    assert re.findall(r"<b>(.*?)</b>", table) == ["+0.3", "+0.0", "-2.0"]
    assert "in points" in table
    assert "track" not in table
