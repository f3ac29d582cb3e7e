"""The methods by name: a new one is a file here and a line in METHODS, or a class of another package."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points

from tagseg.foreign import reason
from tagseg.methods.asdt import ASDT
from tagseg.methods.bmp import BMP
from tagseg.methods.classifier import Classifier
from tagseg.methods.mentor import Mentor
from tagseg.methods.method import Method, MethodSettings
from tagseg.methods.rrm import RRM
from tagseg.methods.supervised import Supervised
from tagseg.methods.tscd import TSCD
from tagseg.names import nearest

ENTRY_POINTS = "tagseg.methods"  # the group under which another package offers its methods
TRUSTED = "TAGSEG_METHODS"  # environment: names module:Class, by commas, that a stored model may name

METHODS: dict[str, type[Method]] = {
    "classifier": Classifier,
    "rrm": RRM,
    "asdt": ASDT,
    "tscd": TSCD,
    "bmp": BMP,
    "mentor": Mentor,
    "supervised": Supervised,
}

__all__ = ["METHODS", "Method", "find_method", "own_name"]


def find_method(name: object, *, stored: bool = False) -> type[Method]:
    """The method of a name: one of METHODS, of an installed package's entry points, or `module:Class`.

    stored: the name comes from a file that may be anybody's. Then `module:Class` counts only where the module is there
    already or TAGSEG_METHODS names it: opening a model runs no code that nobody asked for.
    Raises ValueError, a sentence without its full stop, where there is none.
    """
    if isinstance(name, str) and name in METHODS:
        return METHODS[name]
    text = name[:200] if isinstance(name, str) else repr(name)[:60]
    module, colon, attribute = text.partition(":")
    if not colon:
        for point in entry_points(group=ENTRY_POINTS):
            if point.name == text:
                return _imported(point.load, text)
        near = nearest(text, METHODS)
        known = f"did you mean {near}" if near else f"there are {', '.join(METHODS)}"
        raise ValueError(f"there is no method called {text!r}; {known}, or for one of your own module:Class")
    if stored and module not in sys.modules and text not in os.environ.get(TRUSTED, "").split(","):
        raise ValueError(f"its method is {text}, code outside tagseg: import {module} first, or set {TRUSTED}={text}")
    return _imported(lambda: getattr(import_module(module), attribute), text)


def own_name(method: type[Method]) -> object:
    """The name that a method's settings have by themselves."""
    return method.Settings.model_fields["name"].default


def _imported(find: Callable[[], object], name: str) -> type[Method]:
    """What `find` imports, code of others that may fail in any way."""
    try:
        found = find()
    except Exception as error:
        raise ValueError(f"the method {name} cannot be imported: {reason(error)}") from error
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise ValueError(f"{name} is no tagseg.methods.Method")
    settings = getattr(found, "Settings", None)
    if not (isinstance(settings, type) and issubclass(settings, MethodSettings)):
        raise ValueError(f"{name} needs Settings, a class made from tagseg.methods.method.MethodSettings")
    return found
