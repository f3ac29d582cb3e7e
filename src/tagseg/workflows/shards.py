"""Very many photos: plan, work, finish, in this process, in an array of jobs, or on a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from tagseg.allocator import freed_memory_kept
from tagseg.data.mask_numbers import TagTable
from tagseg.data.photo import PIXEL_CAP
from tagseg.data.tagged import TaggedImages, tags_of_photos
from tagseg.errors import UserError
from tagseg.extras import need
from tagseg.interrupt import Interruption, check
from tagseg.outputs import OUTPUTS
from tagseg.places import check_output, ignores_case
from tagseg.prediction.made_by import made_by
from tagseg.scale.containers import CONTAINERS
from tagseg.scale.finish import Finished, finish, to_retry
from tagseg.scale.jobs import Job, Segmenting
from tagseg.scale.numbers import own_shards
from tagseg.scale.photos import Photo, among, list_photos
from tagseg.scale.places import Folder, open_place
from tagseg.scale.plan import PLAN, check_retry, make_plan, read_manifest, read_plan
from tagseg.scale.work import check_timeout, shard_worker
from tagseg.segmenter import Segmenter
from tagseg.workflows.label import check_share
from tagseg.workflows.planned_photos import Known, check_given, check_unchanged, later_photos
from tagseg.workflows.predict import writable
from tagseg.workflows.refine import Refinement, names_of
from tagseg.workflows.refine_shards import Refining, is_far, list_pairs

Say = Callable[[str], None]
TagsOf = Callable[[Segmenter, list[str]], dict[str, tuple[str, ...]]]
J = TypeVar("J", bound=Job)
PhotosOf = Callable[[Segmenter, str | Path], tuple[list[Photo], list[str]]]
"""Of a model and the place of its results: the photos, and sentences about those left out."""


@dataclass(frozen=True)
class Shards:
    """How the work is cut and started.

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
    tags: TagsOf | None = None,
    say: Say = lambda text: None,
) -> Finished | None:
    """Predict by shards. Gives what the whole came to, None where this process did its own share alone.

    build: gives the segmenter, in each worker anew. tags: gives the tags by the photo's file name.
    The same command goes on; shards that are done are not done again. Raises UserError as `predict` does.
    """

    def job() -> Segmenting:
        segmenter = build()
        names = list(segmenter.classes)
        by, same = made_by(segmenter, [names, crf, pixel_cap]), made_by(segmenter, [names, crf])
        return Segmenting("predict", segmenter, by, same, crf=crf, pixel_cap=pixel_cap)

    def photos(job: Segmenting) -> tuple[list[Photo], list[str]]:
        found, problems = list_photos(images, out=str(out))
        if tags is not None:
            given = tags(job.segmenter, [photo.file_name for photo in found])
            found = [replace(photo, tags=given.get(photo.file_name)) for photo in found]
        return found, problems

    def known(job: Segmenting, files: Iterable[str]) -> Known:
        lies = among(images)
        now = {} if tags is None else tags(job.segmenter, list(files))
        return lambda photo: replace(photo, tags=now.get(photo.file_name)) if lies(photo) else None

    return run_shards(job, photos, images, out, shards, say, known=known)


def label_shards(
    build: Callable[[], Segmenter],
    photos: PhotosOf,
    out: str | Path,
    shards: Shards,
    *,
    confidence: float = 0.0,
    tags: bool = True,
    say: Say = lambda text: None,
) -> Finished | None:
    """`label` by shards, as `predict_shards`.

    photos: `list_tagged` or `list_in_table`. confidence, tags: as `label` has them.
    """
    check_share("--ignore-below", confidence)

    def job() -> Segmenting:
        segmenter = build()
        by = made_by(segmenter, ["label", list(segmenter.classes), confidence, tags])
        return Segmenting("label", segmenter, by, by, pixel_cap=PIXEL_CAP, sure=confidence)

    def listed(job: Segmenting) -> tuple[list[Photo], list[str]]:
        found, problems = photos(job.segmenter, out)
        return [photo if tags else replace(photo, tags=None) for photo in found], problems

    def known(job: Segmenting, files: Iterable[str]) -> Known:
        there = {(photo.lies, photo.name): photo for photo in listed(job)[0]}
        return lambda photo: there.get((photo.lies, photo.name))

    return run_shards(job, listed, [], out, shards, say, known=known)


def list_tagged(data: Callable[[Segmenter], TaggedImages]) -> PhotosOf:
    """What lists tagged photos of this machine. Raises UserError for a tag that the model does not know."""

    def photos(segmenter: Segmenter, out: str | Path) -> tuple[list[Photo], list[str]]:
        images = data(segmenter)
        if "://" not in str(out):
            check_output(Path(out), images.places)
        segmenter.tag_vector(images.classes)
        named = [(photo, tuple(images.classes[tag - 1] for tag in photo.tags)) for photo in images.photos]
        return [Photo.at(photo.photo, photo.name, photo.file, tags) for photo, tags in named], []

    return photos


def list_in_table(images: str, table: TagsOf) -> PhotosOf:
    """What lists the photos of a store or a tar archive that have a row in a table of tags."""

    def photos(segmenter: Segmenter, out: str | Path) -> tuple[list[Photo], list[str]]:
        found, problems = list_photos([images], out=str(out))
        given = table(segmenter, [photo.file_name for photo in found])
        return [replace(photo, tags=given[photo.file_name]) for photo in found if photo.file_name in given], problems

    return photos


