"""Reading one value of a recipe, for the tests of shipped recipes."""

from typing import Any

from tagseg.recipe import Recipe


def value(recipe: Recipe, key: str) -> Any:
    """What stands under a dotted key, as in the recipe's file."""
    found: Any = recipe.model_dump(mode="json")
    for part in key.split("."):
        found = found[part]
    return found
