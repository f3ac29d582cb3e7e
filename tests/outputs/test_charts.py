import re

import pytest

from tagseg.cues.pulse import PulseWave
from tagseg.outputs.charts import (
    BOTTOM,
    HEIGHT,
    LEFT,
    MAX_POINTS,
    RIGHT,
    TOP,
    WIDTH,
    charts_of_run,
    line_chart,
    nice_ticks,
)


def points(line):
    return [tuple(map(float, pair.split(","))) for pair in line.path[1:].split("L")]


def test_points_lie_where_they_belong():
    chart = line_chart("Score", {"a": [(0, 0.0), (50, 50.0), (100, 100.0)]}, unit=" %", dots=True)
    floor = HEIGHT - BOTTOM
    middle = (LEFT + (WIDTH - LEFT - RIGHT) / 2, (floor + TOP) / 2)
    assert points(chart.lines[0]) == [(LEFT, floor), pytest.approx(middle), (WIDTH - RIGHT, TOP)]
    assert chart.lines[0].last == "100 %"
    assert [text for _, text in chart.x_ticks] == ["0", "25", "50", "75", "100"]
    assert chart.summary == "Score over 100 steps: a from 0 % to 100 %."
    assert chart.wave is None


@pytest.mark.parametrize(
    "values", [[1.0], [3.0, 3.0], [0.0, 0.0], [-2.0, 5.0], [1e-9, 2e-9], [1e7, 3e7], [0.1, 100.0], [1e-8, 1e3]]
)
def test_everything_stays_inside_the_box(values):
    chart = line_chart("Loss", {"a": list(enumerate(values, start=1))})
    for x, y in [*points(chart.lines[0]), *((LEFT, y) for y, _ in chart.y_ticks)]:
        assert LEFT <= x <= WIDTH - RIGHT
        assert TOP - 0.1 <= y <= HEIGHT - BOTTOM + 0.1
    assert 2 <= len(chart.y_ticks) <= 8
    assert len({text for _, text in chart.y_ticks}) == len(chart.y_ticks)


def test_many_steps_are_averaged():
    chart = line_chart("Loss", {"a": [(step, step % 2) for step in range(20000)]})
    assert len(points(chart.lines[0])) == MAX_POINTS
    assert "mean of about 444" in chart.note


def test_what_is_no_number_is_left_out():
    chart = line_chart("Loss", {"a": [(1, 1.0), (2, float("nan")), (3, 2.0)], "b": [(1, float("inf"))]})
    assert [line.name for line in chart.lines] == ["a"]
    assert len(points(chart.lines[0])) == 2
    with pytest.raises(ValueError, match="no point"):
        line_chart("Loss", {"b": [(1, float("inf"))]})


def test_the_wave_is_high_where_the_class_teacher_instructs():
    wave = PulseWave.preset("paper")
    rows = [{"step": step + 1, "loss": 1.0, "wave": wave.level(step)} for step in range(450)]
    (chart,) = charts_of_run(rows)
    scale = (WIDTH - LEFT - RIGHT) / 450
    assert [x for x, _ in chart.wave] == pytest.approx([LEFT + scale * start for start in (0, 150, 300)], abs=0.02)
    assert [width for _, width in chart.wave] == pytest.approx([30 * scale] * 3, abs=0.02)


def test_charts_of_a_run():
    rows = [
        {"step": 1, "loss": 3.0, "class": 1.0, "seg_teacher energy": 2.0, "lr": 0.1, "seconds": 1.0},
        {"step": 2, "loss": 2.0, "class": 0.5, "seg_teacher energy": 1.5, "lr": 0.1, "scores": {"miou": 0.5}},
        {"step": 3, "loss": 1.0, "class": 0.5, "seg_teacher energy": 0.5, "scores": {"miou": None}},
        {"step": 4, "loss": 1.0, "class": 0.5, "seg_teacher energy": 0.5, "scores": {"miou": 0.75}},
    ]
    loss, terms, score = charts_of_run(rows)
    assert [line.name for line in loss.lines] == ["loss"]
    assert [line.name for line in terms.lines] == ["class", "seg-teacher energy"]
    assert [(line.name, line.last) for line in score.lines] == [("mIoU", "75 %")]
    assert charts_of_run([]) == ()
    assert charts_of_run(rows[1:2]) == ()  # one point is no curve


def test_ticks_are_round_and_embrace():
    assert nice_ticks(0, 100) == [0, 25, 50, 75, 100]
    assert nice_ticks(0.31, 0.94) == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert all(re.fullmatch(r"-?\d+(\.\d+)?", str(t)) for t in nice_ticks(-3.3, 7.1))
