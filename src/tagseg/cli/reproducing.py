"""The command reproduce: the papers' tables."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from tagseg.cli.frame import Device, Set, answer, app, belong_to, console, say
from tagseg.errors import UserError

ON, DATA, SEEDS = "published", Path("data"), "0"  # where nothing else is given


@app.command()
def reproduce(
    table: Annotated[str | None, typer.Argument(help="which table; without it, lists them")] = None,
    on: Annotated[str, typer.Option(help="published, or the small twin: voc-animals, scenes")] = ON,
    data: Annotated[Path, typer.Option(help="folder of the data sets: voc12, coco14, voc-animals ... below it")] = DATA,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="folder for the results; else reproduced/TABLE-ON")
    ] = None,
    seeds: Annotated[str, typer.Option(help="such as 0,1,2")] = SEEDS,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only print the plan")] = False,
    measured: Annotated[
        bool, typer.Option("--hours/--no-hours", help="whether the plan measures a step of every training")
    ] = True,
    rows: Annotated[list[str] | None, typer.Option("--row", help="only this row, may be given several times")] = None,
    periods: Annotated[
        str | None, typer.Option(help="asdt-fig5: values of T; else 50,150,250, for a twin 20,60,100")
    ] = None,
    taus: Annotated[str | None, typer.Option(help="asdt-fig5: values of tau, such as 3,6,9")] = None,
    steps: Annotated[int | None, typer.Option(min=2, help="steps of every training, to try the line out")] = None,
    settings: Set = None,
    device: Device = "auto",
) -> None:
    """Reproduce a table of the papers: all its trainings, then reported beside measured. The same command goes on.

    Example: tagseg reproduce asdt-table4 --dry-run

    Example: tagseg reproduce asdt-table4 --on voc-animals --seeds 0,1
    """
    of_table = {
        "--data": data != DATA,
        "--seeds": seeds != SEEDS,
        "--row": rows,
        "--periods": periods,
        "--taus": taus,
        "--steps": steps,
        "--set": settings,
        "--no-hours": not measured,
    }
    if table is None:
        belong_to("a TABLE", of_table | {"--out": out, "--dry-run": dry_run, "--on": on != ON})
        _list()
        return
    tell = answer if dry_run else say
    place = out or Path("reproduced") / f"{table}-{on}"
    if table == "efficiency":
        belong_to("a TABLE of trainings", of_table)
        from tagseg.workflows.efficiency import efficiency

        page = efficiency(on, place, dry_run=dry_run, device=device, say=tell)
    else:
        from tagseg.reproduce.claims import CLAIMS
        from tagseg.reproduce.plan import PLACES, PUBLISHED, Setting
        from tagseg.reproduce.tables import PAPER_TABLES, PERIODS, TAUS, TWIN_PERIODS, figure_5
        from tagseg.workflows.reproduce import reproduce

        known = PAPER_TABLES | CLAIMS
        if table not in known:
            raise UserError(f"There is no table {table!r}: there are {', '.join(known)} and efficiency.")
        if on not in PLACES:
            raise UserError(f"--on is one of {', '.join(PLACES)}, not {on!r}.")
        chosen = known[table]
        if table == "asdt-fig5":
            usual = PERIODS if on == PUBLISHED else TWIN_PERIODS
            chosen = figure_5(
                [int(n) for n in _numbers("--periods", periods)] if periods else usual,
                _numbers("--taus", taus) if taus else TAUS,
            )
        else:
            belong_to("asdt-fig5", {"--periods": periods, "--taus": taus})
        setting = Setting(on, data, steps, tuple(settings or ()))
        seed_numbers = [int(number) for number in _numbers("--seeds", seeds)]
        page = reproduce(
            chosen.only(tuple(rows or ())),
            setting,
            place,
            seeds=seed_numbers,
            dry_run=dry_run,
            measured=measured,
            device=device,
            say=tell,
        )
    if page is not None:
        answer(page.with_suffix(".md").read_text(encoding="utf-8"))
        say(f"Open {page}.")


def _numbers(option: str, text: str) -> list[float]:
    try:
        numbers = [float(word) for word in text.split(",") if word.strip()]
    except ValueError:
        numbers = []
    whole = option != "--taus"
    if not numbers or not all(math.isfinite(n) and not (whole and (n < 0 or n != int(n))) for n in numbers):
        raise UserError(f"{option} should be numbers separated by commas, such as 0,1,2, and is {text!r}.")
    return numbers


def _list() -> None:
    from tagseg.reproduce.claims import CLAIMS
    from tagseg.reproduce.tables import PAPER_TABLES

    listed = Table("table", "what it is", title="The papers' tables: tagseg reproduce TABLE --dry-run")
    for name, table in PAPER_TABLES.items():
        listed.add_row(name, table.title)
    for name, table in CLAIMS.items():
        listed.add_row(name, f"{table.title} (--on {table.only_on})")
    listed.add_row("efficiency", "parameters, multiply-adds, memory and time of the networks")
    console.print(listed)
