"""Commands that read photos with tags and train: demo, check, train, label, run."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress

from tagseg.cli.frame import (
    Address,
    Classes,
    Container,
    Device,
    DryRun,
    Engine,
    FileColumn,
    Flip,
    Images,
    Masks,
    Method,
    Out,
    Overwrite,
    OwnImages,
    Part,
    Parts,
    Places,
    Precision,
    RetryErrors,
    Review,
    Run,
    Scales,
    Separator,
    Set,
    TaggedBackground,
    Tags,
    TagsColumn,
    Timeout,
    Workers,
    answer,
    app,
    class_names,
    console,
    parts,
    say,
    say_finished,
    with_review,
)
from tagseg.errors import UserError

if TYPE_CHECKING:
    from tagseg.data.tagged import TaggedImages
    from tagseg.segmenter import Segmenter


@app.command()
def demo(
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="folder for the results [default: demo, or demo-quick]")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="a first look in about a minute: activation maps alone")
    ] = False,
    show: Annotated[bool, typer.Option("--open/--no-open", help="open the page where a desktop is")] = True,
    device: Device = "auto",
    seed: Annotated[int, typer.Option(help="seed of pictures and training")] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Train on generated scenes, print the scores, write the report and open it: about five minutes on two cores.

    Example: tagseg demo --out demo

    Example: tagseg demo --quick
    """
    from tagseg.web.browser import open_page
    from tagseg.workflows.demo import demo

    folder = out or Path("demo-quick" if quick else "demo")
    page = demo(folder, quick=quick, seed=seed, overwrite=overwrite, device=device, console=console, say=say)
    if show and page is not None:
        open_page(page)


