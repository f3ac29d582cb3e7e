"""Training a system: the same on a CPU, on one GPU and on many processes."""

from __future__ import annotations

import errno
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NamedTuple, cast

import numpy as np
from accelerate import Accelerator
from torch import nn

from tagseg.allocator import freed_memory_kept
from tagseg.backbones.compiled import compile_for_training
from tagseg.engine.batches import Batches, numbered
from tagseg.engine.checkpoint import Checkpoint, Checkpoints, pack, unpack
from tagseg.engine.identity import check_identity, check_listed, identity
from tagseg.engine.log import RunLog
from tagseg.engine.optim import build_average, build_optimizer, build_schedule, lr_factor
from tagseg.engine.processes import check_parts, check_processes, create_accelerator
from tagseg.engine.progress import TrainProgress
from tagseg.engine.settings import TrainSettings
from tagseg.engine.step import check_weights, train_step
from tagseg.errors import UserError
from tagseg.files import remove_temporaries
from tagseg.foreign import reading
from tagseg.interrupt import Interrupted, Interruption
from tagseg.methods.method import Method
from tagseg.run_folder import RunFolder
from tagseg.weights import save_weights

Evaluate = Callable[[Method, int], dict[str, float]]
Pictures = Callable[[Method, int], dict[str, np.ndarray]]


@dataclass(frozen=True)
class FitResult:
    """How a training ended. step: steps done. best: the checkpoint with the highest score. scores: at the last step."""

    step: int
    interrupted: bool
    best: Checkpoint | None
    scores: dict[str, float] | None
    seconds: float


def fit(
    method: Method,
    batches: Batches,
    settings: TrainSettings,
    out: Path,
    *,
    evaluate: Evaluate | None = None,
    pictures: Pictures | None = None,
    best: str | None = None,
    accelerator: Accelerator | None = None,
    later: float = 0.0,
    effort: Callable[[int], float] = float,
    listed: str | None = None,
) -> FitResult:
    """Train `method` to the end, going on from the newest checkpoint in `out`, and write the weights there.

    evaluate: scores by name, higher is better, of the method after some steps; called in every process.
    pictures: (H, W, 3) uint8 by name for TensorBoard, after each evaluation.
    best: the score whose highest value marks a checkpoint to keep besides the newest.
    later: what follows this training, in steps of it that take as long, for an estimate of the whole. effort: how long the
    first N steps take, in steps too.
    listed: stands for the photos and tags that batches are drawn from; a run goes on with the same alone.
    A run that was killed or interrupted and then resumed computes the same as one that was not, to the bit on a CPU.
    Raises UserError for an `out` that cannot be used or holds a run of other settings, TrainingDiverged for NaN.
    """
    out = Path(out)
    accelerator = accelerator or create_accelerator()
    check_processes(settings, accelerator.num_processes)
    check_parts(settings, method)
    _make_run_folder(out)
    progress = TrainProgress(settings.steps, enabled=accelerator.is_main_process, later=later, effort=effort)
    run = _Run(method, settings, out, _Watch(evaluate, pictures, best), accelerator, progress, listed)
    try:
        with freed_memory_kept(), Interruption() as interruption:
            try:
                run.resume()
                run.train(batches, interruption)
            except Interrupted:
                run.stop()
            except RuntimeError:
                # The signal also ended a process that this one exchanges with, or one that loads photos (where those
                # are not forked), and torch says so wherever it happens to be.
                if not interruption.requested:
                    raise
                run.stop(between_steps=False)
            else:
                run.finish()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            reason = f"Nothing more can be written to {out} ({error.strerror})"
            raise UserError(f"{reason}: make room, then run the same command again to go on.") from error
        raise
    finally:
        run.close()
    return run.result()


class _Watch(NamedTuple):
    """What is asked of the method while it learns, as `fit` takes it."""

    evaluate: Evaluate | None
    pictures: Pictures | None
    best: str | None


