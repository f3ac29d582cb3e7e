"""The whole chain: classifier, teacher, pseudo masks, segmenter, evaluation, report. Reads top to bottom.

Every stage lies in its own place below one folder; a record there says from which inputs each was made, so a stage is
passed over when it is finished and its inputs are the same, gone on with when it is not finished, and else made anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from tagseg.alone import held_alone
from tagseg.data.sources import DataSettings, Sources, open_sources
from tagseg.devices import AUTO
from tagseg.engine.processes import create_accelerator
from tagseg.errors import UserError
from tagseg.files import digest_file, make_folder, stamp, write_text
from tagseg.interrupt import Interruption
from tagseg.methods.build import check_weights
from tagseg.places import check_output, entries, is_link
from tagseg.prediction.load import load
from tagseg.prediction.segmenter import Segmenter
from tagseg.progress import nothing_said
from tagseg.recipe import Recipe
from tagseg.run_folder import ChainFolder
from tagseg.workflows.chain import Chain
from tagseg.workflows.chain_report import chain_report, evaluate_chain
from tagseg.workflows.claim import drop_begun, same_but_for_places
from tagseg.workflows.digests import contents, digest_masks, digest_photos
from tagseg.workflows.label import label
from tagseg.workflows.opened import open_together, recipe_places
from tagseg.workflows.small_marks import small_marks
from tagseg.workflows.stages import Stage
from tagseg.workflows.stages import stages as stages_of
from tagseg.workflows.train import train


def run(chain: Chain, out: Path, *, device: str = AUTO, say: Callable[[str], object] = print) -> Path:
    """Carry out a chain in the folder `out` and return its report; the same call goes on with an unfinished one.

    Raises UserError where `out` holds something else, or is, holds or lies inside what the stages read, and where another
    call works in it; Interrupted when asked to stop; and what the stages raise.
    """
    with Interruption():
        return _run(chain, Path(out), device, say)


def chain_alone(out: Path) -> AbstractContextManager[None]:
    """One call at a time in a chain's folder, which is there; its stages have locks of their own besides."""
    busy = f"Another command makes the chain in {out} at this moment: wait for its end, or choose another --out."
    return held_alone(ChainFolder(out).lock, busy)


def _run(chain: Chain, out: Path, device: str, say: Callable[[str], object]) -> Path:
    accelerator = create_accelerator(device)
    main = accelerator.is_main_process
    if not main:
        say = nothing_said
    check_output(out, [place for recipe in _recipes(chain) for place in recipe_places(recipe)])
    data = rooted(chain.teacher.data, out)
    if data.format != "scenes":
        open_sources(data, out)  # a mistake is said before anything is written
    if not chain.from_teacher:  # and weights that are missing before hours of the stages before
        check_weights(chain.segmenter.method, chain.segmenter.model)
    with Stages.open(out, main, accelerator.wait_for_everyone, say, device) as stages:
        return _run_claimed(chain, data, stages, accelerator)


def _run_claimed(chain: Chain, data: DataSettings, stages: Stages, accelerator: Accelerator) -> Path:
    folder, main, say = stages.folder, stages.main, stages.say
    out = folder.path
    sources = open_together(data, out, main, accelerator.wait_for_everyone)
    photos = stages.known_photos(sources)

    before_teacher = [] if chain.classifier is None else [chain.classifier]
    ahead = iter(stages_of([*before_teacher, chain.teacher, *[chain.segmenter] * chain.rounds]))
    teacher, segmenter, before = chain.teacher, chain.segmenter, ""
    if chain.classifier is not None:
        classifier = folder.classifier
        stages.train(classifier.path.name, next(ahead), _on(chain.classifier, data), photos)
        before = digest_file(classifier.weights)
        if segmenter.model.start is not None and segmenter.model.start == teacher.model.start:
            segmenter = _starting_from(segmenter, str(classifier.path))
        teacher = _starting_from(teacher, str(classifier.path))
    stages.train(chain.stages[0], next(ahead), _on(teacher, data), photos, before)
    made_by, predict = [digest_file(folder.stage(chain.stages[0]).weights)], teacher.predict
    if chain.from_teacher:
        segmenter, before = _starting_from(segmenter, str(folder.stage(chain.stages[0]).path)), made_by[0]

    for maker, masks, place in zip(chain.stages, chain.masks, chain.stages[1:], strict=False):
        made_from = [photos, made_by[-1], chain.confidence, predict.model_dump(mode="json")]
        if stages.due(masks, made_from):
            if main:
                say(f"Pseudo masks of {len(sources.train)} photos, their tags used, in {out / masks}.")
                teacher_model, anew = load(out / maker, device=accelerator.device), stages.anew(masks)
                label(teacher_model, sources.train, out / masks, confidence=chain.confidence, overwrite=anew)
            stages.done(masks)
        if chain.small_marks and maker == chain.stages[0]:
            model = load(out / maker, device=accelerator.device)
            masks = _marked(stages, model, sources, out / masks, photos, made_by[-1])
        on_masks = data.model_copy(update={"masks": out / masks, **_truth(data, sources)})
        digest = digest_masks(out / masks)
        inputs = [photos, digest] if segmenter.model.start is None else [photos, digest, before]
        stages.train(place, next(ahead), _on(segmenter, on_masks), *inputs)
        made_by += [digest, digest_file(folder.stage(place).weights)]
        predict = segmenter.predict

    shown = [photos, *made_by, *(recipe.predict.model_dump(mode="json") for recipe in _recipes(chain))]
    if stages.due("evaluation", shown):
        if main:
            evaluate_chain(out, sources, chain)
        stages.done("evaluation")
    if stages.due("report", shown):
        if main:
            chain_report(out, sources, chain, accelerator.device)
        stages.done("report")
    stages.end(chain.stages[-1])
    return folder.report


