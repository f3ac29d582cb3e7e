"""What the cards of the methods call keys: each is a setting of the method that its card is about."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tagseg.methods import METHODS
from tagseg.recipe import Recipe
from tagseg.settings import Settings

CARDS = Path(__file__).parents[2] / "docs" / "methods"
KEY = re.compile(r"`([a-z_0-9]+(?:\.[a-z_0-9]+)*)(?:: [^`]*)?`")


def keys(card: str) -> Iterator[str]:
    """The keys in the first column of a table under `method.`, in a column `switch`, and those that list items begin with."""
    column = None
    for line in card.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if not line.startswith("|"):
            column = None
            item = re.match(r"- ((?:`[^`]+`(?:, | and )?)+)", line)
            yield from KEY.findall(item[1]) if item else ()
        elif column is None:
            column = 0 if cells[0] == "key under `method.`" else len(cells) - 1 if cells[-1] == "switch" else -1
        elif column >= 0:
            yield from KEY.findall(cells[column])


def is_setting(settings: type[Settings], key: str) -> bool:
    """Whether a block has a key, which may lead into blocks below."""
    first, _, rest = key.partition(".")
    field = settings.model_fields.get(first)
    if field is None or not rest:
        return field is not None
    inner = [kind for kind in (type(field.default), field.annotation) if isinstance(kind, type)]
    blocks = [kind for kind in inner if issubclass(kind, Settings)]
    return bool(blocks) and is_setting(blocks[0], rest)


@pytest.mark.parametrize("name", [path.stem for path in sorted(CARDS.glob("*.md"))])
def test_every_key_of_a_card_is_a_setting(name: str) -> None:
    found = list(keys((CARDS / f"{name}.md").read_text(encoding="utf-8")))
    assert len(found) > 5
    wrong = [key for key in found if not is_setting(METHODS[name].Settings, key) and not is_setting(Recipe, key)]
    assert not wrong
