import io

import pytest
from rich.console import Console

from tagseg.engine.progress import TrainProgress
from tagseg.methods.mentor import MentorSettings
from tagseg.methods.method import LIGHT_STEP
from tagseg.progress import clock_text


@pytest.fixture
def clock(monkeypatch):
    seconds = [100.0]
    monkeypatch.setattr("tagseg.engine.progress.time.monotonic", lambda: seconds[0])
    return seconds


def advance(progress: TrainProgress, clock: list[float], steps: int, seconds: float = 2.0) -> None:
    for _ in range(steps):
        clock[0] += seconds
        row = {"step": progress.done + 1, "loss": 0.123456, "class": 0.1, "lr": 1.0}
        progress.advance(row, ["class"])


def test_elsewhere_than_on_a_terminal_a_line_now_and_then(capsys, clock):
    progress = TrainProgress(steps=200)
    progress.begin(100)
    advance(progress, clock, 15)
    progress.scores = {"miou": 41.237}
    advance(progress, clock, 10)
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "step 101/200 2.0 s/step | loss 0.123 class 0.1", "the first steps tell no rate"
    assert said[-1] == "step 121/200 2.0 s/step 2:38 left | loss 0.123 class 0.1 | miou 41.24"
    assert len(said) == 3


def test_evaluations_do_not_count_into_the_rate(capsys, clock):
    progress = TrainProgress(steps=100)
    progress.begin(0)
    advance(progress, clock, 50, seconds=0.1)
    with progress.paused():
        clock[0] += 1000
    advance(progress, clock, 50, seconds=0.1)
    assert capsys.readouterr().err.splitlines()[-1].startswith("step 100/100 10.0 steps/s 0:00 left")


def test_other_processes_are_silent(capsys, clock):
    progress = TrainProgress(steps=10, enabled=False)
    progress.begin(0)
    progress.say("anything")
    advance(progress, clock, 10)
    progress.close()
    captured = capsys.readouterr()
    assert captured.err == captured.out == ""


def test_on_a_terminal_a_bar(clock):
    progress = TrainProgress(steps=10)
    screen = io.StringIO()
    progress.console = Console(file=screen, force_terminal=True, width=120)
    progress.begin(0)
    advance(progress, clock, 5)
    progress.say("a [sentence] above the bar")
    progress.close()
    shown = screen.getvalue()
    assert "a [sentence] above the bar" in shown
    assert "step 5/10 2.0 s/step 0:10 left" in shown


def test_light_steps_at_the_start_do_not_promise_an_early_end(capsys, clock):
    settings = MentorSettings(class_steps=100)
    progress = TrainProgress(steps=200, later=50, effort=settings.effort)
    progress.begin(0)
    advance(progress, clock, 77, seconds=LIGHT_STEP * 2.0)
    assert "step 77/200 1.2 steps/s 3:38 left, about 5:18 with what follows" in capsys.readouterr().err.splitlines()[-1]
    advance(progress, clock, 23, seconds=LIGHT_STEP * 2.0)
    advance(progress, clock, 99)
    last = capsys.readouterr().err.splitlines()[-1]
    done = int(last.split()[1].split("/")[0])
    assert f"{clock_text(2 * (200 - done))} left" in last
