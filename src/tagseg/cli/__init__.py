"""The command line's words; what they do stands in `workflows`."""

from __future__ import annotations

import sys
from typing import Any

import typer
from rich.console import Console

from tagseg.cli import (  # noqa: F401  (their commands join the app)
    data,
    exchanging,
    recipes,
    reproducing,
    reviewing,
    training,
    using,
)
from tagseg.cli.frame import app
from tagseg.errors import UserError

ClickException: Any = typer.BadParameter.__mro__[2]  # typer carries click inside itself or beside, by version


def main() -> None:
    """Run the command line; a user's mistake ends in one sentence and exit status 2."""
    complain = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        status = app(standalone_mode=False)
        if status == 130:  # what typer makes of a KeyboardInterrupt
            raise KeyboardInterrupt
    except UserError as error:
        complain.print(f"tagseg: {error}", style="bold red", markup=False)
        sys.exit(2)
    except ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        from tagseg.engine.interrupt import EXIT_INTERRUPTED

        complain.print("tagseg: stopped; the same command goes on from where it was.")
        sys.exit(EXIT_INTERRUPTED)
    sys.exit(status if isinstance(status, int) else 0)
