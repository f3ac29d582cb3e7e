"""The processes and devices that train together."""

from __future__ import annotations

import os
from datetime import timedelta

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs, patch_environment
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from tagseg.cores import allowed_cores, cores
from tagseg.devices import AUTO, choose_device
from tagseg.distributed import world_size
from tagseg.engine.settings import TrainSettings
from tagseg.errors import UserError
from tagseg.methods.method import Method


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
        # the others wait while one labels all photos of a chain: torch's own limit is ten minutes
        waiting = InitProcessGroupKwargs(timeout=timedelta(days=7))
        return Accelerator(cpu=cpu, mixed_precision="no", kwargs_handlers=[options, waiting])
    if PartialState._shared_state.get("device", chosen) != chosen:
        AcceleratorState._reset_state(reset_partial_state=True)  # it remembers the last training's device
    if chosen.index is not None and chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    with patch_environment(accelerate_torch_device=str(chosen)):
        return Accelerator(cpu=cpu, mixed_precision="no", kwargs_handlers=[options])


def default_workers(device: torch.device) -> int:
    """A few beside a GPU; one beside a CPU that trains, where more would take its cores away."""
    if device.type == "cpu":
        return min(1, max(cores() // world_size() - 1, 0))
    return max(
        1, min(8, allowed_cores() // world_size() - 1)
    )  # torchrun wishes for one thread, and means that of torch


def loading_workers(settings: TrainSettings, device: torch.device) -> int:
    """Processes that load photos: as many as the recipe says, at most two a core, whoever wrote it."""
    if settings.workers is None:
        return default_workers(device)
    return min(settings.workers, 2 * allowed_cores())


def part_size(settings: TrainSettings, photos: int, device: torch.device) -> int:
    """How many photos of a process's share of a batch go through the network together."""
    most = settings.micro_batch or photos
    return min(most, -(-photos // settings.parts)) if device.type == "cpu" else most


def parts_together(settings: TrainSettings, device: torch.device) -> int:
    """How many parts of a batch are worked at at the same time: on a CPU with a core for each; else one."""
    return min(settings.parts, cores()) if device.type == "cpu" and world_size() == 1 else 1


def check_parts(settings: TrainSettings, method: Method) -> None:
    """Raise UserError where parts of a batch that are worked at at the same time would disturb each other."""
    if settings.parts == 1:
        return
    reason = None
    if not method.parts_apart:
        reason = f"method {method.settings.name} computes on whole batches"
    for module in method.train().modules():  # frozen normalization stays in evaluation mode
        if getattr(module, "drop_prob", 0) or (isinstance(module, _DropoutNd) and module.p):
            reason = "the network's dropout draws for one part after the other"
        if isinstance(module, _BatchNorm) and module.training:
            reason = "normalization that is trained takes its statistics from whole batches"
    if reason is not None:
        raise UserError(f"train.parts is {settings.parts}, but {reason}: set train.parts=1.")


def check_processes(settings: TrainSettings, processes: int) -> None:
    """Raise UserError where the processes cannot share a batch evenly."""
    if settings.batch_size % processes:
        raise UserError(
            f"train.batch_size is {settings.batch_size} for all processes together, which {processes} processes cannot "
            f"share evenly: set it to a multiple of {processes}."
        )
