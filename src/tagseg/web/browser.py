"""A finished page, in the browser of whoever sits at this machine."""

from __future__ import annotations

import os
import sys
import webbrowser
from collections.abc import Mapping
from pathlib import Path


def has_desktop(environ: Mapping[str, str] = os.environ, platform: str = sys.platform) -> bool:
    """Whether a window would be seen by who gave the command: not in CI, not over ssh, not without a display."""
    if environ.get("CI", "").lower() not in ("", "0", "false"):
        return False
    if any(environ.get(name) for name in ("SSH_CONNECTION", "SSH_CLIENT", "SSH_TTY")):
        return False
    return platform in ("win32", "darwin") or any(environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def open_page(path: Path) -> bool:
    """Open a local page where a desktop is and a person reads the output; whether a browser took it."""
    return has_desktop() and sys.stdout.isatty() and webbrowser.open(path.resolve().as_uri())
