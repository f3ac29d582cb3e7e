"""After the last shard: everything is there, or what is missing is named; errors are listed; one index of all."""

from __future__ import annotations

import gzip
import io
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np

from tagseg.data.class_lists import CLASSES_FILE, write_class_list
from tagseg.data.pictures import decoding, open_picture
from tagseg.data.sources import LABELED
from tagseg.errors import UserError
from tagseg.foreign import reading
from tagseg.outputs import OUTPUTS
from tagseg.outputs.confidence import CONFIDENCES, Sureness, write_table
from tagseg.outputs.masks import list_beside
from tagseg.places import check_output, safe_name
from tagseg.result_folder import ResultFolder
from tagseg.scale.containers import CONTAINERS, Row
from tagseg.scale.jobs import named
from tagseg.scale.photos import Photo
from tagseg.scale.places import Folder, Place
from tagseg.scale.plan import INDEX, PLAN, SUCCESS, Plan, read_manifest, read_plan
from tagseg.scale.work import Record, read_record

MARKER = ".tagseg-finish"  # beside merged masks: which of the files are tagseg's
RETRY = "retry-{}"
MERGED = ("png", "coco", "label-studio", "cvat", "json")  # formats that need no photo's pixels


@dataclass(frozen=True)
class Finished:
    """photos, masks: how many. errors: name and reason of each photo that has no mask. seconds: of work, all shards.

    left_out: sentences about what has no part in the plan.
    """

    photos: int
    masks: int
    errors: tuple[tuple[str, str], ...]
    seconds: float
    left_out: tuple[str, ...] = ()


def places_of(place: Place) -> list[Place]:
    """The place of the plan, and those of the retries after it, in order."""
    found, number = [place], 1
    while (retry := place.child(RETRY.format(number))).exists(PLAN):
        found.append(retry)
        number += 1
    return found


def finish(place: Place) -> Finished:
    """Check that every shard is done, write the index, the classes and, last, `_SUCCESS`.

    Raises UserError that names the shards still to be done.
    """
    errors: dict[str, str] = {}
    lines: dict[str, str] = {}
    seconds = 0.0
    for number, part in enumerate(places_of(place)):
        plan = read_plan(part)
        records = _records(part, plan, again=number > 0)
        below = f"{RETRY.format(number)}/" if number else ""
        seconds += sum(record.seconds for record in records)
        failed = {name: why for record in records for name, why in record.errors}
        for shard, photo in read_manifest(part, plan):
            errors.pop(photo.name, None)
            facts = {"name": photo.name, "file_name": photo.file_name, "shard": f"{below}shards/{plan.key(shard)}"}
            if photo.name in failed:
                facts["error"] = errors[photo.name] = failed[photo.name]
            lines[photo.name] = json.dumps(facts, sort_keys=True) + "\n"
    text = "".join(lines[name] for name in sorted(lines))
    place.write(INDEX, gzip.compress(text.encode(), mtime=0))
    plan = read_plan(place)
    if names := named(plan.classes):
        place.write(CLASSES_FILE, "".join(f"{name}\n" for name in names).encode())
    result = Finished(
        len(lines), len(lines) - len(errors), tuple(sorted(errors.items())), round(seconds, 3), plan.left_out
    )
    told = {"photos": result.photos, "masks": result.masks, "errors": len(errors), "seconds": result.seconds}
    place.write(SUCCESS, (json.dumps(told) + "\n").encode())
    return result


def to_retry(place: Place) -> tuple[Place, list[Photo]]:
    """Where the next retry goes, and the photos that have no mask; those of the last retry, where it is not complete.

    Raises UserError while shards of the first time are to be done.
    """
    parts = places_of(place)
    if len(parts) > 1:
        plan = read_plan(parts[-1])
        if any(record is None for record in _found(parts[-1], plan)):
            return parts[-1], [photo for _, photo in read_manifest(parts[-1], plan)]
    failed: set[str] = set()
    photos: dict[str, Photo] = {}
    for part in parts:
        plan = read_plan(part)
        errors = {name for record in _records(part, plan) for name, _ in record.errors}
        for _, photo in read_manifest(part, plan):
            photos[photo.name] = photo
            (failed.add if photo.name in errors else failed.discard)(photo.name)
    return place.child(RETRY.format(len(parts))), [photos[name] for name in sorted(failed)]


def check_format(format: str) -> None:
    """Raise UserError for a format that `merge` cannot write."""
    if format not in OUTPUTS:
        raise UserError(f"There is no format {format!r}: from shards there are {', '.join(MERGED)}.")
    if format not in MERGED:
        raise UserError(f"--format {format} needs the photos themselves; from shards there are {', '.join(MERGED)}.")


