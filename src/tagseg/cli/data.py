"""Commands about the papers' data sets: data prepare, data check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tagseg.cli.frame import answer, app, belong_to, console, say
from tagseg.errors import UserError

data = typer.Typer(no_args_is_help=True, help="The papers' data sets: prepare one, check one.")
app.add_typer(data, name="data")

Name = Annotated[str, typer.Argument(help="voc12, coco14, coco-stuff10k or caltech256")]
Root = Annotated[Path, typer.Option("--root", help="folder of the data set, later data.root of a recipe")]


@data.command()
def prepare(
    name: Name,
    root: Root,
    archives: Annotated[
        Path | None, typer.Option(help="folder where archives lie, or go; else an own one below --root")
    ] = None,
    unlabeled: Annotated[
        str, typer.Option(help="coco-stuff10k: unlabeled pixels as background, or ignore")
    ] = "background",
    test: Annotated[bool, typer.Option("--test", help="voc12: the test photos too")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would be done")] = False,
) -> None:
    """Download, check and convert a data set: photos, masks, lists, classes.txt, tags.csv. The same command goes on.

    Example: tagseg data prepare voc12 --root VOC2012
    """
    from tagseg.datasets.dataset import Options
    from tagseg.workflows.prepare import prepare

    if unlabeled not in ("background", "ignore"):
        raise UserError(f"--unlabeled is background or ignore, not {unlabeled!r}.")
    if name != "voc12":
        belong_to("voc12", {"--test": test})
    if name != "coco-stuff10k":
        belong_to("coco-stuff10k", {"--unlabeled": unlabeled != "background"})
    options = Options(unlabeled="ignore" if unlabeled == "ignore" else "background", test=test)
    prepare(
        name,
        root,
        archives=archives,
        options=options,
        dry_run=dry_run,
        say=answer if dry_run else say,
    )


@data.command()
def check(name: Name, root: Root) -> None:
    """Compare what lies in a folder with what the data set should hold.

    Example: tagseg data check voc12 --root VOC2012
    """
    from tagseg.workflows.prepare import check, findings_table

    findings = check(name, root)
    console.print(findings_table(findings, f"{name} in {root}"))
    wrong = [finding for finding in findings if finding.wrong]
    if wrong:
        raise UserError(f"{len(wrong)} of {len(findings)} things are wrong: see the table above.")
