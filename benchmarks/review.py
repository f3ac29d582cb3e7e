"""`tagseg review` with many photos: time from accepting a photo to seeing the next, and the server's memory.

    python benchmarks/review.py --photos 10000 --decisions 200

Photos and masks are generated once and linked to many names. Needs Linux, playwright and chromium.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from shutil import which

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

from tagseg.data.palette import write_mask

SIZE = (375, 500)
KINDS = 50
PATIENCE = 900  # seconds until all photos are looked at

ACCEPT = """() => new Promise((resolve) => {
  const before = document.body.dataset.shown, start = performance.now();
  new MutationObserver((_, observer) => {
    if (document.body.dataset.shown === before) return;
    observer.disconnect();
    requestAnimationFrame(() => requestAnimationFrame(() => resolve(performance.now() - start)));  // painted
  }).observe(document.body, { attributes: true });
  window.dispatchEvent(new KeyboardEvent("keydown", { key: "a", bubbles: true }));
})"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=10_000)
    parser.add_argument("--decisions", type=int, default=200)
    parser.add_argument("--think", type=float, default=0.3, help="seconds between two decisions")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make(root, given.photos)
        command = [sys.executable, "-m", "tagseg", "review", str(root / "masks"), "--images", str(root / "photos")]
        command += ["--classes", "cat,dog,cow", "--review", str(root / "review"), "--port", "8499", "--no-browser"]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            measure(server.pid, given.photos, given.decisions, given.think)
        finally:
            server.terminate()
            server.wait()


def make(root: Path, count: int) -> None:
    """Photos of noise and discs, their masks, and links to them under many names."""
    rng = np.random.default_rng(0)
    for part in ("photos", "masks", "kinds"):
        (root / part).mkdir()
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    for kind in range(KINDS):
        disc = (y - rng.integers(80, 300)) ** 2 + (x - rng.integers(80, 400)) ** 2 < rng.integers(40, 120) ** 2
        photo = rng.normal(120, 25, (*SIZE, 3)) + 80 * disc[..., None]
        Image.fromarray(photo.clip(0, 255).astype(np.uint8)).save(root / "kinds" / f"{kind}.jpg", quality=85)
        write_mask(root / "kinds" / f"{kind}.png", (disc * (1 + kind % 3)).astype(np.uint8))
    for number in range(count):
        os.link(root / "kinds" / f"{number % KINDS}.jpg", root / "photos" / f"photo{number:05}.jpg")
        os.link(root / "kinds" / f"{number % KINDS}.png", root / "masks" / f"photo{number:05}.png")


def measure(pid: int, photos: int, decisions: int, think: float) -> None:
    started = time.monotonic()
    while True:
        try:
            urllib.request.urlopen("http://127.0.0.1:8499/api/session")
            break
        except OSError:
            time.sleep(0.1)
    print(f"{photos} photos; the server answers after {time.monotonic() - started:.1f} s")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1366, "height": 820})
        begun = time.monotonic()
        page.goto("http://127.0.0.1:8499/")
        page.wait_for_selector("body[data-shown]")
        print(f"the first photo is shown after {time.monotonic() - begun:.1f} s")
        for name, wait in (("while all photos are looked at", False), ("afterwards", True)):
            end = time.monotonic() + PATIENCE * wait
            left = "[...tagsegReview.queue.rows.values()].filter((row) => row.doubt === null).length"
            while time.monotonic() < end and page.evaluate(left):
                page.wait_for_timeout(500)
            if wait and page.evaluate(left):
                print(f"{page.evaluate(left)} photos are still not looked at")
            took = []
            for _ in range(decisions):
                page.wait_for_timeout(int(1000 * think))
                took.append(page.evaluate(ACCEPT))
            middle, late = np.percentile(took, [50, 95])
            print(f"accept to next, {name}: median {middle:.0f} ms, 95th percentile {late:.0f} ms, {decisions} times")
            print(f"the server's memory at its highest: {memory(pid):.0f} MB")
        browser.close()


def memory(pid: int) -> float:
    """The highest resident memory of a process so far, in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


if __name__ == "__main__":
    main()
