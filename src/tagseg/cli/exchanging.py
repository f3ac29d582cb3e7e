"""Commands between tools and formats: export-tasks, import, convert."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tagseg.cli.frame import Classes, Out, Tags, answer, app, belong_to, class_names, say
from tagseg.errors import UserError

if TYPE_CHECKING:
    from tagseg.workflows.exchange import Exchanged

Images = Annotated[Path, typer.Option("--images", help="folder of the photos")]


@app.command("export-tasks")
def export_tasks(
    source: Annotated[Path, typer.Argument(help="a folder of masks, or of a review")],
    images: Images,
    to: Annotated[str, typer.Option("--to", help="label-studio or cvat")] = "label-studio",
    out: Out = Path("tasks"),
    classes: Classes = None,
    tags: Tags = None,
    state: Annotated[
        list[str] | None, typer.Option(help="of a review: only photos in this state, may be given several times")
    ] = None,
    photo_url: Annotated[
        str | None, typer.Option(help="label-studio: what stands before a photo's name, in place of local files")
    ] = None,
) -> None:
    """Masks as tasks of a labeling tool, to be corrected there.

    Example: tagseg export-tasks review --images photos --state later --to label-studio --out tasks
    """
    from tagseg.data.tagged import open_tagged
    from tagseg.workflows.exchange import export_tasks, kept_classes

    if to != "label-studio":
        belong_to("--to label-studio", {"--tags": tags, "--photo-url": photo_url})
    names, known = class_names(classes), {}
    if tags is not None:  # a table says what a photo shows, never which number a class has in the masks
        data = open_tagged(images, tags, classes=names or kept_classes(source) or None)
        known = {photo.name: [data.classes[k - 1] for k in photo.tags] for photo in data.photos}
    result = export_tasks(
        source,
        images,
        out,
        to=to,
        classes=("background", *names) if names else (),
        tags=known,
        states=state or (),
        photo_url=photo_url,
    )
    _tell(result, f"{result.done} tasks are in {out}; docs/labeling-tools.md says how they are opened.")


@app.command("import")
def import_masks(
    source: Annotated[Path, typer.Argument(help="what the tool exported: a folder, or a file")],
    images: Images,
    read_as: Annotated[str, typer.Option("--from", help="label-studio, cvat, coco, yolo, folders, masks")],
    review: Annotated[Path, typer.Option("--review", "-o", help="folder of the review that takes them")] = Path(
        "review"
    ),
    classes: Classes = None,
) -> None:
    """Corrected masks of a labeling tool back into a review, where they count as accepted.

    Example: tagseg import tasks --from label-studio --images photos --review review
    """
    from tagseg.workflows.exchange import import_masks

    names = class_names(classes)
    result = import_masks(
        source, review, read_as=read_as, images=images, classes=("background", *names) if names else ()
    )
    same = f" ({result.unchanged} were there already)" if result.unchanged else ""
    if result.unannotated:
        say(f"{result.unannotated} tasks have no annotation, and nobody's corrections to take.")
    _tell(result, f"{result.done} masks taken into {review}{same}; train with --review {review}.")


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="masks in any format: a folder, or a file")],
    read_as: Annotated[str, typer.Option("--from", help="label-studio, cvat, coco, yolo, folders, masks")],
    to: Annotated[str, typer.Option("--to", help="png, folders, coco, yolo, label-studio, cvat, overlay, overlay-png")],
    out: Out = Path("converted"),
    images: Annotated[Path | None, typer.Option("--images", help="folder of the photos")] = None,
    classes: Classes = None,
) -> None:
    """Masks from one format into another.

    Example: tagseg convert masks --from masks --classes cat,dog --to coco --out coco
    """
    from tagseg.workflows.exchange import convert

    names = class_names(classes)
    known = ("background", *names) if names else ()
    result = convert(source, out, read_as=read_as, to=to, images=images, classes=known)
    _tell(result, f"{result.done} masks are in {out}.")


def _tell(result: Exchanged, text: str) -> None:
    say(text)
    for problem in result.problems:
        answer(problem, style="yellow")
    if result.problems:
        raise UserError(f"{len(result.problems)} mask(s) did not fit: see above.")
