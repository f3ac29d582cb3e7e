"""CRF, PAR, VARM and the dense energy on a device against their CPU forms: agreement, time and memory, as Markdown rows."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from crf import photo, probabilities
from pixel_adaptive import direct
from tagseg.refine import Lattice, PixelAdaptive, dense_crf, dense_energy
from tagseg.refine.energy import energy_lattices

CRF_HEAD = (
    "| size | batch | sxy/srgb | labels | form | ms a photo | MiB | same argmax | max dQ |\n"
    "|---|---:|---|---:|---|---:|---:|---:|---:|"
)
PAR_HEAD = (
    "| kernel | size, batch, maps | form | ms | MiB | max difference from the CPU |\n|---|---|---|---:|---:|---:|"
)
ENERGY_HEAD = (
    "| crop, batch, classes | form | lattices ms | loss and gradient ms | MiB | loss / the CPU's | gradient, relative |\n"
    "|---|---|---:|---:|---:|---:|---:|"
)
Backend = Literal["auto", "torch", "triton"]


def timed(work: Callable[[], Any], device: torch.device, repeats: int = 5) -> tuple[float, float]:
    """Median milliseconds and the peak MiB above what was held before."""
    end = time.monotonic() + 0.3  # a GPU that has idled takes a while to get up to speed
    work()
    while device.type == "cuda" and time.monotonic() < end:
        work()
        torch.cuda.synchronize()
    times = []
    if device.type == "cuda":
        torch.cuda.synchronize()
        held = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(1000 * (time.perf_counter() - began))
    peak = (torch.cuda.max_memory_allocated() - held) / 2**20 if device.type == "cuda" else float("nan")
    return statistics.median(times), peak


def tried(name: str, cells: int, work: Callable[[], str]) -> str:
    """A row, or one that says why there is none."""
    try:
        return work()
    except Exception as error:  # the other rows are worth having
        return f"| {name}: {type(error).__name__}: {str(error).splitlines()[0][:120]} |" + " |" * (cells - 1)


def crf_rows(
    cases: list[tuple[int, int, int, tuple[float, float, float], int]],
    forms: tuple[Backend, ...],
    device: torch.device,
    left: Callable[[], float],
    by_cpu: int,
) -> Iterator[str]:
    """height, width, batch, bilateral, labels for each case; by_cpu: cases that the CPU's form is compared with."""
    for number, (height, width, batch, bilateral, labels) in enumerate(cases):
        if left() < 5:
            yield f"| {width}x{height}, {labels} labels: no time left |" + " |" * 8
            continue
        kinds = min(batch, 4)
        images = [torch.from_numpy(photo(None, height, width, n)) for n in range(kinds)]
        maps = [torch.from_numpy(probabilities(labels, height, width, n)) for n in range(kinds)]
        # each photo an array of its own: equal ones would share their lattice
        there = [images[n % kinds].to(device).clone() for n in range(batch)]
        maps_there = [maps[n % kinds].to(device).clone() for n in range(batch)]
        # the CPU compiles for each number of labels, which takes it long: a few cases have its word, the others torch's
        truth = "the CPU" if number < by_cpu or device.type == "cpu" else "torch"
        if truth == "torch":
            expected = [r.cpu() for r in dense_crf(there[:2], maps_there[:2], bilateral=bilateral, backend="torch")]
        else:
            expected = dense_crf(images[:2], maps[:2], bilateral=bilateral)
        for form in forms:

            def work(
                form: str = form,
                there: list[Tensor] = there,
                maps_there: list[Tensor] = maps_there,
                bilateral: tuple[float, float, float] = bilateral,
            ) -> Any:
                return dense_crf(there, maps_there, bilateral=bilateral, backend=form)

            def row(
                form: str = form,
                work: Callable[[], Any] = work,
                expected: list[Tensor] = expected,
                case: str = f"{width}x{height} | {batch} | {bilateral[0]:g}/{bilateral[1]:g} | {labels}",
                batch: int = batch,
                truth: str = truth,
            ) -> str:
                results = [r.cpu() for r in work()[: len(expected)]]
                same = np.mean(
                    [(r.argmax(0) == e.argmax(0)).double().mean() for r, e in zip(results, expected, strict=True)]
                )
                gap = max(float((r - e).abs().max()) for r, e in zip(results, expected, strict=True))
                ms, mib = timed(work, device, 3)
                return f"| {case} | {form} | {ms / batch:.2f} | {mib:.0f} | {same:.5f} of {truth}'s | {gap:.0e} |"

            yield tried(f"{width}x{height} {form}", 9, row)


