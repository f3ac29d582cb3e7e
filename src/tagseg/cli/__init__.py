"""The command line's words; what they do stands in `workflows`."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import typer
from typer.core import TyperCommand

from tagseg.cli import (  # noqa: F401  (their commands join the app)
    data,
    exchanging,
    informing,
    masking,
    recipes,
    reproducing,
    reviewing,
    starting,
    training,
    using,
)
from tagseg.cli.frame import app, complaints, open_terminal, warnings_once
from tagseg.errors import UserError
from tagseg.files import check_of_this_machine
from tagseg.prediction.hub import is_address

ClickException: Any = typer.BadParameter.__mro__[2]  # typer carries click inside itself or beside, by version


PANELS = {
    "Start": ("demo", "check"),
    "Your photos": ("train", "run", "label", "predict", "finish"),
    "A finished run": ("info", "report", "compare", "export", "push"),
    "Look and correct": ("review", "export-tasks", "import", "convert", "serve"),
    "Research": ("recipes", "data", "reproduce", "evaluate", "refine"),
}
"""The commands as `tagseg --help` lists them."""


class _Command(TyperCommand):
    """A command whose folders and files are of this machine, before it does anything: a store's address is refused."""

    def invoke(self, ctx: Any) -> Any:
        """Look at what was given, then run."""
        for given in ctx.params.values():
            for place in given if isinstance(given, (list, tuple)) else [given]:
                if isinstance(place, Path) and not is_address(place):
                    check_of_this_machine(place)
        return super().invoke(ctx)


def _arrange() -> None:
    """Put the commands into their panels, in the panels' order."""
    panels = {name: panel for panel, names in PANELS.items() for name in names}
    places = list(panels)
    commands: list[Any] = [*app.registered_commands, *app.registered_groups]
    for command in commands:
        command.name = command.name or command.callback.__name__.replace("_", "-")
        command.rich_help_panel = panels[command.name]
    for command in (*app.registered_commands, *data.data.registered_commands):
        command.cls = _Command
    app.registered_commands.sort(key=lambda command: places.index(str(command.name)))


_arrange()
LONGEST = 2000  # characters of a message
QUIET = "--quiet"


def main() -> None:
    """Run the command line; a user's mistake ends in one sentence and exit status 2."""
    open_terminal()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _stop)  # as Ctrl-C: what is half written is removed on the way out
    words = sys.argv[1:]
    if QUIET in words:  # wherever it stands
        words = [QUIET, *(word for word in words if word != QUIET)]
    try:
        with warnings_once():
            status = app(words, standalone_mode=False)
        if status == 130:  # what typer makes of a KeyboardInterrupt
            raise KeyboardInterrupt
    except UserError as error:
        complaints.print(f"tagseg: {_short(str(error))}", style="bold red", markup=False)
        sys.exit(2)
    except ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        from tagseg.interrupt import EXIT_INTERRUPTED

        complaints.print("tagseg: stopped; the same command goes on from where it was.")
        sys.exit(EXIT_INTERRUPTED)
    sys.exit(status if isinstance(status, int) else 0)


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _short(text: str) -> str:
    """A message of bearable length, as it may repeat what a file holds."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} [...] {text[-LONGEST // 2 :]}"
