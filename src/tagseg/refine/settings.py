"""Settings of a dense CRF as they stand in a recipe."""

from __future__ import annotations

from pydantic import Field

from tagseg.settings import Settings


class CRFSettings(Settings):
    """The kernels of a dense CRF; the defaults are those for predictions in RRM and ASDT."""

    gaussian: tuple[float, float] = Field((3.0, 3.0), description="sigma in pixels, weight")
    bilateral: tuple[float, float, float] = Field(
        (83.0, 5.0, 4.0), description="sigma in pixels, sigma of colour, weight"
    )
    iterations: int = Field(10, ge=0)
