"""A recipe: one YAML file that says everything about an experiment."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from pydantic import SerializeAsAny, ValidationError, field_validator

from tagseg.data.sources import DataSettings
from tagseg.engine.settings import TrainSettings
from tagseg.errors import UserError
from tagseg.foreign import parse_yaml, read_text, reading, shown
from tagseg.methods import METHODS, find_method, own_name
from tagseg.methods.build import ModelSettings
from tagseg.methods.method import MethodSettings
from tagseg.names import nearest
from tagseg.prediction.settings import NO_LOGITS, PredictSettings
from tagseg.settings import Settings, first_fault, merged
from tagseg.shipped import RENAMED, shipped_chains, shipped_recipes

MOST_BASES = 20  # recipes that one recipe may build on
log = logging.getLogger(__name__)


class Recipe(Settings):
    """Data, model, method, training and prediction of one experiment."""

    title: str = ""
    data: DataSettings = DataSettings()
    model: ModelSettings = ModelSettings()
    method: SerializeAsAny[MethodSettings]
    train: TrainSettings
    predict: PredictSettings = PredictSettings()

    @field_validator("method", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = {"name": value}
        if not isinstance(value, dict):
            return value
        name = value.get("name")
        method = find_method(name)
        if name in METHODS or ":" not in str(name):
            return method.Settings.model_validate(value)
        # A class of another package knows itself by its own name; the recipe keeps where it is found.
        settings = method.Settings.model_validate(value | {"name": own_name(method)})
        return settings.model_copy(update={"name": name})

    def placed(self) -> Recipe:
        """The recipe with absolute places, so that it can be used from another working directory."""

        def absolute(place: Path | str) -> str:
            return os.path.abspath(place)  # noqa: PTH100 (Path.absolute keeps `..`)

        weights, start = self.model.weights, self.model.start
        model: dict[str, Any] = {}
        if Path(weights).is_file():
            model["weights"] = absolute(weights)
        if start is not None and start not in shipped_recipes() and Path(start).exists():
            model["start"] = absolute(start)
        changes = {"data": self.data.placed(), "model": self.model.model_copy(update=model)}
        return self.model_copy(update=changes)

    def to_yaml(self) -> str:
        """The recipe with every value written out."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def load_recipe(
    name: str | Path, overrides: list[str] | None = None, *, stored: bool = False, strict: bool = True
) -> Recipe:
    """A shipped recipe by name or a YAML file, with `key.sub=value` overrides.

    A file whose key `base` names another recipe says only what differs from that one.
    stored: a run's own recipe, whose old names of keys nobody has to hear of. strict: whether keys that are out may have the
    values alone that are left of them.
    Raises UserError that names the file, the key and what is allowed.
    """
    return make_recipe(_read_values(str(name), (), stored, strict), overrides or [], str(name), stored=stored)


def _read_values(name: str, seen: tuple[str, ...], stored: bool, strict: bool) -> dict[str, Any]:
    shipped = shipped_recipes()
    if name in RENAMED and not os.path.exists(name):  # noqa: PTH110
        log.warning("The recipe %s is now %s.", name, RENAMED[name])
        name = RENAMED[name]
    if name in seen:
        raise UserError(f"Recipe {name} is its own base: {' -> '.join((*seen, name))}.")
    if len(seen) > MOST_BASES:
        raise UserError(f"Recipe {seen[0]} has more than {MOST_BASES} bases, one below the other: take some out.")
    near = nearest(name, shipped)
    hint = f"did you mean {near}?" if near else "`tagseg recipes` lists the shipped ones."
    if name in shipped_chains():
        hint = "a chain is run by `tagseg run`."
    values = read_yaml(name, shipped, "recipe", Recipe.model_fields, hint)
    values.pop("about", None)  # what is known of a recipe holds for it alone, not for what is based on it
    base = values.pop("base", None)
    if base is not None and not isinstance(base, str):
        raise UserError(f"{name}: base should be the name of a recipe and is {shown(base)}.")
    below = {} if base is None else _read_values(base, (*seen, name), stored, strict)
    return _merge(below, _modern(values, below.get("method"), f"Recipe {name}", stored=stored, strict=strict))


def read_yaml(name: str, shipped: Mapping[str, str], kind: str, keys: Iterable[str], hint: str) -> dict[str, Any]:
    """The values of a shipped text or a YAML file; `hint` ends the sentence where there is neither.

    Raises UserError for a file that cannot be read or holds no mapping; `kind` and `keys` say what it should be.
    """
    if name in shipped:
        text = shipped[name]
    elif os.path.exists(name):  # noqa: PTH110 (Path.exists raises on a name that is too long)
        text = read_text(Path(name), f"a {kind}", fix="give a YAML file")
    else:
        raise UserError(f"There is no {kind} or file {shown(name)}: {hint}")
    with reading(name, "YAML", "correct the file"):
        values = parse_yaml(text)
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise UserError(f"{name} is not a {kind}: it should hold the keys {', '.join(keys)}.")
    return values


