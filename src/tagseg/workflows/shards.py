"""Prediction of very many photos: plan, work, finish, in this process, in an array of jobs, or on a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tagseg.data.photo import PIXEL_CAP
from tagseg.data.tagged import tags_of_photos
from tagseg.errors import UserError
from tagseg.interrupt import Interruption, check
from tagseg.places import check_output
from tagseg.prediction.made_by import made_by
from tagseg.scale.containers import CONTAINERS
from tagseg.scale.finish import Finished, finish, to_retry
from tagseg.scale.numbers import own_shards
from tagseg.scale.photos import Photo
from tagseg.scale.places import Folder, Place, open_place
from tagseg.scale.plan import Plan, make_plan, read_manifest
from tagseg.scale.work import Record, work
from tagseg.segmenter import Segmenter


@dataclass(frozen=True)
class Shards:
    """How a prediction is cut and started.

    count: shards of the plan. shard: "i/n", which one this process does; None: as the engine's variables say, else all.
    container: tar, parquet, png. engine: local, or ray. timeout: seconds a photo may take.
    """

    count: int
    shard: str | None = None
    container: str = "tar"
    engine: str = "local"
    address: str | None = None
    workers: int = 1
    timeout: float | None = None
    retry_errors: bool = False


def predict_shards(
    build: Callable[[], Segmenter],
    images: Sequence[str | Path],
    out: str | Path,
    shards: Shards,
    *,
    crf: bool = True,
    pixel_cap: int = PIXEL_CAP,
    tags: Callable[[Segmenter, list[str]], dict[str, tuple[str, ...]]] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Finished | None:
    """Predict by shards. Gives what the whole came to, None where this process did its own share alone.

    build: gives the segmenter, in each worker anew. tags: gives the tags by the photo's file name.
    The same command goes on; shards that are done are not done again. Raises UserError as `predict` does.
    """
    if shards.container not in CONTAINERS:
        raise UserError(f"--container should be one of {', '.join(CONTAINERS)}, not {shards.container!r}.")
    if shards.engine not in ("local", "ray"):
        raise UserError(f"--engine should be local or ray, not {shards.engine!r}.")
    segmenter = build()
    place = open_place(out)
    if isinstance(place, Folder):
        check_output(place.path, [*segmenter.places, *(Path(source) for source in images if "://" not in str(source))])
    photos: list[Photo] | None = None
    count = shards.count
    if shards.retry_errors:
        place, photos = to_retry(place)
        if not photos:
            raise UserError(f"{out}: no photo failed, so there is nothing to retry.")
        count = min(count, len(photos))
    known = None if tags is None or photos is not None else partial(tags, segmenter)
    by = made_by(segmenter, [list(segmenter.classes), crf, pixel_cap])
    plan, problems = make_plan(
        place,
        segmenter.classes,
        images,
        shards=count,
        container=shards.container,
        made_by=by,
        tags=known,
        photos=photos,
    )
    for problem in problems:
        say(problem)
    mine = own_shards(shards.shard, plan.shards, os.environ)
    if shards.engine == "ray":
        if mine is not None and shards.shard is not None:
            raise UserError("--engine ray does all shards: leave out --shard.")
        _on_ray(build, place.url, shards, crf, pixel_cap)
    else:
        with Interruption():
            one = shard_worker(segmenter, place, plan, crf=crf, pixel_cap=pixel_cap, timeout=shards.timeout)
            numbers, who = (list(range(plan.shards)), "") if mine is None else mine
            if who:
                say(f"Shards {', '.join(map(str, numbers[:5]))}{' ...' if len(numbers) > 5 else ''}, as {who} says.")
            for number in numbers:
                check()
                record = one(number)
                failed = f", {len(record.errors)} failed" if record.errors else ""
                say(f"Shard {number} of {plan.shards}: {record.photos} photos{failed}, {record.seconds:.0f} s.")
            if who:
                return None
    return finish(open_place(out))


def read_tags(
    table: Path,
    images: Sequence[str | Path],
    classes: Sequence[str] | None,
    separator: str | None,
    file_column: str | None,
    tags_column: str | None,
) -> Callable[[Segmenter, list[str]], dict[str, tuple[str, ...]]]:
    """What gives the tags of a table to the photos of a plan; the arguments as `predict` has them."""

    def of(segmenter: Segmenter, files: list[str]) -> dict[str, tuple[str, ...]]:
        folders = [Path(source) for source in images if Path(source).is_dir()]
        found, _ = tags_of_photos(
            table,
            files,
            folders,
            classes=segmenter.method.classes if classes is None else classes,
            separator=separator,
            file_column=file_column,
            tags_column=tags_column,
        )
        return found

    return of


def shard_worker(
    segmenter: Segmenter, place: Place, plan: Plan, *, crf: bool, pixel_cap: int, timeout: float | None
) -> Callable[[int], Record]:
    """The function that does a shard by its number."""
    by_shard: dict[int, list[Photo]] = {}
    for shard, photo in read_manifest(place, plan):
        by_shard.setdefault(shard, []).append(photo)

    def one(shard: int) -> Record:
        photos = by_shard.get(shard, [])
        return work(place, plan, shard, photos, segmenter, crf=crf, pixel_cap=pixel_cap, timeout=timeout)

    return one


def _on_ray(build: Callable[[], Segmenter], url: str, shards: Shards, crf: bool, pixel_cap: int) -> None:
    from tagseg.scale import ray_engine
    from tagseg.scale.plan import read_plan

    timeout = shards.timeout

    def actor() -> Callable[[int], dict[str, Any]]:
        segmenter, place = build(), open_place(url)
        one = shard_worker(segmenter, place, read_plan(place), crf=crf, pixel_cap=pixel_cap, timeout=timeout)

        def row(shard: int) -> dict[str, Any]:
            record = one(shard)
            return {"shard": record.shard, "photos": record.photos, "errors": len(record.errors)}

        return row

    gpus = 1.0 if build().device.type == "cuda" else 0.0
    count = read_plan(open_place(url)).shards
    ray_engine.run(actor, count, address=shards.address, workers=shards.workers, cpus=1, gpus=gpus)
