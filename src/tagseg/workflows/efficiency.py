"""What ASDT's one network costs beside a classifier and a mask network of their own, and what stage 2's networks cost."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from tagseg.devices import AUTO, choose_device
from tagseg.errors import UserError
from tagseg.files import make_folder, write_text
from tagseg.foreign import read_json
from tagseg.outputs.report import ReportData, ScoreRow, ScoreTable, write_report
from tagseg.recipe import load_recipe
from tagseg.reproduce.cost import PHOTO, Cost, measure
from tagseg.reproduce.plan import PLACES, PUBLISHED
from tagseg.reproduce.table import DATA, TWINS
from tagseg.result_folder import ResultFolder
from tagseg.workflows.given_command import command
from tagseg.workflows.reproduce import RESULTS
from tagseg.workflows.reproduce_page import MARKDOWN, PAGE
from tagseg.workflows.train import machine

MARKER = ".tagseg-efficiency"  # in the folder: which of its files are of this


@dataclass(frozen=True)
class Network:
    """One row: recipes that are trained for it; the last one predicts."""

    name: str
    recipes: tuple[str, ...]


SYSTEMS = (
    Network("RRM: classifier and segmentation on one backbone", ("rrm-voc12",)),
    Network("ASDT: class-teacher, seg-teacher and student on one backbone", ("asdt-voc12",)),
    Network("a classifier and a mask network of their own", ("classifier-voc12", "supervised-voc12-resnet38")),
)
SECOND = (
    Network("DeepLab-v2, ResNet-101", ("supervised-voc12-deeplab_v2",)),
    Network("DeepLab head, ResNet-38", ("supervised-voc12-resnet38",)),
    Network("PSPNet, Res2Net-101", ("supervised-voc12-pspnet",)),
    Network("SegFormer, MiT-B1", ("supervised-voc12-segformer-mit_b1",)),
)
SINGLE = (
    Network("TSCD, MiT-B1", ("tscd-voc12-mit_b1",)),
    Network("BMP, MiT-B1", ("bmp-voc12-mit_b1",)),
)
HEADS = (
    "network", "parameters M", "multiply-adds a photo G", "multiply-adds a step G", "photos a step", "crop",
    "ms a step", "ms a photo", "peak memory GiB",
)  # fmt: skip


def efficiency(
    on: str, out: Path, *, dry_run: bool = False, device: str = AUTO, say: Callable[[str], object] = print
) -> Path | None:
    """Measure every network in a process of its own, and write `table.md`, `table.html` and `results.json` into `out`.

    on: `published`, or the small networks of a twin. On a CPU the published networks take one photo a step. Networks that
    were measured are not measured again.
    """
    if on not in PLACES:
        raise UserError(f"--on is one of {', '.join(PLACES)}, not {on!r}.")
    device = str(choose_device(device))
    batch = 1 if device == "cpu" and on == PUBLISHED else None
    groups = [
        ("One network and two", _known(SYSTEMS, on)),
        ("Stage 2", _known(SECOND, on)),
        ("Single stage", _known(SINGLE, on)),
    ]
    recipes = list(
        dict.fromkeys(recipe for _, networks in groups for network in networks for recipe in network.recipes)
    )
    say(f"Efficiency on {on}: {len(recipes)} networks, each some steps on {device}; no data are needed.")
    for recipe in recipes:
        say(f"  {recipe}")
    if dry_run:
        return None
    make_folder(out)
    where = {"machine": machine(torch.device(device)), "device": device, "threads": torch.get_num_threads(), "on": on}
    path = out / RESULTS
    stored = _stored(path)
    # of a version that did not note the device, costs may be another's
    known = dict(stored["costs"]) if all(stored.get(key) == value for key, value in where.items()) else {}
    folder = ResultFolder.claim(
        out, MARKER, "efficiency", [], overwrite=False, rewritten=(RESULTS, MARKDOWN, PAGE), older=bool(stored)
    )
    with folder.rewriting():
        for recipe in recipes:
            if recipe not in known:
                say(f"Measuring {recipe}.")
                known[recipe] = asdict(_alone(recipe, on, batch, device))
                write_text(path, json.dumps({**where, "costs": known}, indent=2))
        tables = _tables(groups, known)
        measured_on = f"{where['machine']}, {where['threads']} threads"
        write_text(out / MARKDOWN, _markdown(tables, on, measured_on))
        _page(tables, on, measured_on, out / PAGE)
    return out / PAGE


def _stored(path: Path) -> dict[str, Any]:
    """The costs that were measured before, with what they were measured on; nothing where a file holds none."""
    with suppress(UserError):
        facts = read_json(path, "costs of networks")
        if isinstance(facts, dict) and isinstance(facts.get("costs"), dict):
            return facts
    return {}


def _tables(
    groups: Sequence[tuple[str, Sequence[Network]]], known: Mapping[str, dict[str, Any]]
) -> list[tuple[str, list[tuple[str, Cost]]]]:
    """Titles and rows."""
    costs = {name: Cost(**values) for name, values in known.items()}
    return [
        (title, [(n.name, together([costs[r] for r in n.recipes])) for n in networks])
        for title, networks in groups
        if networks
    ]


def _known(networks: Sequence[Network], on: str) -> list[Network]:
    """The networks, or their twins where there are any."""
    if on == PUBLISHED:
        return list(networks)
    twins = TWINS[on]
    kept = [n for n in networks if all(recipe in twins for recipe in n.recipes)]
    return [replace(n, name=n.name.partition(",")[0]) for n in kept]


def together(costs: Sequence[Cost]) -> Cost:
    """Networks that are trained one after the other: their parameters and times add up, the last one predicts."""
    last = costs[-1]
    return replace(
        last,
        parameters=sum(cost.parameters for cost in costs),
        step_macs=sum(cost.step_macs for cost in costs),
        step=sum(cost.step for cost in costs),
        memory=max(cost.memory for cost in costs),
    )


def _alone(recipe: str, on: str, batch: int | None, device: str) -> Cost:
    """Measured in a process of its own, so that its peak of memory is this network's."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_measure, (recipe, on, batch, device, torch.get_num_threads()))


