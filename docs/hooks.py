"""What the site makes at build time: the page of commands, from the program itself, and pages of files beside docs/."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer
from typer.cli import get_docs_for_click

import tagseg.cli  # noqa: F401  (its commands join the app)
from tagseg.cli.frame import app

ROOT = Path(__file__).parents[1]
BESIDE = {
    "project/contributing.md": "CONTRIBUTING.md",
    "project/changelog.md": "CHANGELOG.md",
    "project/security.md": "SECURITY.md",
}


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Put the commands with their options, or the file that the page stands for, in their place."""
    name = page.file.src_uri
    if name in BESIDE:
        return (ROOT / BESIDE[name]).read_text(encoding="utf-8").replace("](docs/", "](../")
    if name != "reference/cli.md":
        return markdown
    command: Any = typer.main.get_command(app)
    for each in command.commands.values():  # else cut at 45 characters
        each.short_help = " ".join((each.help or "").partition("\n\n")[0].split()).partition(". ")[0].rstrip(".") + "."
    text = get_docs_for_click(obj=command, ctx=typer.Context(command, info_name="tagseg"), name="tagseg", title=" ")
    return markdown.replace("<!-- commands -->", text.partition("\n")[2])
