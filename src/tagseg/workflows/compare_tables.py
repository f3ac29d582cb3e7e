"""The tables of a comparison, for a terminal and as Markdown.

A row is one branch of a run: "run", "branch", lists of `NUMBERS`, one for each seed, "machines" and "trained with".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from tagseg.outputs.inert import markdown
from tagseg.scores import percent

NUMBERS = ("before CRF", "after CRF", "pseudo masks", "minutes", "memory GiB")


def terminal_table(names: Sequence[str], rows: list[dict[str, Any]], title: str, *, many: bool) -> Table:
    """A line for each run, its branches below it, means over seeds: what fits into a terminal.

    many: whether a run stands for several seeds.
    """
    caption = "means over seeds; compare.md has their ranges" if many else None
    table = Table("run\n  branch", title=title, caption=caption, box=SIMPLE_HEAD)
    for head in NUMBERS:
        table.add_column(head.replace(" ", "\n"), justify="right")
    for name in names:
        own = [row for row in rows if row["run"] == name]
        table.add_row(f"[bold]{escape(name)}[/bold] ({escape(own[0]['trained with'])})")
        for row in own:
            cells = [mean(row[head]) for head in NUMBERS]
            if row is not own[-1]:  # what a run has once stands at its last branch
                cells[2:] = [None] * (len(cells) - 2)
            table.add_row(f"  {escape(row['branch'])}", *("" if cell is None else percent(cell) for cell in cells))
    return table


def markdown_table(names: Sequence[str], rows: list[dict[str, Any]]) -> str:
    """A line for each run, its branches below it; machines are letters, spelled out beneath the table."""
    letters: dict[str, str] = {}
    heads = ("run, branch", *NUMBERS, "machine")
    lines = ["| " + " | ".join(heads) + " |", "|---" + "|---:" * len(NUMBERS) + "|---|"]
    for name in names:
        own = [row for row in rows if row["run"] == name]
        lines.append(f"| **{markdown(name)}**, {markdown(own[0]['trained with'])} |" + " |" * (len(heads) - 1))
        for row in own:
            machines = [letters.setdefault(machine, _letter(len(letters))) for machine in row["machines"]]
            cells = [_cell(row[head]) for head in NUMBERS] + [", ".join(machines)]
            if row is not own[-1]:  # what a run has once stands at its last branch
                cells[2:] = [""] * (len(cells) - 2)
            lines.append(f"| {markdown(row['branch'])} | " + " | ".join(cells) + " |")
    lines += ["", *(f"- {letter}: {markdown(machine)}" for machine, letter in letters.items())]
    return "\n".join(lines) + "\n"


def mean(values: Sequence[float | None]) -> float | None:
    """Of the numbers that are known; None where there is none."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _cell(values: Sequence[float | None]) -> str:
    """The mean of some numbers, with their range where there is one."""
    known = [number for number in values if number is not None]
    if not known:
        return ""
    middle, low, high = (percent(number) for number in (mean(known), min(known), max(known)))
    return middle if low == high else f"{middle} ({low} to {high})"


def _letter(number: int) -> str:
    """A to Z, then A1 and so on."""
    return chr(ord("A") + number % 26) + (str(number // 26) if number >= 26 else "")
