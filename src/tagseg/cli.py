"""The command line's words; what they do stands in `workflows`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from tagseg import __version__
from tagseg.errors import UserError

app = typer.Typer(
    name="tagseg",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
console = Console()
ClickException: Any = typer.BadParameter.__mro__[2]  # typer carries click inside itself or beside, by version

Images = Annotated[Path, typer.Option("--images", help="folder of photos, or one folder per class")]
Tags = Annotated[
    Path | None, typer.Option("--tags", help="table of tags: CSV, TSV or JSONL with the columns file, tags")
]
Masks = Annotated[Path | None, typer.Option("--masks", help="folder of true masks, named like the photos")]
Classes = Annotated[str | None, typer.Option("--classes", help="class names in order, separated by commas")]
Out = Annotated[Path, typer.Option("--out", "-o", help="folder for the results")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="start anew although there are results")]
Run = Annotated[Path, typer.Argument(help="a finished run folder")]


def _version(wanted: bool) -> None:
    if wanted:
        console.print(f"tagseg {__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="print it")] = False,
) -> None:
    """Photos with image-level tags in, pixel masks and a trained segmentation model out."""


def _classes(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(name.strip() for name in text.split(",") if name.strip())


@app.command()
def demo(
    out: Out = Path("demo"),
    seed: Annotated[int, typer.Option(help="seed of pictures and training")] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Train ASDT on generated scenes, print the scores and write the report: about five minutes on two cores.

    Example: tagseg demo --out demo
    """
    from tagseg.workflows.demo import demo

    demo(out, seed=seed, overwrite=overwrite, console=console)


@app.command()
def check(
    images: Images,
    tags: Tags = None,
    masks: Masks = None,
    classes: Classes = None,
    separator: Annotated[str | None, typer.Option(help="between the tags of one cell")] = None,
) -> None:
    """Read every photo, tag and mask once and say in one table what is there and what is wrong.

    Example: tagseg check --images photos --tags tags.csv
    """
    from tagseg.data.check import check_photos, table

    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("Reading")
        result = check_photos(
            images,
            tags,
            classes=_classes(classes),
            masks=masks,
            separator=separator,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    console.print(table(result))
    fatal = [problem for problem in result.problems if problem.fatal]
    if fatal:
        raise UserError(f"{len(fatal)} of {len(result.problems)} problem(s) stop training: see the table above.")


@app.command()
def train(
    recipe: Annotated[str | None, typer.Argument(help="name of a shipped recipe, or a YAML file")] = None,
    out: Out = Path("run"),
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="key.sub=value, may be given several times")
    ] = None,
    images: Annotated[Path | None, typer.Option("--images", help="own photos, without a recipe")] = None,
    tags: Tags = None,
    masks: Masks = None,
    classes: Classes = None,
    method: Annotated[str, typer.Option("--method", help="the system for own photos")] = "asdt",
    overwrite: Overwrite = False,
) -> None:
    """Train a recipe, or own photos without one. The same command goes on with an unfinished run.

    Example: tagseg train asdt-scenes --set train.steps=200 --out runs/first

    Example: tagseg train --images photos --tags tags.csv --method asdt --out runs/mine
    """
    from tagseg.distributed import rank
    from tagseg.recipe import load_recipe
    from tagseg.workflows.own_photos import own_recipe
    from tagseg.workflows.report import report
    from tagseg.workflows.train import finished, train

    if (recipe is None) == (images is None):
        raise UserError("Give either a recipe (`tagseg recipes` lists them) or --images DIR with --tags FILE.")
    if images is not None:
        chosen = own_recipe(images, tags, masks, _classes(classes), method, settings or [], say=console.print)
    else:
        chosen = load_recipe(str(recipe), settings)
    train(chosen, out, overwrite=overwrite, say=console.print)
    if finished(out) and rank() == 0:
        page = report(out)
        console.print(f"Model, scores and report are in {out}: open {page}.")