class _Run:
    """What changes while a system is trained, and how it goes to disk and back."""

    def __init__(
        self,
        method: Method,
        settings: TrainSettings,
        out: Path,
        watch: _Watch,
        accelerator: Accelerator,
        progress: TrainProgress,
        listed: str | None,
    ) -> None:
        self.listed, self.watch, self.progress = listed, watch, progress
        self.settings, self.out, self.accelerator = settings, out, accelerator
        self.is_main = accelerator.is_main_process
        self.method = method
        self.model: nn.Module = accelerator.prepare(method)  # moves `method` itself, wraps it for several processes
        self.optimizer = build_optimizer(method, settings)
        self.average = build_average(method, settings)
        if settings.compile:
            compile_for_training(method.backbone)
        self.scored = method if self.average is None else cast(Method, self.average.module)
        if self.average is not None:
            method.follow(self.scored)
        self.checkpoints = Checkpoints(RunFolder(out).checkpoints, settings.keep_checkpoints, watch.best)
        self.log: RunLog | None = None

        self.done = 0  # steps
        self.row: dict[str, Any] = {}  # of metrics.jsonl, for the last step
        self.scores: dict[str, float] | None = None  # after the last step
        self.interrupted = False
        self._seconds_before, self._began = 0.0, time.perf_counter()

    @property
    def seconds(self) -> float:
        """Spent on this run, earlier sittings included."""
        return self._seconds_before + time.perf_counter() - self._began

    def resume(self) -> None:
        """Take up the newest checkpoint, if there is one, and what was still to do after it."""
        found = self.checkpoints.newest(self.progress.say)
        if found is not None:
            checkpoint, tensors, facts = found
            with reading(checkpoint.path, "a checkpoint of this run", "start over with another --out"):
                check_identity(self.out, facts["identity"], identity(self.method, self.settings))
                check_listed(self.out, facts.get("listed"), self.listed)
                unpack(tensors, self.method, self.optimizer, self.average, checkpoint.step)
                self.done, self.row, self.scores = checkpoint.step, dict(facts["row"]), checkpoint.scores
                self._seconds_before = float(facts["seconds"])
            self.progress.say(f"Going on after step {self.done} of {self.settings.steps}.")
        self.accelerator.wait_for_everyone()  # nobody writes before everybody has read
        if self.is_main:
            remove_temporaries(self.out)
            self.checkpoints.clean(newest=self.done)
            self.log = RunLog(self.out, self.done)
        self.progress.begin(self.done)
        if self.done:
            self.model.train()
            if self._is_evaluated(self.done) and self.scores is None:
                self._score()
            self._write_row()

    def train(self, batches: Batches, interruption: Interruption) -> None:
        """The steps that are left."""
        settings = self.settings
        schedule = build_schedule(self.optimizer, settings, self.done)
        self.model.train()
        for step, batch in numbered(batches, self.done, settings, interruption, self.accelerator.device):
            terms, stop = train_step(
                self.model, self.optimizer, batch, step, settings, self.accelerator, interruption.requested
            )
            schedule.step()
            if self.average is not None:
                self.average.update_parameters(self.method)
            self.done, self.scores = step + 1, None
            self.row = {
                "step": self.done,
                "loss": math.fsum(terms.values()),
                **terms,
                **self.method.describe_step(step),
            }
            self.row |= {"lr": settings.lr * lr_factor(step, settings), "seconds": round(self.seconds, 3)}
            self.progress.advance(self.row, list(terms))

            evaluated = self._is_evaluated(self.done)
            if stop or evaluated or self.done % settings.checkpoint_every == 0 or self.done == settings.steps:
                self._save()
            if stop:
                raise Interrupted
            if evaluated:
                self._score()
            self._write_row()
        assert self.done == settings.steps, "the loader ended early"

    def stop(self, between_steps: bool = True) -> None:
        """Leave a state to go on from, and say so; in the middle of a step, the last one that was saved."""
        self.interrupted = True
        saved = [checkpoint.step for checkpoint in self.checkpoints.all()]
        if self.is_main and between_steps and self.done and self.done not in saved:
            self._save()
            saved.append(self.done)
        self.progress.say(
            f"Stopped; all up to step {max(saved, default=0)} of {self.settings.steps} is in {self.out}: "
            "run the same command again to go on."
        )

    def finish(self) -> None:
        """Write the weights; `method` itself ends up with those that were scored."""
        if self.average is not None:
            self.method.load_state_dict(self.scored.state_dict())
        if self.is_main:
            save_weights(RunFolder(self.out).weights, self.method)
        self.accelerator.wait_for_everyone()

    def close(self) -> None:
        """Free the screen and the files."""
        self.progress.close()
        if self.log is not None:
            self.log.close()

    def result(self) -> FitResult:
        """As the caller sees it."""
        return FitResult(self.done, self.interrupted, self.checkpoints.best(), self.scores, self.seconds)

    def _is_evaluated(self, step: int) -> bool:
        every = self.settings.evaluate_every or self.settings.steps
        return self.watch.evaluate is not None and (step % every == 0 or step == self.settings.steps)

    def _score(self) -> None:
        """Evaluate. The checkpoint of this step is already saved, so stopping or dying in here costs nothing."""
        watch = self.watch
        assert watch.evaluate is not None
        self.scored.eval()
        try:
            with self.progress.paused():
                scores = watch.evaluate(self.scored, self.done)
                drawn = watch.pictures(self.scored, self.done) if watch.pictures is not None else {}
        finally:
            self.model.train()
        if watch.best is not None and watch.best not in scores:
            raise UserError(
                f"There is no score {watch.best!r} to find the best checkpoint by, only {', '.join(scores)}."
            )
        self.scores = self.progress.scores = {name: float(score) for name, score in scores.items()}
        if self.is_main:
            self.checkpoints.set_scores(self.done, self.scores)
        if self.log is not None:
            self.log.pictures(drawn, self.done)

    def _write_row(self) -> None:
        every = self.settings.log_every
        if self.log is not None and (
            self.scores is not None or self.done % every == 0 or self.done == self.settings.steps
        ):
            self.log.write(self.row if self.scores is None else {**self.row, "scores": self.scores})

    def _save(self) -> None:
        check_weights(self.method, self.done)
        if self.is_main:
            own = identity(self.method, self.settings)
            facts = {"identity": own, "listed": self.listed, "row": self.row, "seconds": self.seconds}
            self.checkpoints.save(self.done, pack(self.method, self.optimizer, self.average), facts)


def _make_run_folder(out: Path) -> None:
    try:
        RunFolder(out).checkpoints.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise UserError(
            f"{out} cannot be used as the run folder ({error.strerror}): give --out a folder that can be written to."
        ) from error