def refine_shards(
    masks: str | Path,
    images: str | Path,
    out: str | Path,
    shards: Shards,
    how: Refinement,
    *,
    device: str,
    tags: TagTable | None = None,
    say: Say = lambda text: None,
) -> Finished | None:
    """`refine` by shards, as `predict_shards`; masks, images: folders, stores, tar archives.

    tags: the photos' tags, as `refine_folder` takes them; looked at when the plan is made.
    """

    def known(job: Refining, files: Iterable[str]) -> Known:
        lies = among([masks, images])
        return lambda photo: photo if lies(photo) else None

    return run_shards(
        lambda: Refining(how, device, () if is_far(str(masks)) else names_of(Path(masks))),
        lambda job: list_pairs(str(masks), str(images), str(out), tags, say=say),
        [masks, images, *([] if tags is None else [tags.file])],
        out,
        shards,
        say,
        known=known,
    )


def run_shards(
    build: Callable[[], J],
    photos: Callable[[J], tuple[Sequence[Photo], list[str]]],
    sources: Sequence[str | Path],
    out: str | Path,
    shards: Shards,
    say: Say,
    *,
    known: Callable[[J, Iterable[str]], Known],
) -> Finished | None:
    """Plan, work, finish: the way that all commands by shards go.

    build: gives the job, in each worker anew. photos: lists them for a new plan, with sentences about those left out.
    sources: where no result may go. known: of the job and the photos' file names, gives what `check_given` asks.
    """
    if shards.container not in CONTAINERS:
        raise UserError(f"--container should be one of {', '.join(CONTAINERS)}, not {shards.container!r}.")
    if shards.engine not in ("local", "ray"):
        raise UserError(f"--engine should be local or ray, not {shards.engine!r}.")
    CONTAINERS[shards.container].check()
    mine = own_shards(shards.shard, shards.count, os.environ)  # what cannot be is said before anything is made
    check_timeout(shards.timeout)
    if shards.engine == "ray":
        if shards.shard is not None:
            raise UserError("--engine ray does all shards: leave out --shard.")
        if shards.timeout is not None:
            raise UserError("--engine ray has no alarms for --timeout: leave one of them out.")
        need("ray.data", "ray", "Clusters of Ray")
    job = build()
    place = open_place(out)
    if isinstance(place, Folder):
        check_output(place.path, [*job.places, *(Path(source) for source in sources if "://" not in str(source))])
    whole, count = place, shards.count
    again: list[Photo] = []
    if shards.retry_errors:
        if mine is not None and not mine[0]:  # it would plan a retry for other tasks, which may have ended
            say(f"None of the {count} shards is for this task, as {mine[1]} says.")
            return None
        place, again = to_retry(place)
        if not again:
            raise UserError(f"{out}: no photo failed, so there is nothing to retry.")
        if place.exists(PLAN):
            count = read_plan(place).shards  # else as many as are asked for, so that each task has a part again

    def listed() -> tuple[Sequence[Photo], list[str]]:
        if again:
            return again, []
        found, problems = photos(job)
        if shards.container == "png" and isinstance(place, Folder):
            found = writable(OUTPUTS["png"], found, problems, ignores_case(place.path))
        return found, problems

    def own() -> Known:
        return known(job, (photo.file_name for _, photo in read_manifest(whole, read_plan(whole))))

    if again:
        check_retry(whole, job)
        check_given(whole, again, own())
    begun = place.exists(PLAN)
    plan = make_plan(place, job, listed, shards=count, container=shards.container)
    mine = own_shards(shards.shard, plan.shards, os.environ)
    for sentence in plan.left_out if mine is not None else ():  # else they are said at the end
        say(sentence)
    if begun and not again:
        todo = range(plan.shards) if mine is None else mine[0]
        check_given(place, (photo for shard, photo in read_manifest(place, plan) if shard in todo), own())
        check_unchanged(place, plan, todo)
    if shards.engine == "ray":
        _on_ray(build, place.url, shards, plan.shards, on_gpu=job.device.type == "cuda")
    else:
        with Interruption(), freed_memory_kept():
            one = shard_worker(job, place, plan, shards.timeout)
            numbers, who = (list(range(plan.shards)), "") if mine is None else mine
            if who:
                which = f"Shards {', '.join(map(str, numbers[:5]))}{' ...' if len(numbers) > 5 else ''}"
                say(f"{which if numbers else f'None of the {plan.shards} shards'}, as {who} says.")
            for number in numbers:
                check()
                record = one(number)
                failed = f", {len(record.errors)} failed" if record.errors else ""
                say(f"Shard {number} of {plan.shards}: {record.photos} photos{failed}, {record.seconds:.0f} s.")
            if who:
                return None
    done = finish(open_place(out))
    # stores and archives would have to be read through
    if begun and not again and not any(is_far(str(source)) for source in sources):
        for sentence in later_photos(place, plan, listed()[0]):
            say(sentence)
    return done


def read_tags(
    table: Path,
    images: Sequence[str | Path],
    classes: Sequence[str] | None,
    separator: str | None,
    file_column: str | None,
    tags_column: str | None,
) -> TagsOf:
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


def _on_ray(build: Callable[[], Job], url: str, shards: Shards, count: int, *, on_gpu: bool) -> None:
    from tagseg.scale import ray_engine

    timeout = shards.timeout

    def actor() -> Callable[[int], dict[str, Any]]:
        place = open_place(url)
        one = shard_worker(build(), place, read_plan(place), timeout)

        def row(shard: int) -> dict[str, Any]:
            record = one(shard)
            return {"shard": record.shard, "photos": record.photos, "errors": len(record.errors)}

        return row

    ray_engine.run(actor, count, address=shards.address, workers=shards.workers, cpus=1, gpus=float(on_gpu))
