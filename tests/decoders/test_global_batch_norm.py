"""Batch norm over two processes equals batch norm of the whole batch in one."""

import os
import socket
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from tagseg.decoders.segformer import GlobalBatchNorm2d

PHOTOS = torch.randn(4, 3, 5, 6, generator=torch.Generator().manual_seed(0)) * 2 + 1
WEIGHT = torch.randn(4, 3, 5, 6, generator=torch.Generator().manual_seed(1))


def trained(photos: torch.Tensor, weight: torch.Tensor) -> dict[str, torch.Tensor]:
    norm = GlobalBatchNorm2d(3)
    torch.nn.init.constant_(norm.weight, 1.5)
    photos = photos.clone().requires_grad_()
    output = norm(photos)
    (output**2 * weight).sum().backward()
    assert norm.weight.grad is not None
    assert norm.bias.grad is not None
    assert photos.grad is not None
    return {
        "output": output.detach(),
        "photos": photos.grad,
        "weight": norm.weight.grad,
        "bias": norm.bias.grad,
        **{name: buffer.float() for name, buffer in norm.named_buffers()},
    }


def run_process(rank: int, port: int, out: Path) -> None:
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    dist.init_process_group("gloo", rank=rank, world_size=2)
    half = slice(2 * rank, 2 * rank + 2)
    torch.save(trained(PHOTOS[half], WEIGHT[half]), out / f"{rank}.pt")
    dist.barrier()  # a process that leaves early makes gloo abort the others
    dist.destroy_process_group()


def test_two_processes_equal_one(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(run_process, (port, tmp_path), nprocs=2)
    whole = trained(PHOTOS, WEIGHT)
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    for name in ("output", "photos"):
        torch.testing.assert_close(torch.cat([part[name] for part in parts]), whole[name], atol=1e-5, rtol=1e-4)
    for name in ("weight", "bias"):
        torch.testing.assert_close(parts[0][name] + parts[1][name], whole[name], atol=1e-4, rtol=1e-4)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        for part in parts:
            torch.testing.assert_close(part[name], whole[name], atol=1e-5, rtol=1e-4)
