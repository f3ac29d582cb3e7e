"""Long work keeps the memory that it frees, and gives it back at its end."""

import os
import platform
import subprocess
import sys

import pytest

CODE = """
import contextlib, resource, sys, torch
from tagseg.allocator import freed_memory_kept

def faults(count=8 << 20):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(count)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
faults(2 << 20)
middle = faults(2 << 20)
with freed_memory_kept():
    with freed_memory_kept():
        faults()  # the heap grows first
    kept = faults()
after = faults()
faults(2 << 20)
print(kept, after, middle, faults(2 << 20))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
def test_blocks_are_filled_with_zeros_once_and_go_back_at_the_end() -> None:
    def run(**more: str) -> list[int]:
        environment = {
            name: value for name, value in os.environ.items() if "MALLOC" not in name and "GLIBC" not in name
        }
        command = [sys.executable, "-c", CODE]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment | more)
        return [int(word) for word in done.stdout.split()]

    kept, after, middle, middle_after = run()
    assert kept < 100, "32 MiB are 8192 pages of 4 KiB, or 16 of 2 MiB"
    assert after > 2 * kept
    assert middle_after <= middle + 100, "blocks of 8 MiB are as cheap as they were before the work"
    wished, *_ = run(MALLOC_TOP_PAD_="0")
    assert wished > 2 * kept, "the user's wish counts"
