"""Time and peak memory of PAR and VARM against the direct form, which holds all 48 neighbors of every map at once.

python benchmarks/pixel_adaptive.py [--size 512] [--repeats 3] [--labels 4 21]

Each measurement has a process of its own; memory is the largest resident size while refining, less that before it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import statistics
import sys
import threading
import time

import psutil  # type: ignore[import-untyped]
import torch
import torch.nn.functional as F
from torch import Tensor

from tagseg.refine import PixelAdaptive

DILATIONS = (1, 2, 4, 8, 12, 24)


def unfolded(map_BKHW: Tensor) -> Tensor:
    """All 48 neighbors (B, K, 48, H, W)."""
    batch, maps, height, width = map_BKHW.shape
    rings = []
    for d in DILATIONS:
        nine = F.unfold(F.pad(map_BKHW, (d, d, d, d), mode="replicate"), 3, dilation=d)
        nine = nine.view(batch, maps, 9, height, width)
        rings.append(torch.cat([nine[:, :, :4], nine[:, :, 5:]], 2))
    return torch.cat(rings, 2)


def direct(kind: str, image_B3HW: Tensor, map_BKHW: Tensor) -> Tensor:
    """The textbook form of the same refinement."""
    near = unfolded(image_B3HW)
    deviation = near.std(2, keepdim=True) + 1e-8
    steepness = 4 if kind == "varm" else 1 / 0.3
    kernel = (-((steepness * (near - image_B3HW[:, :, None]).abs() / deviation) ** 2)).mean(1, keepdim=True).softmax(2)
    if kind == "par":
        distance = torch.tensor([d * (2**0.5 if i % 2 == 0 else 1) for d in DILATIONS for i in range(9) if i != 4])
        distance = distance.to(kernel.device)
        position = (-((distance / (distance.std() + 1e-8) / 0.3) ** 2)).softmax(0)
        kernel = kernel + 0.01 * position.view(1, 1, -1, 1, 1)
    else:
        down = torch.cat([near[..., 1:, :], near[..., -1:, :]], -2)
        right = torch.cat([near[..., 1:], near[..., -1:]], -1)
        kernel = kernel - 0.01 * ((near - down) ** 2 + (near - right) ** 2).mean(1, keepdim=True).softmax(2)
    for _ in range(10):
        map_BKHW = (unfolded(map_BKHW) * kernel).sum(2)
    return map_BKHW


class PeakMemory:
    """The process's largest resident size in a block, in MiB above that at its start."""

    def __enter__(self) -> PeakMemory:
        self._process = psutil.Process()
        self._start = self._largest = self._process.memory_info().rss
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._done.wait(0.001):
            self._largest = max(self._largest, self._process.memory_info().rss)

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self.mib = (self._largest - self._start) / 2**20


def measure(form: str, kind: str, labels: int, size: int, repeats: int) -> tuple[float, float, Tensor]:
    """Median seconds, peak MiB, and a checkable corner of the result."""
    torch.manual_seed(0)
    coarse = F.interpolate(torch.rand(1, 3, size // 16, size // 16), (size, size), mode="bicubic").clamp(0, 1)
    image = (coarse + 0.02 * torch.randn(coarse.shape)).clamp(0, 1)
    maps = torch.rand(1, labels, size, size)

    def refine(image: Tensor, maps: Tensor) -> Tensor:
        return direct(kind, image, maps) if form == "direct" else PixelAdaptive(kind)(image, maps)  # type: ignore[arg-type]

    with torch.no_grad():
        refine(image[..., :64, :64], maps[..., :64, :64])  # compiles, fills caches
        seconds, peaks = [], []
        for _ in range(repeats):
            with PeakMemory() as memory:
                start = time.perf_counter()
                result = refine(image, maps)
                seconds.append(time.perf_counter() - start)
            peaks.append(memory.mib)
    return statistics.median(seconds), max(peaks), result[..., :40, :40].clone()


def alone(*arguments: object) -> tuple[float, float, Tensor]:
    """`measure` in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, arguments)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--labels", type=int, nargs="+", default=[4, 21])
    options = parser.parse_args()

    load = f", load {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else ""
    command = f"python {' '.join(sys.argv)}"
    print(f"`{command}`: {options.size}x{options.size} pixels, 10 iterations, median of {options.repeats}.")
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
    print(f"{machine}, torch {torch.__version__}{load}.\n")
    print("| kernel | labels | tagseg s | direct s | times faster | tagseg MiB | direct MiB | share of memory |")
    print("|---|---|---|---|---|---|---|---|")
    for kind in ("par", "varm"):
        for labels in options.labels:
            ours, our_mib, result = alone("tagseg", kind, labels, options.size, options.repeats)
            peer, peer_mib, expected = alone("direct", kind, labels, options.size, options.repeats)
            assert torch.allclose(result, expected, atol=1e-4), "both forms should give the same maps"
            print(
                f"| {kind} | {labels} | {ours:.3f} | {peer:.2f} | {peer / ours:.1f} | {our_mib:.0f} | {peer_mib:.0f} "
                f"| {our_mib / peer_mib:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
