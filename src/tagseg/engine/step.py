"""One optimizer step on the global batch: parts of it in turn, every process its share."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer

from tagseg.data.batch import Batch
from tagseg.distributed import global_sum, rank, world_size
from tagseg.engine.processes import part_size, parts_together
from tagseg.engine.settings import TrainSettings
from tagseg.errors import UserError
from tagseg.threads import ordered_map


class TrainingDiverged(UserError):  # noqa: N818 (it says what happened)
    """A loss or a weight became NaN or infinite; no checkpoint holds that state."""


def seed_step(seed: int, step: int) -> None:
    """Start torch's generators for a step of this process: with no state carried over, a resumed run draws the same."""
    torch.manual_seed(int(np.random.SeedSequence([seed, step, rank()]).generate_state(1, np.uint64)[0] >> 1))


def train_step(
    model: nn.Module,
    optimizer: Optimizer,
    batch: Batch,
    step: int,
    settings: TrainSettings,
    accelerator: Accelerator,
    stop: bool = False,
) -> tuple[dict[str, float], bool]:
    """Forward, backward, update; the terms of the loss over the global batch, and whether any process has to `stop`.

    Raises TrainingDiverged, before the update, with the step, the term and the photos.
    """
    seed_step(settings.seed, step)
    optimizer.zero_grad(set_to_none=True)
    device = accelerator.device

    def weighted(part: Batch) -> dict[str, Tensor]:
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
            terms: dict[str, Tensor] = model(part, step)
        return {name: term * (len(part) / len(batch)) for name, term in terms.items()}

    parts = batch.to(device).split(part_size(settings, len(batch), device))
    together = parts_together(settings, device)
    if together > 1:
        part_terms = _at_once(model, weighted, parts, together)
    else:
        part_terms = []
        for part in parts:
            # gradients travel between processes once, after the last part
            with nullcontext() if part is parts[-1] else accelerator.no_sync(model):
                terms = weighted(part)
                torch.stack(list(terms.values())).sum().backward()
            part_terms.append({name: term.detach() for name, term in terms.items()})

    names = list(part_terms[0])
    # one exchange, and one wait for the device, tells every process all it has to know
    local_PT = torch.stack([torch.stack([terms[name].float() for name in names]) for terms in part_terms])
    wish = local_PT.new_full((1,), float(stop))
    *means, wishes = (global_sum(torch.cat([local_PT.sum(0), wish])) / world_size()).tolist()
    if not all(map(math.isfinite, means)):
        broken = [name for name, mean in zip(names, means, strict=True) if not math.isfinite(mean)]
        photos = [
            n
            for part, row in zip(parts, local_PT.isfinite().all(1).tolist(), strict=True)
            if not row
            for n in part.names
        ]
        raise TrainingDiverged(_sentence(step, broken, dict(zip(names, means, strict=True)), _gather(photos)))
    optimizer.step()
    return dict(zip(names, means, strict=True)), wishes > 0


def _at_once(
    model: nn.Module, weighted: Callable[[Batch], dict[str, Tensor]], parts: list[Batch], threads: int
) -> list[dict[str, Tensor]]:
    """Leave the sum of the parts' gradients, added in the parts' order, and return the terms of each part."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def work(part: Batch) -> tuple[dict[str, Tensor], tuple[Tensor | None, ...]]:
        terms = weighted(part)
        gradients = torch.autograd.grad(torch.stack(list(terms.values())).sum(), trained, allow_unused=True)
        return {name: term.detach() for name, term in terms.items()}, gradients

    part_terms = []
    for terms, gradients in ordered_map(work, parts, threads):
        part_terms.append(terms)
        for parameter, gradient in zip(trained, gradients, strict=True):
            if gradient is not None:
                parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
    return part_terms


def check_weights(method: nn.Module, step: int) -> None:
    """Raise TrainingDiverged when a weight is not finite after `step` steps: such a state is never saved."""
    for name, tensor in method.state_dict().items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise TrainingDiverged(
                f"Training diverged: after step {step} the weights {name} are not finite; nothing of it was saved: "
                "lower train.lr, then run the same command again with a new --out."
            )


def _gather(photos: list[str]) -> list[str]:
    """The names of all processes."""
    if world_size() == 1:
        return photos
    gathered: list[list[str]] = [[] for _ in range(world_size())]
    dist.all_gather_object(gathered, photos)
    return [name for names in gathered for name in names]


def _sentence(step: int, broken: list[str], means: dict[str, float], photos: list[str]) -> str:
    terms = ", ".join(f"{name} is {means[name]}" for name in broken)
    return (
        f"Training diverged in step {step + 1}: the loss {terms} on the photos {', '.join(photos)}; "
        "nothing of it was saved: look at these photos, or lower train.lr and start over with a new --out."
    )
