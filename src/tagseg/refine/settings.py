"""Settings of the refinements as they stand in a recipe."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tagseg.refine.defaults import BILATERAL, GAUSSIAN, ITERATIONS
from tagseg.refine.pixel_adaptive import PixelAdaptive
from tagseg.settings import Iterations, Settings, Sigma, Weight

Refinement = Literal["par", "varm", "none"]


class CRFSettings(Settings):
    """The kernels of a dense CRF; the defaults are those for predictions in RRM and ASDT."""

    gaussian: tuple[Sigma, Weight] = Field(GAUSSIAN, description="sigma in pixels, weight")
    bilateral: tuple[Sigma, Sigma, Weight] = Field(BILATERAL, description="sigma in pixels, sigma of color, weight")
    iterations: Iterations = ITERATIONS


class RefinementSettings(Settings):
    """How maps that become labels are refined by their photo."""

    refine: Refinement = "varm"
    iterations: int = Field(10, ge=1, le=1000, description="of the refinement")
    scale: float = Field(0.5, gt=0, le=1, description="size at which maps are refined, against the crop")

    def refiner(self, kind: Refinement | None = None) -> PixelAdaptive | None:
        """The refinement of the settings, or another kind of it; none where that is "none"."""
        kind = kind or self.refine
        return None if kind == "none" else PixelAdaptive(kind, self.iterations)


class EnergySettings(Settings):
    """The dense energy loss; its defaults are RRM's for a crop of 321 pixels."""

    weight: Weight = 1e-7
    srgb: Sigma = Field(15.0, description="sigma of color")
    sxy: Sigma = Field(100.0, description="sigma in pixels of the crop")
    scale: float = Field(0.5, gt=0, le=1, description="size at which it is computed, against the crop")
