"""Optimizer, learning-rate schedule and the mean of the weights."""

from __future__ import annotations

from torch import Tensor
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from tagseg.engine.settings import TrainSettings
from tagseg.methods.method import Method
from tagseg.refine import fused as devices


def build_optimizer(method: Method, settings: TrainSettings) -> Optimizer:
    """SGD or AdamW over the method's parameter groups, each with its own learning rate and weight decay."""
    method_groups = method.parameter_groups()
    grouped = [parameter for group in method_groups for parameter in group["params"]]
    trainable = {name: parameter for name, parameter in method.named_parameters() if parameter.requires_grad}
    ids = [id(parameter) for parameter in grouped]
    assert len(ids) == len(set(ids)), "a parameter stands in two groups"
    missing = [name for name, parameter in trainable.items() if id(parameter) not in set(ids)]
    assert not missing, f"trainable parameters without a group: {missing}"

    groups = [
        {
            "name": group["name"],
            "params": group["params"],
            "lr": settings.lr * group["lr_scale"],
            "initial_lr": settings.lr
            * group["lr_scale"],  # what a schedule that starts in the middle of a run counts from
            "weight_decay": settings.weight_decay * group["weight_decay_scale"],
        }
        for group in method_groups
    ]
    # A fused update is one launch for many weights; on a CPU it would change their last bits.
    fused = True if all(devices.batched(parameter.device) for parameter in grouped) else None
    if settings.optimizer == "sgd":
        return SGD(groups, lr=settings.lr, momentum=settings.momentum, fused=fused)
    return AdamW(groups, lr=settings.lr, betas=settings.betas, fused=fused)


def build_average(method: Method, settings: TrainSettings) -> AveragedModel | None:
    """The running mean of weights and statistics, as a second copy of the method; it begins with the first step's.

    Its last hundred steps or so (at 0.99) differ less from run to run than any one of them.
    """
    if settings.ema_decay is None:
        return None
    decay, ramp = settings.ema_decay, settings.ema_ramp
    if ramp is None:
        rule = get_ema_multi_avg_fn(decay)
    else:

        def rule(means: list[Tensor], values: list[Tensor], steps: Tensor | int) -> None:
            done = int(steps)
            get_ema_multi_avg_fn(min(decay, (1 + done) / (ramp + done)))(means, values, steps)

    mean = AveragedModel(method, multi_avg_fn=rule, use_buffers=True)
    return mean.requires_grad_(False).eval()


def lr_factor(step: int, settings: TrainSettings) -> float:
    """Factor on the base learning rate at a step (0 .. steps - 1): linear warm-up, then (1 - step / steps)^power.

    The decay counts from step 0, not from the end of the warm-up (TSCD), which torch's SequentialLR cannot express.
    """
    if step < settings.warmup_steps:
        return settings.warmup_ratio + (1 - settings.warmup_ratio) * step / settings.warmup_steps
    return max(0.0, 1 - step / settings.steps) ** settings.poly_power


def build_schedule(optimizer: Optimizer, settings: TrainSettings, start: int = 0) -> LambdaLR:
    """The schedule as of step `start`: it follows from the step alone, so a resumed run needs no saved state for it."""

    def factor(step: int) -> float:
        return lr_factor(step, settings)

    return LambdaLR(optimizer, factor, last_epoch=start - 1)
