"""Commands that open a page: review."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tagseg.cli.frame import Classes, FileColumn, Separator, Tags, TagsColumn, app, class_names, say

Host = Annotated[str, typer.Option(help="address to listen on; beyond this machine (0.0.0.0) a token is needed")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="port to listen on; 0 takes a free one")]
Token = Annotated[str | None, typer.Option(help="what an address beyond this machine asks for; made where not given")]
Name = Annotated[list[str] | None, typer.Option("--name", help="a further name by which this machine is called")]
Browser = Annotated[bool, typer.Option(help="open the page in the browser")]


@app.command()
def review(
    source: Annotated[Path, typer.Argument(help="a run folder, or a folder of masks named like the photos")],
    images: Annotated[
        Path | None, typer.Option("--images", help="folder of photos; without it, the run's training photos")
    ] = None,
    tags: Tags = None,
    folder: Annotated[Path, typer.Option("--review", "-o", help="folder of the review: decisions and masks")] = Path(
        "review"
    ),
    classes: Classes = None,
    separator: Separator = None,
    file_column: FileColumn = None,
    tags_column: TagsColumn = None,
    model: Annotated[
        Path | None, typer.Option(help="for a folder of masks: a run that labels again when tags are corrected")
    ] = None,
    host: Host = "127.0.0.1",
    port: Port = 8471,
    token: Token = None,
    name: Name = None,
    browser: Browser = True,
) -> None:
    """Look at masks in the browser, the doubtful first; accept, correct or reject them. Ctrl-C ends it, nothing is lost.

    Example: tagseg review runs/mine --images photos --tags tags.csv
    """
    from tagseg.extras import need

    for package in ("starlette", "uvicorn"):
        need(package, "review", "Pages in the browser")
    from tagseg.review.app import create_app
    from tagseg.web.listen import listen, open_address
    from tagseg.workflows.review import open_review

    address = open_address(host, port, token, tuple(name or ()))
    session = open_review(
        source,
        folder,
        images=images,
        tags=tags,
        classes=class_names(classes),
        model=model,
        columns={"separator": separator, "file_column": file_column, "tags_column": tags_column},
        say=say,
    )

    def announce(url: str) -> None:
        say(f"{len(session.photos)} photos; decisions go to {folder}. The page: {url}")
        say(f"Then: tagseg train --images ... --tags ... --review {folder} --out ...")

    listen(create_app(session, hosts=address.hosts, token=address.token), address, say=announce, browser=browser)
