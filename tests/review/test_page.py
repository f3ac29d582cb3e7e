"""The page of a review, driven by a browser: what a person does, and what is on disk afterwards."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from shutil import which

import numpy as np
import pytest
from PIL import Image

from tagseg.data.photo import read_mask
from tagseg.review.photo import Photo
from tagseg.review.proposals import ModelProposals
from tagseg.review.session import Session
from tests.review.photos import open_session, picture, segmenter, served, write_masks, write_photos

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = which("chromium") or which("chromium-browser") or which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        chromium.devices = started.devices
        yield chromium
        chromium.close()


def until(page, condition):
    """Wait for an expression to hold; evaluated from outside, for the page's own rules forbid eval within."""
    for _ in range(400):
        if page.evaluate(condition):
            return
        time.sleep(0.03)
    raise AssertionError(f"it never came true: {condition}")


def opened(browser, url, **options):
    page = browser.new_context(viewport={"width": 1280, "height": 800}, **options).new_page()
    page.faults = []
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.goto(url)
    page.wait_for_selector("body[data-shown]")
    # labeled all, so that the order stands still
    until(page, "[...tagsegReview.queue.rows.values()].every((row) => row.doubt !== null)")
    return page


def saved(page):
    until(page, "document.getElementById('saved').textContent === '✓ saved' && !tagsegReview.timer")


def shown(page):
    return page.evaluate("tagsegReview.queue.rows.get(tagsegReview.current).name")


def shows(page, name):
    until(page, f"tagsegReview.mask && tagsegReview.row.name === '{name}'")


def drawn(page, x, y):
    """The color (RGBA) that is drawn over the photo's pixel."""
    return page.evaluate(f"[...document.getElementById('overlay').getContext('2d').getImageData({x}, {y}, 1, 1).data]")


def spot(page, x, y):
    """Where the photo's pixel lies in the window."""
    frame = page.locator("#overlay").bounding_box()
    return frame["x"] + (x + 0.5) * frame["width"] / 80, frame["y"] + (y + 0.5) * frame["height"] / 60


def journal(folder):
    return [json.loads(line) for line in (folder / "review" / "journal.jsonl").read_text().splitlines()]


def test_decisions_by_keys_are_on_disk_at_once_and_can_be_undone(tmp_path: Path, browser) -> None:  # type: ignore[no-untyped-def]
    with served(open_session(tmp_path)) as url:
        page = opened(browser, url)
        first = shown(page)
        page.keyboard.press("a")
        until(page, f"tagsegReview.row.name !== '{first}'")
        saved(page)
        assert [(e["event"], e["photo"], e["state"]) for e in journal(tmp_path)] == [("decision", first, "accepted")]
        assert np.array_equal(
            read_mask(tmp_path / "review" / "masks" / f"{first}.png"),
            read_mask(tmp_path / "review" / "proposed" / f"{first}.png"),
        )
        second = shown(page)
        page.keyboard.press("x")
        until(page, f"tagsegReview.row.name !== '{second}'")
        page.keyboard.press(" ")
        saved(page)
        assert [e["state"] for e in journal(tmp_path)] == ["accepted", "rejected", "later"]
        assert page.locator("#count").text_content() == "2 done, 2 left"
        for _ in range(2):
            page.keyboard.press("u")
            saved(page)
        shows(page, second)
        assert page.locator("#count").text_content() == "1 done, 3 left"
        page.keyboard.press("Control+Shift+z")
        saved(page)
        assert page.locator("#count").text_content() == "2 done, 2 left"
        page.reload()
        page.wait_for_selector("body[data-shown]")
        assert page.locator("#count").text_content() == "2 done, 2 left"
        assert page.faults == []


