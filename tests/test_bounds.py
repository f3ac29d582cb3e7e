"""What a recipe may claim: every number of every settings class has an upper bound."""

import importlib
import pkgutil
import types
import typing
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

import tagseg
from tagseg.errors import UserError
from tagseg.recipe import load_recipe
from tagseg.settings import Settings


def classes() -> list[type[Settings]]:
    for module in pkgutil.walk_packages(tagseg.__path__, "tagseg."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found, rest = [], [Settings]
    while rest:
        rest += (below := rest.pop().__subclasses__())
        found += [cls for cls in below if cls.__module__.startswith("tagseg.")]
    return sorted(set(found), key=lambda cls: cls.__qualname__)


def numbers(annotation: Any, bounds: tuple[Any, ...]) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """The kinds of number that an annotation can hold, each with what is said of it."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        inner, *said = typing.get_args(annotation)
        said = [part for field in said for part in getattr(field, "metadata", [field])]
        yield from numbers(inner, (*bounds, *said))
    elif origin in (types.UnionType, typing.Union):
        for part in typing.get_args(annotation):
            yield from numbers(part, bounds)
    elif origin in (tuple, list, set):
        for part in typing.get_args(annotation):
            yield from numbers(part, ())
    elif annotation in (int, float):
        yield annotation, bounds


def fields() -> list[Any]:
    return [
        pytest.param(cls, name, id=f"{cls.__name__}.{name}")
        for cls in classes()
        for name in cls.model_fields
        if list(numbers(cls.model_fields[name].annotation, ()))
    ]


def test_there_are_settings_to_look_at() -> None:
    assert len(fields()) > 80


@pytest.mark.parametrize(("cls", "name"), fields())
def test_every_number_has_an_upper_bound_and_no_bound_twice(cls: type[BaseModel], name: str) -> None:
    field = cls.model_fields[name]
    for kind, bounds in numbers(field.annotation, tuple(field.metadata)):
        said = [key for bound in bounds for key in ("le", "lt", "ge", "gt") if hasattr(bound, key)]
        assert {"le", "lt"} & set(said), f"{kind.__name__} of any size"
        assert len(said) == len(set(said)), f"{said}: of two bounds of one kind the last one counts alone"


@pytest.mark.parametrize(
    "override",
    [
        "train.steps=1000000000000", "train.batch_size=1000000000", "train.crop=1000000", "method.hidden=1000000000",
        "data.scenes.train=1000000000000", "data.scenes.size=[1000000,1000000]", "train.workers=1000000",
        "predict.long_side=1000000", "predict.scales=[1000]", "predict.scales=[.inf]", "predict.crf.iterations=1000000000",
        "predict.crf.bilateral=[.nan,5,4]", "predict.crf.gaussian=[1.0e+300,3]", "train.lr=.nan",
        "method.cam_scales=[" + "1," * 100 + "1]", "data.classes=[" + "a," * 300 + "a]", "model.output_stride=1000000000",
    ],
)  # fmt: skip
def test_a_recipe_of_someone_else_cannot_ask_for_everything(override: str) -> None:
    with pytest.raises(UserError) as caught:
        load_recipe("rrm-scenes", [override])
    assert len(str(caught.value)) < 400


def test_what_is_not_finite_is_refused_in_every_class() -> None:
    for cls in classes():
        assert cls.model_config.get("allow_inf_nan") is False
    with pytest.raises(ValidationError):
        load_recipe("rrm-scenes").predict.model_validate({"tagged_background": float("nan")})
