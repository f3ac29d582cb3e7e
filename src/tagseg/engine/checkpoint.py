"""Checkpoints on disk: whole or not there, verified when read, never unpickled.

A checkpoint is `step-XXXXXXX.safetensors` (weights and optimizer as tensors, the rest as JSON in the file's metadata)
and a manifest of the same name ending in .json, written last: a checkpoint without a manifest does not count.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from tagseg.errors import UserError
from tagseg.files import remove_temporaries, replacing, write_text
from tagseg.foreign import read_json, reading
from tagseg.run_folder import CHECKPOINT
from tagseg.weights import AVERAGE, MODEL, named, read_with_facts

_OPTIMIZER = "optimizer."


def pack(method: nn.Module, optimizer: Optimizer, average: AveragedModel | None = None) -> dict[str, Tensor]:
    """Weights, optimizer state and mean of the weights as tensors on the CPU, named by parameter."""
    tensors = {MODEL + name: tensor for name, tensor in method.state_dict().items()}
    if average is not None:
        tensors |= {AVERAGE + name: tensor for name, tensor in average.module.state_dict().items()}
    for name, parameter in method.named_parameters():
        for slot, value in optimizer.state.get(parameter, {}).items():
            if value is not None:  # SGD without momentum keeps an empty slot
                tensors[f"{_OPTIMIZER}{name}.{slot}"] = value
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def unpack(
    tensors: dict[str, Tensor],
    method: nn.Module,
    optimizer: Optimizer,
    average: AveragedModel | None = None,
    steps: int = 1,
) -> None:
    """Put back what `pack` gave after so many steps."""
    method.load_state_dict(named(tensors, MODEL))
    if average is not None:
        average.module.load_state_dict(named(tensors, AVERAGE))
        average.n_averaged.fill_(steps)
    parameters = dict(method.named_parameters())
    for name, tensor in tensors.items():
        if name.startswith(_OPTIMIZER):
            parameter_name, _, slot = name.removeprefix(_OPTIMIZER).rpartition(".")
            parameter = parameters[parameter_name]
            if tensor.shape == parameter.shape and tensor.ndim:
                # in the parameter's memory layout: another one may round differently in the last bit
                tensor = torch.empty_like(parameter, requires_grad=False).copy_(tensor)
            if optimizer.defaults.get("fused"):  # such an update wants its count of steps beside the weights
                tensor = tensor.to(parameter.device)
            optimizer.state[parameter][slot] = tensor.clone()


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint. scores: of the evaluation at its step, None when there was none."""

    step: int
    path: Path
    sha256: str
    scores: dict[str, float] | None


class Checkpoints:
    """The checkpoints of a run: the newest `keep` and the one with the highest score `best` are kept."""

    def __init__(self, folder: Path, keep: int = 2, best: str | None = None) -> None:
        self.folder, self.keep, self.best_score = folder, keep, best

    def all(self) -> list[Checkpoint]:
        """Those with a manifest, oldest first, not yet verified."""
        found = []
        for manifest in self.folder.glob(f"{CHECKPOINT}.json"):
            with suppress(UserError), reading(manifest, "a manifest"):
                # one that cannot be read was changed since: manifests are written atomically
                entry = read_json(manifest, "a manifest")
                scores = entry["scores"] and {str(name): float(value) for name, value in entry["scores"].items()}
                found.append(
                    Checkpoint(int(entry["step"]), manifest.with_suffix(".safetensors"), str(entry["sha256"]), scores)
                )
        return sorted(found, key=lambda checkpoint: checkpoint.step)

    def best(self) -> Checkpoint | None:
        """The one with the highest finite score; the earliest of equals."""
        name = self.best_score
        scored = [c for c in self.all() if name and c.scores and math.isfinite(c.scores.get(name, math.nan))]
        return max(scored, key=lambda c: (c.scores or {})[name or ""], default=None)

    def save(self, step: int, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Write a checkpoint, then drop those no longer wanted. `facts`: whatever JSON can hold."""
        path = self.folder / f"step-{step:07d}.safetensors"
        path.with_suffix(".json").unlink(missing_ok=True)  # of a damaged checkpoint of the same step
        with replacing(path, durable=True) as temporary:
            save_file(tensors, temporary, metadata={"facts": json.dumps(facts)})
            digest = _sha256(temporary)
        self._write_manifest(Checkpoint(step, path, digest, None))
        self._prune()

    def set_scores(self, step: int, scores: dict[str, float]) -> None:
        """Note the scores of a step's checkpoint, which may make it the best one."""
        for checkpoint in self.all():
            if checkpoint.step == step:
                self._write_manifest(Checkpoint(step, checkpoint.path, checkpoint.sha256, scores))
        self._prune()

    def newest(self, say: Callable[[str], None]) -> tuple[Checkpoint, dict[str, Tensor], dict[str, Any]] | None:
        """The newest checkpoint that verifies, with its tensors and facts; `say` hears of damaged ones passed over.

        Raises UserError when there are checkpoints and all of them are damaged.
        """
        found = self.all()
        manifests = sorted(self.folder.glob(f"{CHECKPOINT}.json"))
        for manifest in manifests:
            if manifest.with_suffix(".safetensors") not in [checkpoint.path for checkpoint in found]:
                say(f"{manifest} cannot be read. Trying the other checkpoints.")
        for checkpoint in reversed(found):
            try:
                if not checkpoint.path.is_file():
                    raise UserError(f"{checkpoint.path} is missing.")
                if _sha256(checkpoint.path) != checkpoint.sha256:
                    raise UserError(
                        f"{checkpoint.path} is damaged: its checksum differs from the one it was saved with."
                    )
                tensors, facts = read_with_facts(checkpoint.path)
                if facts is None:
                    raise UserError(f"{checkpoint.path} holds weights alone, without the state of a training.")
            except UserError as error:
                say(f"{error} Trying the checkpoint before it.")
                continue
            return checkpoint, tensors, facts
        if manifests:
            raise UserError(
                f"None of the {len(manifests)} checkpoints in {self.folder} can be read: start over with another --out."
            )
        return None

    def clean(self, newest: int) -> None:
        """Remove what a killed process left half written, and damaged checkpoints of steps after `newest`."""
        remove_temporaries(self.folder)
        for checkpoint in self.all():
            if checkpoint.step > newest:
                self._delete(checkpoint.path)
        for path in self.folder.glob(f"{CHECKPOINT}.safetensors"):
            if not path.with_suffix(".json").exists():
                self._delete(path)

    def _prune(self) -> None:
        found = self.all()
        best = self.best()
        for checkpoint in found[: -self.keep]:
            if checkpoint != best:
                self._delete(checkpoint.path)

    def _delete(self, path: Path) -> None:
        with suppress(OSError):  # what cannot be deleted now is tried again at the next checkpoint
            path.with_suffix(".json").unlink(missing_ok=True)  # first: half deleted is then the same as half written
            path.unlink(missing_ok=True)

    def _write_manifest(self, checkpoint: Checkpoint) -> None:
        entry = {"step": checkpoint.step, "sha256": checkpoint.sha256, "scores": checkpoint.scores}
        text = json.dumps(entry, indent=1) + "\n"
        write_text(checkpoint.path.with_suffix(".json"), text)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