def par_rows(
    size: int, batch: int, maps: tuple[int, ...], forms: tuple[str, ...], device: torch.device
) -> Iterator[str]:
    """PAR and VARM, 10 iterations."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(batch, 3, size // 16 + 1, size // 16 + 1, generator=generator)
    image = torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic")
    image = (image + 0.02 * torch.randn(image.shape, generator=generator)).clamp(0, 1)
    image_there = image.to(device)
    for kind in ("par", "varm"):
        for count in maps:
            value = torch.rand(batch, count, size, size, generator=generator)
            there = value.to(device)
            expected = PixelAdaptive(kind)(image, value)  # type: ignore[arg-type]
            for form in forms:

                def work(form: str = form, kind: str = kind, there: Tensor = there) -> Any:
                    if form == "direct":
                        return torch.cat(
                            [direct(kind, one[None], own[None]) for one, own in zip(image_there, there, strict=True)]
                        )
                    return PixelAdaptive(kind, backend=form)(image_there, there)  # type: ignore[arg-type]

                def row(
                    form: str = form,
                    kind: str = kind,
                    count: int = count,
                    work: Any = work,
                    expected: Tensor = expected,
                ) -> str:
                    gap = float((work().cpu() - expected).abs().max())
                    ms, mib = timed(work, device, 3)
                    return f"| {kind} | {size}, {batch}, {count} | {form} | {ms:.2f} | {mib:.0f} | {gap:.0e} |"

                yield tried(f"{kind} {form}", 6, row)
    if "triton" in forms:
        yield tried("photos of several sizes", 6, lambda: _ragged(image, device))


def _ragged(image: Tensor, device: torch.device) -> str:
    side = image.shape[-1]
    sizes = [(side - 16 * n, side - 24 * n) for n in range(len(image))]
    value = torch.rand(len(image), 3, side, side, generator=torch.Generator().manual_seed(1))
    got = PixelAdaptive("par", backend="triton")(image.to(device), value.to(device), sizes).cpu()
    expected = PixelAdaptive("par")(image, value, sizes)
    gap = max(float((got[n, :, :h, :w] - expected[n, :, :h, :w]).abs().max()) for n, (h, w) in enumerate(sizes))
    return f"| par | {side}, {len(image)} sizes, 3 | triton | | | {gap:.0e} |"


def energy_rows(crop: int, batch: int, classes: int, forms: tuple[Backend, ...], device: torch.device) -> Iterator[str]:
    """The dense energy of a training step."""
    images = torch.stack([torch.from_numpy(photo(None, crop, crop, n)).permute(2, 0, 1) for n in range(batch)])
    generator = torch.Generator().manual_seed(0)
    logit = 3 * torch.randn(batch, classes, crop // 8, crop // 8, generator=generator)
    probability = torch.nn.functional.interpolate(logit, (crop, crop), mode="bilinear").softmax(1)
    valid = torch.ones(batch, crop, crop, dtype=torch.bool)
    label = torch.randint(0, classes, (batch, crop, crop), generator=generator).to(torch.uint8)
    label[torch.rand(batch, crop, crop, generator=generator) < 0.5] = 255

    def loss(given: list[Tensor], form: str, lattices: list[Lattice] | None = None) -> tuple[Tensor, Tensor]:
        value = given[1].detach().requires_grad_()
        energy = dense_energy(given[0], value, *given[2:], backend=form, lattices=lattices)
        energy.backward()
        assert value.grad is not None
        return energy.detach(), value.grad

    arguments = [images, probability, valid, label]
    expected, slope = loss(arguments, "auto")
    there = [tensor.to(device) for tensor in arguments]
    for form in forms:

        def row(form: str = form) -> str:
            lattices = energy_lattices(there[0], backend=form)
            build, _ = timed(lambda: energy_lattices(there[0], backend=form), device)
            value, gradient = loss(there, form)
            ms, mib = timed(lambda: loss(there, form, lattices), device)
            gap = float((gradient.cpu() - slope).norm() / slope.norm())
            case = f"{crop}, {batch}, {classes} | {form}"
            return f"| {case} | {build:.2f} | {ms:.2f} | {mib:.0f} | {float(value / expected):.6f} | {gap:.0e} |"

        yield tried(f"energy {form}", 7, row)
