"""Losses of the first steps, as numbers: a change that should not change what training computes proves it here."""

import pytest

from tests.methods.small import TWO, batch, build

# Changes here are changes of what training computes: state them as such.
GOLDEN = {
    ("classifier", 0): {"class": 0.988373},
    ("rrm", 0): {"class": 0.988373, "student labels": 2.46191, "student energy": -2.6304e-05},
    ("asdt", 0): {
        "class": 0.988373,
        "seg_teacher labels": 1.40344,
        "seg_teacher energy": -1.297e-05,
        "student labels": 1.23095,
        "student energy": -1.3152e-05,
    },
    ("asdt", 1): {
        "class": 0.988373,
        "seg_teacher labels": 1.40344,
        "seg_teacher energy": -1.297e-05,
        "student labels": 1.55585,
        "student energy": -9.86082e-06,
    },
    ("supervised", 0): {"student labels": 1.60346},
}


@pytest.mark.parametrize(("name", "step"), GOLDEN)
def test_golden_losses(name: str, step: int) -> None:
    losses = {key: value.item() for key, value in build(name).train()(batch(TWO), step).items()}
    assert losses == pytest.approx(GOLDEN[name, step], rel=5e-3, abs=0)
