"""The page and the Markdown table of a reproduced table: reported beside measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

from tagseg.data.sources import open_sources
from tagseg.files import write_text
from tagseg.outputs.report import (
    Example,
    ReportData,
    ScoreRow,
    ScoreTable,
    mask_panel,
    photo_panel,
    spread,
    write_report,
)
from tagseg.prediction.load import load
from tagseg.prediction.score import AFTER
from tagseg.reproduce.plan import PUBLISHED, Setting, trainings
from tagseg.reproduce.table import Cell, PaperTable, Row
from tagseg.workflows.given_command import command
from tagseg.workflows.opened import run_recipe
from tagseg.workflows.report import score_note
from tagseg.workflows.run import rooted

PROTOCOL = "without tags"
PAGE, MARKDOWN = "table.html", "table.md"
PHOTOS, ROWS_SHOWN = 6, 9  # of a table; nine rows: a grid of three by three
Results = Sequence[dict[str, dict[str, Any]]]


def measured(result: dict[str, Any], cell: Cell, *, instead: bool = False) -> float | None:
    """The mIoU of a cell in percent: of its branch (the last one where it names none) after the CRF, where there is one.

    instead: whether the last branch stands for one that the run lacks; else there is no score.
    """
    scores = result["scores"].get(PROTOCOL, {})
    branches = [name for name in scores if not name.endswith(AFTER)]
    named = cell.branch is not None and not (instead and cell.branch not in branches)
    branch = cell.branch if named else branches[-1] if branches else None
    if branch is None or branch not in branches:
        return None
    return scores.get(branch + AFTER, scores[branch])["miou"]


def write_results(table: PaperTable, setting: Setting, out: Path, seeds: Sequence[int], results: Results) -> Path:
    """Write `table.md` and `table.html` into `out` and return the page."""
    write_text(out / MARKDOWN, markdown(table, setting, seeds, results))
    _page(table, setting, out, seeds, results)
    return out / PAGE


def markdown(table: PaperTable, setting: Setting, seeds: Sequence[int], results: Results) -> str:
    """The table with what was reported and measured, the protocol, the command and the machine."""
    lines = [f"## {table.title}", "", protocol(table, setting, seeds, results), "", table.note, ""]
    columns = _columns(table)
    head = [head for column in columns for head in (f"{column} reported", f"{column} measured")]
    if setting.on != PUBLISHED:
        head = [f"{column} measured" for column in columns]
    lines += [_line(["row", *head, "minutes a seed"]), "|---|" + "---:|" * (len(head) + 1)]
    for row in table.rows:
        texts = [row.name]
        for column in columns:
            cell = next((cell for cell in row.cells if cell.column == column), None)
            values = [] if cell is None else [measured(one[row.stage], cell) for one in results]
            if setting.on == PUBLISHED:
                texts.append("" if cell is None or cell.reported is None else f"{cell.reported:.1f}")
            texts.append(spread_text(values))
        texts.append(f"{sum(one[row.stage]['minutes'] for one in results) / len(results):.1f}")
        lines.append(_line(texts))
    lines += _paired(table, results)
    machines = ", ".join(dict.fromkeys(one[row.stage]["machine"] for one in results for row in table.rows))
    return "\n".join([*lines, "", f"`{command()}`; {machines}.", ""])


class Gain(NamedTuple):
    """By how much a row is above another in one column, seed by seed: runs of a seed start from the same weights."""

    row: str
    above: str
    column: str
    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Over seeds."""
        return fmean(self.values)

    @property
    def error(self) -> float:
        """The standard error of the mean."""
        return stdev(self.values) / len(self.values) ** 0.5

    @property
    def by_seed(self) -> str:
        """Each seed's, in their order."""
        return ", ".join(f"{round(value, 1) + 0:+.1f}" for value in self.values)  # no -0.0


def gains(table: PaperTable, results: Results) -> list[Gain]:
    """Each row against the one that it is compared with, in every column; none of a single row or a single seed.

    A branch that a row lacks is its last one: RRM's student stands against ASDT's combination.
    """
    by_name = {row.name: row for row in table.rows}
    found = []
    for row in table.rows[1:]:
        other = by_name.get(row.above or "", table.rows[0])
        for cell in row.cells:
            twin = next((c for c in other.cells if c.column == cell.column), None)
            pairs = [
                (measured(one[row.stage], cell, instead=True), measured(one[other.stage], twin or cell, instead=True))
                for one in results
            ]
            values = tuple(a - b for a, b in pairs if a is not None and b is not None)
            if len(values) > 1:
                found.append(Gain(row.name, other.name, cell.column, values))
    return found


def _paired(table: PaperTable, results: Results) -> list[str]:
    lines = [
        _line([gain.row, gain.above, gain.column, f"{gain.mean:+.2f}", f"{gain.error:.2f}", gain.by_seed])
        for gain in gains(table, results)
    ]
    if not lines:
        return []
    head = ["row", "above", "score", "mean", "standard error", "by seed"]
    return ["", "Seed by seed:", "", _line(head), "|---|---|---|---:|---:|---|", *lines]


def protocol(table: PaperTable, setting: Setting, seeds: Sequence[int], results: Results) -> str:
    """Which photos, which labels and which seeds, in sentences."""
    first = results[0][table.rows[0].stage]
    tags = ", ".join(dict.fromkeys(one.get("tags_from", "unknown") for one in results[0].values()))
    when = "after" if any(name.endswith(AFTER) for name in first["scores"].get(PROTOCOL, {})) else "before"
    text = (
        f"Measured on {setting.on}: mIoU in percent {when} the CRF, no tags used, one confusion matrix; trained on "
        f"{first['photos']:,} photos, tags from {tags}; {_seeds(seeds)}."
    )
    if setting.on != PUBLISHED:
        text += (
            f" This is the small twin {setting.on}, not the paper's data or networks: its figures are not the paper's."
        )
    if setting.steps is not None:
        text += f" Every training was shortened to {setting.steps} steps, to show that the line runs: the figures mean nothing."
    return text


