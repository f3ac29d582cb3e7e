"""The command that was given, as results tell it."""

from __future__ import annotations

import sys

from tagseg.quoting import shell_line


def command() -> str:
    """The command line that was given, ready to be pasted into a shell."""
    return shell_line("tagseg", *sys.argv[1:])
