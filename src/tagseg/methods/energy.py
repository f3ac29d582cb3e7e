"""The dense energy of a segmentation, as RRM, ASDT and TSCD take it.

Shapes: B photos, K classes with background, H W pixels.
"""

from __future__ import annotations

from torch import Tensor

from tagseg.data.batch import Batch
from tagseg.refine.energy import dense_energy, energy_lattices
from tagseg.refine.lattice import Lattice
from tagseg.refine.settings import EnergySettings


def begin_energy(batch: Batch, settings: EnergySettings, weight: float = 1.0) -> list[Lattice]:
    """The filters of the dense energy, begun before the network and shared by all heads; none where its weight is 0."""
    if weight * settings.weight == 0:
        return []
    return energy_lattices(batch.photo_B3HW, srgb=settings.srgb, sxy=settings.sxy, scale=settings.scale)


def energy_of(
    batch: Batch, settings: EnergySettings, lattices: list[Lattice], logit_BKHW: Tensor, label_BHW: Tensor
) -> Tensor:
    """The dense energy of logits under labels, without its weight."""
    return dense_energy(
        batch.photo_B3HW,
        logit_BKHW.softmax(1),
        batch.valid_BHW,
        label_BHW,
        scale=settings.scale,
        lattices=lattices,
    )
