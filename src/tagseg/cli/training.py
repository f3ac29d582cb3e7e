"""Commands that train: train, run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tagseg.cli.frame import (
    Device,
    DryRun,
    Masks,
    Method,
    Out,
    Overwrite,
    OwnImages,
    Review,
    Set,
    answer,
    app,
    belong_to,
    say,
)
from tagseg.cli.groups import grouped
from tagseg.cli.tag_options import TagOptions, tag_options
from tagseg.errors import UserError
from tagseg.quoting import shell_line

if TYPE_CHECKING:
    from tagseg.data.sources import DataSettings


@dataclass(frozen=True)
class Own:
    """The options about a person's own photos."""

    images: OwnImages = None
    masks: Masks = None
    method: Method = None
    review: Review = None

    def data(self, tagged: TagOptions) -> DataSettings:
        """The data block that they stand for, with those of the table."""
        from tagseg.workflows.own_photos import own_data

        assert self.images is not None
        return own_data(self.images, tagged.tags, self.masks, tagged.names, review=self.review, **tagged.columns)

    def check_beside(self, what: str, tagged: TagOptions) -> None:
        """Raise UserError where an option of own photos is given with a recipe or chain, which would not follow it."""
        from tagseg.workflows.own_photos import check_beside

        check_beside(what, **vars(tagged), masks=self.masks, method=self.method)


@app.command()
@grouped("own", Own)
@tag_options
def train(
    recipe: Annotated[str | None, typer.Argument(help="name of a shipped recipe, or a YAML file")] = None,
    out: Out = Path("run"),
    settings: Set = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    own: Own = Own(),
    tagged: TagOptions = TagOptions(),  # noqa: B008 (never changed)
) -> None:
    """Train a recipe, or own photos without one. The same command goes on with an unfinished run.

    Example: tagseg train asdt-scenes --set train.steps=200 --out runs/first

    Example: tagseg train --images photos --tags tags.csv --out runs/mine

    Example: tagseg train --images photos --tags tags.csv --review review --out runs/better
    """
    from tagseg.distributed import rank
    from tagseg.interrupt import Interruption
    from tagseg.interrupt import check as check_request
    from tagseg.places import check_output
    from tagseg.run_folder import RunFolder
    from tagseg.workflows.own_photos import own_recipe, with_review
    from tagseg.workflows.report import report
    from tagseg.workflows.train import train
    from tagseg.workflows.trusted import given_recipe

    run = RunFolder(out)
    if (recipe is None) == (own.images is None):
        raise UserError("Give either a recipe (`tagseg recipes` lists them) or --images DIR with --tags FILE.")
    if own.images is not None:
        data = own.data(tagged)
        # what was picked is nothing new for a run that is finished
        aloud = say if overwrite or not run.finished else str
        chosen = own_recipe(data, own.method, settings or [], device=device, say=aloud)
    else:
        own.check_beside("recipe", tagged)
        chosen = given_recipe(str(recipe), with_review(settings, own.review))
        if Path(str(recipe)).is_file() and not (run.holds_run() and run.recipe.samefile(str(recipe))):
            check_output(out, [Path(str(recipe))])
    if dry_run:
        from tagseg.workflows.dry_run import plan_training

        for line in plan_training(chosen, out, device=device):
            answer(line)
        return
    with Interruption():
        train(chosen, out, overwrite=overwrite, device=device, say=say)
        check_request()
        if not run.finished or rank() != 0:
            return
        page = run.report if run.report.is_file() else report(out, device=device, given=chosen.data)
        scores = run.result()["scores"]
        say(f"{'Model, scores and report' if scores else 'Model and report'} are in {out}: open {page}.")
        if not scores:
            say("There are no scores, for no true masks were given (--masks).")
        say(f"Next: tagseg predict {shell_line(out)} PHOTOS --out masks --format overlay")


@app.command()
@grouped("own", Own)
@tag_options
def run(
    recipe: Annotated[
        str | None, typer.Argument(help="name of a shipped chain, or a YAML file; without it, lists them")
    ] = None,
    out: Out = Path("chain"),
    settings: Set = None,
    device: Device = "auto",
    dry_run: DryRun = False,
    own: Own = Own(),
    tagged: TagOptions = TagOptions(),  # noqa: B008 (never changed)
) -> None:
    """Run a whole chain: classifier, teacher, pseudo masks, segmenter, scores and report. Stages that are done are kept.

    Example: tagseg run --images photos --tags tags.csv --out runs/mine

    Example: tagseg run chain-scenes --set segmenter.train.steps=100 --out runs/chain
    """
    from tagseg.cli.recipes import list_chains
    from tagseg.workflows.own_photos import own_chain, with_review
    from tagseg.workflows.run import run
    from tagseg.workflows.trusted import given_chain

    if recipe is not None and own.images is not None:
        raise UserError("Give either a chain (`tagseg run` lists them) or --images DIR with --tags FILE.")
    if own.images is not None:
        data = own.data(tagged)
        chain = own_chain(data, own.method, settings or [], device=device, say=say)
    elif recipe is not None:
        own.check_beside("chain", tagged)
        chain = given_chain(recipe, with_review(settings, own.review))
    else:
        alone = {"--masks": own.masks, "--method": own.method}
        belong_to("--images", tagged.given | alone)
        belong_to("a chain or --images", {"--review": own.review, "--set": settings, "--dry-run": dry_run})
        list_chains()
        return
    if dry_run:
        from tagseg.workflows.dry_run import plan_chain

        for line in plan_chain(chain, out, device=device):
            answer(line)
        return
    page = run(chain, out, device=device, say=say)
    say(f"The model is {out / chain.stages[-1]}; pseudo masks, scores and report are in {out}: open {page}.")
    say(f"Next: tagseg predict {shell_line(out)} PHOTOS --out masks --format overlay")