class Held:
    """Answers to some addresses, to all methods or one, kept back until they are let go."""

    def __init__(self, page, numbers, what, method=None):
        self.waiting, self.free, self.method = [], False, method
        page.route(re.compile(rf"/api/photos/({'|'.join(map(str, numbers))})/{what}$"), self.meet)

    def meet(self, route):
        if self.free or self.method not in (None, route.request.method):
            route.continue_()
        else:
            self.waiting.append(route)

    def let_go(self):
        self.free = True
        for route in self.waiting:
            route.continue_()


def paint_a_stroke(page):
    page.keyboard.press("b")
    page.keyboard.press("2")
    page.mouse.move(*spot(page, 5, 10))
    page.mouse.down()
    page.mouse.move(*spot(page, 15, 10), steps=5)


def test_what_is_done_while_the_next_photo_loads_does_not_go_to_it(tmp_path: Path, browser) -> None:  # type: ignore[no-untyped-def]
    with served(open_session(tmp_path)) as url:
        page = opened(browser, url)
        first = shown(page)
        others = page.evaluate("tagsegReview.queue.shown.filter((i) => i !== tagsegReview.current)")
        until(page, "tagsegReview.photos.ready.size >= 3")
        held = Held(page, others, "mask")
        page.evaluate("tagsegReview.photos.ready.clear()")
        paint_a_stroke(page)
        page.keyboard.press("a")  # in the midst of a stroke, which belongs to the photo that was shown
        until(page, f"tagsegReview.queue.rows.get(tagsegReview.current).name !== '{first}'")
        page.mouse.move(*spot(page, 40, 40), steps=5)
        page.mouse.up()
        for key in ("a", "x", " "):
            page.keyboard.press(key)
        page.get_by_label("blue is in the photo").click()
        page.evaluate("document.getElementById('reset').disabled = false")
        page.locator("#reset").click()
        page.mouse.move(*spot(page, 5, 40))
        page.mouse.down()
        page.mouse.move(*spot(page, 15, 40), steps=5)
        page.mouse.up()
        saved(page)
        assert [(e["event"], e["photo"]) for e in journal(tmp_path)] == [("mask", first), ("decision", first)]
        painted = read_mask(tmp_path / "review" / "masks" / f"{first}.png")
        assert (painted[10, 5:16] == 2).all()
        assert painted[40, 30] != 2
        second = shown(page)
        held.let_go()
        shows(page, second)
        assert page.get_by_label("blue is in the photo").is_checked()
        page.keyboard.press("a")
        saved(page)
        assert journal(tmp_path)[2]["photo"] == second
        assert np.array_equal(
            read_mask(tmp_path / "review" / "masks" / f"{second}.png"),
            read_mask(tmp_path / "review" / "proposed" / f"{second}.png"),
        )
        assert page.faults == []


def test_a_photo_comes_back_with_the_stroke_that_is_on_its_way(tmp_path: Path, browser) -> None:  # type: ignore[no-untyped-def]
    with served(open_session(tmp_path)) as url:
        page = opened(browser, url)
        first, number = shown(page), page.evaluate("tagsegReview.current")
        held = Held(page, [number], "mask", "PUT")
        paint_a_stroke(page)
        page.mouse.up()
        page.keyboard.press("j")
        until(page, "tagsegReview.mask && tagsegReview.current !== " + str(number))
        page.wait_for_timeout(200)  # the photos ahead are fetched, this one among them
        page.keyboard.press("k")
        page.wait_for_timeout(200)
        held.let_go()
        shows(page, first)
        assert page.evaluate("tagsegReview.mask.data[10 * 80 + 10]") == 2
        page.mouse.move(*spot(page, 5, 40))
        page.mouse.down()
        page.mouse.up()
        saved(page)
        kept = read_mask(tmp_path / "review" / "masks" / f"{first}.png")
        assert (kept[10, 5:16] == 2).all()
        assert kept[40, 5] == 2
        assert page.faults == []