def _marked(stages: Stages, segmenter: Segmenter, sources: Sources, masks: Path, photos: str, made_by: str) -> str:
    """The folder of the teacher's masks in which classes of small marks are drawn anew."""
    name = stages.folder.marks.name
    way = [made_by, digest_masks(masks)]
    if stages.due(name, [photos, *way], way):  # the second way: of a chain from before
        if stages.main:
            inputs, out = stages.inputs(name), stages.folder.marks
            found = small_marks(segmenter, masks, sources.train, out, inputs=inputs, overwrite=True)
            small = [str(each) for each in found if each.small]
            stages.say(
                f"Small marks: {'; '.join(small) or 'no class is of them'}"
                f"{' photos lose their tag with what sticks out of the mask, which is drawn anew' if small else ''}."
            )
        stages.done(name)
    return name


@dataclass
class Stages:
    """Which stages are there, and from which inputs they were made."""

    folder: ChainFolder
    main: bool
    wait: Callable[[], None]
    say: Callable[[str], object]
    device: str
    record: dict[str, dict[str, Any]] = field(default_factory=dict)
    last: str = ""  # the stage that the chain ends in
    photos: dict[str, str] = field(default_factory=dict)  # digests of stamps and of contents: what stages know them by

    @classmethod
    @contextmanager
    def open(
        cls, out: Path, main: bool, wait: Callable[[], None], say: Callable[[str], object], device: str
    ) -> Iterator[Stages]:
        """Hold the folder for a chain. Raises UserError where it holds something else, is in use, or cannot be used."""
        folder = ChainFolder(out)
        if not folder.record.is_file() and out.exists() and (not out.is_dir() or entries(out)):
            raise UserError(f"{out} is not empty and holds no chain: choose another --out.")
        wait()  # every process has looked before one changes anything
        if main:
            make_folder(out)
        with chain_alone(out) if main else nullcontext():
            stages = cls(folder, main, wait, say, device)
            stages._read()
            wait()
            stages._write()
            wait()
            yield stages

    def _read(self) -> None:
        """Take up what the record says. Raises UserError where a file of the chain is a link."""
        folder, out = self.folder, self.folder.path
        if folder.record.is_file():
            self.record, self.last = folder.read_record()
            self.photos = folder.read_photos()
            names = [*self.record, folder.record.name, folder.scores.name, folder.report.name, folder.scenes.name]
            links = [out / name for name in names if is_link(out / name)]
            if links:
                raise UserError(f"{links[0]} is a link, and a chain writes through none: remove it.")

    def known_photos(self, sources: Sources) -> str:
        """The digest that the chain knows photos by: the same for copies of them, wherever and whenever they were made.

        Contents are read once at the start, and again where sizes or times of the files have changed.
        """
        stamps = digest_photos(sources, stamp)
        if stamps not in self.photos:
            inside = digest_photos(sources, contents)
            self.photos[stamps] = self.photos[inside] = self.photos.get(inside, stamps)
            self._write()
        return self.photos[stamps]

    def due(self, name: str, *inputs: list[Any], drop: Callable[[], None] = lambda: None) -> bool:
        """Whether a stage still has something to do.

        inputs: what the stage is made from; further lists are older ways of writing the same. drop: removes what was
        begun, where that was from other inputs.
        """
        place = {"evaluation": self.folder.scores, "report": self.folder.report}.get(name, self.folder.path / name)
        digests = [hashlib.sha256(json.dumps(way, sort_keys=True).encode()).hexdigest() for way in inputs]
        known = self.record.get(name, {})
        same = known.get("inputs") in digests
        if same and known.get("done") and place.exists():
            self.say(f"{name}: nothing has changed.")
            return False
        if not known and place.exists():
            raise UserError(
                f"{place} is there already and is not of this chain: move it away, or choose another --out."
            )
        if known and not same:
            self.say(f"{name}: its inputs have changed, so it is made anew.")
        self.wait()  # every process has looked before one changes anything
        if self.main and known and not same:
            drop()  # before the record says the new inputs: a kill between them changes nothing
        anew = bool(known) and (not same or known.get("anew", False))
        self.record[name] = {"inputs": digests[0], "done": False} | ({"anew": True} if anew else {})
        self._write()
        self.wait()
        return True

    def inputs(self, name: str) -> str:
        """What stands for the inputs of a stage."""
        return str(self.record[name]["inputs"])

    def anew(self, name: str) -> bool:
        """Whether what a stage had made of other inputs is still to be replaced."""
        return bool(self.record[name].get("anew"))

    def done(self, name: str) -> None:
        """Note that a stage is complete."""
        self.wait()
        self.record[name] = {"inputs": self.record[name]["inputs"], "done": True}
        self._write()
        self.wait()

    def train(self, name: str, number: Stage, recipe: Recipe, *inputs: str) -> bool:
        """Train a recipe and return True, if it is due; over a run of other inputs, dropped when the new one is complete."""
        stage, text = self.folder.stage(name), recipe.placed().to_yaml()
        if self.record.get(name, {}).get("done") and not stage.weights.is_file():
            if stage.finished:
                raise UserError(f"{stage.weights} is missing: remove {stage.path}, to have that stage trained anew.")
            self.record[name]["done"] = False
        texts = [text, recipe.to_yaml()]
        if stage.recipe.is_file() and same_but_for_places(stage.recipe, recipe.placed()):
            # names of keys from before, and data that lie elsewhere now: `inputs` tells whether they are the same
            texts.append(stage.recipe.read_text(encoding="utf-8"))
        if not self.due(name, *([text, *inputs] for text in texts), drop=partial(drop_begun, stage.path)):
            return False
        if self.main and len(texts) == 3 and not self.anew(name):
            write_text(stage.recipe, text)
        train(recipe, stage.path, overwrite=self.anew(name), device=self.device, say=self.say, stage=number)
        assert stage.finished
        self.done(name)
        return True

    def end(self, last: str) -> None:
        """Note that the chain is complete and which stage it ends in."""
        if last != self.last:
            self.last = last
            self._write()

    def _write(self) -> None:
        if not self.main:
            return
        last, photos = {"last": self.last} if self.last else {}, {"photos": self.photos} if self.photos else {}
        write_text(self.folder.record, json.dumps({"stages": self.record} | last | photos, indent=2))


def rooted(data: DataSettings, out: Path) -> DataSettings:
    """The data block with a place for generated scenes that all stages share."""
    return (
        data.model_copy(update={"root": ChainFolder(out).scenes})
        if data.format == "scenes" and data.root is None
        else data
    )


def _truth(data: DataSettings, sources: Sources) -> dict[str, Any]:
    """What scores of stage 2 are measured on where masks of a folder of photos gave them: never the pseudo masks."""
    if data.format != "tagged":
        return {}
    return {"truth": data.truth or data.masks} if sources.val is not None else {"val": None}


def _recipes(chain: Chain) -> list[Recipe]:
    return [recipe for recipe in (chain.classifier, chain.teacher, chain.segmenter) if recipe is not None]


def _starting_from(recipe: Recipe, start: str) -> Recipe:
    return recipe.model_copy(update={"model": recipe.model.model_copy(update={"start": start})})


def _on(recipe: Recipe, data: DataSettings) -> Recipe:
    return recipe.model_copy(update={"data": data})