@app.command()
def label(
    run: Run,
    out: Out = Path("masks"),
    images: Annotated[
        Path | None, typer.Option("--images", help="tagged photos; without it, the run's training photos")
    ] = None,
    tags: Tags = None,
    confidence: Annotated[float, typer.Option(help="below this probability a pixel is written as 255 = ignore")] = 0.0,
    overwrite: Overwrite = False,
) -> None:
    """Pseudo masks for tagged photos: one palette PNG each, only the photo's tags can appear; confidence.csv beside them.

    Example: tagseg label runs/mine --out pseudo-masks
    """
    from tagseg.data.tagged import open_tagged
    from tagseg.segmenter import load
    from tagseg.workflows.label import label, label_run
    from tagseg.workflows.score import percent

    scores = None
    if images is None:
        count, photos, scores = label_run(run, out, confidence=confidence, overwrite=overwrite)
    else:
        data = open_tagged(images, tags)
        count, photos = label(load(run), data, out, confidence=confidence, overwrite=overwrite), len(data)
    console.print(f"{count} masks written to {out} ({photos - count} were there already); tags were used.")
    if scores is not None:
        console.print(f"mIoU {percent(100 * scores.miou)} % against the true masks of {scores.photos} of these photos.")


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(help="a finished run folder, or a .safetensors file of `tagseg export`")],
    images: Annotated[list[str], typer.Argument(help="folders, photos, .zip, .txt lists of paths, quoted patterns")],
    out: Out = Path("predictions"),
    format: Annotated[str, typer.Option(help="png, overlay, coco, yolo, label-studio, cvat ...")] = "png",
    crf: Annotated[bool, typer.Option(help="refine with the dense CRF")] = True,
    tags: Annotated[Path | None, typer.Option("--tags", help="table of tags, used for the photos it names")] = None,
    scales: Annotated[str | None, typer.Option(help="sizes to read a photo at, such as 0.5,1,1.5")] = None,
    flip: Annotated[bool | None, typer.Option(help="read it mirrored as well")] = None,
    merge: Annotated[str | None, typer.Option(help="scales by their mean, or max")] = None,
    long_side: Annotated[int | None, typer.Option(help="longer side at scale 1, in pixels")] = None,
    tile: Annotated[int, typer.Option(min=128, help="side of the tiles of large photos, in pixels")] = 1024,
    pixel_cap: Annotated[int, typer.Option(min=1, help="the largest photo that is read, in pixels")] = 100_000_000,
    overwrite: Overwrite = False,
) -> None:
    """Segment photos, without tags unless a table of them is given. The same command goes on where it stopped.

    Example: tagseg predict runs/mine new-photos --out masks --format overlay
    """
    from tagseg.segmenter import load
    from tagseg.workflows.predict import predict

    segmenter = load(run)
    segmenter.set(scales=scales, flip=flip, merge=merge, long_side=long_side)
    segmenter.tile = tile
    result = predict(
        segmenter, images, out, format=format, crf=crf, tags=tags, pixel_cap=pixel_cap, overwrite=overwrite
    )
    used = f"tags used for {result.tagged} of them" if tags is not None else "no tags used"
    there = f" ({result.already} were there already)" if result.already else ""
    console.print(f"{result.done} photos segmented{there}, {used}; results are in {out}.")
    for note in result.notes:
        console.print(note, markup=False, soft_wrap=True)
    if result.problems:
        for problem in result.problems:
            console.print(problem, style="yellow", markup=False, soft_wrap=True)
        raise UserError(f"{len(result.problems)} photo(s) could not be read: see above.")


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="a finished run folder, or a .safetensors file of `tagseg export`")],
    out: Annotated[Path, typer.Option("--out", "-o", help="the file to write")],
    format: Annotated[str | None, typer.Option(help="onnx, torch, safetensors; else by the file's ending")] = None,
) -> None:
    """Write the trained model as one file: ONNX, torch.export, or safetensors with a model card.

    Example: tagseg export runs/mine --format onnx --out model.onnx
    """
    from tagseg.segmenter import load
    from tagseg.workflows.export import export

    for line in export(load(run), out, format):
        console.print(line, markup=False, soft_wrap=True)


@app.command()
def evaluate(
    masks: Annotated[Path, typer.Argument(help="folder of predicted masks")],
    truth: Annotated[Path, typer.Argument(help="folder of true masks, or a VOC-layout folder with --split")],
    split: Annotated[str | None, typer.Option(help="list of a VOC-layout folder")] = None,
    classes: Classes = None,
    labels: Annotated[str, typer.Option(help="which labels the masks were made with, for the record")] = "",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="write the numbers as JSON")] = None,
) -> None:
    """Score masks against true masks: mIoU, per class, boundary, from one confusion matrix.

    Example: tagseg evaluate masks truth --classes cat,dog
    """
    from tagseg.workflows.evaluate import evaluate, table, write_json

    result = evaluate(masks, truth, split=split, classes=_classes(classes), labels_used=labels)
    console.print(table(result))
    if out is not None:
        write_json(result, out)
        console.print(f"Written to {out}.")