def test_a_photo_taken_back_keeps_what_is_painted_on_it_from_then_on(tmp_path: Path, browser) -> None:  # type: ignore[no-untyped-def]
    with served(open_session(tmp_path)) as url:
        page = opened(browser, url)
        first = shown(page)
        paint_a_stroke(page)
        page.mouse.up()
        page.keyboard.press("a")
        until(page, f"tagsegReview.row.name !== '{first}'")
        saved(page)
        page.keyboard.press("u")
        shows(page, first)
        page.keyboard.press("b")
        page.mouse.move(*spot(page, 5, 40))
        page.mouse.down()
        page.mouse.move(*spot(page, 15, 40), steps=5)
        page.mouse.up()
        saved(page)
        for key in ("j", "k"):
            until(page, "tagsegReview.mask")
            page.keyboard.press(key)
            page.wait_for_timeout(200)
        shows(page, first)
        assert page.evaluate("[10, 40].map((y) => tagsegReview.mask.data[80 * y + 10])") == [2, 2]
        page.mouse.move(*spot(page, 5, 50))
        page.mouse.down()
        page.mouse.up()
        saved(page)
        kept = read_mask(tmp_path / "review" / "masks" / f"{first}.png")
        assert [kept[10, 10], kept[40, 10], kept[50, 5]] == [2, 2, 2]
        assert page.faults == []


def test_a_step_taken_back_in_the_midst_of_a_stroke_is_that_stroke(tmp_path: Path, browser) -> None:  # type: ignore[no-untyped-def]
    with served(open_session(tmp_path)) as url:
        page = opened(browser, url)
        paint_a_stroke(page)
        page.mouse.up()
        before = page.evaluate("[...tagsegReview.mask.data]")
        page.mouse.move(*spot(page, 5, 40))
        page.mouse.down()
        page.mouse.move(*spot(page, 10, 40))
        page.keyboard.press("Control+z")
        page.mouse.move(*spot(page, 15, 50), steps=3)
        page.mouse.up()
        assert page.evaluate("[...tagsegReview.mask.data]") == before
        assert page.evaluate("[tagsegReview.mask.undos.length, tagsegReview.mask.redos.length]") == [1, 1]
        page.mouse.move(*spot(page, 5, 40))
        page.mouse.down()
        decide = "tagsegReview.decide('accepted') ?? tagsegReview.queue.rows.get(i).painted"
        assert page.evaluate(f"(() => {{ const i = tagsegReview.current; return {decide}; }})()"), "before it is sent"
        page.mouse.up()
        assert page.faults == []


def test_a_page_without_rows_says_why(tmp_path: Path, browser) -> None:  # type: ignore[no-untyped-def]
    with served(open_session(tmp_path)) as url:
        page = browser.new_page()
        page.route(re.compile("/api/rows"), lambda route: route.fulfill(status=500, json={"detail": "No luck today."}))
        page.goto(url)
        until(page, "document.getElementById('notice').textContent === 'No luck today.'")
        assert page.is_visible("#notice")


def test_a_photo_that_cannot_be_shown_can_be_rejected_and_not_accepted(tmp_path: Path, browser) -> None:  # type: ignore[no-untyped-def]
    session = open_session(tmp_path)
    session.photos[2].path.write_bytes(b"no picture")
    with served(session) as url:
        page = browser.new_page()
        page.goto(url)
        page.wait_for_selector("body[data-shown]")
        page.evaluate("tagsegReview.open(2)")
        until(page, "!tagsegReview.loading && !document.getElementById('notice').hidden")
        page.keyboard.press("a")
        page.keyboard.press("x")
        saved(page)
        assert [(e["photo"], e["state"]) for e in journal(tmp_path)] == [("p2", "rejected")]


