"""The command that was given, as results tell it."""

from __future__ import annotations

import shlex
import sys


def command() -> str:
    """The command line that was given, ready to be pasted into a shell."""
    return shlex.join(["tagseg", *sys.argv[1:]])
