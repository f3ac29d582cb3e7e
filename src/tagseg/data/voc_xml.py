"""Names of the objects in an annotation of PASCAL VOC."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn
from xml.parsers import expat

from tagseg.data.text import clean
from tagseg.errors import UserError
from tagseg.foreign import TEXT_CAP, read_bytes, reading

DEEPEST = 20  # elements inside one another; VOC has four
LONGEST = 1000  # characters of a name
_FIX = "replace it, or take tags from a table or masks"


def object_names(path: Path) -> tuple[str, ...]:
    """The names of the objects, each once; a file that declares entities is refused, for they can fill the memory."""
    depth = 0
    within: list[str] = []  # the element's name at each of the first levels below the root
    parts: list[str] = []
    names: dict[str, None] = {}

    def refuse(*_: object) -> NoReturn:
        raise UserError(f"annotation {path} declares entities, which a VOC annotation never needs; remove them")

    def start(tag: str, _: object) -> None:
        nonlocal depth
        if depth > DEEPEST:
            raise UserError(f"annotation {path} is nested more than {DEEPEST} deep; {_FIX}")
        if 0 < depth <= 3:
            within[depth - 1 :] = [tag]
        depth += 1
        if depth == 3:
            parts.clear()

    def text(data: str) -> None:
        if depth == 3 and within == ["object", "name"]:
            parts.append(data)
            if len(parts) > LONGEST or len(data) > LONGEST:
                raise UserError(f"annotation {path} has a name of more than {LONGEST} characters; {_FIX}")

    def end(_: str) -> None:
        nonlocal depth
        if depth == 3 and within == ["object", "name"]:
            names[clean("".join(parts))] = None
        depth -= 1
        if depth > 0:
            del within[depth - 1 :]

    parser = expat.ParserCreate()
    parser.EntityDeclHandler = refuse
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text
    if not path.exists():
        raise UserError(f"annotation {path} does not exist; add it or take tags from a table or masks")
    with reading(path, "an annotation of PASCAL VOC", _FIX):
        parser.Parse(read_bytes(path, "an annotation of PASCAL VOC", TEXT_CAP, _FIX), True)
    return tuple(names)
