"""Line charts as plain geometry that the report's template draws as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

WIDTH, HEIGHT = 400, 230  # of a chart in SVG units, shown between 330 and 450 pixels wide
LEFT, RIGHT, TOP, BOTTOM = 48, 10, 10, 28
WAVE_HEIGHT = 12
MAX_POINTS = 45  # of a line; more steps are averaged, since batches differ by more than a run gains in a hundred steps
SMALLEST, LARGEST = 1e-30, 1e30  # that a chart shows
NOT_CURVES = {"step", "wave", "lr", "seconds", "scores"}

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Line:
    """One curve: its name, its points as an SVG path, and the last value as text."""

    name: str
    path: str
    last: str
    dots: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class Chart:
    """A chart ready to draw; positions are SVG units in a box of WIDTH x HEIGHT.

    x_ticks, y_ticks: position and text. wave: position and width of the stretches where the pulse wave is high (the
    class-teacher instructs); None where there is no wave. summary: the chart in words, for those who don't see it.
    """

    title: str
    lines: tuple[Line, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    wave: tuple[tuple[float, float], ...] | None
    note: str
    summary: str


def line_chart(
    title: str,
    curves: Mapping[str, Points],
    *,
    unit: str = "",
    wave: Points | None = None,
    dots: bool = False,
) -> Chart:
    """A chart of curves given as (step, value), of which values that are no number are left out.

    unit: follows the numbers. wave: (step, 0 or 1). dots: whether to mark every point. The vertical axis is logarithmic
    where all values are positive and the largest is over 40 times the smallest.
    """
    clean = {name: [(s, v) for s, v in points if math.isfinite(v)] for name, points in curves.items()}
    clean = {name: points for name, points in clean.items() if points}
    if not clean:
        raise ValueError(f"chart {title!r} has no point")
    thinned = {name: _average(points) for name, points in clean.items()}
    last_step = max(max(s for s, _ in points) for points in clean.values())
    values = [v for points in thinned.values() for _, v in points]
    low, high = min(values), max(values)
    logarithmic = low > 0 and high > 40 * low
    ticks = _log_ticks(low, high) if logarithmic else nice_ticks(low, high)
    bottom, top = min(ticks[0], low), max(ticks[-1], high)
    scale = math.log if logarithmic else float
    floor = HEIGHT - BOTTOM - (WAVE_HEIGHT + 6 if wave is not None else 0)

    def x(step: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * step / max(last_step, 1)

    def y(value: float) -> float:
        return floor - (floor - TOP) * (scale(value) - scale(bottom)) / (scale(top) - scale(bottom))

    lines = []
    for name, points in thinned.items():
        places = tuple((round(x(s), 1), round(y(v), 1)) for s, v in points)
        path = "M" + "L".join(f"{px:g},{py:g}" for px, py in places)
        lines.append(Line(name, path, _short(points[-1][1]) + unit, places if dots or len(places) == 1 else ()))
    longest = max(clean.values(), key=len)
    note = ""
    if len(longest) > MAX_POINTS:
        note = f"Each point is the mean of about {round(len(longest) / MAX_POINTS)} logged steps."
    if logarithmic:
        note = f"Logarithmic axis. {note}".strip()
    summary = f"{title} over {_short(last_step)} steps: " + "; ".join(
        f"{name} from {_short(points[0][1])}{unit} to {_short(points[-1][1])}{unit}" for name, points in clean.items()
    )
    return Chart(
        title,
        tuple(lines),
        tuple((round(x(s), 1), f"{s:,.0f}") for s in nice_ticks(0, last_step) if s <= last_step),
        tuple((round(y(v), 1), _short(v) + unit) for v in ticks if bottom <= v <= top),
        None if wave is None else _high_stretches(wave, last_step, x),
        note,
        summary + ".",
    )


def charts_of_run(rows: Sequence[Mapping[str, Any]]) -> tuple[Chart, ...]:
    """The charts of a run from the lines of its metrics.jsonl: loss, its terms, and the scores while training.

    rows: "step", the losses by name, perhaps "wave" (1 = class-teacher) and "scores" (numbers in [0, 1] by name).
    """
    names = list(dict.fromkeys(key for row in rows for key in row if key not in NOT_CURVES))
    curves = {name.replace("_", "-"): _column(rows, name) for name in names}
    wave = _column(rows, "wave") or None
    charts = []
    terms = {name: points for name, points in curves.items() if name != "loss" and points}
    if len(curves.get("loss", ())) > 1:
        charts.append(line_chart("Loss", {"loss": curves["loss"]}, wave=wave))
    if len(terms) > 1 and max(map(len, terms.values())) > 1:
        charts.append(line_chart("Terms of the loss", terms, wave=wave))
    scores = [{**row["scores"], "step": row["step"]} for row in rows if isinstance(row.get("scores"), dict)]
    score_names = list(dict.fromkeys(key for row in scores for key in row if key != "step"))
    scored = {_score_name(name): [(s, 100 * v) for s, v in _column(scores, name)] for name in score_names}
    if max(map(len, scored.values()), default=0) > 1:  # one point is no curve
        charts.append(line_chart("Score while training", scored, unit=" %", wave=wave, dots=True))
    return tuple(charts)


def nice_ticks(low: float, high: float, count: int = 4) -> list[float]:
    """About `count` round numbers that embrace `low` to `high`."""
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        low, high = low - (abs(low) * 0.1 or 0.5), high + (abs(high) * 0.1 or 0.5)
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    stride = max(1, math.ceil((last - first) / 5))
    return [10.0**power for power in range(first, last + stride, stride)]


def _column(rows: Sequence[Mapping[str, Any]], name: str) -> list[tuple[float, float]]:
    return [
        (row["step"], float(row[name])) for row in rows if _can_be_drawn(row["step"]) and _can_be_drawn(row.get(name))
    ]


def _can_be_drawn(value: object) -> bool:
    """Whether an axis can hold it: no numbers whose differences or logarithms leave the floats."""
    return isinstance(value, int | float) and (value == 0 or SMALLEST <= abs(value) <= LARGEST)


def _average(points: Points) -> Points:
    if len(points) <= MAX_POINTS:
        return points
    parts = np.array_split(np.array(points, dtype=np.float64), MAX_POINTS)
    return [(float(s), float(v)) for s, v in (part.mean(axis=0) for part in parts)]


def _high_stretches(wave: Points, last_step: float, x: Any) -> tuple[tuple[float, float], ...]:
    stretches: list[list[float]] = []
    previous = 0.0
    for step, level in wave:  # a row speaks for the steps since the row before
        if level > 0.5:
            if stretches and stretches[-1][1] == previous:
                stretches[-1][1] = step
            else:
                stretches.append([previous, step])
        previous = step
    return tuple((round(x(a), 2), round(x(min(b, last_step)) - x(a), 2)) for a, b in stretches if a < last_step)


def _score_name(name: str) -> str:
    return {"miou": "mIoU"}.get(name, name)


def _short(value: float) -> str:
    """A number in at most about five characters."""
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        digits = 0 if abs(value) >= 100 or value == 0 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
        text = f"{value:,.{digits}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
