"""Commands that make masks of photos, and go by shards: label, predict, refine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tagseg.cli.by_shards import Cut, by_shards, say_finished
from tagseg.cli.frame import (
    Device,
    DryRun,
    Flip,
    Merge,
    Overwrite,
    Places,
    Precision,
    Run,
    Scales,
    TaggedBackground,
    answer,
    app,
    belong_to,
    say,
)
from tagseg.cli.tag_options import TagOptions, one_source, tag_options
from tagseg.errors import UserError
from tagseg.quoting import shell_line
from tagseg.refine.defaults import BILATERAL, GAUSSIAN, ITERATIONS

if TYPE_CHECKING:
    from tagseg.data.tagged import TaggedImages
    from tagseg.prediction.segmenter import Segmenter


@app.command()
@by_shards
@tag_options
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
    tagged: TagOptions = TagOptions(),  # noqa: B008 (never changed)
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
    cut: Cut = Cut(),  # noqa: B008 (never changed)
) -> None:
    """Pseudo masks for tagged photos: one palette PNG each, only the photo's tags can appear; confidence.csv beside them.

    Example: tagseg label runs/mine --out pseudo-masks
    """
    from tagseg.data.class_lists import CLASSES_FILE
    from tagseg.data.tagged import open_tagged
    from tagseg.prediction.load import load
    from tagseg.scores import percent
    from tagseg.workflows.label import label, label_run, plan_labels
    from tagseg.workflows.opened import run_sources

    if confidence is not None:
        say("--confidence is now --ignore-below.", style="yellow")
        ignore_below = confidence

    one_source(images, places, tagged)
    if not use_tags:
        belong_to("tags in use, and --no-tags uses none", {"--tagged-background": tagged_background})

    def build() -> Segmenter:
        segmenter = load(run, device=device)
        return segmenter.set(scales=scales, flip=flip, precision=precision, tagged_background=tagged_background)

    def photos(segmenter: Segmenter) -> TaggedImages:
        assert images is not None
        data = open_tagged(
            Path(images),
            tagged.tags,
            classes=tagged.names or segmenter.method.classes,
            **tagged.columns,
        )
        for note in data.notes:
            say(note)
        return data

    parts = cut.of([images or "", out], overwrite=overwrite, dry_run=dry_run)
    if parts is not None:
        from tagseg.workflows.shards import label_shards, list_in_table, list_tagged, read_tags

        if images is None:
            listed = list_tagged(lambda segmenter: run_sources(run, places or ()).train)
        elif Path(images).is_dir():
            listed = list_tagged(photos)
        elif tagged.tags is None:
            raise UserError(f"The photos of {images} need a table of tags: --tags FILE.")
        else:
            table = read_tags(tagged.tags, [images], tagged.names, **tagged.columns)
            listed = list_in_table(images, table)
        say_finished(label_shards(build, listed, out, parts, confidence=ignore_below, tags=use_tags, say=say), out)
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
    say(f"The values of the masks are the lines of {Path(out) / CLASSES_FILE}, from 0.")
    say(f"To look at them: {shell_line('tagseg', 'review', out, '--images', images or 'PHOTOS')}")
    if scores is not None:
        say(f"mIoU {percent(100 * scores.miou)} % against the true masks of {scores.photos} of these photos.")


@app.command()
@by_shards
@tag_options
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
    tagged: TagOptions = TagOptions(),  # noqa: B008 (never changed)
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
    dry_run: DryRun = False,
    cut: Cut = Cut(),  # noqa: B008 (never changed)
) -> None:
    """Segment photos, without tags unless a table of them names the photo. The same command goes on where it stopped.

    Example: tagseg predict runs/mine new-photos --out masks --format overlay
    """
    from tagseg.prediction.load import load
    from tagseg.workflows.predict import predict

    images = [*(images or []), *(more_images or [])]
    if not images:
        raise UserError("Give photos to predict: tagseg predict RUN PHOTOS --out masks.")
    if tagged.tags is None:
        belong_to("--tags", tagged.given | {"--tagged-background": tagged_background})

    def build() -> Segmenter:
        segmenter = load(run, device=device)
        segmenter.set(scales=scales, flip=flip, merge=merge, long_side=long_side, short_side=short_side)
        segmenter.set(precision=precision, tagged_background=tagged_background)
        segmenter.tile = tile
        return segmenter

    parts = cut.of(
        [*images, out], overwrite=overwrite, dry_run=dry_run, format=format != "png", photo_url=photo_url is not None
    )
    if parts is not None:
        from tagseg.workflows.shards import predict_shards, read_tags

        given = None if tagged.tags is None else read_tags(tagged.tags, images, tagged.names, **tagged.columns)
        say_finished(predict_shards(build, images, out, parts, crf=crf, pixel_cap=pixel_cap, tags=given, say=say), out)
        return
    result = predict(
        build(),
        images,
        Path(out),
        format=format,
        crf=crf,
        tags=tagged.tags,
        classes=tagged.names,
        **tagged.columns,
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
    used = f"tags used for {result.tagged} of them" if tagged.tags is not None else "no tags used"
    there = f" ({result.already} were there already)" if result.already else ""
    say(f"{result.done} photos segmented{there}, {used}; results are in {out}.")
    for note in result.notes:
        say(note)
    if result.problems:
        for problem in result.problems:
            answer(problem, style="yellow")
        raise UserError(f"{len(result.problems)} photo(s) could not be read: see above.")


@app.command()
@by_shards
@tag_options
def refine(
    masks: Annotated[str, typer.Argument(help="folder of index masks (PNG) or probabilities (.npy, (L, H, W))")],
    images: Annotated[str, typer.Argument(help="folder of the photos, named alike; with --shards both may be stores")],
    out: Annotated[
        str, typer.Option("--out", "-o", help="folder for the results; with --shards a store too")
    ] = "refined",
    sxy: Annotated[float, typer.Option(help="bilateral sigma in pixels")] = BILATERAL[0],
    srgb: Annotated[float, typer.Option(help="bilateral sigma of color")] = BILATERAL[1],
    weight: Annotated[float, typer.Option(help="bilateral weight")] = BILATERAL[2],
    iterations: Annotated[int, typer.Option(help="mean-field iterations")] = ITERATIONS,
    label_probability: Annotated[float, typer.Option(help="how sure a mask's labels are, above 0.5")] = 0.7,
    confidence: Annotated[float | None, typer.Option(hidden=True, help="its name before")] = None,
    tagged: TagOptions = TagOptions(),  # noqa: B008 (never changed)
    device: Device = "auto",
    overwrite: Overwrite = False,
    cut: Cut = Cut(),  # noqa: B008 (never changed)
) -> None:
    """Refine masks or probabilities with the dense CRF.

    Example: tagseg refine masks photos --out refined
    """
    from tagseg.workflows.refine import Refinement, refine_folder

    if confidence is not None:
        say("--confidence is now --label-probability.", style="yellow")
        label_probability = confidence
    if tagged.tags is None:
        belong_to("--tags", tagged.given)
    how = Refinement(GAUSSIAN, (sxy, srgb, weight), iterations, label_probability)
    known = tagged.table()
    parts = cut.of([masks, images, out], overwrite=overwrite)
    if parts is not None:
        from tagseg.workflows.shards import refine_shards

        say_finished(refine_shards(masks, images, out, parts, how, device=device, tags=known, say=say), out)
        return
    count = refine_folder(
        Path(masks), Path(images), Path(out), how, device=device, overwrite=overwrite, tags=known, say=say
    )
    say(f"{count} masks refined; results are in {out}.")
