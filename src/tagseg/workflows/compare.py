"""Compare finished runs on one data set: one table, and one page with the same photos side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from tagseg.data.tagged import TaggedImages
from tagseg.errors import UserError
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
from tagseg.segmenter import load
from tagseg.workflows.label import make_folder
from tagseg.workflows.report import final_mask, score_note
from tagseg.workflows.score import AFTER
from tagseg.workflows.train import run_result, run_sources

PHOTOS = 10
PROTOCOL = "without tags"


def compare(runs: Sequence[Path], out: Path) -> Table:
    """Write `compare.html`, `compare.md` and `compare.json` to `out` and return the table for the terminal.

    Raises UserError for a run that isn't finished, or was scored on other photos or classes than the first.
    """
    results = {_name(run, runs): run_result(run) for run in runs}
    data = [run_sources(run).val for run in runs]
    for run, val in zip(runs, data, strict=True):
        if val is None:
            raise UserError(f"{run} has no scores: it was trained without true masks to measure on.")
        if val.classes != data[0].classes or [p.name for p in val.photos] != [p.name for p in data[0].photos]:  # type: ignore[union-attr]
            raise UserError(
                f"{run} was scored on other photos or classes than {runs[0]}: compare runs on one data set."
            )
    rows = [row for name, facts in results.items() for row in _rows(name, facts)]
    make_folder(out)
    write_text(out / "compare.json", json.dumps(rows, indent=2, ensure_ascii=False))
    write_text(out / "compare.md", _markdown(rows))
    assert data[0] is not None
    _page(runs, results, rows, data[0], out / "compare.html")
    table = Table(*HEADS, title=f"mIoU in %, {len(data[0])} photos, no tags used")
    for row in rows:
        table.add_row(*(_cell(row[head]) for head in HEADS))
    return table


HEADS = ("run", "branch", "before CRF", "after CRF", "minutes", "memory GiB", "trained with")


def _rows(name: str, facts: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for each branch of a run."""
    scores = facts["scores"][PROTOCOL]
    branches = dict.fromkeys(branch.removesuffix(AFTER) for branch in scores)
    return [
        {
            "run": name,
            "branch": branch,
            "before CRF": scores[branch]["miou"],
            "after CRF": scores.get(branch + AFTER, {}).get("miou"),
            "minutes": facts["minutes"],
            "memory GiB": facts["peak_memory_gib"],
            "trained with": facts["labels"],
        }
        for branch in branches
    ]


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.1f}" if isinstance(value, float) else str(value)


def _markdown(rows: list[dict[str, Any]]) -> str:
    lines = ["| " + " | ".join(HEADS) + " |", "|" + "---|" * len(HEADS)]
    lines += ["| " + " | ".join(_cell(row[head]) for head in HEADS) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _page(
    runs: Sequence[Path], results: dict[str, dict[str, Any]], rows: list[dict[str, Any]], val: TaggedImages, path: Path
) -> None:
    segmenters = {_name(run, runs): load(run) for run in runs}
    classes = next(iter(segmenters.values())).classes
    index = {photo.name: i for i, photo in enumerate(val.photos)}
    examples = []
    for name, why in spread(next(iter(results.values()))["photo_miou"], 0, PHOTOS):
        photo, truth = val.photo(index[name]), val.mask(index[name])
        assert truth is not None
        panels = [photo_panel(photo, name)]
        seen = set(truth.ravel().tolist())
        for run, segmenter in segmenters.items():
            mask = final_mask(segmenter, photo)
            seen |= set(mask.ravel().tolist())
            panels.append(mask_panel(run, photo, mask, classes, name, note=score_note(mask, truth, len(classes))))
        panels.append(mask_panel("truth", photo, truth, classes, name))
        examples.append(Example(name, tuple(panels), why, classes=tuple(sorted(seen - {0, 255}))))
    table = ScoreTable(
        "mIoU of every branch, without tags",
        ("before CRF", "after CRF"),
        tuple(ScoreRow(f"{row['run']}: {row['branch']}", (row["before CRF"], row["after CRF"])) for row in rows),
    )
    facts = tuple(
        (name, f"{r['minutes']:.1f} minutes, {r['peak_memory_gib']:.1f} GiB, {r['labels']}")
        for name, r in results.items()
    )
    write_report(
        ReportData(
            title=" / ".join(results),
            classes=classes,
            lead=f"{len(results)} runs side by side.",
            protocol=f"{len(val)} photos with true masks, none of their tags used, one confusion matrix over all pixels. "
            f"Photos are chosen by the scores of {next(iter(results))}.",
            tables=(table,),
            examples=tuple(examples),
            facts=facts,
        ),
        path,
    )


def _name(run: Path, runs: Sequence[Path]) -> str:
    """The folder's name, or its path where two runs share the name."""
    return run.name if [r.name for r in runs].count(run.name) == 1 else str(run)
