"""The trainings of one command, one after the other: which one it is, and how much follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tagseg.methods import find_method
from tagseg.recipe import Recipe


@dataclass(frozen=True)
class Stage:
    """One training among several. later: what follows, in steps of this one that take as long."""

    number: int = 1
    count: int = 1
    later: float = 0.0

    def __str__(self) -> str:
        """What a sentence about the training begins with; empty where it is the only one."""
        return f"Stage {self.number} of {self.count}: " if self.count > 1 else ""


def stages(recipes: Sequence[Recipe]) -> list[Stage]:
    """The stages of trainings that follow each other."""
    costs = [find_method(recipe.method.name).step_cost for recipe in recipes]
    whole = [cost * recipe.method.effort(recipe.train.steps) for cost, recipe in zip(costs, recipes, strict=True)]
    return [Stage(i + 1, len(recipes), sum(whole[i + 1 :]) / costs[i]) for i in range(len(recipes))]
