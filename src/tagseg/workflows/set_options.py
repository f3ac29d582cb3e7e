"""What `--set` asks for, of which values that tagseg chooses for own photos take account."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml


def override(overrides: Sequence[str], key: str) -> int | None:
    """The steps or crop that `--set` asks for, which other values follow; what is no number is refused later."""
    given = [text for name, _, text in (each.partition("=") for each in overrides) if name == key]
    return int(given[-1]) if given and given[-1].isdecimal() and int(given[-1]) > 0 else None


def sides(overrides: Sequence[str], block: str) -> dict[str, Any]:
    """The sides of photos in training that `--set` asks for; what is no side is refused later."""
    found: dict[str, Any] = {}
    for name, _, text in (each.partition("=") for each in one_side(overrides)):
        if name in (f"{block}.short_side", f"{block}.long_side"):
            try:
                side = yaml.safe_load(text)
            except yaml.YAMLError:
                continue
            pair = isinstance(side, list) and len(side) == 2 and all(isinstance(each, int) for each in side)
            if side is None or isinstance(side, int) or pair:
                found[name.rpartition(".")[2]] = side
    return found


def one_side(overrides: Sequence[str]) -> list[str]:
    """Overrides in which a side of photos that a person gives takes the place of the other that tagseg chose."""
    given = {name: text for name, _, text in (each.partition("=") for each in overrides)}
    left_out = list[str]()
    for name, text in given.items():
        stage, _, side = name.rpartition(".")
        other = {"short_side": f"{stage}.long_side", "long_side": f"{stage}.short_side"}.get(side)
        if (
            stage.rpartition(".")[2] in ("train", "predict")
            and other not in (None, *given)
            and text not in ("null", "~", "")
        ):
            left_out.append(f"{other}=null")
    return [*left_out, *overrides]