def _merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with the values of `changes`, block by block; another method starts from its own defaults."""
    old, new = base.get("method"), changes.get("method")
    if isinstance(old, dict) and isinstance(new, dict) and new.get("name", old.get("name")) != old.get("name"):
        base = base | {"method": {}}
    return merged(base, changes)


def _modern(
    values: dict[str, Any], method: Any, name: str, *, stored: bool = False, strict: bool = True
) -> dict[str, Any]:
    """Values under the names that keys have now; what is to be written now is logged, unless the values are `stored`.

    method: the method block below these values, where they name no method.
    """
    kinds: dict[str, type[Settings]] = {"data": DataSettings, "model": ModelSettings, "train": TrainSettings}
    kinds["predict"] = PredictSettings
    given = values.get("method")
    called = [each.get("name") if isinstance(each, dict) else each for each in (given, method)]
    with suppress(ValueError):  # of a method that there is not, which is said later
        kinds["method"] = find_method(next(filter(None, called), None)).Settings
    changed = dict(values)
    for block, kind in kinds.items():
        if isinstance(changed.get(block), dict):
            say = str if stored else lambda told, block=block: log.warning("%s: %s.%s.", name, block, told)  # type: ignore[misc]
            try:
                changed[block] = kind.modern(changed[block], say, strict=strict)
            except ValueError as error:
                raise UserError(f"{name}: {block}.{error}.") from error
    return changed


def make_recipe(values: dict[str, Any], overrides: list[str], name: str, *, stored: bool = False) -> Recipe:
    """A recipe from plain values; `name` stands in error messages.

    stored: of a run that is there already, which its own way of reading photos keeps nobody from opening.
    """
    with reading(f"Recipe {name}", "a recipe", "correct the values"):
        for override in overrides:
            _set(values, override)
        _shorten_warmup(values, overrides)
        try:
            recipe = Recipe.model_validate(values)
        except ValidationError as error:
            raise UserError(f"Recipe {name}: {first_fault(error, lambda path: _settings_at(path, values))}.") from error
    method = recipe.method
    if not stored and recipe.predict.merge == "max_logits" and not find_method(method.name).has_logits(method):
        raise UserError(f"Recipe {name}: {NO_LOGITS.format(method.name)}.")
    return recipe


def _shorten_warmup(values: dict[str, Any], overrides: list[str]) -> None:
    """A warm-up that nobody asked for gives way to the steps that somebody did."""
    asked = {override.partition("=")[0] for override in overrides}
    train = values.get("train")
    if "train.steps" not in asked or "train.warmup_steps" in asked or not isinstance(train, dict):
        return
    steps, warmup = train.get("steps"), train.get("warmup_steps")
    if isinstance(steps, int) and isinstance(warmup, int) and 0 < steps <= warmup:
        values["train"] = train | {"warmup_steps": steps // 5}


def _settings_at(path: tuple[int | str, ...], values: dict[str, Any]) -> type[Settings] | None:
    """The settings class of a block, by the keys that lead to it."""
    kind: Any = Recipe
    for part in path:
        if kind is Recipe and part == "method":
            given = values.get("method")
            kind = find_method(given.get("name") if isinstance(given, dict) else given).Settings
        else:
            field = kind.model_fields.get(str(part)) if isinstance(kind, type) and issubclass(kind, Settings) else None
            default = None if field is None else field.default
            kind = type(default) if isinstance(default, Settings) else None if field is None else field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, Settings) else None


def _set(values: dict[str, Any], override: str) -> None:
    """Apply one `key.sub=value`; the value is read as YAML."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise UserError(f"--set {shown(override)} should read key.sub=value, such as train.steps=100.")
    with reading(f"--set {shown(override)}: the value", "YAML", "correct it"):
        given = parse_yaml(text)
    path = key.split(".")
    for part in reversed(path):
        given = {part: given}
    given = _modern(given, values.get("method"), f"--set {key}")
    for depth in range(len(path)):
        if not given:
            return  # of a key that is out
        ((part, inner),) = given.items()
        if depth == len(path) - 1 or not isinstance(inner, dict):
            values[part] = inner
            return
        below = values.get(part)
        if part == "method" and isinstance(below, str):
            below = {"name": below}
        values[part] = dict(below) if isinstance(below, dict) else {}
        values, given = values[part], inner


def start_recipe(recipe: Recipe, start: str) -> Recipe:
    """The recipe of that name on the data and backbone of another."""
    values = load_recipe(start).model_dump(mode="json")
    values["data"] = recipe.data.model_dump(mode="json")
    values["model"] |= {"backbone": recipe.model.backbone, "weights": recipe.model.weights}
    values["train"] |= {**recipe.model.start_train, "seed": recipe.train.seed}
    return make_recipe(values, [], f"{start}, with model.start_train")
