"""Only UserError leaves a reader, whatever the file holds; the slow form's counts stand in docs/results/robustness.md."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzzing import READERS_OF_FILES, fuzz, limited

FEW, MANY = 40, 600  # mutations of a reader, times its weight
SLOWEST = 20.0  # seconds that a mutation may take, on a machine that does other things too


@pytest.fixture(autouse=True)
def under_a_limit_of_memory() -> Iterator[None]:
    with limited():
        yield


@pytest.mark.parametrize("name", READERS_OF_FILES)
def test_only_sentences_leave_a_reader(name: str, tmp_path: Path) -> None:
    count = max(round(FEW * READERS_OF_FILES[name].weight), 6)
    counts = fuzz(name, count, tmp_path / "files")
    assert counts.taken + counts.refused == count
    assert counts.slowest < SLOWEST


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS_OF_FILES)
def test_only_sentences_leave_a_reader_at_length(name: str, tmp_path: Path) -> None:
    count = round(MANY * READERS_OF_FILES[name].weight)
    counts = fuzz(name, count, tmp_path / "files", seed=1)
    assert counts.refused > count / 20  # the mutations do break files
    assert counts.taken > 0  # and not all of them
    assert counts.slowest < SLOWEST


def test_the_long_form_has_ten_thousand_mutations() -> None:
    assert sum(round(MANY * reader.weight) for reader in READERS_OF_FILES.values()) >= 10_000