def merge(place: Place, format: str, out: Path) -> int:
    """Write all masks in one of the formats with a file for all, or as PNG; holds one shard at a time. Gives how many.

    The PNGs of `label` are what `label` without shards leaves: a folder of pseudo masks with the table of confidences.
    """
    check_format(format)
    if isinstance(place, Folder):
        check_output(out, [place.path])
    plan = read_plan(place)
    labeled = plan.job == "label" and format == "png"
    kind = OUTPUTS[format]
    kind.check_classes(plan.classes)
    listed: tuple[str, ...] = (CLASSES_FILE,)
    if not labeled:
        listed = list_beside(kind, out, MARKER) if named(plan.classes) else ()
    if labeled:
        results = _pseudo_masks(place, plan, out)
    else:
        results = ResultFolder.claim(out, MARKER, "merge", [], overwrite=False, rewritten=(*kind.shared, *listed))
    sure: dict[str, Sureness] = {}
    links = _links(place) if format == "label-studio" else {}
    count = 0
    with results.rewriting(), kind(out, plan.classes) as writer:
        for facts, png in rows(place):
            with reading(facts["name"], "a mask of the shards"):
                assert png is not None
                with open_picture(io.BytesIO(png), ["PNG"]) as image:  # of whatever size the photo may have had
                    if image.size != (facts["width"], facts["height"]):
                        raise ValueError("it has not the size that its row tells")
                    with decoding(image):
                        mask = np.array(image, np.uint8)
            photo = np.broadcast_to(np.uint8(0), (*mask.shape, 3))
            files = kind.paths(facts["name"])
            results.spare(files)
            results.begin(files)
            file_name, link = facts.get("file_name") or "", links.get(facts["name"], "")
            writer.add(facts["name"], photo, mask, file_name=file_name, link=link)
            results.wrote(files)
            if labeled:
                sure[facts["name"]] = Sureness(facts["confidence"], facts.get("expected_iou"))
            count += 1
        if listed:
            write_class_list(out, named(plan.classes))
        if labeled:
            write_table(out / CONFIDENCES, sure)
    return count


def _links(place: Place) -> dict[str, str]:
    """The photos of this machine by name, each from the folder above the photos' own, as `predict` names them."""
    found = {}
    for part in places_of(place):
        for _, photo in read_manifest(part, read_plan(part)):
            path, file_name = PurePath(photo.place, photo.key).as_posix(), photo.file_name
            if photo.offset < 0 and "://" not in photo.place and path.endswith(f"/{file_name}"):
                folder = PurePath(path.removesuffix(f"/{file_name}")).name
                found[photo.name] = f"{folder}/{file_name}" if folder else file_name
    return found


def _pseudo_masks(place: Place, plan: Plan, out: Path) -> ResultFolder:
    """The folder as `label` claims its own."""
    names = {photo.name for part in places_of(place) for _, photo in read_manifest(part, read_plan(part))}
    files = [f"{name}.png" for name in sorted(names)]
    beside = (CONFIDENCES, CLASSES_FILE)
    return ResultFolder.claim(out, LABELED, plan.made_by, files, overwrite=False, rewritten=beside)


def rows(place: Place) -> Iterator[Row]:
    """Every photo that has a mask, shard by shard, retries after; none twice."""
    for part in places_of(place):
        plan = read_plan(part)
        kind = CONTAINERS[plan.container]
        for shard in range(plan.shards):
            with tempfile.TemporaryDirectory(prefix="tagseg-") as folder:
                file = Path(folder, f"shard{kind.suffix}")
                file.write_bytes(part.read(f"shards/{plan.key(shard)}{kind.suffix}"))
                for facts, png in kind.read(file):
                    if not facts.get("error"):
                        name = facts["name"]
                        yield facts, png if png is not None else part.read(f"masks/{safe_name(name)}.png")


def _found(place: Place, plan: Plan) -> list[Record | None]:
    return [read_record(place, plan, shard) for shard in range(plan.shards)]


def _records(place: Place, plan: Plan, *, again: bool = False) -> Sequence[Record]:
    """again: whether they are those of a retry."""
    found = _found(place, plan)
    missing = [str(shard) for shard, record in enumerate(found) if record is None]
    if missing:
        more = f" and {len(missing) - 10} more" if len(missing) > 10 else ""
        raise UserError(
            f"{place.url}: {len(missing)} of {plan.shards} shards are still to be done ({', '.join(missing[:10])}{more}): "
            f"give the command of the first time again{', with --retry-errors' * again}."
        )
    return [record for record in found if record is not None]