def test_ticks_in_a_row_are_all_kept_and_no_stroke_is_lost_between_them(tmp_path: Path, browser) -> None:  # type: ignore[no-untyped-def]
    with served(open_session(tmp_path)) as url:
        page = opened(browser, url)
        name, number = shown(page), page.evaluate("tagsegReview.current")
        held = Held(page, [number], "tags")
        paint_a_stroke(page)
        page.mouse.up()
        page.get_by_label("blue is in the photo").uncheck()
        page.get_by_label("green is in the photo").uncheck()
        page.keyboard.press("a")  # of a mask that nobody has seen
        page.keyboard.press("Control+z")
        page.mouse.move(*spot(page, 5, 40))
        page.mouse.down()
        page.mouse.up()
        until(page, "tagsegReview.writes.jobs.length === 2")
        held.let_go()
        shows(page, name)
        saved(page)
        assert [(e["event"], e.get("tags")) for e in journal(tmp_path)] == [
            ("mask", None),
            ("tags", ["green"]),
            ("tags", []),
        ]
        assert page.evaluate("tagsegReview.mask.data[10 * 80 + 10]") == 2
        assert not page.get_by_label("green is in the photo").is_checked()
        assert page.faults == []


def test_a_tag_is_switched_off_and_the_photo_is_labeled_again(tmp_path: Path, browser) -> None:  # type: ignore[no-untyped-def]
    with served(open_session(tmp_path)) as url:
        page = opened(browser, url)
        name = shown(page)
        blue = drawn(page, 75, 30)
        assert blue[3] > 0
        page.get_by_label("blue is in the photo").uncheck()
        until(page, "tagsegReview.row.tags.length === 1")
        saved(page)
        until(page, "tagsegReview.mask && tagsegReview.mask.data[30 * 80 + 75] !== 2")
        assert drawn(page, 75, 30) != blue
        assert 2 not in read_mask(tmp_path / "review" / "proposed" / f"{name}.png")
        assert journal(tmp_path)[-1]["tags"] == ["green"]
        page.get_by_label("blue is in the photo").check()
        until(page, "tagsegReview.mask?.data[30 * 80 + 75] === 2")
        assert page.faults == []


def test_strokes_regions_and_growth_reach_the_file_and_are_undone_one_by_one(tmp_path: Path, browser) -> None:  # type: ignore[no-untyped-def]
    with served(open_session(tmp_path)) as url:
        page = opened(browser, url)
        name = shown(page)
        before = read_mask(tmp_path / "review" / "proposed" / f"{name}.png")

        page.keyboard.press("b")
        page.keyboard.press("2")
        page.evaluate("document.getElementById('size').value = 6")
        page.mouse.move(*spot(page, 5, 10))
        page.mouse.down()
        page.mouse.move(*spot(page, 15, 10), steps=5)
        page.mouse.up()
        saved(page)
        file = tmp_path / "review" / "masks" / f"{name}.png"
        painted = read_mask(file)
        assert drawn(page, 10, 10)[3] > 0
        touched = painted != before
        assert touched[10, 5:16].all()
        assert 60 <= touched.sum() <= 100
        assert set(painted[touched]) == {2}
        assert np.array_equal(read_mask(tmp_path / "review" / "touched" / f"{name}.png") > 0, touched)

        page.keyboard.press("r")  # the region of the click: all of the green stripe
        page.mouse.click(*spot(page, 30, 30))
        saved(page)
        assert set(read_mask(file)[:, 22:38].ravel()) == {2}

        page.keyboard.press("g")  # grows over the red side of the photo, up to the stripe, over the stroke
        page.keyboard.press("1")
        page.mouse.move(*spot(page, 4, 50))
        until(page, "document.getElementById('preview').getContext('2d').getImageData(10, 40, 1, 1).data[3] > 0")
        page.keyboard.press("]")  # the preview follows the tolerance, and the class
        page.keyboard.press("[")
        page.keyboard.press("2")
        until(page, "document.getElementById('preview').getContext('2d').getImageData(10, 40, 1, 1).data[3] > 0")
        page.keyboard.press("1")
        page.mouse.click(*spot(page, 4, 50))
        saved(page)
        grown = read_mask(file)
        assert (grown[:, :20] == 1).all()
        assert (grown[:, 20:38] == 2).all()

        page.keyboard.press("Control+z")
        page.keyboard.press("Control+z")
        saved(page)
        assert np.array_equal(read_mask(file), painted)
        page.keyboard.press("Control+z")
        saved(page)
        assert np.array_equal(read_mask(file), before)
        assert journal(tmp_path)[-1]["event"] == "mask"
        assert page.faults == []


