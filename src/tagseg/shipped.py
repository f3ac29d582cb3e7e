"""What is shipped: recipes, ablations and chains by name, and what is known of each."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, Literal

import yaml
from pydantic import Field

from tagseg.settings import Settings

RENAMED = {
    "asdt-voc-animals-background-aware": "asdt-voc-animals",
    "asdt-voc-animals-same": "asdt-voc-animals-reference",
    "asdt-voc-animals-same-paper": "asdt-voc-animals-reference-paper",
    "bmp-voc-animals-no-object-aware": "bmp-voc-animals",
    "rrm-voc-animals-same": "rrm-voc-animals-reference",
    "supervised-voc-animals-same": "supervised-voc-animals-reference",
}
"""Names of recipes from before, and the names that they have now."""
Kind = Literal["start", "demo", "tuned", "published", "reference", "ablation"]
KINDS: dict[Kind, str] = {
    "start": "your own photos",
    "demo": "generated scenes: minutes, no download",
    "tuned": "the best settings found for a data set",
    "published": "as the paper or its code has it; not run here unless a score stands beside it",
    "reference": "published settings scaled to a small data set",
    "ablation": "one part changed or left out",
}


class About(Settings):
    """What is known of a recipe: its kind, and what it was measured to give."""

    kind: Kind = "tuned"
    data: str = Field("", description="the data it is for")
    minutes: float | None = Field(None, gt=0, le=1e6, description="of a training, on the machine of the results page")
    miou: float | None = Field(None, ge=0, le=100, description="of the last branch without tags, after the dense CRF")
    seeds: int | None = Field(None, ge=1, le=1000, description="whose mean the mIoU is")
    measured: str = Field("", description="data of the mIoU, where it is other data")
    row: str = Field("", description="what the row of the results page holds that has this mIoU")
    reported: str = Field("", description="what the paper reports")
    needs: str = Field("", description="hardware beyond a CPU")
    photos: int | None = Field(None, ge=1, le=10**9, description="training photos that its steps were chosen for")
    first: bool = Field(False, description="whether the short list names it")


def shipped_recipes() -> dict[str, str]:
    """The text of every shipped recipe by its name, ablations among them."""
    folder = files("tagseg").joinpath("recipes")
    found = _texts(folder) | _texts(folder.joinpath("start"))
    table = yaml.safe_load(found.pop("ablations"))
    for name, values in table.items():
        what = values.pop("what")
        found[name] = f"# {what}\n" + yaml.safe_dump({"about": {"kind": "ablation"}} | values, sort_keys=False)
    return dict(sorted(found.items()))


def shipped_chains() -> dict[str, str]:
    """The text of every shipped chain by its name."""
    return dict(sorted(_texts(files("tagseg").joinpath("recipes", "chains")).items()))


def _texts(folder: Traversable) -> dict[str, str]:
    return {
        file.name.removesuffix(".yaml"): file.read_text(encoding="utf-8")
        for file in folder.iterdir()
        if file.name.endswith(".yaml")
    }


@cache
def about(name: str) -> About:
    """What is known of a shipped recipe or chain."""
    text = (shipped_recipes() | shipped_chains())[name]
    values: dict[str, Any] = yaml.safe_load(text)
    return About.model_validate(values.get("about", {}))