def spread_text(values: Sequence[float | None]) -> str:
    """The mean of some figures with their range."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    mean = f"{sum(known) / len(known):.1f}"
    return mean if len(known) == 1 else f"{mean} ({min(known):.1f} to {max(known):.1f})"


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {', '.join(map(str, seeds))}"


def _columns(table: PaperTable) -> list[str]:
    return list(dict.fromkeys(cell.column for row in table.rows for cell in row.cells))


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _page(table: PaperTable, setting: Setting, out: Path, seeds: Sequence[int], results: Results) -> None:
    published = setting.on == PUBLISHED
    columns = _columns(table)
    heads = tuple(h for c in columns for h in ((f"{c} reported", f"{c} measured") if published else (c,)))
    rows = []
    for row in table.rows:
        values: list[float | None] = []
        ranges = []
        for column in columns:
            cell = next((cell for cell in row.cells if cell.column == column), None)
            known = [] if cell is None else [v for one in results if (v := measured(one[row.stage], cell)) is not None]
            if published:
                values.append(cell.reported if cell is not None else None)
            values.append(sum(known) / len(known) if known else None)
            if len(known) > 1:
                ranges.append(f"{column} {min(known):.1f} to {max(known):.1f}")
        rows.append(ScoreRow(row.name, tuple(values), "; ".join(ranges)))
    tables = [ScoreTable("Reported and measured" if published else "Measured", heads, tuple(rows), table.note)]
    grid = _grid(table, results)
    if grid is not None:
        tables.append(grid)
    pairs = gains(table, results)
    if pairs:
        tables.append(_gain_table(pairs))
    place = out / f"seed-{seeds[0]}"
    stages = list(dict.fromkeys(row.stage for row in table.rows))
    write_report(
        ReportData(
            title=table.title,
            classes=load(place / stages[0]).classes,
            lead=f"{len(stages)} training{'s' if len(stages) > 1 else ''} a seed, {_seeds(seeds)}; photos are seed {seeds[0]}'s.",
            protocol=protocol(table, setting, seeds, results),
            tables=tuple(tables),
            examples=tuple(_examples(table, setting, seeds[0], place, results[0])),
            facts=tuple(
                (row.name, f"{one[row.stage]['minutes']:.1f} minutes, {one[row.stage]['machine']}")
                for one in results[:1]
                for row in table.rows
            ),
            command=command(),
            recipe="\n".join(f"# {stage}\n{run_recipe(place / stage).to_yaml()}" for stage in stages),
        ),
        out / PAGE,
    )


def _gain_table(pairs: Sequence[Gain]) -> ScoreTable:
    """The means of the gains, a column each; the words of a row have every seed's."""
    columns = tuple(dict.fromkeys(pair.column for pair in pairs))
    rows = []
    for name in dict.fromkeys(pair.row for pair in pairs):
        own = {pair.column: pair for pair in pairs if pair.row == name}
        words = "; ".join(f"{column} {pair.by_seed}" for column, pair in own.items())
        means = tuple(own[column].mean if column in own else None for column in columns)
        rows.append(ScoreRow(name, means, f"above {next(iter(own.values())).above}: {words}"))
    return ScoreTable("Points gained, means over seeds", columns, tuple(rows), gains=True)


def _grid(table: PaperTable, results: Results) -> ScoreTable | None:
    """Rows named `T 150, tau 6` as a grid of T and tau."""
    if not all(", " in row.name for row in table.rows):
        return None
    places = {tuple(row.name.split(", ", 1)): row for row in table.rows}
    downs, across = (list(dict.fromkeys(key[i] for key in places)) for i in (0, 1))

    def mean(row: Row | None) -> float | None:
        known = (
            [] if row is None else [v for one in results if (v := measured(one[row.stage], row.cells[0])) is not None]
        )
        return sum(known) / len(known) if known else None

    rows = tuple(ScoreRow(down, tuple(mean(places.get((down, column))) for column in across)) for down in downs)
    return ScoreTable("As a grid, means over seeds", tuple(across), rows)


def _examples(
    table: PaperTable, setting: Setting, seed: int, place: Path, results: dict[str, dict[str, Any]]
) -> list[Example]:
    """A few photos with the final masks of the models of the first ROWS_SHOWN rows."""
    stages = {row.name: row.stage for row in table.rows[:ROWS_SHOWN]}
    first = next(iter(stages.values()))
    recipe = next(training.recipe for training in trainings(table, setting, seed) if training.name == first)
    val = open_sources(rooted(recipe.data, place), place).val
    if val is None:
        return []
    segmenters = {name: load(place / stage) for name, stage in stages.items()}
    index = {photo.name: i for i, photo in enumerate(val.photos)}
    examples = []
    for name, why in spread(results[first]["photo_miou"], 0, PHOTOS):
        photo, truth = val.photo(index[name]), val.mask(index[name])
        assert truth is not None
        panels, seen = [photo_panel(photo, name)], set(truth.ravel().tolist())
        for row, segmenter in segmenters.items():
            mask = segmenter.predict(photo).mask
            seen |= set(mask.ravel().tolist())
            note = score_note(mask, truth, len(segmenter.classes))
            panels.append(mask_panel(row, photo, mask, segmenter.classes, name, note=note))
        panels.append(mask_panel("truth", photo, truth, next(iter(segmenters.values())).classes, name))
        examples.append(Example(name, tuple(panels), why, classes=tuple(sorted(seen - {0, 255}))))
    return examples
