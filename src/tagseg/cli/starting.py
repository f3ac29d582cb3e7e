"""Commands to begin with: demo, check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from tagseg.cli.frame import Device, Images, Masks, Overwrite, app, console, say
from tagseg.cli.tag_options import TagOptions, tag_options
from tagseg.errors import UserError
from tagseg.quoting import shell_line


@app.command()
def demo(
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="folder for the results: demo, or demo-quick where not given")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="a first look in about a minute: activation maps alone")
    ] = False,
    show: Annotated[bool, typer.Option("--open/--no-open", help="open the page where a desktop is")] = True,
    device: Device = "auto",
    seed: Annotated[int, typer.Option(help="seed of pictures and training")] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Train on generated scenes, print the scores, write the report and open it: about three minutes on two cores.

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
@tag_options
def check(
    images: Images,
    tagged: TagOptions = TagOptions(),  # noqa: B008 (never changed)
    masks: Masks = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="write all problems as CSV")] = None,
) -> None:
    """Read every photo, tag and mask once and say in one table what is there and what is wrong.

    Example: tagseg check --images photos --tags tags.csv
    """
    from tagseg.data.check import check_list, check_photos, table, write_problems
    from tagseg.places import check_output

    if out is not None:
        check_output(out, [place for place in (images, tagged.tags, masks) if place is not None])
        check_list(out)
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("Reading")
        result = check_photos(
            images,
            tagged.tags,
            classes=tagged.names,
            masks=masks,
            **tagged.columns,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    console.print(table(result))
    if out is not None:
        write_problems(result, out)
        say(f"All problems are in {out}.")
    fatal = [problem for problem in result.problems if problem.fatal]
    if fatal:
        raise UserError(f"{len(fatal)} of {len(result.problems)} problem(s) stop training: see the table above.")
    given = {"--images": images, **tagged.given, "--masks": masks}
    words = [word for name, value in given.items() if value for word in (name, value)]
    say(f"Next: {shell_line('tagseg', 'train', *words, '--out', 'runs/mine')}")
