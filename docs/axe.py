"""What axe-core finds on the built site, at desktop and phone width, in light and dark; ends with status 1 if anything.

npm install axe-core
mkdocs build
python docs/axe.py site node_modules/axe-core/axe.min.js [PAGE ...]

A PAGE is a file of the site, or an address: http://127.0.0.1:8471/ of `tagseg review` or `tagseg serve`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
CHROMIUM = "/usr/bin/chromium"
# the theme gives each block of code a navigation of one button without a name of its own
RUN = "async () => (await axe.run({rules: {'landmark-unique': {enabled: false}}})).violations"
WIDER = "() => document.documentElement.scrollWidth - window.innerWidth"


def main(site: Path, axe: Path, pages: list[str]) -> int:
    """Check the pages named, or all; print a line for each rule that is broken, and return how many are."""
    found = 0
    names = pages or sorted(
        path.relative_to(site).as_posix() for path in site.rglob("*.html") if path.name != "404.html"
    )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for size, (width, height) in SIZES.items():
            for scheme in ("light", "dark"):
                # without bypass_csp the policy of the review page keeps axe out
                context = browser.new_context(
                    viewport={"width": width, "height": height}, color_scheme=scheme, bypass_csp=True
                )
                page = context.new_page()
                page.set_default_timeout(0)  # a busy machine takes minutes
                for name in names:
                    page.goto(name if "://" in name else (site / name).resolve().as_uri())
                    page.add_script_tag(path=axe)
                    where = f"{name}, {size}, {scheme}"
                    for broken in page.evaluate(RUN):
                        found += 1
                        nodes = [" ".join(node["html"].split())[:90] for node in broken["nodes"]]
                        print(f"{where}: {broken['id']} ({broken['impact']}), {len(nodes)}: {nodes[0]}", flush=True)
                    wider = page.evaluate(WIDER)
                    if wider > 0:
                        found += 1
                        print(f"{where}: {wider} pixels wider than the window", flush=True)
                context.close()
        browser.close()
    print(f"{len(names)} pages, {found} findings")
    return found


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]) > 0)
