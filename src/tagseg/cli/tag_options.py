"""The options of a table of tags, in one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

from tagseg.cli.frame import Classes, Tags, belong_to, class_names
from tagseg.cli.groups import grouped
from tagseg.errors import UserError

if TYPE_CHECKING:
    from tagseg.data.mask_numbers import TagTable


class Columns(TypedDict):
    """How a table is read, as `open_tagged` takes it."""

    separator: str | None
    file_column: str | None
    tags_column: str | None


@dataclass(frozen=True)
class TagOptions:
    """The options as they were given."""

    tags: Tags = None
    classes: Classes = None
    separator: Annotated[
        str | None, typer.Option("--separator", help="between the tags of one cell; else detected")
    ] = None
    file_column: Annotated[
        str | None, typer.Option("--file-column", help="the table's column of photos; else found")
    ] = None
    tags_column: Annotated[
        str | None, typer.Option("--tags-column", help="its column of tags, or several with commas; else found")
    ] = None

    @property
    def names(self) -> tuple[str, ...] | None:
        """The names of the classes. Raises UserError for what can be none."""
        return class_names(self.classes)

    @property
    def columns(self) -> Columns:
        """How the table is read."""
        return {"separator": self.separator, "file_column": self.file_column, "tags_column": self.tags_column}

    @property
    def reading(self) -> dict[str, object]:
        """How the table is read, by option."""
        return {f"--{name.replace('_', '-')}": value for name, value in self.columns.items()}

    @property
    def given(self) -> dict[str, object]:
        """All of them, by option."""
        return {"--tags": self.tags, "--classes": self.classes, **self.reading}

    def table(self) -> TagTable | None:
        """The table as masks are held against it. Raises UserError for names that can be none."""
        from tagseg.data.mask_numbers import TagTable

        return None if self.tags is None else TagTable(self.tags, classes=self.names, **self.columns)


def one_source(images: object, places: object, tagged: TagOptions) -> None:
    """Refuse what a command on a run's own photos, or on those of --images, would not look at. Raises UserError."""
    if images is None:
        belong_to("--images", tagged.given)
    elif places:
        raise UserError("--set says where the photos of the run are, --images names others: give one of them.")


tag_options = grouped("tagged", TagOptions)
"""A command with the options of `TagOptions`, which it takes as its argument `tagged`."""
