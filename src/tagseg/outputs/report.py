"""The report: one HTML file with everything inside, made from plain data.

Shapes: H W pixels.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from tagseg.data.palette import color, overlay
from tagseg.files import replacing
from tagseg.outputs import charts
from tagseg.outputs.heat import heat_colors, heat_overlay

SIZES = (384, 320, 256, 192, 128)  # longest sides that pictures are tried at until they fit
PICTURE_BUDGET = 2_000_000  # bytes of all pictures together, before base64 adds a third
CRF = " + CRF"  # what ends the name of a branch's scores after the dense CRF


@dataclass(frozen=True)
class Panel:
    """One picture. image: uint8 (H, W, 3). alt: what it shows, in words. note: a short addition, such as its IoU."""

    name: str
    image: NDArray[np.uint8]
    alt: str
    note: str = ""


@dataclass(frozen=True)
class Example:
    """One photo with what was made of it. why: best, median, worst, random. classes: indices in its legend."""

    name: str
    panels: tuple[Panel, ...]
    why: str = ""
    caption: str = ""
    classes: tuple[int, ...] = ()


@dataclass(frozen=True)
class ScoreRow:
    """A row of scores in percent, None where there is none. meaning: the name in words."""

    name: str
    values: tuple[float | None, ...]
    meaning: str = ""


@dataclass(frozen=True)
class ScoreTable:
    """Scores in percent by row and column; note: which photos and labels. gains: points, with their sign, instead."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[ScoreRow, ...]
    note: str = ""
    gains: bool = False

    @property
    def best(self) -> float | None:
        """The highest value."""
        return max((v for row in self.rows for v in row.values if v is not None), default=None)


@dataclass(frozen=True)
class ClassBars:
    """A score in percent for each class, of one or more series (at most four), None where undefined."""

    title: str
    classes: tuple[str, ...]
    series: Mapping[str, tuple[float | None, ...]]
    note: str = ""


