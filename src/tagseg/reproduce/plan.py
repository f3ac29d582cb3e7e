"""What reproducing a table takes before it starts: its trainings with their recipes, the data, hours and disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tagseg.errors import UserError
from tagseg.quoting import shell_line
from tagseg.recipe import Recipe, load_recipe, make_recipe, start_recipe
from tagseg.reproduce.cost import measure, predict_seconds, training_seconds
from tagseg.reproduce.table import DATA, EXTRA, TWINS, DataNeed, PaperTable, Stage
from tagseg.shipped import shipped_recipes

PUBLISHED = "published"
PLACES = (PUBLISHED, *TWINS)


@dataclass(frozen=True)
class Setting:
    """Where and how a table is reproduced. on: `published`, or the small twin. data: the folder of data sets by name.

    steps: in place of every training's own number, to try the line out. changes: for every training.
    """

    on: str
    data: Path
    steps: int | None = None
    changes: tuple[str, ...] = ()

    def need(self, table: PaperTable) -> DataNeed:
        """The data set that is read."""
        return DATA[table.data if self.on == PUBLISHED else self.on]

    def root(self, table: PaperTable) -> Path:
        """Where it lies."""
        return self.data / self.need(table).folder


@dataclass(frozen=True)
class Training:
    """A stage with its recipe for one seed. start, masks: names of other trainings."""

    name: str
    recipe: Recipe
    start: str | None
    masks: str | None


def trainings(table: PaperTable, setting: Setting, seed: int) -> tuple[Training, ...]:
    """The trainings of a table in order; those that start from one and the same classifier share it."""
    found: dict[str, Training] = {}
    for stage in table.needed():
        recipe = _recipe(table, stage, setting, seed)
        start = stage.start
        if start is None and recipe.model.start in shipped_recipes():
            start = f"start-{recipe.model.start}{'-extra' if stage.extra else ''}"
            if start not in found:
                found[start] = Training(start, _start(recipe, setting), None, None)
        if start is not None:
            recipe = recipe.model_copy(update={"model": recipe.model.model_copy(update={"start": start})})
        found[stage.name] = Training(stage.name, recipe, start, stage.masks)
    return tuple(found.values())


def _recipe(table: PaperTable, stage: Stage, setting: Setting, seed: int) -> Recipe:
    name, changes = stage.recipe, stage.changes
    if table.only_on not in (None, setting.on):
        raise UserError(f"{table.name} is of {table.only_on} alone: --on {table.only_on}.")
    if setting.on != PUBLISHED and table.only_on is None:
        if name not in TWINS[setting.on]:
            raise UserError(f"{table.name} has no twin on {setting.on}: choose another --on.")
        name, twin_changes = TWINS[setting.on][name]
        changes = (*twin_changes, *changes)
    given = [*changes, f"train.seed={seed}"]
    if setting.on == PUBLISHED:
        given += setting.need(table).settings
    if setting.on != "scenes":
        given.append(f"data.root={setting.root(table)}")
    if stage.extra and setting.on == "scenes":
        raise UserError(f"{table.name} adds photos of {EXTRA}, which show no class of the scenes: choose another --on.")
    if stage.extra:
        given.append(f"data.extra.root={setting.data / EXTRA}")
    others = [each for each in setting.changes if not each.startswith("model.weights=")]
    recipe = load_recipe(name, [*given, *others])
    if recipe.model.backbone == _first_backbone(table, setting):  # those that are given are one backbone's
        recipe = load_recipe(name, [*given, *setting.changes])
    return _shortened(recipe, setting.steps)


def _first_backbone(table: PaperTable, setting: Setting) -> str:
    """The backbone of a table's first training."""
    first = table.needed()[0]
    twins = setting.on != PUBLISHED and table.only_on is None
    name, changes = TWINS[setting.on][first.recipe] if twins else (first.recipe, ())
    return load_recipe(name, [*changes, *first.changes]).model.backbone


