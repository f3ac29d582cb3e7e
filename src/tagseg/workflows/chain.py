"""A chain: one YAML file that names the recipes of both stages and what stands between them.

data: {...}                        # of all stages; without it the teacher's
classifier: {base: RECIPE, ...}    # without it what the teacher's model.start names
teacher: {base: RECIPE, ...}       # stage 1, trained with tags
label: {ignore_below: 0.0, small_marks: false}   # probability below which pixels of pseudo masks are left out; whether the
                                   # teacher's masks of small marks are drawn anew (workflows/small_marks.py)
segmenter: {base: RECIPE, ...}     # stage 2, trained on them: a recipe of method supervised; model.start: teacher takes
                                   # over the weights of stage 1
rounds: 1                          # segmenters, each after the first trained on the masks of the one before
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from tagseg.errors import UserError
from tagseg.foreign import reading, shown
from tagseg.names import did_you_mean
from tagseg.recipe import Recipe, load_recipe, make_recipe, read_yaml, start_recipe
from tagseg.run_folder import MOST_ROUNDS, ChainFolder
from tagseg.shipped import shipped_chains, shipped_recipes

log = logging.getLogger(__name__)
STAGES = ("classifier", "teacher", "segmenter")
TEACHER = "teacher"  # as the segmenter's model.start: this chain's own
KEYS = ("title", "seed", "rounds", "data", "label", *STAGES)


@dataclass(frozen=True)
class Chain:
    """The recipes of a chain, on one data set. classifier: None where the teacher starts from something else.

    confidence: below this probability a pixel of a pseudo mask is 255, ignored by stage 2. rounds: segmenters that are
    trained one after the other, each on masks that the one before made. from_teacher: whether segmenters start from the
    teacher's weights. small_marks: whether classes of small marks are drawn anew in the teacher's masks.
    """

    title: str
    classifier: Recipe | None
    teacher: Recipe
    segmenter: Recipe
    confidence: float
    rounds: int = 1
    from_teacher: bool = False
    small_marks: bool = False

    @property
    def stages(self) -> tuple[str, ...]:
        """The folders of what is trained with pseudo masks between, in order: teacher, segmenter, segmenter-2 ..."""
        return ChainFolder.stages(self.rounds)

    @property
    def masks(self) -> tuple[str, ...]:
        """The folders of pseudo masks: of each stage but the last."""
        return ChainFolder.masks(self.rounds)

    @property
    def learned(self) -> tuple[str, ...]:
        """The folders of masks that segmenters learn from."""
        first, *others = self.masks
        return (ChainFolder.MARKS if self.small_marks else first, *others)


def load_chain(name: str, overrides: list[str] | None = None) -> Chain:
    """A shipped chain by name or a YAML file, with overrides such as `teacher.train.steps=100` or `data.root=DIR`.

    `data.` and `seed` are those of all stages. Raises UserError that names the file, the key and what is allowed.
    """
    with reading(name, "a chain", "correct the file"):
        return make_chain(chain_values(name), overrides or [], name)


def make_chain(values: dict[str, Any], overrides: list[str], name: str) -> Chain:
    """A chain from plain values; `name` stands in error messages."""
    unknown = [key for key in values if key not in KEYS]
    if unknown or "teacher" not in values or "segmenter" not in values:
        what = f"there is no such key as {shown(unknown[0])}" if unknown else "teacher and segmenter have to be given"
        raise UserError(f"Chain {name}: {what}; a chain holds {', '.join(KEYS)}.")
    title, label = str(values.get("title", "")), _block(name, values, "label")
    confidence = label.get("ignore_below", label.get("confidence", 0.0))
    rounds, small = values.get("rounds", 1), label.get("small_marks", False)
    own: dict[str, list[str]] = {stage: [] for stage in STAGES}
    shared = list(_flat(_block(name, values, "data"), "data"))
    shared += [f"train.seed={values['seed']}"] if "seed" in values else []
    for override in overrides:
        stage, _, rest = override.partition(".")
        key, _, text = override.partition("=")
        if stage in STAGES:
            _check_shared(name, stage, [rest])
            own[stage].append(rest)
        elif stage == "data":
            shared.append(override)
        elif key == "seed":
            shared.append(f"train.seed={text}")
        elif key in ("label.ignore_below", "label.confidence"):
            if key == "label.confidence":
                log.warning("--set label.confidence is now label.ignore_below.")
            confidence = text
        elif key == "label.small_marks":
            small = text
        elif key == "rounds":
            rounds = text
        else:
            raise UserError(
                f"--set {shown(override)}: a chain has the keys seed, rounds, label.ignore_below, label.small_marks, "
                f"data.<key> and "
                f"{', '.join(stage + '.<key>' for stage in STAGES)}."
            )

    teacher = _recipe(name, "teacher", values["teacher"], [*shared, *own["teacher"]])
    start = values.get("classifier")
    if start is None and teacher.model.start in shipped_recipes():
        start = start_recipe(teacher, teacher.model.start).model_dump(mode="json")
    if start is None and own["classifier"]:
        raise UserError(
            f"--set {shown('classifier.' + own['classifier'][0])}: this chain trains no classifier; leave it out."
        )
    classifier = None if start is None else _recipe(name, "classifier", start, [*shared, *own["classifier"]])
    segmenter = _recipe(name, "segmenter", values["segmenter"], [*shared, *own["segmenter"]])
    from_teacher = segmenter.model.start == TEACHER
    if from_teacher:
        if segmenter.model.backbone != teacher.model.backbone:
            raise UserError(
                f"Chain {name}: segmenters start from the teacher's weights, so both have one backbone, not "
                f"{segmenter.model.backbone} and {teacher.model.backbone}: --set segmenter.model.start=null starts anew."
            )
        segmenter = segmenter.model_copy(update={"model": segmenter.model.model_copy(update={"start": None})})
    if teacher.method.name == "supervised" or segmenter.method.name != "supervised":
        raise UserError(
            f"Chain {name}: the teacher learns from tags, and the segmenter is a recipe of method supervised."
        )
    same = {"data": teacher.data}
    return Chain(
        title,
        None if classifier is None else classifier.model_copy(update=same),
        teacher,
        segmenter.model_copy(update=same),
        _confidence(name, confidence),
        _rounds(name, rounds),
        from_teacher,
        _switch(name, small),
    )


def chain_values(name: str) -> dict[str, Any]:
    """The values of a shipped chain or of a file, as they are written."""
    shipped = shipped_chains()
    hint = did_you_mean(name, shipped).rstrip("?.")
    single = " (a single recipe is run by `tagseg train`)" if name in shipped_recipes() else ""
    values = read_yaml(name, shipped, "chain", KEYS, f"{hint}{single}.")
    values.pop("about", None)
    return values


def _recipe(chain: str, stage: str, values: Any, overrides: list[str]) -> Recipe:
    """The recipe of a stage: that of its `base` with what the chain changes, and the overrides."""
    if isinstance(values, str):
        values = {"base": values}
    if isinstance(values, dict) and "base" not in values and "method" in values:
        return make_recipe(deepcopy(values), overrides, f"of {stage}")
    if not isinstance(values, dict) or not isinstance(values.get("base"), str):
        raise UserError(f"Chain {chain}: {stage} should be the name of a recipe, or hold it under the key base.")
    changes = list(_flat({key: value for key, value in values.items() if key != "base"}))
    _check_shared(chain, stage, changes)
    return load_recipe(values["base"], [*changes, *overrides])


def _check_shared(chain: str, stage: str, overrides: Sequence[str]) -> None:
    """Raise UserError where data are given to a stage that takes the teacher's."""
    if stage != "teacher" and (other := next((each for each in overrides if each.startswith("data.")), None)):
        raise UserError(
            f"Chain {chain}: {shown(f'{stage}.{other}')}: the photos are those of all stages; write {shown(other)}."
        )


