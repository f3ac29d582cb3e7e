"""Label Studio's labeling interface: what it calls its parts, and which of its labels may be painted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from xml.parsers import expat

from tagseg.data.text import NO_TAG
from tagseg.errors import UserError
from tagseg.foreign import reading, shown
from tagseg.outputs.writer import IGNORE_NAME

TAGS = "tags"  # what tagseg calls the control of tags


@dataclass(frozen=True)
class Controls:
    """What the labeling interface calls its parts.

    labels: names that may be painted, in their order. asked: all controls of choices. tags: the one whose choices are such
    names. smart: controls that only ask the model.
    """

    brush: str = "tag"
    image: str = "image"
    value: str = "image"
    labels: tuple[str, ...] = ()
    asked: frozenset[str] = frozenset()
    tags: str | None = None
    smart: frozenset[str] = frozenset()

    def ticked(self, results: Iterable[Mapping[str, Any]]) -> tuple[str, ...] | None:
        """The tags that results tick: in the control of tags, else in one where nothing but labels is ticked; else None.

        Raises UserError for choices that are no list.
        """
        found = None
        for result in results:
            if result.get("type") != "choices":
                continue
            value = result.get("value")
            names = value.get("choices") if isinstance(value, dict) else None
            if not isinstance(names, list):
                raise UserError(f"The choices {shown(value)} are no list of names.")
            ticks = tuple(name for name in map(str, names) if name.lower() not in NO_TAG)
            own = self.tags or (None if TAGS in self.asked else TAGS)
            if own is not None and result.get("from_name", own) == own:
                return ticks
            if found is None and names and set(ticks) <= set(self.labels):
                found = ticks
        return found


def read_controls(interface: str | bytes, source: object = "The labeling interface") -> Controls:
    """The names of a labeling interface. Raises UserError where it has no brush, or declares entities (they fill memory)."""
    found: dict[str, Any] = {}
    labels: dict[str, None] = {}  # a set in order
    asked: dict[str, set[str]] = {}  # choices by their control
    smart = set[str]()
    brushes, controls = [0], list[str]()  # that the parser is inside of

    def refuse(*_: object) -> None:
        raise UserError(f"{source} declares entities, which it never needs; remove them.")

    def start(tag: str, attributes: dict[str, str]) -> None:
        if tag == "BrushLabels":
            brushes[0] += 1
            found["brush"], found["image"] = attributes.get("name", "tag"), attributes.get("toName", "image")
        elif tag == "Image":
            found["value"] = attributes.get("value", "$image").lstrip("$")
        elif tag == "Choices":
            controls.append(attributes.get("name", TAGS))
            asked[controls[-1]] = set()
        elif tag == "Choice" and controls:
            asked[controls[-1]].add(attributes.get("value", ""))
        elif tag == "Label" and brushes[0] and attributes.get("value", IGNORE_NAME) != IGNORE_NAME:
            labels[attributes["value"]] = None
        elif attributes.get("smart") == "true":
            smart.add(attributes.get("name", ""))

    def end(tag: str) -> None:
        if tag == "BrushLabels":
            brushes[0] -= 1
        elif tag == "Choices":
            controls.pop()

    parser = expat.ParserCreate()
    parser.EntityDeclHandler = refuse
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    with reading(source, "a labeling interface"):
        parser.Parse(interface, True)
    if "brush" not in found:
        raise UserError(f"{source} has no <BrushLabels>; paste the label-studio.xml of `tagseg export-tasks`.")
    return Controls(
        **found, labels=tuple(labels), asked=frozenset(asked), tags=_tags(asked, labels), smart=frozenset(smart)
    )


def _tags(asked: Mapping[str, set[str]], labels: Mapping[str, None]) -> str | None:
    """The control of tags: the one that asks for labels alone, or asks for some and bears the name that tagseg gives it."""
    named = {name: {choice for choice in choices if choice.lower() not in NO_TAG} for name, choices in asked.items()}
    fitting = [name for name, choices in named.items() if choices and choices <= labels.keys()]
    if TAGS in named and (TAGS in fitting or not fitting) and named[TAGS] & labels.keys():
        return TAGS
    return fitting[0] if fitting else None
