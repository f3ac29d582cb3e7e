"""Commands that use what was trained, or masks from anywhere: finish, export, push, report, compare, evaluate."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Annotated

import typer

from tagseg.cli.by_shards import say_finished
from tagseg.cli.frame import Device, Out, Places, Run, app, belong_to, console, say
from tagseg.cli.tag_options import TagOptions, tag_options
from tagseg.errors import UserError


@app.command()
def finish(
    out: Annotated[str, typer.Argument(help="where `tagseg predict --shards` wrote")],
    format: Annotated[str | None, typer.Option(help="png, coco, label-studio, cvat, json: write all masks so")] = None,
    to: Annotated[Path | None, typer.Option("--to", help="folder for them")] = None,
) -> None:
    """Check that all shards are done, and write their index; with --format, write their masks in another form.

    Example: tagseg finish masks --format coco --to annotations
    """
    from tagseg.scale.finish import check_format, finish, merge
    from tagseg.scale.places import open_place

    place = open_place(out)
    if (format is None) != (to is None):
        raise UserError("--format and --to DIR go together.")
    if format is not None:
        check_format(format)
    whole = finish(place)
    if format is not None and to is not None:
        say(f"{merge(place, format, to)} masks written to {to}.")
    say_finished(whole, out)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="a finished run folder, or a .safetensors file of `tagseg export`")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="the file to write; else model.onnx in the run, NAME.onnx for hf://OWNER/NAME"
        ),
    ] = None,
    format: Annotated[str | None, typer.Option(help="onnx, torch, safetensors; else by the file's ending")] = None,
) -> None:
    """Write the trained model as one file: ONNX, torch.export, or safetensors with a model card.

    Example: tagseg export runs/mine --format onnx --out model.onnx
    """
    from tagseg.prediction.hub import is_address
    from tagseg.prediction.load import load
    from tagseg.workflows.export import FORMATS, export

    if out is None:
        suffix = FORMATS.get(format or "onnx", "")
        if is_address(run):  # hf://owner/name@revision: here, by its name
            out = Path(PurePosixPath(run.as_posix().partition("@")[0]).name + suffix)
        else:
            name = "export.safetensors" if format == "safetensors" else f"model{suffix}"
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
@tag_options
def evaluate(
    masks: Annotated[Path, typer.Argument(help="folder of predicted masks")],
    truth: Annotated[Path, typer.Argument(help="folder of true masks, or a VOC-layout folder with --split")],
    split: Annotated[str | None, typer.Option(help="list of a VOC-layout folder")] = None,
    tagged: TagOptions = TagOptions(),  # noqa: B008 (never changed)
    labels: Annotated[str, typer.Option(help="which labels the masks were made with, for the record")] = "",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="write the numbers as JSON")] = None,
) -> None:
    """Score masks against true masks: mIoU, per class, boundary, from one confusion matrix.

    Example: tagseg evaluate masks truth --classes cat,dog
    """
    from tagseg.workflows.evaluate import check_file, evaluate, table, write_json

    if tagged.tags is None:
        belong_to("--tags", tagged.reading)
    if out is not None:
        check_file(out, masks, truth, *([] if tagged.tags is None else [tagged.tags]))  # before the masks are read
    result = evaluate(masks, truth, split=split, classes=tagged.names, labels_used=labels, tags=tagged.table())
    console.print(table(result))
    for note in result.notes:
        say(note, style="yellow")
    if out is not None:
        write_json(result, out)
        say(f"Written to {out}.")
