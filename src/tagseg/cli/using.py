"""Commands that use what was trained, or masks from anywhere: predict, export, report, compare, evaluate, refine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tagseg.cli.frame import (
    Address,
    Classes,
    Container,
    Device,
    DryRun,
    Engine,
    FileColumn,
    Flip,
    Merge,
    Out,
    Overwrite,
    Part,
    Parts,
    Places,
    Precision,
    RetryErrors,
    Run,
    Scales,
    Separator,
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
)
from tagseg.errors import UserError
from tagseg.refine.defaults import BILATERAL, GAUSSIAN, ITERATIONS

if TYPE_CHECKING:
    from tagseg.prediction.segmenter import Segmenter


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(help="a finished run folder, or a .safetensors file of `tagseg export`")],
    images: Annotated[
        list[str] | None, typer.Argument(help="folders, photos, .zip, .txt lists of paths, quoted patterns")
    ] = None,
    more_images: Annotated[list[str] | None, typer.Option("--images", help="the same as an option")] = None,
    out: Annotated[
        str, typer.Option("--out", "-o", help="folder for the results; with --shards a store too")
    ] = "predictions",
    format: Annotated[str, typer.Option(help="png, overlay, coco, yolo, label-studio, cvat ...")] = "png",
    crf: Annotated[bool, typer.Option(help="refine with the dense CRF")] = True,
    tags: Annotated[Path | None, typer.Option("--tags", help="table of tags, used for the photos it names")] = None,
    classes: Classes = None,
    separator: Separator = None,
    file_column: FileColumn = None,
    tags_column: TagsColumn = None,
    tagged_background: TaggedBackground = None,
    scales: Scales = None,
    flip: Flip = None,
    merge: Merge = None,
    long_side: Annotated[int | None, typer.Option(help="longer side at scale 1, in pixels")] = None,
    short_side: Annotated[int | None, typer.Option(help="shorter side at scale 1, in pixels")] = None,
    precision: Precision = None,
    device: Device = "auto",
    tile: Annotated[int, typer.Option(min=128, help="side of the tiles of large photos, in pixels")] = 1024,
    pixel_cap: Annotated[int, typer.Option(min=1, help="the largest photo that is read, in pixels")] = 100_000_000,
    photo_url: Annotated[
        str | None, typer.Option(help="label-studio: what stands before a photo's name, in place of local files")
    ] = None,
    overwrite: Overwrite = False,
    shards: Parts = None,
    shard: Part = None,
    container: Container = "tar",
    engine: Engine = "local",
    address: Address = None,
    workers: Workers = 1,
    timeout: Timeout = None,
    retry_errors: RetryErrors = False,
    dry_run: DryRun = False,
) -> None:
    """Segment photos, without tags unless a table of them is given. The same command goes on where it stopped.

    Example: tagseg predict runs/mine new-photos --out masks --format overlay
    """
    from tagseg.prediction.load import load
    from tagseg.workflows.predict import predict

    images = [*(images or []), *(more_images or [])]
    if not images:
        raise UserError("Give photos to predict: tagseg predict RUN PHOTOS --out masks.")

    def build() -> Segmenter:
        segmenter = load(run, device=device)
        segmenter.set(scales=scales, flip=flip, merge=merge, long_side=long_side, short_side=short_side)
        segmenter.set(precision=precision, tagged_background=tagged_background)
        segmenter.tile = tile
        return segmenter

    how = parts([*images, out], shards, shard, container, engine, address, workers, timeout, retry_errors)
    if how is not None:
        from tagseg.workflows.shards import predict_shards, read_tags

        given = (
            None if tags is None else read_tags(tags, images, class_names(classes), separator, file_column, tags_column)
        )
        say_finished(predict_shards(build, images, out, how, crf=crf, pixel_cap=pixel_cap, tags=given, say=say), out)
        return
    result = predict(
        build(),
        images,
        Path(out),
        format=format,
        crf=crf,
        tags=tags,
        classes=class_names(classes),
        separator=separator,
        file_column=file_column,
        tags_column=tags_column,
        pixel_cap=pixel_cap,
        photo_url=photo_url,
        overwrite=overwrite,
        dry_run=dry_run,
    )
    if dry_run:
        answer(f"{result.planned} photos would be segmented as {format} into {out}. Nothing was written.")
        for line in (*result.notes, *result.problems):
            answer(line)
        return
    used = f"tags used for {result.tagged} of them" if tags is not None else "no tags used"
    there = f" ({result.already} were there already)" if result.already else ""
    say(f"{result.done} photos segmented{there}, {used}; results are in {out}.")
    for note in result.notes:
        say(note)
    if result.problems:
        for problem in result.problems:
            say(problem, style="yellow")
        raise UserError(f"{len(result.problems)} photo(s) could not be read: see above.")


@app.command()
def finish(
    out: Annotated[str, typer.Argument(help="where `tagseg predict --shards` wrote")],
    format: Annotated[str | None, typer.Option(help="png, coco, label-studio, cvat, json: write all masks so")] = None,
    to: Annotated[Path | None, typer.Option("--to", help="folder for them")] = None,
) -> None:
    """Check that all shards are done, and write their index; with --format, write their masks in another form.

    Example: tagseg finish masks --format coco --to annotations
    """
    from tagseg.scale.finish import finish, merge
    from tagseg.scale.places import open_place

    place = open_place(out)
    whole = finish(place)
    if format is not None:
        if to is None:
            raise UserError("--format needs a folder: --to DIR.")
        say(f"{merge(place, format, to)} masks written to {to}.")
    say_finished(whole, out)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="a finished run folder, or a .safetensors file of `tagseg export`")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="the file to write; else model.onnx in the run")
    ] = None,
    format: Annotated[str | None, typer.Option(help="onnx, torch, safetensors; else by the file's ending")] = None,
) -> None:
    """Write the trained model as one file: ONNX, torch.export, or safetensors with a model card.

    Example: tagseg export runs/mine --format onnx --out model.onnx
    """
    from tagseg.prediction.load import load
    from tagseg.workflows.export import FORMATS, export

    if out is None:
        name = "export.safetensors" if format == "safetensors" else f"model{FORMATS.get(format or 'onnx', '')}"
        out = run / name if run.is_dir() else run.with_name(name)
    for line in export(load(run, device="cpu"), out, format):
        say(line)


@app.command()
def push(
    run: Annotated[Path, typer.Argument(help="a finished run folder, or a .safetensors file of `tagseg export`")],
    repo: Annotated[str, typer.Argument(help="owner/name on the Hugging Face Hub")],
    private: Annotated[bool, typer.Option(help="of a repository that is not there yet")] = False,
    revision: Annotated[str | None, typer.Option(help="a branch")] = None,
) -> None:
    """Upload the model with its card to the Hugging Face Hub; the token is that of `hf auth login` or HF_TOKEN.

    Example: tagseg push runs/mine me/cows
    """
    from tagseg.segmenter import load

    address = load(run).push_to_hub(repo, private=private or None, revision=revision)
    console.print(f"Uploaded; load it as {address}", markup=False, soft_wrap=True)


@app.command()
def report(run: Run, places: Places = None, device: Device = "auto") -> None:
    """Write a run's report.html: scores, curves and a spread of photos.

    Example: tagseg report runs/mine
    """
    from tagseg.workflows.report import report

    say(f"The report is {report(run, device=device, places=places or ())}.")


@app.command()
def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(help="finished run folders scored on the same photos; folders of masks; JSON of evaluate"),
    ],
    out: Out = Path("comparison"),
    places: Places = None,
    device: Device = "auto",
) -> None:
    """Compare runs, and masks of others, on one data set: a table, and a page with the same photos side by side.

    Example: tagseg compare runs/rrm runs/asdt --out comparison
    """
    from tagseg.workflows.compare import compare

    console.print(compare(runs, out, device=device, places=places or ()))
    say(f"Written to {out}: open {out / 'compare.html'}.")


@app.command()
def evaluate(
    masks: Annotated[Path, typer.Argument(help="folder of predicted masks")],
    truth: Annotated[Path, typer.Argument(help="folder of true masks, or a VOC-layout folder with --split")],
    split: Annotated[str | None, typer.Option(help="list of a VOC-layout folder")] = None,
    classes: Classes = None,
    tags: Tags = None,
    separator: Separator = None,
    file_column: FileColumn = None,
    tags_column: TagsColumn = None,
    labels: Annotated[str, typer.Option(help="which labels the masks were made with, for the record")] = "",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="write the numbers as JSON")] = None,
) -> None:
    """Score masks against true masks: mIoU, per class, boundary, from one confusion matrix.

    Example: tagseg evaluate masks truth --classes cat,dog
    """
    from tagseg.data.mask_numbers import TagTable
    from tagseg.workflows.evaluate import check_file, evaluate, table, write_json

    if out is not None:
        check_file(out, masks, truth, *([] if tags is None else [tags]))  # before the masks are read
    names = class_names(classes)
    known = None if tags is None else TagTable(tags, separator, file_column, tags_column, names)
    result = evaluate(masks, truth, split=split, classes=names, labels_used=labels, tags=known)
    console.print(table(result))
    for note in result.notes:
        say(note, style="yellow")
    if out is not None:
        write_json(result, out)
        say(f"Written to {out}.")


@app.command()
def refine(
    masks: Annotated[str, typer.Argument(help="folder of index masks (PNG) or probabilities (.npy, (L, H, W))")],
    images: Annotated[str, typer.Argument(help="folder of the photos, named alike; with --shards both may be stores")],
    out: Annotated[
        str, typer.Option("--out", "-o", help="folder for the results; with --shards a store too")
    ] = "refined",
    sxy: Annotated[float, typer.Option(help="bilateral sigma in pixels")] = BILATERAL[0],
    srgb: Annotated[float, typer.Option(help="bilateral sigma of colour")] = BILATERAL[1],
    weight: Annotated[float, typer.Option(help="bilateral weight")] = BILATERAL[2],
    iterations: Annotated[int, typer.Option(help="mean-field iterations")] = ITERATIONS,
    label_probability: Annotated[float, typer.Option(help="how sure a mask's labels are")] = 0.7,
    confidence: Annotated[float | None, typer.Option(hidden=True, help="its name before")] = None,
    classes: Classes = None,
    tags: Tags = None,
    separator: Separator = None,
    file_column: FileColumn = None,
    tags_column: TagsColumn = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    shards: Parts = None,
    shard: Part = None,
    container: Container = "tar",
    engine: Engine = "local",
    address: Address = None,
    workers: Workers = 1,
    timeout: Timeout = None,
    retry_errors: RetryErrors = False,
) -> None:
    """Refine masks or probabilities with the dense CRF.

    Example: tagseg refine masks photos --out refined
    """
    from tagseg.data.mask_numbers import TagTable
    from tagseg.workflows.refine import Refinement, refine_folder

    if confidence is not None:
        say("--confidence is now --label-probability.", style="yellow")
        label_probability = confidence
    how = Refinement(GAUSSIAN, (sxy, srgb, weight), iterations, label_probability)
    known = None if tags is None else TagTable(tags, separator, file_column, tags_column, class_names(classes))
    cut = parts([masks, images, out], shards, shard, container, engine, address, workers, timeout, retry_errors)
    if cut is not None:
        from tagseg.workflows.shards import refine_shards

        say_finished(refine_shards(masks, images, out, cut, how, device=device, tags=known, say=say), out)
        return
    count = refine_folder(
        Path(masks), Path(images), Path(out), how, device=device, overwrite=overwrite, tags=known, say=say
    )
    say(f"{count} masks refined; results are in {out}.")
