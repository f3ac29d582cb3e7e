"""How many cores this process may use, and how many threads share one photo: the one place that decides.

Python and torch count the machine's cores. What counts is the smallest of the affinity (taskset, cpusets), the quota of the
control group (containers, Kubernetes, SLURM) and what the user wishes: more threads than cores wait for each other.
"""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path

from tagseg.errors import UserError

WISHES = ("TAGSEG_THREADS", "OMP_NUM_THREADS")  # the first that is set counts
# Of a dense CRF on several threads, against the time that one pixel's label takes in one iteration. Measured on 16 cores:
MERGE = 4.0  # a vertex of another thread's grid: its cache lines lie with that thread's core
WAIT = 40_000.0  # starting a thread's share of an iteration, and waiting for it
GAIN = 0.9  # several threads have to be at least this much faster


def allowed_cores() -> int:
    """Cores that the system lets this process use, at least 1, whatever number of threads is wished for."""
    count = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    limit = quota()
    return max(count if limit is None else min(count, math.ceil(limit)), 1)


def cores() -> int:
    """Cores that this process is to use, at least 1. Raises UserError for a wish that is no number of threads."""
    count = allowed_cores()
    for name in WISHES:
        wish = os.environ.get(name, "").split(",")[0].strip()  # OMP_NUM_THREADS may be a list, one for each nesting
        if wish:
            if not wish.isdecimal() or int(wish) < 1:
                raise UserError(f"{name} is {wish!r}: set it to a number of threads from 1 on, or leave it out.")
            return min(count, int(wish))
    return count


def quota(groups: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Cores' worth of time that the control groups of this process leave it; None: no limit, or none is known.

    groups, root: where Linux tells them. The least of a group and those above it counts.
    """
    try:
        lines = groups.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    limits = []
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:  # version 2: one tree for all
            limits += [_limit(folder / "cpu.max") for folder in _upwards(root, path)]
        elif "cpu" in controllers.split(","):  # version 1: a tree for the cpu controller
            for folder in [*_upwards(root / "cpu", path), *_upwards(root / "cpu,cpuacct", path)]:
                limits.append(_limit(folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us"))
    known = [limit for limit in limits if limit is not None]
    return min(known) if known else None


def _upwards(root: Path, path: str) -> list[Path]:
    folder = root / path.lstrip("/")
    return [folder, *(parent for parent in folder.parents if parent == root or root in parent.parents)]


def _limit(*files: Path) -> float | None:
    """Quota over period, from one file or two; "max" and -1 are no limit."""
    try:
        words = " ".join(file.read_text(encoding="utf-8") for file in files).split()
        allowed, period = float(words[0]), float(words[1])
    except (OSError, ValueError, IndexError):
        return None
    return allowed / period if allowed > 0 and period > 0 else None


def crf_threads(pixels: int, vertices: int, labels: int, threads: int) -> int:
    """How many of `threads` share one photo's dense CRF: as many as make it faster, never so many that it gets slower.

    Each has a grid of its own, which the others have to read: what is won on the pixels is lost on the vertices.
    """
    alone = float(pixels)
    costs = {
        count: pixels / count + MERGE * vertices * (count - 1) / count + WAIT * count / max(labels, 1)
        for count in range(2, threads + 1)
    }
    least = min(costs.values(), default=math.inf)
    if least > GAIN * alone:
        return 1
    return min(count for count, cost in costs.items() if cost <= least / GAIN)


def wait_quietly() -> None:
    """Let threads of OpenMP that wait sleep, unless the user has said how they should; it counts before torch is loaded.

    By default they spin. Beside another busy process on the same cores they then spin for as long as the thread they wait
    for has no core, and take the time that it needs: a step takes several times as long, not twice.
    """
    if not any(name in os.environ for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


def limit_torch() -> None:
    """Let torch use no more threads than this process has cores; a smaller number that was set stays."""
    import torch

    allowed = cores()
    if torch.get_num_threads() > allowed:
        torch.set_num_threads(allowed)