@app.command()
def report(run: Run) -> None:
    """Write a run's report.html: scores, curves and a spread of photos.

    Example: tagseg report runs/mine
    """
    from tagseg.workflows.report import report

    console.print(f"The report is {report(run)}.")


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="finished run folders, scored on the same photos")],
    out: Out = Path("comparison"),
) -> None:
    """Compare runs on one data set: a table, and a page with the same photos side by side.

    Example: tagseg compare runs/rrm runs/asdt --out comparison
    """
    from tagseg.workflows.compare import compare

    console.print(compare(runs, out))
    console.print(f"Written to {out}: open {out / 'compare.html'}.")


@app.command()
def recipes() -> None:
    """List the shipped recipes.

    Example: tagseg recipes
    """
    from tagseg.recipe import shipped_recipes

    table = Table("recipe", "what it is", title="Shipped recipes: tagseg train NAME --out RUN")
    for name, text in shipped_recipes().items():
        table.add_row(name, text.partition("\n")[0].lstrip("# "))
    console.print(table)


@app.command()
def run(
    recipe: Annotated[
        str | None, typer.Argument(help="name of a shipped chain, or a YAML file; without it, lists them")
    ] = None,
    out: Out = Path("chain"),
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="key.sub=value, may be given several times")
    ] = None,
) -> None:
    """Run a whole chain: classifier, teacher, pseudo masks, segmenter, scores and report. Stages that are done are kept.

    Example: tagseg run chain-scenes --set segmenter.train.steps=100 --out runs/chain
    """
    from tagseg.workflows.chain import load_chain, shipped_chains
    from tagseg.workflows.run import run

    if recipe is None:
        table = Table("chain", "what it is", title="Shipped chains: tagseg run NAME --out RUN")
        for name, text in shipped_chains().items():
            table.add_row(name, text.partition("\n")[0].lstrip("# "))
        console.print(table)
        return
    page = run(load_chain(recipe, settings), out, say=console.print)
    console.print(f"Both stages, pseudo masks, scores and report are in {out}: open {page}.")


@app.command()
def refine(
    masks: Annotated[Path, typer.Argument(help="folder of index masks (PNG) or probabilities (.npy, (L, H, W))")],
    images: Annotated[Path, typer.Argument(help="folder of the photos, named alike")],
    out: Out = Path("refined"),
    sxy: Annotated[float, typer.Option(help="bilateral sigma in pixels")] = 83.0,
    srgb: Annotated[float, typer.Option(help="bilateral sigma of colour")] = 5.0,
    weight: Annotated[float, typer.Option(help="bilateral weight")] = 4.0,
    iterations: Annotated[int, typer.Option(help="mean-field iterations")] = 10,
    confidence: Annotated[float, typer.Option(help="how sure a mask's labels are")] = 0.7,
    overwrite: Overwrite = False,
) -> None:
    """Refine masks or probabilities with the dense CRF.

    Example: tagseg refine masks photos --out refined
    """
    from tagseg.workflows.refine import refine_folder

    count = refine_folder(
        masks,
        images,
        out,
        gaussian=(3.0, 3.0),
        bilateral=(sxy, srgb, weight),
        iterations=iterations,
        confidence=confidence,
        overwrite=overwrite,
    )
    console.print(f"{count} masks refined; results are in {out}.")


def main() -> None:
    """Run the command line; a user's mistake ends in one sentence and exit status 2."""
    complain = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        status = app(standalone_mode=False)
        if status == 130:  # what typer makes of a KeyboardInterrupt
            raise KeyboardInterrupt
    except UserError as error:
        complain.print(f"tagseg: {error}", style="bold red", markup=False)
        sys.exit(2)
    except ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        from tagseg.engine.interrupt import EXIT_INTERRUPTED

        complain.print("tagseg: stopped; the same command goes on from where it was.")
        sys.exit(EXIT_INTERRUPTED)
    sys.exit(status if isinstance(status, int) else 0)
