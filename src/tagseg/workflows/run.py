"""The whole chain: classifier, teacher, pseudo masks, segmenter, evaluation, report. Reads top to bottom.

Every stage lies in its own place below one folder; `chain.json` there says from which inputs each was made, so a stage is
passed over when it is finished and its inputs are the same, gone on with when it is not finished, and else made anew.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tagseg.data.sources import DataSettings, Sources, open_sources
from tagseg.devices import AUTO
from tagseg.engine.processes import create_accelerator
from tagseg.errors import UserError
from tagseg.files import make_folder, write_text
from tagseg.prediction.load import load
from tagseg.recipe import Recipe
from tagseg.workflows.chain import Chain
from tagseg.workflows.chain_report import chain_report, evaluate_chain
from tagseg.workflows.label import label
from tagseg.workflows.train import finished, train

RECORD = "chain.json"
SCORES = "scores.json"
REPORT = "report.html"


def run(chain: Chain, out: Path, *, device: str = AUTO, say: Callable[[str], object] = print) -> Path:
    """Carry out a chain in the folder `out` and return its report; the same call goes on with an unfinished one.

    Raises UserError where `out` holds something else, Interrupted when asked to stop, and what the stages raise.
    """
    accelerator = create_accelerator(device)
    main = accelerator.is_main_process
    if not main:
        say = _silent
    data = _rooted(chain.teacher.data, out)
    if data.format != "scenes":
        open_sources(data, out)  # a mistake is said before anything is written
    stages = Stages.open(out, main, accelerator.wait_for_everyone, say, device)
    if main:
        open_sources(data, out)  # generated scenes are written by one process alone
    accelerator.wait_for_everyone()
    sources = open_sources(data, out)
    photos = digest_photos(sources)

    start, teacher = chain.teacher.model.start, chain.teacher
    before = ""
    if chain.classifier is not None:
        classifier = out / "classifier"
        stages.train("classifier", _on(chain.classifier, data), classifier, photos)
        before = digest_file(classifier / "model.safetensors")
        start = str(classifier)
    teacher = teacher.model_copy(update={"model": teacher.model.model_copy(update={"start": start})})
    stages.train("teacher", _on(teacher, data), out / "teacher", photos, before)
    made_by, predict = [digest_file(out / "teacher" / "model.safetensors")], teacher.predict

    for maker, masks, place in zip(chain.stages, chain.masks, chain.stages[1:], strict=False):
        inputs = [photos, made_by[-1], chain.confidence, predict.model_dump(mode="json")]
        if stages.due(masks, out / masks, inputs):
            if main:
                say(f"Pseudo masks of {len(sources.train)} photos, their tags used, in {out / masks}.")
                label(
                    load(out / maker, device=accelerator.device),
                    sources.train,
                    out / masks,
                    confidence=chain.confidence,
                )
            stages.done(masks)
        on_masks = data.model_copy(update={"masks": out / masks, **_truth(data, sources)})
        digest = digest_masks(out / masks)
        stages.train(place, _on(chain.segmenter, on_masks), out / place, photos, digest)
        made_by += [digest, digest_file(out / place / "model.safetensors")]
        predict = chain.segmenter.predict

    if stages.due("evaluation", out / SCORES, [photos, *made_by]):
        if main:
            evaluate_chain(out, sources, chain, out / SCORES)
        stages.done("evaluation")
    if stages.due("report", out / REPORT, [photos, *made_by]):
        if main:
            chain_report(out, sources, chain, out / REPORT, accelerator.device)
        stages.done("report")
    return out / REPORT


@dataclass
class Stages:
    """Which stages are there, and from which inputs they were made."""

    out: Path
    main: bool
    wait: Callable[[], None]
    say: Callable[[str], object]
    device: str
    record: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def open(cls, out: Path, main: bool, wait: Callable[[], None], say: Callable[[str], object], device: str) -> Stages:
        """Take the folder for a chain. Raises UserError where it holds something else or cannot be used."""
        file = out / RECORD
        stages = cls(out, main, wait, say, device)
        if file.is_file():
            try:
                stages.record = json.loads(file.read_text(encoding="utf-8"))["stages"]
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise UserError(f"{file} cannot be read: remove it to make all of {out} anew.") from error
        elif out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UserError(f"{out} is not empty and holds no chain: choose another --out.")
        wait()
        if main:
            make_folder(out)
            stages._write()
        wait()
        return stages

    def due(self, name: str, place: Path, inputs: list[Any]) -> bool:
        """Whether a stage still has something to do; what other inputs had made is removed first."""
        digest = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
        known = self.record.get(name, {})
        same = known.get("inputs") == digest
        if same and known.get("done") and place.exists():
            self.say(f"{name}: nothing has changed.")
            return False
        self.wait()  # every process has looked before one changes anything
        if self.main:
            if known and not same:
                self.say(f"{name}: its inputs have changed, so it is made anew.")
                _remove(place)
            elif not known and place.exists():
                raise UserError(
                    f"{place} is there already and is not of this chain: move it away, or choose another --out."
                )
            self.record[name] = {"inputs": digest, "done": False}
            self._write()
        self.wait()
        return True

    def done(self, name: str) -> None:
        """Note that a stage is complete."""
        self.wait()
        if self.main:
            self.record[name]["done"] = True
            self._write()
        self.wait()

    def train(self, name: str, recipe: Recipe, place: Path, *inputs: str) -> None:
        """Train a recipe, if it is due."""
        if not self.due(name, place, [recipe.to_yaml(), *inputs]):
            return
        train(recipe, place, device=self.device, say=self.say)
        assert finished(place)
        self.done(name)

    def _write(self) -> None:
        text = json.dumps({"stages": self.record}, indent=2)
        write_text(self.out / RECORD, text)


def _rooted(data: DataSettings, out: Path) -> DataSettings:
    """The data block with a place for generated scenes that all stages share."""
    return data.model_copy(update={"root": out / "scenes"}) if data.format == "scenes" and data.root is None else data


def _truth(data: DataSettings, sources: Sources) -> dict[str, Any]:
    """What scores of stage 2 are measured on where masks of a folder of photos gave them: never the pseudo masks."""
    if data.format != "tagged":
        return {}
    return {"truth": data.truth or data.masks} if sources.val is not None else {"val": None}


def _on(recipe: Recipe, data: DataSettings) -> Recipe:
    return recipe.model_copy(update={"data": data})


def digest_photos(sources: Sources) -> str:
    """A digest of the photos, tags and true masks: names, sizes and times of the files, not all their bytes."""
    rows = []
    for data in (sources.train, sources.val):
        if data is not None:
            rows.append(repr((data.classes, data.mask_values)))
            rows += [repr((p.name, p.tags, _stat(p.photo), _stat(p.mask))) for p in data.photos]
            rows += [repr((p.name, _stat(p.true))) for p in data.photos if p.true is not None]
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()


def _stat(path: Path | None) -> tuple[int, int] | None:
    if path is None:
        return None
    facts = path.stat()
    return facts.st_size, facts.st_mtime_ns


def digest_file(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_masks(folder: Path) -> str:
    """A digest of the masks in a folder, names and bytes."""
    lines = [f"{path.relative_to(folder).as_posix()} {digest_file(path)}" for path in sorted(folder.rglob("*.png"))]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _remove(place: Path) -> None:
    try:
        if place.is_dir():
            shutil.rmtree(place)
        else:
            place.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{place} cannot be removed to make it anew: {error.strerror or error}.") from error


def _silent(*_: object) -> None:
    pass
