"""What lies in the folder of a run, and of a chain of runs: each file's name stands here and nowhere else."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tagseg.errors import UserError
from tagseg.foreign import DATA_CAP, read_json, read_text, reading
from tagseg.places import entries
from tagseg.settings import first_fault

MOST_ROUNDS = 9  # of a chain
CHECKPOINT = "step-*"  # weights, and a manifest of the same name


class _Facts(BaseModel):
    """What a file should say; it may say more. Numbers that are none, and texts in their place, are refused."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Branch(_Facts):
    miou: float | None
    iou: dict[str, float | None]


class _Result(_Facts):
    """The part of scores.json that pages and tables are made of."""

    labels: str
    classes: list[str]
    scores: dict[str, dict[str, _Branch]]
    photo_miou: dict[str, Annotated[float, Field(allow_inf_nan=True)]]
    minutes: float
    peak_memory_gib: float
    machine: str
    command: str
    tags_from: str = ""


class RunFolder:
    """The files of one training, there or not; `RunFolder.of` finds the run that a person means by a folder."""

    WRITTEN = (
        "metrics.jsonl",
        "model.safetensors",
        "model.json",
        "scores.json",
        "report.html",
        "pseudo_masks.json",
        "checkpoints/step-*.safetensors",
        "checkpoints/step-*.json",
        "events/events.out.tfevents.*",
        ".trained-here",
        "recipe.yaml",  # last: where it lies, the rest does
    )
    """What training, its report and its labels leave here, as patterns; besides `scenes`, `start` and `replaced`."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.recipe = self.path / "recipe.yaml"
        """Every setting."""
        self.seal = self.path / ".trained-here"
        """Shows this account that it has trained by this very recipe."""
        self.lock = self.path / ".in-use"
        """Empty; the lock on it ends with the process that holds it, however that ends."""
        self.checkpoints = self.path / "checkpoints"
        self.metrics = self.path / "metrics.jsonl"
        """A line of numbers for some steps."""
        self.events = self.path / "events"
        """The same for TensorBoard."""
        self.weights = self.path / "model.safetensors"
        self.model = self.path / "model.json"
        """What the weights belong to."""
        self.scores = self.path / "scores.json"
        """Written last: where it is, the run is complete."""
        self.report = self.path / "report.html"
        self.pseudo_scores = self.path / "pseudo_masks.json"
        """Scores of the masks that `tagseg label` made with this run."""
        self.scenes = self.path / "scenes"
        """Generated pictures, where the recipe names no other place."""
        self.start = self.path / "start"
        """The run whose weights this one starts from, where it is trained first."""
        self.replaced = self.path / "replaced"
        """The run that --overwrite replaces, until the new one is complete."""

    @classmethod
    def of(cls, path: str | Path) -> RunFolder:
        """The run in a folder; of a chain's folder its last stage. Raises UserError for a chain that is not complete."""
        chain = ChainFolder(path)
        return chain.last_stage() if chain.record.is_file() else cls(path)

    @property
    def finished(self) -> bool:
        """Whether the run is complete."""
        return self.scores.is_file()

    def holds_run(self) -> bool:
        """Whether training has been here: by what training alone writes, as a recipe.yaml may be anyone's."""
        if not self.recipe.is_file():
            return False
        if self.lock.is_file() or (self.finished and self.model.is_file()):
            return True
        return self.checkpoints.is_dir() and all(p.match(CHECKPOINT) for p in entries(self.checkpoints))

    def result(self) -> dict[str, Any]:
        """What a finished run says of itself: scores, labels used, minutes, memory, machine, command."""
        if not self.finished and not self.recipe.is_file():
            raise UserError(f"{self.path} is no run folder: it holds no {self.recipe.name}.")
        if not self.finished:
            raise UserError(f"{self.path} is not finished: `tagseg train` with the same --out goes on with it.")
        facts = read_json(self.scores, "the scores of a run", DATA_CAP)
        try:
            _Result.model_validate(facts)
        except ValidationError as error:
            raise UserError(
                f"{self.scores} holds no scores of a run ({first_fault(error)}): give a run folder of `tagseg train`."
            ) from error
        return dict(facts)

    def metric_rows(self) -> Iterator[dict[str, Any]]:
        """The lines of metrics.jsonl; those that are no numbers by name are passed over."""
        if not self.metrics.is_file():
            return
        for line in read_text(self.metrics, "the numbers of a run", DATA_CAP).split("\n"):
            with suppress(UserError), reading(self.metrics, "a line of numbers"):  # a line that a kill cut short
                row = json.loads(line)
                if math.isfinite(row["step"]):
                    yield row

    def places(self) -> list[Path]:
        """What no result may be written over: the run's own files and folders. Other folders beside them are free."""
        own = [self.recipe, self.weights, self.model, self.scores, self.metrics, self.report]
        return [*own, self.checkpoints, self.events, self.scenes, self.start, self.replaced]


