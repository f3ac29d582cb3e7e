"""What the site makes at build time: the page of commands, from the program itself."""

from __future__ import annotations

from typing import Any

import typer
from typer.cli import get_docs_for_click

import tagseg.cli  # noqa: F401  (its commands join the app)
from tagseg.cli.frame import app


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Put the commands with their options in the place that the page marks."""
    if page.file.src_uri != "reference/cli.md":
        return markdown
    command: Any = typer.main.get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command, info_name="tagseg"), name="tagseg", title=" ")
    return markdown.replace("<!-- commands -->", text.partition("\n")[2])
