"""The pulse wave of ASDT: which teacher instructs the student at a step."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from tagseg.foreign import shown
from tagseg.settings import Every, Settings, Steps

Teacher = Literal["class-teacher", "seg-teacher"]


class PulseWave(Settings):
    """Which teacher instructs the student at a step (ASDT section 3.2).

    The wave is high (class-teacher) for `high` steps of every `period`, low (seg-teacher) for the rest; before `warmup`
    it is always high. `high_first` says which part opens a period; periods are counted from step 0.
    """

    period: Every = Field(150, description="T: steps of one period")
    high: Steps = Field(30, description="T_h: steps of a period taught by the class-teacher")
    warmup: Steps = Field(0, description="steps at the start taught by the class-teacher alone")
    high_first: bool = Field(True, description="whether a period opens with its class-teacher part")

    @model_validator(mode="before")
    @classmethod
    def _from_preset(cls, value: object) -> object:
        return preset_values(value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _high_fits(self) -> PulseWave:
        if self.high > self.period:
            raise ValueError(f"high ({self.high}) is longer than the period ({self.period})")
        return self

    @classmethod
    def preset(cls, name: str) -> PulseWave:
        """The wave called `paper` or `minority`.

        paper: the class-teacher for 30 of 150 steps (tau = 5), as the text of the paper defines it.
        minority: 1000 steps of warm-up, then the seg-teacher for the first 25 of 150 (tau = 6), as the authors' code counts.
        """
        return cls.model_validate(name)

    def teacher(self, step: int) -> Teacher:
        """The teacher of a step, counted from 0."""
        if step < self.warmup:
            return "class-teacher"
        position = step % self.period
        high = position < self.high if self.high_first else position >= self.period - self.high
        return "class-teacher" if high else "seg-teacher"

    def level(self, step: int) -> int:
        """1 while the wave is high (class-teacher), else 0."""
        return int(self.teacher(step) == "class-teacher")


def preset_values(name: str) -> dict[str, int | bool]:
    """The keys of the wave called `name`; raises ValueError, a sentence without its full stop, where there is none."""
    if name not in PRESETS:
        raise ValueError(f"there is no wave called {shown(name)}; the presets are {', '.join(PRESETS)}")
    return dict(PRESETS[name])


PRESETS: dict[str, dict[str, int | bool]] = {
    "paper": {"period": 150, "high": 30, "warmup": 0, "high_first": True},
    "minority": {"period": 150, "high": 125, "warmup": 1000, "high_first": False},
}
