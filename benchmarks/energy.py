"""The dense energy loss, forward and backward, against the published cost of the C++ filter; prints a Markdown table.

    python benchmarks/energy.py

The C++ filter (Tang et al. 2018) was measured on another machine with one thread and counts the filter alone; ours has
the lattice, the filter, value and gradient. CPU seconds of all threads together.
"""

from __future__ import annotations

import os
import platform
import statistics
import time

import torch

from crf import photo
from tagseg.refine import dense_energy

CASES = ((2, 21, 160, 0.035), (2, 21, 224, 0.069), (4, 21, 224, 0.139), (4, 21, 256, 0.177), (4, 81, 224, 0.455))


def main() -> None:
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print(f"`python benchmarks/energy.py`; {platform.machine()}, {os.cpu_count()} cores{load}.\n")
    print("| photos | classes | filtered at | C++ filter, ms | ours, ms of CPU | ours by the clock, ms | ratio (CPU) |")
    print("|---|---|---|---|---|---|---|")
    for batch, classes, size, published in CASES:
        images = [torch.from_numpy(photo(None, size, size, i).copy()) for i in range(batch)]
        image_B3HW = torch.stack(images).permute(0, 3, 1, 2)
        prob_BKHW = (3 * torch.randn(batch, classes, size, size)).softmax(1).requires_grad_()
        valid_BHW = torch.ones(batch, size, size)
        label_BHW = torch.full((batch, size, size), 255)

        def step(
            image: torch.Tensor = image_B3HW,
            prob: torch.Tensor = prob_BKHW,
            valid: torch.Tensor = valid_BHW,
            label: torch.Tensor = label_BHW,
        ) -> None:
            dense_energy(image, prob, valid, label, scale=1.0, sxy=50.0).backward()

        step()
        cpu, clock = [], []
        for _ in range(9):
            begin = time.process_time(), time.perf_counter()
            step()
            cpu.append(time.process_time() - begin[0])
            clock.append(time.perf_counter() - begin[1])
        ours, seconds = statistics.median(cpu), statistics.median(clock)
        print(
            f"| {batch} | {classes} | {size}x{size} | {published * 1e3:.0f} | {ours * 1e3:.0f} | {seconds * 1e3:.0f} | "
            f"{published / ours:.1f} |",
            flush=True,
        )
    print("\nNot measured: a GPU.")


if __name__ == "__main__":
    main()