def test_filters_and_keys_that_a_person_changes(tmp_path: Path, browser) -> None:  # type: ignore[no-untyped-def]
    with served(open_session(tmp_path)) as url:
        page = opened(browser, url)
        page.keyboard.press("x")
        saved(page)
        page.select_option("#state", "rejected")
        assert page.locator("#listed").text_content() == "1 of 4 photos"
        page.select_option("#state", "")
        page.select_option("#class-filter", label="blue")
        page.select_option("#class-how", "missing")
        assert page.locator("#listed").text_content() == "0 of 4 photos"
        page.select_option("#class-how", "found")
        assert page.locator("#listed").text_content() == "4 photos"
        page.locator("#name").click()
        page.keyboard.press("?")
        page.get_by_role("button", name="Reject: leaves the training: key x; change it").click()
        page.keyboard.press("y")
        page.keyboard.press("Escape")
        page.reload()
        page.wait_for_selector("body[data-shown]")
        assert page.locator("#reject kbd").text_content() == "y"
        page.keyboard.press("x")
        page.keyboard.press("y")
        until(page, "document.getElementById('count').textContent === '2 done, 2 left'")
        assert page.faults == []


def test_a_second_window_is_told_and_nothing_is_overwritten(tmp_path: Path, browser) -> None:  # type: ignore[no-untyped-def]
    with served(open_session(tmp_path)) as url:
        one, two = opened(browser, url), opened(browser, url)
        name = shown(one)
        assert shown(two) == name
        two.evaluate("tagsegReview.poll = async () => {}")  # it has not heard yet
        one.keyboard.press("x")
        saved(one)
        two.keyboard.press("a")
        until(two, "document.getElementById('notice').textContent.includes('another window')")
        assert [e["state"] for e in journal(tmp_path)] == ["rejected"]
        assert not (tmp_path / "review" / "masks" / f"{name}.png").exists()
        assert two.faults == []


def test_news_of_another_photo_drop_no_stroke_on_the_one_that_is_open(tmp_path: Path, browser) -> None:  # type: ignore[no-untyped-def]
    with served(open_session(tmp_path)) as url:
        page = opened(browser, url)
        name = shown(page)
        other = page.evaluate("tagsegReview.queue.shown.find((i) => i !== tagsegReview.current)")
        paint_a_stroke(page)
        page.mouse.up()
        page.evaluate(f"tagsegReview.conflict({other})")
        saved(page)
        assert [(e["event"], e["photo"]) for e in journal(tmp_path)] == [("mask", name)]
        page.mouse.down()  # in the midst of a stroke on what another window has changed
        page.mouse.move(*spot(page, 15, 40), steps=5)
        page.evaluate("tagsegReview.conflict(tagsegReview.current)")
        page.mouse.up()
        shows(page, name)
        saved(page)
        assert len(journal(tmp_path)) == 1
        assert page.faults == []


