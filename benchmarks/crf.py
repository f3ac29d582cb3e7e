"""The dense CRF against pydensecrf2, one call after the other on the same photos; prints Markdown tables.

    python benchmarks/crf.py                  # one thread, the cases of docs/dense-crf.md
    python benchmarks/crf.py --part threads   # a batch on one thread and on two
    python benchmarks/crf.py --part agree     # twenty photos under all settings: how far the two differ
    python benchmarks/crf.py --part first     # first call of a process, and peak memory
    python benchmarks/crf.py --part growth    # cost against pixels, labels and sigmas

One thread is measured in CPU seconds of that thread, so that other work on the machine disturbs it less; several
threads in seconds by the clock. Photos are those of `--photos`, enlarged to the size; without it, generated ones.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from tagseg.refine import Lattice, dense_crf

GAUSSIAN = (3.0, 3.0)
SETTINGS = {"80/13": (80.0, 13.0, 10.0), "83/5": (83.0, 5.0, 4.0), "50/5": (50.0, 5.0, 4.0)}


def photo(folder: Path | None, height: int, width: int, number: int) -> np.ndarray:
    """A photo of the folder, enlarged; or blotches of several sizes with an edge around some of them."""
    if folder is not None:
        paths = sorted(folder.rglob("*.jpg"))
        picture = Image.open(paths[number * 997 % len(paths)]).convert("RGB")
        return np.array(picture.resize((width, height), Image.Resampling.BICUBIC))
    rng = np.random.default_rng(number)
    ground = np.zeros((3, height, width), np.float32)
    for cell in (4, 16, 64, 256):
        ground += smooth(rng, 3, height, width, cell) * cell**0.5 * 4
    ground[:, smooth(rng, 1, height, width, 90)[0] > 0.5] += 60
    return np.clip(ground.transpose(1, 2, 0) + 120 + rng.normal(0, 2, (height, width, 3)), 0, 255).astype(np.uint8)


def smooth(rng: np.random.Generator, maps: int, height: int, width: int, cell: int) -> np.ndarray:
    """Smooth random maps whose blotches have the size of a cell."""
    coarse = rng.normal(size=(maps, height // cell + 2, width // cell + 2)).astype(np.float32)
    return np.stack([np.asarray(Image.fromarray(m).resize((width, height), Image.Resampling.BICUBIC)) for m in coarse])


def probabilities(labels: int, height: int, width: int, number: int) -> np.ndarray:
    maps = np.exp(3 * smooth(np.random.default_rng(number), labels, height, width, 32))
    return maps / maps.sum(0)


def reference(image: np.ndarray, maps: np.ndarray, bilateral: tuple[float, float, float]) -> np.ndarray:
    import pydensecrf.densecrf

    labels, height, width = maps.shape
    crf = pydensecrf.densecrf.DenseCRF2D(width, height, labels)
    crf.setUnaryEnergy(-np.log(np.clip(maps, 1e-5, 1)).reshape(labels, -1))
    crf.addPairwiseGaussian(sxy=GAUSSIAN[0], compat=GAUSSIAN[1])
    crf.addPairwiseBilateral(sxy=bilateral[0], srgb=bilateral[1], rgbim=image, compat=bilateral[2])
    return np.array(crf.inference(10)).reshape(maps.shape)


def alternate(calls: list[Callable[[], object]], repeats: int, clock: Callable[[], float]) -> list[float]:
    """Median time of each call, the calls taken in turn.

    Each is made twice and timed the second time, as in a loop over photos: right after the other library it would pay for
    memory that the other one has just given back.
    """
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(repeats):
        for spent, call in zip(times, calls, strict=True):
            call()
            begin = clock()
            call()
            spent.append(clock() - begin)
    return [statistics.median(spent) for spent in times]


def ours(
    image: np.ndarray, maps: np.ndarray, bilateral: tuple[float, float, float], lattice: Lattice | None = None
) -> np.ndarray:
    return dense_crf(image, maps, gaussian=GAUSSIAN, bilateral=bilateral, lattice=lattice, threads=1)


def one_thread(folder: Path | None, sizes: list[tuple[int, int]], labels: list[int], repeats: int) -> None:
    heads = ["size", "sxy/srgb", "labels", "pydensecrf2 ms", "ours ms", "reused ms", "ratio", "ratio reused"]
    heads += ["max dQ", "same argmax"]
    print(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    for height, width in sizes:
        image = photo(folder, height, width, 1)
        for name, bilateral in SETTINGS.items():
            lattice = Lattice.bilateral(image, *bilateral[:2])
            for count in labels:
                maps = probabilities(count, height, width, count)
                expected = reference(image, maps, bilateral)
                equal = dense_crf(image, maps, gaussian=GAUSSIAN, bilateral=bilateral, padding=True, threads=1)
                runs: list[Callable[[], object]] = [
                    partial(reference, image, maps, bilateral),
                    partial(ours, image, maps, bilateral),
                    partial(ours, image, maps, bilateral, lattice),
                ]
                theirs, new, reused = alternate(runs, repeats, time.thread_time)
                same = (equal.argmax(0) == expected.argmax(0)).mean()
                print(
                    f"| {width}x{height} | {name} | {count} "
                    f"| {theirs * 1e3:.0f} | {new * 1e3:.1f} | {reused * 1e3:.1f} "
                    f"| {theirs / new:.1f} | {theirs / reused:.1f} "
                    f"| {np.abs(equal - expected).max():.0e} | {same:.4%} |",
                    flush=True,
                )


def threads(folder: Path | None, repeats: int) -> None:
    print("| case | labels | 1 thread ms | 2 threads ms | ratio |")
    print("|---|---|---|---|---|")
    images = [photo(folder, 375, 500, number) for number in range(8)]
    for count in (3, 21):
        maps = [probabilities(count, 375, 500, number) for number in range(8)]
        for name, pictures, values in (("batch of 8", images, maps), ("one photo", images[:1], maps[:1])):
            calls: list[Callable[[], object]] = [
                partial(dense_crf, pictures, values, gaussian=GAUSSIAN, threads=n) for n in (1, 2)
            ]
            one, two = alternate(calls, repeats, time.perf_counter)
            print(
                f"| {name}, 500x375, 80/13 | {count} | {one * 1e3:.0f} | {two * 1e3:.0f} | {one / two:.2f} |",
                flush=True,
            )


def agree(folder: Path | None, size: tuple[int, int], labels: list[int], count: int = 20) -> None:
    """The largest deviation over `count` photos, with the padding of pydensecrf."""
    print("| size | photos | sxy/srgb | labels | max dQ | same argmax, the worst photo |\n|---|---|---|---|---|---|")
    height, width = size
    for name, bilateral in SETTINGS.items():
        for number in labels:
            worst, same = 0.0, 1.0
            for which in range(count):
                image, maps = photo(folder, height, width, which), probabilities(number, height, width, which)
                expected = reference(image, maps, bilateral)
                equal = dense_crf(image, maps, gaussian=GAUSSIAN, bilateral=bilateral, padding=True)
                worst = max(worst, float(np.abs(equal - expected).max()))
                same = min(same, float((equal.argmax(0) == expected.argmax(0)).mean()))
            print(f"| {width}x{height} | {count} | {name} | {number} | {worst:.1e} | {same:.4%} |", flush=True)


FIRST = """
import sys, time
sys.path.insert(0, {here!r}); import crf
image, maps = crf.photo(None, 375, 500, 1), crf.probabilities({labels}, 375, 500, 1)
loaded = time.perf_counter(); before = crf.resource.getrusage(crf.resource.RUSAGE_SELF).ru_maxrss
{call}
print(time.perf_counter() - loaded, crf.resource.getrusage(crf.resource.RUSAGE_SELF).ru_maxrss - before)
"""


def first_call() -> None:
    print("| first call of a second process, 500x375, 80/13 | labels | seconds | more memory at the peak, MB |")
    print("|---|---|---|---|")
    calls = {
        "pydensecrf2": "crf.reference(image, maps, crf.SETTINGS['80/13'])",
        "ours": "crf.dense_crf(image, maps, gaussian=crf.GAUSSIAN, threads=1)",
    }
    # as after a plain install: Python keeps the bytecode of what it imports
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    for labels in (3, 21):
        for name, call in calls.items():
            code = FIRST.format(here=str(Path(__file__).parent), labels=labels, call=call)
            command = [sys.executable, "-c", code]
            for _ in range(2):  # the first one compiles and keeps what it compiled
                run = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
            seconds, kilobytes = map(float, run.stdout.split())
            print(f"| {name} | {labels} | {seconds:.2f} | {kilobytes / 1024:.0f} |", flush=True)


def growth(folder: Path | None) -> None:
    print("| photo | labels | sxy/srgb | ms | ns a pixel and iteration | vertices |")
    print("|---|---|---|---|---|---|")
    noise = np.random.default_rng(0).integers(0, 256, (375, 500, 3)).astype(np.uint8)
    cases = [(photo(folder, h, w, 1), 5, (80.0, 13.0)) for h, w in ((160, 240), (375, 500), (1500, 2000), (3000, 4000))]
    middle = cases[1][0]
    cases += [(middle, labels, (80.0, 13.0)) for labels in (2, 3, 9, 21, 41, 81)]
    cases += [(middle, 5, sigmas) for sigmas in ((20.0, 13.0), (80.0, 40.0), (80.0, 5.0), (80.0, 2.0), (1.0, 1.0))]
    cases += [(np.zeros_like(middle), 5, (80.0, 13.0)), (noise, 5, (80.0, 13.0)), (noise, 5, (5.0, 3.0))]
    for image, labels, (sxy, srgb) in cases:
        height, width, _ = image.shape
        maps = probabilities(labels, height, width, 1)

        def call(image: np.ndarray = image, maps: np.ndarray = maps, sxy: float = sxy, srgb: float = srgb) -> object:
            return dense_crf(image, maps, gaussian=GAUSSIAN, bilateral=(sxy, srgb, 10.0), threads=1)

        small = image[:32, :32]
        call(small, maps[:, :32, :32])
        _ = Lattice.gaussian(height, width, GAUSSIAN[0]).on_cpu().packed  # kept, as between photos of one size
        (seconds,) = alternate([call], 1 if height > 1000 else 5, time.thread_time)
        kind = "black" if not image.any() else "noise" if image is noise else "photo"
        vertices = Lattice.bilateral(image, sxy, srgb).on_cpu().vertices
        print(
            f"| {kind} {width}x{height} | {labels} | {sxy:g}/{srgb:g} | {seconds * 1e3:.0f} | "
            f"{seconds / height / width / 10 * 1e9:.1f} | {vertices} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("one", "threads", "agree", "first", "growth"), default="one")
    parser.add_argument("--photos", type=Path, help="folder of photos (.jpg); default: generated ones")
    parser.add_argument("--sizes", default="321x321,500x375,2000x1500", help="width x height, separated by commas")
    parser.add_argument("--labels", default="2,3,4,5,21,81")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    source = "photos of a folder, enlarged" if options.photos else "generated pictures"
    machine = f"{platform.machine()}, {os.cpu_count()} cores{load}"
    print(f"`python benchmarks/crf.py {' '.join(sys.argv[1:])}`; {machine}; {source}.\n")
    sizes = [(int(h), int(w)) for w, h in (size.split("x") for size in options.sizes.split(","))]
    labels = [int(count) for count in options.labels.split(",")]
    if options.part == "one":
        one_thread(options.photos, sizes, labels, options.repeats)
    elif options.part == "agree":
        agree(options.photos, sizes[0], labels)
    elif options.part == "threads":
        threads(options.photos, options.repeats)
    elif options.part == "first":
        first_call()
    else:
        growth(options.photos)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"\nNot measured: a GPU. Peak memory of this run: {peak} MB.")


if __name__ == "__main__":
    main()
