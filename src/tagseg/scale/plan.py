"""The plan: which photos, cut into which shards, by which model and settings. Written once, read by all."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from tagseg.data.class_lists import CLASSES_FILE
from tagseg.errors import UserError
from tagseg.foreign import reading
from tagseg.scale.jobs import Job
from tagseg.scale.photos import Photo
from tagseg.scale.places import Place

PLAN, MANIFEST = "plan.json", "manifest.jsonl.gz"
INDEX, SUCCESS = "index.jsonl.gz", "_SUCCESS"
RESULTS = ("masks", "shards", "records", CLASSES_FILE, INDEX, SUCCESS)
"""What the work writes beside the plan."""
FORMAT = 1
MOST = 100_000  # shards
MOST_LEFT_OUT = 1000  # sentences that are kept


@dataclass(frozen=True)
class Plan:
    """What is to be done.

    classes: with background. made_by: model and settings. same: of these what a retry shares, empty in older plans.
    fingerprint: of all that the results hang on. job: the command. left_out: a sentence about each photo without a part in
    it, the first ones of very many.
    """

    photos: int
    shards: int
    container: str
    classes: tuple[str, ...]
    made_by: str
    manifest: str
    fingerprint: str
    job: str = "predict"
    same: str = ""
    left_out: tuple[str, ...] = ()

    def key(self, shard: int) -> str:
        """A shard's number as it stands in names of files."""
        return f"{shard:05d}"


def make_plan(
    place: Place, job: Job, photos: Callable[[], tuple[Sequence[Photo], list[str]]], *, shards: int, container: str
) -> Plan:
    """The plan at a place: the one that is there, or a new one.

    photos: lists them, and says a sentence about each that is left out; it is asked for a new plan alone. Raises
    UserError where the plan that is there is another model's, or has other options or shards, and where files of
    somebody else lie in the way of a new one.
    """
    if place.exists(PLAN):
        plan = read_plan(place)
        _check(place, plan, shards=shards, container=container, job=job.name, made_by=job.made_by)
        return plan
    taken = next((name for name in RESULTS if place.holds(name)), None)
    if taken is not None and not place.exists(PLAN):  # else another worker has just made it
        raise UserError(
            f"{place.url}/{taken} is there already, without a plan of shards: choose another --out, so that nothing is "
            "written over."
        )
    listed, problems = photos()
    if not listed:
        raise UserError(f"There is no photo to work on: {'; '.join(problems[:3]) or 'the list is empty'}.")
    if not 1 <= shards <= MOST:
        raise UserError(f"--shards should be from 1 to {MOST}, not {shards}.")
    rows = _manifest(listed, shards)
    facts = {
        "format": FORMAT,
        "job": job.name,
        "photos": len(listed),
        "shards": shards,
        "container": container,
        "classes": list(job.classes),
        "made_by": job.made_by,
        "same": job.same,
        "manifest": hashlib.sha256(rows).hexdigest(),
    }
    facts["fingerprint"] = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    facts["left_out"] = problems[:MOST_LEFT_OUT]
    place.write(MANIFEST, gzip.compress(rows, mtime=0), new=True)
    place.write(PLAN, (json.dumps(facts, indent=1) + "\n").encode(), new=True)
    plan = read_plan(place)
    if plan.made_by != job.made_by or plan.shards != shards:
        raise UserError(f"{place.url}: another command has begun there with other settings; choose another --out.")
    return plan


def check_retry(place: Place, job: Job) -> None:
    """Raise UserError where the plan at a place is of another command, model or settings than its retry."""
    plan = read_plan(place)
    known: dict[str, object] = {"same": job.same} if plan.same else {"classes": job.classes}
    if job.made_by == job.same:  # which no size of photos is a part of
        known = {"made_by": job.made_by}
    _check(place, plan, job=job.name, **known)


def _check(place: Place, plan: Plan, **wanted: object) -> None:
    other = [what for what, value in wanted.items() if getattr(plan, what) != value]
    if other:
        words = {"job": f"command, `tagseg {plan.job}`", **dict.fromkeys(("made_by", "same"), "model or settings")}
        what = words.get(other[0], other[0])
        raise UserError(f"{place.url} holds the plan of other {what}: choose another --out, or give the same.")


def read_plan(place: Place) -> Plan:
    """The plan at a place. Raises UserError where there is none."""
    if not place.exists(PLAN):
        raise UserError(
            f"{place.url} holds no plan: begin with `tagseg predict RUN PHOTOS --out {place.url} --shards N`, "
            "or with label or refine."
        )
    with reading(f"{place.url}/{PLAN}", "a plan"):
        facts = json.loads(place.read(PLAN))
        if facts.pop("format") != FORMAT:
            raise UserError(
                f"{place.url}/{PLAN} is of another version of tagseg: use that one, or choose another --out."
            )
        return Plan(**facts | {"classes": tuple(facts["classes"]), "left_out": tuple(facts.get("left_out", ()))})


def read_manifest(place: Place, plan: Plan, shard: int | None = None) -> Iterator[tuple[int, Photo]]:
    """The photos with their shards, or those of one shard; the list itself is never held.

    Raises UserError, at its end, where the list is not the plan's.
    """
    wanted = b"" if shard is None else b'{"shard": %d, ' % shard
    digest = hashlib.sha256()
    with reading(f"{place.url}/{MANIFEST}", "a list of photos"):
        with gzip.open(io.BytesIO(place.read(MANIFEST))) as lines:
            for line in lines:
                digest.update(line)
                if line.startswith(wanted):
                    row = json.loads(line)
                    yield row.pop("shard"), Photo.of(row)
        if digest.hexdigest() != plan.manifest:
            raise UserError(f"{place.url}/{MANIFEST} is not the list of the plan: choose another --out.")


def _manifest(photos: Iterable[Photo], shards: int) -> bytes:
    """One line a photo. Shards are neighbors in the list, and hold about equally many bytes."""
    photos = list(photos)
    total, before, lines = sum(photo.size for photo in photos) or 1, 0, []
    for photo in photos:
        shard = min((before + photo.size // 2) * shards // total, shards - 1)
        before += photo.size
        lines.append(json.dumps({"shard": shard} | photo.row(), ensure_ascii=True) + "\n")
    return "".join(lines).encode()
