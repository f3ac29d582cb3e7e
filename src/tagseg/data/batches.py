"""What a training step receives.

Shapes: B photos, C classes without background, H W pixels of the crop.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Batch:
    """Photos of one step (or of one process's share of it), cropped to one size.

    photo_B3HW: uint8 RGB, padding filled with the backbone's mean colour.
    valid_BHW: bool, False in the padding.
    tag_BC: float32, 1 where the class is tagged.
    mask_BHW: uint8 class indices, 255 = ignore and padding; None unless true masks were asked for.
    seed_B: int64, one number per photo from (train seed, step, place in the batch): what is random in a head
        follows from it, so that spreading a batch over processes changes nothing.
    """

    photo_B3HW: Tensor
    valid_BHW: Tensor
    tag_BC: Tensor
    mask_BHW: Tensor | None
    seed_B: Tensor
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the crop."""
        return self.photo_B3HW.shape[-2], self.photo_B3HW.shape[-1]

    def image(self) -> Tensor:
        """The photos as float32 in [0, 1], not normalised."""
        return self.photo_B3HW.float() / 255

    def to(self, device: torch.device | str) -> Batch:
        """The same batch with its tensors on another device."""
        mask = None if self.mask_BHW is None else self.mask_BHW.to(device)
        return Batch(
            self.photo_B3HW.to(device),
            self.valid_BHW.to(device),
            self.tag_BC.to(device),
            mask,
            self.seed_B.to(device),
            self.names,
        )

    def split(self, size: int) -> list[Batch]:
        """The batch in parts of at most `size` photos, in order (gradient accumulation)."""
        return [
            Batch(
                self.photo_B3HW[i : i + size],
                self.valid_BHW[i : i + size],
                self.tag_BC[i : i + size],
                None if self.mask_BHW is None else self.mask_BHW[i : i + size],
                self.seed_B[i : i + size],
                self.names[i : i + size],
            )
            for i in range(0, len(self), size)
        ]
