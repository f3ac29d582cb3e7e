"""The dense CRF's kernels where nobody says others: those for predictions in RRM and ASDT."""

from __future__ import annotations

GAUSSIAN = (3.0, 3.0)  # sigma in pixels, weight
BILATERAL = (83.0, 5.0, 4.0)  # sigma in pixels, sigma of color, weight
ITERATIONS = 10
