"""Commands that open a page: review, serve."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tagseg.cli.frame import Places, answer, app, belong_to, say
from tagseg.cli.tag_options import TagOptions, one_source, tag_options
from tagseg.quoting import shell_line

Host = Annotated[str, typer.Option(help="address to listen on; beyond this machine (0.0.0.0) a token is needed")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="port to listen on; 0 takes a free one")]
Token = Annotated[str | None, typer.Option(help="what an address beyond this machine asks for; made where not given")]
Name = Annotated[list[str] | None, typer.Option("--name", help="a further name by which this machine is called")]
Browser = Annotated[bool, typer.Option(help="open the page in the browser")]


@app.command()
@tag_options
def review(
    source: Annotated[Path, typer.Argument(help="a run folder, or a folder of masks named like the photos")],
    images: Annotated[
        Path | None, typer.Option("--images", help="folder of photos; without it, the run's training photos")
    ] = None,
    tagged: TagOptions = TagOptions(),  # noqa: B008 (never changed)
    folder: Annotated[Path, typer.Option("--review", "-o", help="folder of the review: decisions and masks")] = Path(
        "review"
    ),
    places: Places = None,
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

    one_source(images, places, tagged)
    if tagged.tags is None:
        belong_to("--tags", tagged.reading)
    address = open_address(host, port, token, tuple(name or ()))
    session = open_review(
        source,
        folder,
        images=images,
        tags=tagged.tags,
        classes=tagged.names,
        model=model,
        columns=tagged.columns,
        places=places or (),
        say=say,
    )

    def announce(url: str) -> None:
        answer(f"{len(session.photos)} photos; decisions go to {folder}. The page: {url}")  # --quiet hides no way in
        say(f"Then: tagseg train --images ... --tags ... --review {shell_line(folder)} --out ...")

    listen(create_app(session, hosts=address.hosts, token=address.token), address, say=announce, browser=browser)


@app.command()
def serve(
    run: Annotated[Path, typer.Argument(help="a finished run folder, or a .safetensors file of `tagseg export`")],
    label_studio: Annotated[
        bool, typer.Option("--label-studio", help="answer Label Studio as its ML backend, in place of the page")
    ] = False,
    images: Annotated[
        Path | None,
        typer.Option("--images", help="label-studio: the folder of the photos that tasks name as local files"),
    ] = None,
    label_studio_url: Annotated[
        str | None,
        typer.Option(help="label-studio: its address, to fetch uploaded photos; token in LABEL_STUDIO_TOKEN"),
    ] = None,
    host: Host = "127.0.0.1",
    port: Port = 8470,
    token: Token = None,
    name: Name = None,
    body_cap: Annotated[int, typer.Option(min=1, help="largest request, in bytes")] = 25 << 20,
    pixel_cap: Annotated[int, typer.Option(min=1, help="largest photo, in pixels")] = 25_000_000,
    waiting: Annotated[int, typer.Option(min=1, help="photos that may wait; more are asked to come back")] = 64,
    browser: Annotated[bool, typer.Option(help="open the page in the browser")] = False,
) -> None:
    """Serve a model: a page to drop photos on, and an HTTP API (/openapi.json). Nothing that is sent is kept.

    Example: tagseg serve runs/mine

    Example: tagseg serve runs/mine --label-studio --images photos --port 9090
    """
    import os

    from tagseg.extras import need

    for package in ("starlette", "uvicorn", "python_multipart"):
        need(package, "review", "Pages in the browser")
    from tagseg.segmenter import load
    from tagseg.serve.app import create_app
    from tagseg.serve.label_studio import LOOPBACK_HINT, Backend
    from tagseg.serve.service import Limits, Service
    from tagseg.web.listen import listen, open_address

    if not label_studio:
        belong_to("--label-studio", {"--images": images, "--label-studio-url": label_studio_url})
    address = open_address(host, port, token, tuple(name or ()))
    limits = Limits(bytes=body_cap, pixels=pixel_cap, waiting=waiting)
    service = Service(load(run), name=run.resolve().name, limits=limits)
    access = os.environ.get("LABEL_STUDIO_TOKEN")
    routes = Backend(service, images=images, url=label_studio_url, access=access).routes() if label_studio else []

    def announce(url: str) -> None:
        answer(f"{service.name}, version {service.version}: {url}")
        if label_studio:
            say(LOOPBACK_HINT)

    app = create_app(service, hosts=address.hosts, token=address.token, routes=routes)
    listen(app, address, say=announce, browser=browser)