def _shortened(recipe: Recipe, steps: int | None) -> Recipe:
    if steps is None:
        return recipe
    warmup = min(recipe.train.warmup_steps, steps // 4)
    return make_recipe(
        recipe.model_dump(mode="json"), [f"train.steps={steps}", f"train.warmup_steps={warmup}"], recipe.title
    )


def _start(recipe: Recipe, setting: Setting) -> Recipe:
    """The recipe of the classifier that a twin's recipe starts from."""
    assert recipe.model.start is not None
    return _shortened(start_recipe(recipe, recipe.model.start), setting.steps)


def missing_data(table: PaperTable, setting: Setting) -> list[str]:
    """A sentence for each data set that is not there."""
    lines = []
    need, root = setting.need(table), setting.root(table)
    if setting.on != "scenes" and not root.is_dir():
        lines.append(f"{root} is not there: {need.prepare.format(root=shell_line(root))}")
    if any(stage.extra for stage in table.needed()):
        root = setting.data / EXTRA
        if not root.is_dir():
            lines.append(f"{root} is not there: tagseg data prepare {EXTRA} --root {shell_line(root)}")
    return lines


@dataclass(frozen=True)
class Estimate:
    """Of one training: hours with its scores and pseudo masks, and bytes on the disk."""

    hours: float
    bytes: int


def estimate(training: Training, need: DataNeed, labels: bool, device: str) -> Estimate:
    """About what a training takes on this machine, from a step and a photo measured now; labels: whether it labels too."""
    train = training.recipe.train
    steps = training_seconds(training.recipe, need.classes, device)
    photo = measure(training.recipe, need.classes, batch=1, crop=64, device=device)
    scored = need.val + (need.train if labels else 0)
    seconds = steps + predict_seconds(training.recipe, photo.photo) * scored
    copies = 1 + train.keep_checkpoints * (2 if train.optimizer == "sgd" else 3)
    return Estimate(seconds / 3600, 4 * photo.parameters * copies)


def plan_lines(
    table: PaperTable,
    setting: Setting,
    seeds: Sequence[int],
    device: str,
    done: Callable[[int, Training], bool],
    *,
    measured: bool = True,
) -> list[str]:
    """The plan in sentences: what is trained, what is there already, and, if measured, what it takes."""
    need = setting.need(table)
    lines = [f"{table.title}; on {setting.on}, seeds {', '.join(map(str, seeds))}."]
    if setting.steps is not None:
        lines.append(f"Shortened to {setting.steps} steps a training: the scores say nothing of the paper.")
    lines += missing_data(table, setting)
    hours, space, known = 0.0, 0, dict[str, Estimate]()
    first = trainings(table, setting, seeds[0])
    makers = {training.masks for training in first}
    for training in first:
        left = [seed for seed in seeds if not done(seed, training)]
        if not left:
            lines.append(f"  {training.name}: there already")
            continue
        recipe = training.recipe
        what = f"{recipe.method.name} on {recipe.model.backbone}, {recipe.train.steps:,} steps"
        there = "" if len(left) == len(seeds) else f", {len(seeds) - len(left)} of {len(seeds)} there already"
        if not measured:
            lines.append(f"  {training.name}: {what}{there}")
            continue
        key = training.recipe.model_copy(update={"title": ""}).to_yaml()
        if key not in known:
            known[key] = estimate(training, need, training.name in makers, device)
        one = known[key]
        hours, space = hours + one.hours * len(left), space + one.bytes * len(left)
        lines.append(f"  {training.name}: {what}, about {_hours(one.hours)} a seed{there}")
    if measured:
        lines.append(f"Left in all: about {_hours(hours)} on this machine, {space / 1e9:.1f} GB of disk.")
    return lines


def _hours(hours: float) -> str:
    return f"{hours:.1f} hours" if hours >= 1 else f"{max(1, round(60 * hours))} minutes"