def test_swipes_on_a_phone(tmp_path: Path, browser) -> None:  # type: ignore[no-untyped-def]
    with served(open_session(tmp_path)) as url:
        page = opened(browser, url)
        page.context.close()
        phone = {key: value for key, value in browser.devices["Pixel 7"].items() if key != "default_browser_type"}
        page = browser.new_context(**phone).new_page()
        page.goto(url)
        page.wait_for_selector("body[data-shown]")
        touch = page.context.new_cdp_session(page)

        def swipe(dx: int, dy: int) -> str:
            name = shown(page)
            frame = page.locator("#stage").bounding_box()
            x, y = frame["x"] + frame["width"] / 2, frame["y"] + frame["height"] / 2
            touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
            for share in (0.3, 0.6, 1):
                at = {"x": x + dx * share, "y": y + dy * share}
                touch.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [at]})
            touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
            page.wait_for_timeout(200)
            saved(page)
            return str(name)

        names = [swipe(30, 0), swipe(150, 0), swipe(-150, 0), swipe(0, -150)]
        assert names[0] == names[1]  # a short way is no decision
        assert [(e["photo"], e["state"]) for e in journal(tmp_path)] == list(
            zip(names[1:], ["accepted", "rejected", "later"], strict=True)
        )
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_server_that_is_killed_between_two_clicks_loses_nothing(tmp_path: Path, browser) -> None:  # type: ignore[no-untyped-def]
    photos = write_photos(tmp_path / "photos", 4)
    masks = write_masks(tmp_path / "masks", photos)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tagseg", "review", str(masks), "--images", str(tmp_path / "photos")]
    command += ["--classes", "green,blue", "--review", str(tmp_path / "review"), "--port", str(port), "--no-browser"]

    def start() -> subprocess.Popen[bytes]:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=dict(os.environ))
        for _ in range(400):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return process
            assert process.poll() is None
            time.sleep(0.1)
        raise AssertionError("the server does not listen")

    process = start()
    try:
        page = opened(browser, f"http://127.0.0.1:{port}/")
        page.keyboard.press("a")
        saved(page)
        until(page, "tagsegReview.photos.ready.size >= 2")  # the next ones are fetched ahead
        page.wait_for_timeout(300)
        process.send_signal(signal.SIGKILL)
        process.wait()
        page.keyboard.press("x")
        until(page, "document.getElementById('saved').classList.contains('lost')")
        process = start()
        saved(page)
        page.keyboard.press(" ")
        saved(page)
        assert [e["state"] for e in journal(tmp_path)] == ["accepted", "rejected", "later"]
        assert page.faults == []
    finally:
        process.kill()
        process.wait()


def lost(page):
    until(page, "document.getElementById('saved').classList.contains('lost')")


def notice(page):
    return page.locator("#notice").text_content()


def test_another_review_at_the_same_address_takes_nothing_of_the_one_before(tmp_path: Path, browser) -> None:  # type: ignore[no-untyped-def]
    with served(open_session(tmp_path / "one")) as url:
        page = opened(browser, url)
        first = shown(page)
    port = int(url.rstrip("/").rpartition(":")[2])
    with served(open_session(tmp_path / "two"), port):
        until(page, "document.getElementById('notice').textContent.startsWith('Another review')")
        paint_a_stroke(page)
        page.mouse.up()
        page.keyboard.press("a")
        lost(page)
        assert "Your work is kept" in notice(page)
        assert journal(tmp_path / "two") == []
    with served(open_session(tmp_path / "one"), port):
        saved(page)
        assert [(e["event"], e["photo"]) for e in journal(tmp_path / "one")] == [("mask", first), ("decision", first)]
        assert page.faults == []


def test_a_photo_that_comes_first_since_a_restart_takes_no_stroke_of_another(tmp_path: Path, browser) -> None:  # type: ignore[no-untyped-def]
    with served(open_session(tmp_path)) as url:
        page = opened(browser, url)
        first = shown(page)
    paint_a_stroke(page)
    page.mouse.up()
    page.keyboard.press("a")
    lost(page)
    photos = write_photos(tmp_path / "photos", 4)
    added = Photo("a0", photos[3].path.with_name("a0.png"), None)
    added.path.write_bytes(photos[3].path.read_bytes())
    proposals = ModelProposals(segmenter(), tmp_path / "review" / "proposed")
    with served(Session(tmp_path / "review", [added, *photos], proposals), int(url.rstrip("/").rpartition(":")[2])):
        page.get_by_text("1 done, 4 left").wait_for()  # loaded anew, once all was sent
        saved(page)
        assert [(e["event"], e["photo"]) for e in journal(tmp_path)] == [("mask", first), ("decision", first)]
        assert page.faults == []


