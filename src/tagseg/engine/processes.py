"""The processes and devices that train together."""

from __future__ import annotations

import os

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedDataParallelKwargs, patch_environment

from tagseg.cores import cores
from tagseg.devices import AUTO, choose_device
from tagseg.distributed import world_size
from tagseg.engine.settings import TrainSettings
from tagseg.errors import UserError


def create_accelerator(device: str | torch.device = AUTO) -> Accelerator:
    """The device and, under `accelerate launch` or torchrun, the process group. Call it before asking for a rank.

    device: as for `choose_device`; several processes take a GPU each, by their number. Raises UserError for a device that
    is not there, and for one GPU that several processes would share.
    """
    chosen = choose_device(device)
    # A head that this step's wave leaves out has no gradient.
    options = DistributedDataParallelKwargs(find_unused_parameters=True)
    cpu = chosen.type == "cpu"  # has to be said: else torchrun on CPUs gives processes that train alone
    if "LOCAL_RANK" in os.environ:
        if chosen.index is not None:
            raise UserError(f"--device {chosen} is one GPU, and several processes were started: leave --device out.")
        return Accelerator(cpu=cpu, mixed_precision="no", kwargs_handlers=[options])
    if PartialState._shared_state.get("device", chosen) != chosen:
        AcceleratorState._reset_state(reset_partial_state=True)  # it remembers the last training's device
    if chosen.index is not None and chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    with patch_environment(accelerate_torch_device=str(chosen)):
        return Accelerator(cpu=cpu, mixed_precision="no", kwargs_handlers=[options])


def default_workers(device: torch.device) -> int:
    """A few beside a GPU; one beside a CPU that trains, where more would take its cores away."""
    own = cores() // world_size()
    return min(1, max(own - 1, 0)) if device.type == "cpu" else max(1, min(8, own - 1))


def loading_workers(settings: TrainSettings, device: torch.device) -> int:
    """Processes that load photos: as many as the recipe says, at most two a core, whoever wrote it."""
    if settings.workers is None:
        return default_workers(device)
    return min(settings.workers, 2 * cores())


def check_processes(settings: TrainSettings, processes: int) -> None:
    """Raise UserError where the processes cannot share a batch evenly."""
    if settings.batch_size % processes:
        raise UserError(
            f"train.batch_size is {settings.batch_size} for all processes together, which {processes} processes cannot "
            f"share evenly: set it to a multiple of {processes}."
        )
