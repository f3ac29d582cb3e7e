"""Packages that only some people need: imported where they are used, named where they are missing."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from tagseg.errors import UserError


def need(module: str, extra: str, what: str) -> Any:
    """The module, or UserError that says which extra of tagseg brings it; `what` names what it is for, a plural."""
    try:
        return import_module(module)
    except ImportError as error:
        raise UserError(
            f'{what} need the package {module.partition(".")[0]}: pip install "tagseg[{extra}]".'
        ) from error
