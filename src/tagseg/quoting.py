"""Command lines that a person can copy into the shell of their system."""

from __future__ import annotations

import os
import shlex
import subprocess


def shell_line(*words: object) -> str:
    """Words of a command, each in the quotes that it needs: double ones on Windows, whose cmd.exe knows no others."""
    texts = [str(word) for word in words]
    return subprocess.list2cmdline(texts) if os.name == "nt" else shlex.join(texts)