def test_work_waits_for_the_token_of_a_server_that_was_started_anew(tmp_path: Path, browser) -> None:  # type: ignore[no-untyped-def]
    with served(open_session(tmp_path), token="one") as url:
        page = opened(browser, url)
    port = int(url.partition("?")[0].rstrip("/").rpartition(":")[2])
    page.keyboard.press("x")
    lost(page)
    with served(open_session(tmp_path), port, "two") as url:
        until(page, "document.getElementById('notice').textContent.startsWith('A token is needed')")
        assert journal(tmp_path) == []
        page.context.new_page().goto(url)  # the cookie is the browser's
        saved(page)
        assert [e["state"] for e in journal(tmp_path)] == ["rejected"]


def test_a_full_disk_keeps_the_stroke_until_there_is_room(tmp_path: Path, browser, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with served(open_session(tmp_path)) as url:
        page = opened(browser, url)
        monkeypatch.setattr("tagseg.data.review_journal.os.fsync", full)
        paint_a_stroke(page)
        page.mouse.up()
        lost(page)
        assert "No space left" in notice(page)
        assert page.evaluate("tagsegReview.mask.undos.length") == 1
        monkeypatch.undo()
        saved(page)
        assert [e["event"] for e in journal(tmp_path)] == ["mask"]


def test_a_write_is_not_taken_for_saved_where_another_window_was_first(tmp_path: Path, browser) -> None:  # type: ignore[no-untyped-def]
    session = open_session(tmp_path)
    with served(session) as url:
        page = opened(browser, url)
        index = page.evaluate("tagsegReview.current")
        page.context.set_offline(True)
        paint_a_stroke(page)
        page.mouse.up()
        lost(page)
        session.decide(index, "rejected", 0)
        page.context.set_offline(False)
        until(page, "document.getElementById('notice').textContent.includes('another window')")
        assert page.locator("#saved").text_content() == "not saved: see the notice"
        assert [e["event"] for e in journal(tmp_path)] == ["decision"]


def test_photos_put_off_come_after_all_others_and_an_undo_keeps_their_strokes(tmp_path: Path, browser) -> None:  # type: ignore[no-untyped-def]
    with served(open_session(tmp_path)) as url:
        page = opened(browser, url)
        names = []
        for key in (" ", " ", "a", "x"):
            names.append(shown(page))
            page.keyboard.press(key)
            until(page, f"tagsegReview.row.name !== '{names[-1]}' && tagsegReview.mask")
        assert shown(page) == names[0], "two are left, put off"
        paint_a_stroke(page)
        page.mouse.up()
        saved(page)
        page.keyboard.press("a")
        shows(page, names[1])
        saved(page)
        page.keyboard.press("u")
        shows(page, names[0])
        saved(page)
        assert page.evaluate("tagsegReview.mask.undos.length") == 1
        page.keyboard.press("u")  # the stroke, not the decision before
        saved(page)
        assert shown(page) == names[0]
        assert page.evaluate("tagsegReview.mask.undos.length") == 0
        page.keyboard.press("a")
        shows(page, names[1])
        page.keyboard.press(" ")
        assert notice(page) == "Only this photo of the list is left."
        page.keyboard.press("a")
        assert notice(page).startswith("Every photo in this list is decided.")
        assert page.faults == []


def test_a_turned_webp_lies_under_its_mask_upright(tmp_path: Path, browser) -> None:  # type: ignore[no-untyped-def]
    turned = Image.Exif()
    turned[0x0112] = 6
    path = tmp_path / "p0.webp"
    Image.fromarray(np.rot90(picture(0), 1)).save(path, exif=turned, lossless=True)
    proposals = ModelProposals(segmenter(), tmp_path / "review" / "proposed")
    with served(Session(tmp_path / "review", [Photo("p0", path, ("green", "blue"))], proposals)) as url:
        page = opened(browser, url)
        sizes = page.evaluate("[tagsegReview.stage.photo.naturalWidth, tagsegReview.stage.photo.naturalHeight]")
        assert sizes == [80, 60]
