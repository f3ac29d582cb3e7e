"""Code run in a process of its own under a limit of address space and time, as a server would run it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

LIMITS = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RLIMIT_AS limits memory on Linux alone")


def finished(code: str, *, above: int = 1 << 30, seconds: float = 60, imports: str = "") -> str:
    """What `code` prints, run as `refused` runs it; fails when it does not end well."""
    done = _run(code, above=above, seconds=seconds, imports=imports)
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    return done.stdout.strip()


def refused(code: str, *, above: int = 1 << 30, seconds: float = 60, imports: str = "") -> str:
    """The sentence of the UserError that `code` ends in.

    above: bytes that it may take beyond what the imports took. Fails when it ends well, by another error, by a signal
    (a segmentation fault), or not in time.
    """
    done = _run(code, above=above, seconds=seconds, imports=imports)
    assert done.returncode == 2, f"exit {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    line = done.stdout.strip().splitlines()[-1]
    assert line.startswith("REFUSED ")
    return line.removeprefix("REFUSED ")


def _run(code: str, *, above: int, seconds: float, imports: str) -> subprocess.CompletedProcess[str]:
    program = f"""
import resource, sys
import numpy as np
from pathlib import Path
from tagseg.errors import UserError
{textwrap.dedent(imports)}
taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + {above}, -1))
try:
{textwrap.indent(textwrap.dedent(code), "    ")}
except UserError as error:
    print("REFUSED", str(error).encode("unicode_escape").decode())
    sys.exit(2)
"""
    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=seconds,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
