import pytest
from pydantic import ValidationError

from tagseg.cues import PulseWave


def test_paper_wave_gives_the_class_teacher_30_of_150_steps() -> None:
    wave = PulseWave.preset("paper")
    taught = [wave.teacher(step) for step in range(300)]
    assert taught[:30] == ["class-teacher"] * 30
    assert taught[30:150] == ["seg-teacher"] * 120
    assert taught[150:] == taught[:150]


def test_minority_wave_warms_up_then_gives_the_seg_teacher_the_first_25_of_150() -> None:
    wave = PulseWave.preset("minority")
    assert all(wave.teacher(step) == "class-teacher" for step in range(1000))
    period = [wave.level(step) for step in range(1050, 1200)]
    assert period == [0] * 25 + [1] * 125


def test_warmup_ends_inside_a_period() -> None:
    wave = PulseWave(period=10, high=4, warmup=7)
    assert [wave.level(step) for step in range(14)] == [1] * 7 + [0] * 3 + [1] * 4


@pytest.mark.parametrize("high", [0, 10])
def test_a_wave_may_be_flat(high: int) -> None:
    wave = PulseWave(period=10, high=high)
    assert {wave.level(step) for step in range(20)} == {int(high > 0)}


def test_wrong_waves_are_refused_by_name() -> None:
    with pytest.raises(ValidationError, match="longer than the period"):
        PulseWave(period=10, high=11)
    with pytest.raises(ValidationError, match="paper, minority"):
        PulseWave.preset("square")
    with pytest.raises(ValidationError):
        PulseWave(period=0)
