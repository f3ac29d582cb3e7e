"""Every key of a recipe with its value and its meaning, for `tagseg recipes NAME` and docs/settings.md.

`python -m tagseg.reference` prints the page.
"""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import wrap
from typing import Any, NamedTuple

from tagseg.data.sources import DataSettings
from tagseg.engine.settings import TrainSettings
from tagseg.methods import METHODS
from tagseg.methods.build import ModelSettings
from tagseg.prediction.settings import PredictSettings
from tagseg.settings import Settings

WIDTH = 120  # of the page's lines


class Key(NamedTuple):
    """A key of a recipe, the value it has, and what it means."""

    name: str
    value: Any
    meaning: str


def keys(settings: Settings, prefix: str = "") -> Iterator[Key]:
    """The keys of a block in their order, those of blocks inside it by their whole names."""
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, Settings):
            yield from keys(value, f"{prefix}{name}.")
        else:
            yield Key(prefix + name, value, field.description or "")


def plain(value: Any) -> str:
    """A value as YAML has it on one line."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(plain, value)) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def settings_page() -> str:
    """docs/settings.md: all keys, their defaults and meanings, block by block."""
    lines = [
        "# Settings",
        "",
        "Every key of a recipe. A recipe file writes them as YAML blocks; `--set key.sub=value` changes one.",
        "A chain has these keys for each of its recipes, as `classifier.KEY`, `teacher.KEY` and `segmenter.KEY`. It shares",
        "`data.KEY` and `seed`. Its own are `rounds`, `label.ignore_below` and `label.small_marks`.",
        "`tagseg recipes NAME` shows the values of a shipped recipe. This page is made by `python -m tagseg.reference`.",
    ]
    blocks: list[tuple[str, Settings]] = [
        ("data", DataSettings()),
        ("model", ModelSettings()),
        ("train", TrainSettings()),
        ("predict", PredictSettings()),
    ]
    for title, settings in blocks:
        lines += ["", f"## {title}", "", *_list(settings, f"{title}.")]
    for name, method in METHODS.items():
        lines += ["", f"## method: {name}", "", *_list(method.Settings.model_validate({"name": name}), "method.")]
    return "\n".join(lines) + "\n"


def _list(settings: Settings, prefix: str) -> list[str]:
    """A line for each key with its default, and its meaning."""
    lines = []
    for key in keys(settings, prefix):
        line = f"- `{key.name}` = `{plain(key.value)}`{f': {key.meaning}' if key.meaning else ''}"
        lines += wrap(line, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return lines


if __name__ == "__main__":
    print(settings_page(), end="")
