"""One thread each, so that workers side by side don't wait for one another and sums are made in one order."""

import os

os.environ["OMP_NUM_THREADS"] = "1"