def _measure(name: str, on: str, batch: int | None, device: str, threads: int) -> Cost:
    torch.set_num_threads(threads)
    changes: tuple[str, ...] = ()
    if on != PUBLISHED:
        name, changes = TWINS[on][name]
    recipe = load_recipe(name, list(changes))
    return measure(recipe, DATA.get(on, DATA["voc12"]).classes, batch=batch, device=device)


def _cells(cost: Cost) -> list[str]:
    return [
        f"{cost.parameters / 1e6:.1f}", f"{cost.photo_macs / 1e9:.1f}", f"{cost.step_macs / 1e9:.0f}", f"{cost.batch}",
        f"{cost.crop}", f"{1000 * cost.step:.0f}", f"{1000 * cost.photo:.0f}", f"{cost.memory:.1f}",
    ]  # fmt: skip


def _note() -> str:
    return (
        "Random weights, random pictures, float32, the network alone without data and without the CRF of prediction; the CRFs "
        f"of a training step are in its time. A photo is {PHOTO[1]} x {PHOTO[0]} in one pass. Multiply-adds are of "
        "convolutions and matrix products; a step's hold its backward pass. Memory is the device's, on a CPU the whole "
        "process's. Two networks add up but in memory, and the mask network alone predicts."
    )


def _markdown(tables: Sequence[tuple[str, Sequence[tuple[str, Cost]]]], on: str, machine: str) -> str:
    lines = ["## Efficiency" + ("" if on == PUBLISHED else f" of the small networks of {on}"), "", _note(), ""]
    for title, rows in tables:
        lines += [f"### {title}", "", "| " + " | ".join(HEADS) + " |", "|---|" + "---:|" * (len(HEADS) - 1)]
        lines += ["| " + " | ".join([name, *_cells(cost)]) + " |" for name, cost in rows]
        lines.append("")
    return "\n".join([*lines, f"`{command()}`; {machine}.", ""])


def _page(tables: Sequence[tuple[str, Sequence[tuple[str, Cost]]]], on: str, machine: str, path: Path) -> None:
    write_report(
        ReportData(
            title="Efficiency" + ("" if on == PUBLISHED else f" on {on}"),
            classes=("background",),
            lead="What the networks cost in training and in prediction.",
            protocol=_note(),
            tables=tuple(
                ScoreTable(title, HEADS[1:], tuple(ScoreRow(n, tuple(map(float, _cells(c)))) for n, c in rows))
                for title, rows in tables
            ),
            facts=(("Machine", machine),),
            command=command(),
        ),
        path,
    )