def _block(chain: str, values: dict[str, Any], key: str) -> dict[str, Any]:
    block = values.get(key) or {}
    if not isinstance(block, dict) or (key == "label" and set(block) - {"ignore_below", "confidence", "small_marks"}):
        keys = " with the keys ignore_below and small_marks" if key == "label" else ""
        raise UserError(f"Chain {chain}: {key} should be a block{keys}.")
    return block


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """A block as overrides `key.sub=value`; JSON is YAML too."""
    for key, value in values.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, dict):
            yield from _flat(value, name)
        else:
            yield f"{name}={json.dumps(value)}"


def _confidence(chain: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = -1.0
    if not 0 <= number <= 1:
        raise UserError(f"Chain {chain}: label.ignore_below should be a probability from 0 to 1 and is {shown(value)}.")
    return number


def _rounds(chain: str, value: Any) -> int:
    allowed = range(1, MOST_ROUNDS + 1)
    if isinstance(value, bool) or (value not in allowed and value not in list(map(str, allowed))):
        raise UserError(f"Chain {chain}: rounds should be a number from 1 to {MOST_ROUNDS} and is {shown(value)}.")
    return int(value)


def _switch(chain: str, value: Any) -> bool:
    if str(value).lower() not in ("true", "false"):
        raise UserError(f"Chain {chain}: label.small_marks should be true or false and is {shown(value)}.")
    return str(value).lower() == "true"
