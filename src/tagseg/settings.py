"""The ground of every settings class: what stands in a recipe is checked, and what it leaves out keeps its default."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from tagseg.foreign import shown
from tagseg.names import nearest

# Every number has an upper bound: what a recipe or a description of a model says is not believed, whoever wrote it.
Steps = Annotated[int, Field(ge=0, le=100_000_000)]
Every = Annotated[int, Field(ge=1, le=100_000_000)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Channels = Annotated[int, Field(ge=1, le=4096)]
Iterations = Annotated[int, Field(ge=0, le=1000)]
Weight = Annotated[float, Field(ge=0, le=1e6)]
Share = Annotated[float, Field(ge=0, le=1)]
Sigma = Annotated[float, Field(gt=0, le=1e5)]
Scales = Annotated[tuple[Annotated[float, Field(gt=0, le=8)], ...], Field(max_length=16)]


class Settings(BaseModel):
    """Settings as a recipe holds them: unknown keys are refused, values don't change afterwards.

    A nested part that is given by some of its keys keeps the defaults that its parent has for the others, which may
    differ from those of the part's own class.
    LATER: keys that came after the first release of a class; they are written only where they are not at their default, so
    that what older versions have written, and digests of it, stay equal to what is written now.
    RENAMED: names of keys from before, and the names that they have now.
    GONE: keys that are out, and the value that is left: what is done now.
    """

    LATER: ClassVar[tuple[str, ...]] = ()
    RENAMED: ClassVar[Mapping[str, str]] = {}
    GONE: ClassVar[Mapping[str, object]] = {}
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _keep_the_parents_defaults(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        given = cls.modern(given)
        return given | {
            name: merged(field.default.model_dump(), given[name])
            for name, field in cls.model_fields.items()
            if isinstance(field.default, BaseModel) and isinstance(given.get(name), dict)
        }

    @classmethod
    def modern(
        cls, given: dict[str, Any], say: Callable[[str], object] = str, *, strict: bool = False
    ) -> dict[str, Any]:
        """The same values under the names that keys have now; `say` hears of each key what to write.

        Raises ValueError, if `strict`, for a key that is out with another value than the one that is left.
        """
        given = cls._before(dict(given), say)
        for old, new in cls.RENAMED.items():
            if old in given:
                say(f"{old} is now {new}")
                given[new] = given.pop(old)
        for old, left in cls.GONE.items():
            if old in given and old not in cls.model_fields:
                if strict and given[old] != left:
                    raise ValueError(f"{old} is out, and only {shown(left)} is left of it: take the key away")
                say(f"{old} is out: take the key away")
                del given[old]
        for name, field in cls.model_fields.items():
            inner = given.get(name)
            if isinstance(inner, dict) and isinstance(field.default, Settings):
                given[name] = type(field.default).modern(
                    inner,
                    lambda told, name=name: say(f"{name}.{told}"),  # type: ignore[misc]
                    strict=strict,
                )
        return given

    @classmethod
    def _before(cls, given: dict[str, Any], say: Callable[[str], object]) -> dict[str, Any]:
        """What `modern` does for keys whose values changed with their names."""
        return given

    @model_serializer(mode="wrap")
    def _leave_out_later(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = write(self)
        fields = type(self).model_fields
        unused = [name for name in self.LATER if getattr(self, name) == fields[name].default]
        return {name: value for name, value in values.items() if name not in unused}


def old_number(block: dict[str, Any], key: str, default: float) -> float:
    """What `_before` reads of a block, where nothing has been checked yet; raises ValueError for what is no number."""
    value = block.get(key, default)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError(f"{key}: should be a number (given: {shown(value)})")
    return value


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """`above` over `below`; where both hold a table under a key, the tables likewise."""
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


def first_fault(
    error: ValidationError, settings_at: Callable[[tuple[int | str, ...]], type[Settings] | None] = lambda _: None
) -> str:
    """The key, the fault and the given value of the first error, as short as a sentence needs it.

    settings_at: the class of the block that a path of keys leads to, for what was meant and what is allowed.
    """
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part)[:60] for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ").rstrip(".")
    block = settings_at(first["loc"][:-1])
    fields = {} if block is None else block.model_fields
    last = str(first["loc"][-1]) if first["loc"] else ""
    if first["type"] == "extra_forbidden":
        near = nearest(last, fields)
        message = f"there is no such key; did you mean {near}?" if near else "there is no such key"
    elif first["type"] == "string_type" and last in fields and fields[last].description:
        message = f"should be {fields[last].description}"
    given = "" if first["type"] in ("missing", "value_error") else f" (given: {shown(first['input'])})"
    return f"{key}: {message}{given}" if key else message
