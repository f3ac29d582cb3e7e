"""The processes and devices that train together."""

from __future__ import annotations

import os

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs

from tagseg.distributed import world_size
from tagseg.engine.settings import TrainSettings
from tagseg.errors import UserError


def create_accelerator() -> Accelerator:
    """The device and, under `accelerate launch` or torchrun, the process group. Call it before asking for a rank."""
    # A head that this step's wave leaves out has no gradient.
    options = DistributedDataParallelKwargs(find_unused_parameters=True)
    cpu = not torch.accelerator.is_available()  # has to be said: else torchrun on CPUs gives processes that train alone
    return Accelerator(cpu=cpu, mixed_precision="no", kwargs_handlers=[options])


def default_workers() -> int:
    """A few beside a GPU; one beside a CPU that trains, where more would take its cores away."""
    cores = (os.cpu_count() or 1) // world_size()
    return max(1, min(8, cores - 1)) if torch.accelerator.is_available() else min(1, cores - 1)


def loading_workers(settings: TrainSettings) -> int:
    """Processes that load photos: as many as the recipe says, at most two a core, whoever wrote it."""
    if settings.workers is None:
        return default_workers()
    return min(settings.workers, 2 * (os.cpu_count() or 1))


def check_processes(settings: TrainSettings, processes: int) -> None:
    """Raise UserError where the processes cannot share a batch evenly."""
    if settings.batch_size % processes:
        raise UserError(
            f"train.batch_size is {settings.batch_size} for all processes together, which {processes} processes cannot "
            f"share evenly: set it to a multiple of {processes}."
        )