@app.command()
def check(
    images: Images,
    tags: Tags = None,
    masks: Masks = None,
    classes: Classes = None,
    separator: Separator = None,
    file_column: FileColumn = None,
    tags_column: TagsColumn = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="write all problems as CSV")] = None,
) -> None:
    """Read every photo, tag and mask once and say in one table what is there and what is wrong.

    Example: tagseg check --images photos --tags tags.csv
    """
    from tagseg.data.check import check_photos, table, write_problems
    from tagseg.places import check_output

    if out is not None:
        check_output(out, [place for place in (images, tags, masks) if place is not None])
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("Reading")
        result = check_photos(
            images,
            tags,
            classes=class_names(classes),
            masks=masks,
            separator=separator,
            file_column=file_column,
            tags_column=tags_column,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    console.print(table(result))
    if out is not None:
        write_problems(result, out)
        say(f"All problems are in {out}.")
    fatal = [problem for problem in result.problems if problem.fatal]
    if fatal:
        raise UserError(f"{len(fatal)} of {len(result.problems)} problem(s) stop training: see the table above.")
    words = ["--images", images, *(["--tags", tags] if tags else []), *(["--masks", masks] if masks else [])]
    words += [
        word for name, given in (("--separator", separator), ("--classes", classes)) if given for word in (name, given)
    ]
    say(f"Next: tagseg train {shlex.join(map(str, words))} --out runs/mine")


@app.command()
def train(
    recipe: Annotated[str | None, typer.Argument(help="name of a shipped recipe, or a YAML file")] = None,
    out: Out = Path("run"),
    settings: Set = None,
    images: OwnImages = None,
    tags: Tags = None,
    masks: Masks = None,
    classes: Classes = None,
    separator: Separator = None,
    file_column: FileColumn = None,
    tags_column: TagsColumn = None,
    method: Method = None,
    device: Device = "auto",
    review: Review = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
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
    from tagseg.workflows.own_photos import own_data, own_recipe
    from tagseg.workflows.report import report
    from tagseg.workflows.train import train
    from tagseg.workflows.trusted import given_recipe

    run = RunFolder(out)
    if (recipe is None) == (images is None):
        raise UserError("Give either a recipe (`tagseg recipes` lists them) or --images DIR with --tags FILE.")
    if images is not None:
        data = own_data(images, tags, masks, class_names(classes), separator, file_column, tags_column, review)
        # what was picked is nothing new for a run that is finished
        aloud = say if overwrite or not run.finished else str
        chosen = own_recipe(data, method, settings or [], device=device, say=aloud)
    else:
        chosen = given_recipe(str(recipe), with_review(settings, review))
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
        say(f"Next: tagseg predict {shlex.quote(str(out))} PHOTOS --out masks --format overlay")


@app.command()
def label(
    run: Run,
    out: Annotated[
        str, typer.Option("--out", "-o", help="folder for the results; with --shards a store too")
    ] = "masks",
    images: Annotated[
        str | None,
        typer.Option(
            "--images", help="tagged photos; without it, the run's training photos; with --shards a store too"
        ),
    ] = None,
    tags: Tags = None,
    classes: Classes = None,
    separator: Separator = None,
    file_column: FileColumn = None,
    tags_column: TagsColumn = None,
    ignore_below: Annotated[
        float, typer.Option("--ignore-below", help="below this probability a pixel is written as 255 = ignore")
    ] = 0.0,
    confidence: Annotated[float | None, typer.Option(hidden=True, help="its name before")] = None,
    tagged_background: TaggedBackground = None,
    scales: Scales = None,
    flip: Flip = None,
    precision: Precision = None,
    use_tags: Annotated[
        bool, typer.Option("--use-tags/--no-tags", help="no-tags: absent classes may appear (released RRM and ASDT)")
    ] = True,
    device: Device = "auto",
    places: Places = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    shards: Parts = None,
    shard: Part = None,
    container: Container = "tar",
    engine: Engine = "local",
    address: Address = None,
    workers: Workers = 1,
    timeout: Timeout = None,
    retry_errors: RetryErrors = False,
) -> None:
    """Pseudo masks for tagged photos: one palette PNG each, only the photo's tags can appear; confidence.csv beside them.

    Example: tagseg label runs/mine --out pseudo-masks
    """
    from tagseg.data.tagged import open_tagged
    from tagseg.outputs.masks import CLASSES_FILE
    from tagseg.prediction.load import load
    from tagseg.scores import percent
    from tagseg.workflows.label import label, label_run, plan_labels
    from tagseg.workflows.opened import run_sources

    if confidence is not None:
        say("--confidence is now --ignore-below.", style="yellow")
        ignore_below = confidence

    if places and images is not None:
        raise UserError("--set says where the photos of the run are, --images names others: give one of them.")

    def build() -> Segmenter:
        segmenter = load(run, device=device)
        return segmenter.set(scales=scales, flip=flip, precision=precision, tagged_background=tagged_background)

    def photos(segmenter: Segmenter) -> TaggedImages:
        assert images is not None
        data = open_tagged(
            Path(images),
            tags,
            classes=class_names(classes) or segmenter.method.classes,
            separator=separator,
            file_column=file_column,
            tags_column=tags_column,
        )
        for note in data.notes:
            say(note)
        return data

    cut = parts([images or "", out], shards, shard, container, engine, address, workers, timeout, retry_errors)
    if cut is not None:
        from tagseg.workflows.shards import label_shards, list_in_table, list_tagged, read_tags

        if images is None:
            listed = list_tagged(lambda segmenter: run_sources(run, places or ()).train)
        elif Path(images).is_dir():
            listed = list_tagged(photos)
        elif tags is None:
            raise UserError(f"The photos of {images} need a table of tags: --tags FILE.")
        else:
            table = read_tags(tags, [images], class_names(classes), separator, file_column, tags_column)
            listed = list_in_table(images, table)
        say_finished(label_shards(build, listed, out, cut, confidence=ignore_below, tags=use_tags, say=say), out)
        return
    if images is None and not dry_run:
        run_sources(run, places or ())  # before the model, which takes its time
    segmenter, scores = build(), None
    if dry_run:
        answer(
            plan_labels(
                segmenter, run_sources(run, places or ()).train if images is None else photos(segmenter), Path(out)
            )
        )
        return
    if images is None:
        count, total, scores = label_run(
            segmenter, run, Path(out), confidence=ignore_below, tags=use_tags, overwrite=overwrite, places=places or ()
        )
    else:
        data = photos(segmenter)
        count = label(segmenter, data, Path(out), confidence=ignore_below, tags=use_tags, overwrite=overwrite)
        total = len(data)
    used = "tags were used" if use_tags else "tags were not used"
    say(f"{count} masks written to {out} ({total - count} were there already); {used}.")
    say(
        f"The values of the masks are the lines of {Path(out) / CLASSES_FILE}, from 0. To look at them: tagseg review {out}"
    )
    if scores is not None:
        say(f"mIoU {percent(100 * scores.miou)} % against the true masks of {scores.photos} of these photos.")


@app.command()
def run(
    recipe: Annotated[
        str | None, typer.Argument(help="name of a shipped chain, or a YAML file; without it, lists them")
    ] = None,
    out: Out = Path("chain"),
    settings: Set = None,
    images: OwnImages = None,
    tags: Tags = None,
    masks: Masks = None,
    classes: Classes = None,
    separator: Separator = None,
    file_column: FileColumn = None,
    tags_column: TagsColumn = None,
    method: Method = None,
    device: Device = "auto",
    review: Review = None,
    dry_run: DryRun = False,
) -> None:
    """Run a whole chain: classifier, teacher, pseudo masks, segmenter, scores and report. Stages that are done are kept.

    Example: tagseg run --images photos --tags tags.csv --out runs/mine

    Example: tagseg run chain-scenes --set segmenter.train.steps=100 --out runs/chain
    """
    from tagseg.cli.recipes import list_chains
    from tagseg.workflows.own_photos import own_chain, own_data
    from tagseg.workflows.run import run
    from tagseg.workflows.trusted import given_chain

    if recipe is not None and images is not None:
        raise UserError("Give either a chain (`tagseg run` lists them) or --images DIR with --tags FILE.")
    if images is not None:
        data = own_data(images, tags, masks, class_names(classes), separator, file_column, tags_column, review)
        chain = own_chain(data, method, settings or [], device=device, say=say)
    elif recipe is not None:
        chain = given_chain(recipe, with_review(settings, review))
    else:
        list_chains()
        return
    if dry_run:
        from tagseg.workflows.dry_run import plan_chain

        for line in plan_chain(chain, out, device=device):
            answer(line)
        return
    page = run(chain, out, device=device, say=say)
    say(f"The model is {out / chain.stages[-1]}; pseudo masks, scores and report are in {out}: open {page}.")
    say(f"Next: tagseg predict {shlex.quote(str(out))} PHOTOS --out masks --format overlay")
