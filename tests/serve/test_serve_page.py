"""The page of a served model, driven by a browser."""

import io
from shutil import which

import pytest
from PIL import Image

from tagseg.serve.app import create_app
from tagseg.serve.service import Service
from tagseg.web.listen import open_address
from tests.review.photos import picture, run_server, segmenter

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = which("chromium") or which("chromium-browser") or which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium")


def photo(number: int) -> dict[str, object]:
    buffer = io.BytesIO()
    Image.fromarray(picture(number)[:, : 80 - number]).save(buffer, format="PNG")
    return {"name": f"p{number}.png", "mimeType": "image/png", "buffer": buffer.getvalue()}


def test_the_answer_about_a_photo_before_is_not_laid_over_the_next() -> None:
    address = open_address("127.0.0.1", 0)
    held = []
    with (
        run_server(create_app(Service(segmenter()), hosts=address.hosts), address),
        playwright.sync_playwright() as started,
        started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"]) as browser,
    ):
        page = browser.new_page()
        page.goto(address.url)
        page.wait_for_selector("body[data-ready]")
        page.route("**/predict", lambda route: route.continue_() if held else held.append(route))
        page.set_input_files("#file", photo(0))
        page.wait_for_timeout(200)
        page.set_input_files("#file", photo(30))
        page.wait_for_selector("#result:not([hidden])")
        saved = page.get_attribute("#save", "href")
        (first,) = held
        first.continue_()
        page.wait_for_timeout(500)
        widths = page.evaluate("['photo', 'mask'].map((id) => document.getElementById(id).naturalWidth)")
        assert widths == [50, 50]
        assert page.get_attribute("#save", "href") == saved
        assert page.text_content("#said") == ""
