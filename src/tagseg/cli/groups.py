"""Options that several commands share, each group declared once."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

Command = Callable[..., None]


def grouped(argument: str, group: type) -> Callable[[Command], Command]:
    """What gives a command the fields of a dataclass as options, in place of the argument that takes them.

    The fields are annotated as options of typer and have defaults.
    """

    def with_options(command: Command) -> Command:
        options = inspect.signature(group, eval_str=True).parameters

        @wraps(command)
        def whole(**given: Any) -> None:
            given[argument] = group(**{name: given.pop(name) for name in options})
            command(**given)

        own = inspect.signature(command, eval_str=True)
        parameters: list[inspect.Parameter] = []
        for name, each in own.parameters.items():
            parameters += options.values() if name == argument else [each]
        named = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters]
        whole.__signature__ = own.replace(parameters=named)  # type: ignore[attr-defined]
        whole.__annotations__ = {each.name: each.annotation for each in named}
        return whole

    return with_options
