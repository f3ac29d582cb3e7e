"""What a training step receives: photos with their tags and masks, on the host or on a device.

Shapes: B photos, C classes without background, H W pixels of the crop.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor


@dataclass
class Batch:
    """Photos of one step (or of one process's share of it), cropped to one size.

    photo_B3HW: uint8 RGB, padding filled with the backbone's mean color.
    valid_BHW: bool, False in the padding.
    tag_BC: float32, 1 where the class is tagged.
    mask_BHW: uint8 class indices, 255 = ignore and padding; None unless masks were asked for, or some photo has a true
        one; 255 of a photo without.
    seed_B: int64, one number per photo from (train seed, step, place in the batch): what is random in a head
        follows from it, so that spreading a batch over processes changes nothing. It stays on the host, which draws.
    true_B: bool, whether a photo's mask is one that a person has looked at; None where no photo of the set has one.
    packed: the bytes of all tensors but the seeds in one piece, where `pin_memory` has laid them so.
    on_host: what the host knows of the tensors, so that it need not ask a device; see `facts`.
    """

    photo_B3HW: Tensor
    valid_BHW: Tensor
    tag_BC: Tensor
    mask_BHW: Tensor | None
    seed_B: Tensor
    names: tuple[str, ...]
    true_B: Tensor | None = None
    packed: Tensor | None = None
    on_host: list[Facts] | None = None

    def __len__(self) -> int:
        return len(self.names)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the crop."""
        return self.photo_B3HW.shape[-2], self.photo_B3HW.shape[-1]

    def image(self) -> Tensor:
        """The photos as float32 in [0, 1], not normalized."""
        return self.photo_B3HW.float() / 255

    def with_true(self, label_BHW: Tensor) -> Tensor:
        """Labels (B, H, W) uint8 that a method has made, those of photos with a true mask replaced by it."""
        if self.true_B is None:
            return label_BHW
        assert self.mask_BHW is not None
        return torch.where(self.true_B[:, None, None], self.mask_BHW, label_BHW)

    def facts(self) -> list[Facts]:
        """Tags and extent of each photo; a device is only asked where the batch was made on it."""
        if self.on_host is None:
            self.on_host = [
                Facts(tuple(np.flatnonzero(tags).tolist()), _box(valid))
                for tags, valid in zip(self.tag_BC.cpu().numpy() > 0, self.valid_BHW.cpu().numpy(), strict=True)
            ]
        return self.on_host

    @property
    def most_tags(self) -> int:
        """Tags of the photo that has most."""
        return max((len(facts.tags) for facts in self.facts()), default=0)

    def pin_memory(self) -> Batch:
        """The same batch in one piece of memory from which a GPU copies by itself; a DataLoader calls this ahead."""
        return self._with(self._pack(pin=torch.cuda.is_available()), self.facts())

    def to(self, device: torch.device | str) -> Batch:
        """The same batch with its tensors on another device; to a GPU as one copy that the host does not wait for."""
        device = torch.device(device)
        here = self.photo_B3HW.device
        if device.type == "cuda" and here.type == "cpu":
            packed = self.packed if self.packed is not None else self._pack(pin=True)
            return self._with(packed.to(device, non_blocking=True), self.facts())
        facts = self.facts() if here.type == "cpu" != device.type else self.on_host
        moved: dict[str, Any] = {name: tensor.to(device) for name, tensor in self._tensors().items()}
        return replace(self, **moved, packed=None, on_host=facts)

    def split(self, size: int) -> list[Batch]:
        """The batch in parts of at most `size` photos, in order (gradient accumulation)."""
        return [self._part(slice(i, i + size)) for i in range(0, len(self), size)]

    def _part(self, part: slice) -> Batch:
        tensors: dict[str, Any] = {name: tensor[part] for name, tensor in self._tensors().items()}
        facts = None if self.on_host is None else self.on_host[part]
        return replace(self, **tensors, seed_B=self.seed_B[part], names=self.names[part], packed=None, on_host=facts)

    def _tensors(self) -> dict[str, Tensor]:
        """The tensors that go to a device, by their names."""
        named = {name: getattr(self, name) for name in _ON_DEVICE}
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    def _pack(self, *, pin: bool) -> Tensor:
        tensors = list(self._tensors().values())
        starts, end = _layout(tensors)
        packed = torch.empty(end, dtype=torch.uint8, pin_memory=pin)
        for tensor, start in zip(tensors, starts, strict=True):
            packed[start : start + tensor.nbytes].copy_(tensor.contiguous().view(-1).view(torch.uint8))
        return packed

    def _with(self, packed: Tensor, facts: list[Facts] | None) -> Batch:
        """The batch whose tensors lie in a packed piece of memory."""
        tensors = self._tensors()
        starts, _ = _layout(list(tensors.values()))
        views: dict[str, Any] = {
            name: packed[start : start + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
            for (name, tensor), start in zip(tensors.items(), starts, strict=True)
        }
        return replace(self, **views, packed=packed, on_host=facts)


_ON_DEVICE = ("photo_B3HW", "valid_BHW", "tag_BC", "mask_BHW", "true_B")


class Facts(NamedTuple):
    """What the host knows of a photo of a batch.

    tags: the tagged classes, in order. box: first and last + 1 row, first and last + 1 column that the photo fills of its
    crop; None where it fills nothing.
    """

    tags: tuple[int, ...]
    box: tuple[int, int, int, int] | None


def _box(valid_HW: np.ndarray) -> tuple[int, int, int, int] | None:
    rows, columns = np.flatnonzero(valid_HW.any(1)), np.flatnonzero(valid_HW.any(0))
    if not len(rows):
        return None
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def _layout(tensors: list[Tensor]) -> tuple[list[int], int]:
    """Where each tensor begins in one piece of memory, at multiples of 16 bytes, and where the last one ends."""
    starts, end = [], 0
    for tensor in tensors:
        starts.append(end)
        end += -(-tensor.nbytes // 16) * 16
    return starts, end
