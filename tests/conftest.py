"""One thread each, so that workers side by side don't wait for one another and sums are made in one order.

Without a GPU Triton's kernels run in its interpreter, and tests that need a GPU are skipped.
"""

import os
import sys
import tempfile
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
if sys.dont_write_bytecode:
    # Then each worker, and each process that a test starts, would compile torch and timm anew: ten seconds. They share
    # what the first one compiled.
    sys.dont_write_bytecode = False
    sys.pycache_prefix = str(Path(__file__).parents[1] / ".pytest_cache" / "bytecode")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix
if "PYTEST_XDIST_WORKER" not in os.environ:  # workers take it over
    os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="tagseg-tests-")  # no key goes to the person's home

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before a kernel is imported


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a GPU"))