@dataclass(frozen=True)
class ReportData:
    """Everything a report shows; parts that are empty are left out.

    classes: names by index, background first. figures: (value, label) of the few numbers that matter most. protocol:
    which photos the scores are of and which labels were used. rows: lines of metrics.jsonl. facts: (label, text) of
    how it was made. recipe: the resolved YAML.
    """

    title: str
    classes: tuple[str, ...]
    lead: str = ""
    protocol: str = ""
    figures: tuple[tuple[str, str], ...] = ()
    tables: tuple[ScoreTable, ...] = ()
    bars: ClassBars | None = None
    rows: Sequence[Mapping[str, Any]] = ()
    examples: tuple[Example, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    command: str = ""
    recipe: str = ""


def write_report(data: ReportData, path: Path) -> None:
    """Write the report: one HTML page without any outside request, whole or not at all.

    Pictures are shrunk until the page stays below 3 MB. Raises UserError when the file cannot be written.
    """
    page = (
        _environment()
        .get_template("report.html.j2")
        .render(data=data, charts=charts.charts_of_run(data.rows), pictures=_pictures(data.examples))
    )
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8", newline="\n")


def spread(scores: Mapping[str, float], seed: int, count: int) -> list[tuple[str, str]]:
    """Up to `count` different photos that show the whole range: (name, why), why = best, median, worst or random.

    scores: a score of each photo by name; those that are no number are passed over. A quarter each (at least one, where
    there is room) are the best, the middle and the worst; the rest are drawn by `seed`. The same for the same input,
    whatever its order.
    """
    ranked = sorted((name for name, v in scores.items() if math.isfinite(v)), key=lambda name: (-scores[name], name))
    count = min(count, len(ranked))
    each = max(1, count // 4)
    middle = (len(ranked) - each) // 2
    wanted = {"best": ranked[:each], "median": ranked[middle : middle + each], "worst": ranked[len(ranked) - each :]}
    chosen: dict[str, str] = {}
    for why in ("best", "worst", "median"):  # in a small set the extremes go first
        chosen.update((name, why) for name in wanted[why] if name not in chosen and len(chosen) < count)
    rest = [name for name in ranked if name not in chosen]
    for i in np.random.default_rng(seed).permutation(len(rest))[: count - len(chosen)]:
        chosen[rest[i]] = "random"
    order = ("best", "median", "worst", "random")
    return sorted(chosen.items(), key=lambda item: (order.index(item[1]), ranked.index(item[0])))


def branch_table(
    title: str,
    scores: Mapping[str, Mapping[str, Any]],
    *,
    key: str = "miou",
    note: str = "",
    meanings: Mapping[str, str] | None = None,
) -> ScoreTable:
    """Rows of branches, columns before and after the CRF, from scores by `<branch>` and `<branch> + CRF`.

    meanings: the branches in words, by their names.
    """
    names = list(dict.fromkeys(name.removesuffix(CRF) for name in scores))
    with_crf = any(name.endswith(CRF) for name in scores)
    suffixes = ("", CRF) if with_crf else ("",)

    def value(name: str) -> float | None:
        return scores[name][key] if name in scores else None

    words = meanings or {}
    rows = tuple(
        ScoreRow(n, tuple(value(n + suffix) for suffix in suffixes), words.get(n.partition(", ")[0], "")) for n in names
    )
    return ScoreTable(title, ("before CRF", "after CRF") if with_crf else ("mIoU",), rows, note)


def photo_panel(photo: NDArray[np.uint8], name: str) -> Panel:
    """The photo itself."""
    return Panel("photo", photo, f"Photo {name}")


def heat_panel(label: str, photo: NDArray[np.uint8], heat: NDArray[np.floating], name: str, *, note: str = "") -> Panel:
    """A heat map over a photo; heat: floats (H, W) in [0, 1]."""
    share = 100 * float((heat > 0.5).mean())
    return Panel(label, heat_overlay(photo, heat), f"{label} over photo {name}: {share:.0f} % is above one half", note)


def mask_panel(
    label: str,
    photo: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    classes: Sequence[str],
    name: str,
    *,
    note: str = "",
) -> Panel:
    """A mask over a photo, the alt text naming the classes and their share; mask: uint8 (H, W), 255 = ignore."""
    counts = np.bincount(mask.ravel(), minlength=256)
    parts = [f"{classes[k]} {100 * counts[k] / mask.size:.0f} %" for k in range(1, len(classes)) if counts[k]]
    alt = f"{label} over photo {name}: {', '.join(parts) or 'nothing but background'}"
    return Panel(label, overlay(photo, mask), alt, note)


def _pictures(examples: Sequence[Example]) -> list[list[str]]:
    """The panels of each example as data URIs."""
    encoded: list[list[bytes]] = []
    for size in SIZES:
        encoded = [[_jpeg(panel.image, size) for panel in example.panels] for example in examples]
        if sum(len(data) for row in encoded for data in row) <= PICTURE_BUDGET:
            break
    return [[f"data:image/jpeg;base64,{base64.b64encode(data).decode('ascii')}" for data in row] for row in encoded]


def _jpeg(image: NDArray[np.uint8], size: int) -> bytes:
    picture = Image.fromarray(np.ascontiguousarray(image))
    if max(picture.size) > size:
        picture.thumbnail((size, size), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=84, optimize=True)
    return buffer.getvalue()


@cache
def _environment() -> Environment:
    from tagseg import __version__

    loader = PackageLoader("tagseg", "outputs")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["percent"] = lambda value: "–" if value is None else f"{value:.1f}"
    environment.globals.update(
        box=charts,
        color=color,
        ignore_color=color(255),
        ramp=["#" + bytes(c).hex() for c in heat_colors(9)],
        style=Markup(loader.get_source(environment, "report.css")[0]),
        version=__version__,
    )
    return environment


__all__ = [
    "ClassBars",
    "Example",
    "Panel",
    "ReportData",
    "ScoreRow",
    "ScoreTable",
    "branch_table",
    "heat_panel",
    "mask_panel",
    "photo_panel",
    "spread",
    "write_report",
]
