"""The command `recipes`: what is shipped, and every key of one."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Column, Table

from tagseg.cli.frame import app, console
from tagseg.errors import UserError


@app.command()
def recipes(
    name: Annotated[
        str | None, typer.Argument(help="a recipe, whose keys are shown with values and meanings; or a part of names")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="all of them, ablations too")] = False,
) -> None:
    """List the shipped recipes and chains, or show every key of one.

    Example: tagseg recipes bmp-voc-animals
    """
    from tagseg.shipped import RENAMED, about, shipped_chains, shipped_recipes

    texts = shipped_recipes() | shipped_chains()
    name = RENAMED.get(name or "", name)
    if name in texts:
        _show(name, texts[name])
        return
    chosen = [each for each in texts if (every or name is not None or about(each).first) and (name or "") in each]
    if not chosen:
        from tagseg.names import did_you_mean

        raise UserError(f"There is no shipped recipe {name!r}; {did_you_mean(str(name), texts)}")
    _list(chosen, len(texts))


def list_chains() -> None:
    """Print the shipped chains."""
    from tagseg.shipped import shipped_chains

    chains = list(shipped_chains())
    _list(chains, len(chains))


def _list(names: list[str], total: int) -> None:
    from tagseg.shipped import KINDS, about, shipped_chains

    chains = shipped_chains()
    table = Table(Column("recipe", no_wrap=True, min_width=max(map(len, names))), "for", "mIoU", "min")
    for kind in KINDS:
        for name in (each for each in names if about(each).kind == kind):
            known = about(name)
            score = f"{known.miou}" if known.miou else f"({known.reported.partition(',')[0]})" if known.reported else ""
            data = f"{known.data}, score of {known.measured}" if known.measured else known.data
            table.add_row(name, data, score, f"{known.minutes:g}" if known.minutes else "")
        if any(about(each).kind == kind for each in names):
            table.add_section()
    console.print(table)
    console.print("mIoU: of the last branch after the CRF, measured here; in brackets: reported by the paper.")
    more = f" {total - len(names)} more: tagseg recipes --all." if len(names) < total else ""
    run = "tagseg run" if all(name in chains for name in names) else "tagseg train"
    console.print(f"{run} NAME --out DIR (chains: tagseg run). All keys of one: tagseg recipes NAME.{more}")


def _show(name: str, text: str) -> None:
    from tagseg.reference import keys, plain
    from tagseg.shipped import shipped_chains

    comment = [line.lstrip("# ") for line in text.splitlines() if line.startswith("#")]
    console.print(escape(" ".join(comment)), highlight=False)
    if name in shipped_chains():
        from tagseg.workflows.chain import load_chain

        chain = load_chain(name)
        stages = {"classifier": chain.classifier, "teacher": chain.teacher, "segmenter": chain.segmenter}
        own = Table("key", "value", "meaning", title="chain")
        for name_of_key, value, meaning in (
            ("rounds", chain.rounds, "how often segmenters learn the masks of the network before them"),
            ("label.ignore_below", chain.confidence, "pixels of masks that are less likely are ignored"),
            (
                "label.small_marks",
                chain.small_marks,
                "draw classes of small marks anew, where their tags depend on them",
            ),
        ):
            own.add_row(name_of_key, escape(plain(value)), meaning)
        console.print(own)
    else:
        from tagseg.recipe import load_recipe

        stages = {"": load_recipe(name)}
    for stage, recipe in stages.items():
        if recipe is None:
            continue
        table = Table("key", "value", "meaning", title=stage or None)
        for key in keys(recipe):
            table.add_row(key.name, escape(plain(key.value)), escape(key.meaning))
        console.print(table)
