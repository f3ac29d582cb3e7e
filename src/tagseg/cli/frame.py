"""The command line's frame: the program itself, what its commands share, and how an argument is written."""

from __future__ import annotations

import io
import logging
import sys
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, ConsoleOptions, RenderHook
from rich.control import Control
from rich.segment import Segment

from tagseg import __version__
from tagseg.errors import UserError
from tagseg.progress import silence, silent

app = typer.Typer(
    name="tagseg",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
JOINERS = "\n\u200c\u200d"  # a line's end, and what stands inside words and pictures of many languages
console = Console()
"""For tables; sentences go through `say`."""


class _Escaped:
    """A thing to print whose control characters, which a name may hold, are shown and not sent to the terminal."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for segment in console.render(self.inner, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)


class _Escape(RenderHook):
    def process_renderables(self, renderables: list[Any]) -> list[Any]:
        return [item if isinstance(item, Control) else _Escaped(item) for item in renderables]


def printable(text: str) -> str:
    """The text with a sign in place of each character that would move the cursor, ring a bell or turn the writing round."""

    def is_harmless(c: str) -> bool:
        return c in JOINERS or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp")

    return "".join(c if is_harmless(c) else "\N{REPLACEMENT CHARACTER}" for c in text)


def say(text: object, style: str = "") -> None:
    """Print a sentence on the way, as it is: no markup, no line breaks but its own; nothing with --quiet."""
    if not silent():
        answer(text, style)


def answer(text: object, style: str = "") -> None:
    """Print what a command was asked for, with --quiet too."""
    console.print(str(text), style=style or None, markup=False, highlight=False, soft_wrap=True)


def open_terminal() -> None:
    """Make every stream take every name, whatever its encoding, and no control character of one."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


complaints = Console(stderr=True, soft_wrap=True, highlight=False)
for one in (console, complaints):
    one.push_render_hook(_Escape())


class _Warnings(logging.Handler):
    """Shows each warning once: a command may build many methods, and each of them gives its own."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.shown: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Show one that is new."""
        text = record.getMessage()
        if text not in self.shown:
            self.shown.add(text)
            complaints.print(text, markup=False)


@contextmanager
def warnings_once() -> Iterator[None]:
    """Within a command, show each of the program's warnings once."""
    log, handler = logging.getLogger("tagseg"), _Warnings()
    log.addHandler(handler)
    log.propagate = False  # else a package that sets up logging would show them too
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.propagate = True


Images = Annotated[Path, typer.Option("--images", help="folder of photos, or one folder per class")]
Tags = Annotated[
    Path | None, typer.Option("--tags", help="table of tags: CSV, TSV, JSONL or Excel with the columns file, tags")
]
Masks = Annotated[Path | None, typer.Option("--masks", "--truth", help="folder of true masks, named like the photos")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="only say what would be done, and write nothing")]
Classes = Annotated[str | None, typer.Option("--classes", help="class names in order, separated by commas")]
OwnImages = Annotated[Path | None, typer.Option("--images", help="own photos, without a recipe")]
Set = Annotated[list[str] | None, typer.Option("--set", help="key.sub=value, may be given several times")]
Places = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="data.root=DIR, data.tags=FILE ...: where the photos of the run are, if not where it says"
    ),
]
Method = Annotated[
    str | None,
    typer.Option("--method", help="for own photos: a method in place of the best, or module:Class of your own"),
]
Out = Annotated[Path, typer.Option("--out", "-o", help="folder for the results")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="start anew although there are results")]
Review = Annotated[
    Path | None,
    typer.Option("--review", help="folder of `tagseg review`: its accepted and corrected masks count in full"),
]
Run = Annotated[Path, typer.Argument(help="a finished run folder")]
Scales = Annotated[str | None, typer.Option(help="sizes to read a photo at, such as 0.5,1,1.5")]
Flip = Annotated[bool | None, typer.Option(help="read it mirrored as well")]
Merge = Annotated[str | None, typer.Option(help="scales by their mean, max, or max_logits")]
TaggedBackground = Annotated[
    float | None, typer.Option(help="factor of the background probability where tags are given, at most 1")
]
Device = Annotated[str, typer.Option("--device", help="auto (a CUDA GPU where there is one), cpu, cuda, cuda:N, mps")]
Precision = Annotated[str | None, typer.Option(help="fp32, or bf16: faster on processors that have it")]


def _version(wanted: bool) -> None:
    if wanted:
        answer(f"tagseg {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="print it")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="no sentences and no progress: results, mistakes and warnings alone")
    ] = False,
) -> None:
    """Photos with image-level tags in, pixel masks and a trained segmentation model out."""
    silence(quiet)


def class_names(text: str | None) -> tuple[str, ...] | None:
    """The names of `--classes`, in their order. Raises UserError for what can be none."""
    if text is None:
        return None
    from tagseg.data.classes import check_classes

    names = [name.strip() for name in text.split(",")]
    return check_classes(names[:-1] if len(names) > 1 and not names[-1] else names)  # a comma at the end


def belong_to(needed: str, given: Mapping[str, object]) -> None:
    """Refuse options without that which they belong to, as they would do nothing.

    given: values by option; one that is None, False or empty was not given. Raises UserError for the first that was.
    """
    for option, value in given.items():
        if value:
            raise UserError(f"{option} goes with {needed}: add that, or leave {option} out.")
