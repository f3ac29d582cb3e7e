"""The command `info`: what a folder of tagseg is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from tagseg.cli.frame import answer, app


@app.command()
def info(
    run: Annotated[Path, typer.Argument(help="a run's or a chain's folder, finished or not")],
    as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False,
) -> None:
    """Say what a run is: state, classes, scores, size, next commands.

    Example: tagseg info runs/mine
    """
    from tagseg.workflows.info import info

    found = info(run)
    for line in [json.dumps(found.as_dict(), indent=1)] if as_json else found.lines():
        answer(line)