class ChainFolder:
    """The files of a chain: the folders of its stages and of the masks between them, and what they add up to."""

    MARKS: ClassVar[str] = "marks"

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.record = self.path / "chain.json"
        """Which stages are done, and from which inputs."""
        self.lock = self.path / ".in-use"
        """As that of a run."""
        self.scores = self.path / "scores.json"
        self.report = self.path / "report.html"
        self.scenes = self.path / "scenes"
        """Generated pictures that all stages share."""
        self.classifier = RunFolder(self.path / "classifier")
        self.marks = self.path / self.MARKS
        """The teacher's masks with small marks drawn anew."""

    @staticmethod
    def stages(rounds: int) -> tuple[str, ...]:
        """Names of what is trained with pseudo masks between, in order: teacher, segmenter, segmenter-2 ..."""
        return ("teacher", *(f"segmenter{_suffix(number)}" for number in range(rounds)))

    @staticmethod
    def masks(rounds: int) -> tuple[str, ...]:
        """Names of the folders of pseudo masks: of each stage but the last."""
        return tuple(f"masks{_suffix(number)}" for number in range(rounds))

    def stage(self, name: str) -> RunFolder:
        """The run of a stage."""
        return RunFolder(self.path / name)

    def places(self) -> list[Path]:
        """What no result may be written over: the chain's own files and folders. Other folders beside them are free."""
        runs = [self.classifier, *map(self.stage, self.stages(MOST_ROUNDS))]
        own = [self.record, self.scores, self.report, self.scenes, self.marks]
        masks = [self.path / name for name in self.masks(MOST_ROUNDS)]
        return [*own, *masks, *(place for run in runs for place in run.places())]

    def read_record(self) -> tuple[dict[str, dict[str, Any]], str]:
        """What is known of each stage by its name, in the order in which they were begun, and the last stage's name."""
        content = self._content()
        stages: dict[str, dict[str, Any]] = content["stages"]
        trained = [name for name in stages if name == "teacher" or name.split("-")[0] == "segmenter"]
        return stages, str(content.get("last") or next(reversed(trained), "teacher"))

    def read_photos(self) -> dict[str, str]:
        """The digests that stages know photos by, by those of their stamps and of their contents."""
        photos = self._content().get("photos")  # a chain from before has none
        return {key: str(known_by) for key, known_by in photos.items()} if isinstance(photos, dict) else {}

    def _content(self) -> dict[str, Any]:
        fix = f"move it away to make all of {self.path} anew"
        content = read_json(self.record, "the record of a chain", fix=fix)
        stages = content.get("stages") if isinstance(content, dict) else None
        if not isinstance(stages, dict) or not all(isinstance(facts, dict) for facts in stages.values()):
            raise UserError(f"{self.record} is no record of a chain: {fix}.")
        return content

    def last_stage(self) -> RunFolder:
        """The run that the chain ends in. Raises UserError while the chain has not come that far."""
        record, last = self.read_record()
        stage = self.stage(last)
        if not record.get("report", {}).get("done") or not stage.finished:
            raise UserError(
                f"{self.path} is a chain that is not complete: `tagseg run` with the same --out goes on with it; "
                f"a stage that is done, such as {self.path / 'teacher'}, can be given by itself."
            )
        return stage


def _suffix(number: int) -> str:
    return f"-{number + 1}" if number else ""
