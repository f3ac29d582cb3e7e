"""What a training step receives, and which photos a step is made of.

Shapes: B photos, C classes without background, H W pixels of the crop.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tagseg.data.augment import Augment
from tagseg.data.tagged import TaggedImages
from tagseg.errors import UserError


@dataclass
class Batch:
    """Photos of one step (or of one process's share of it), cropped to one size.

    photo_B3HW: uint8 RGB, padding filled with the backbone's mean colour.
    valid_BHW: bool, False in the padding.
    tag_BC: float32, 1 where the class is tagged.
    mask_BHW: uint8 class indices, 255 = ignore and padding; None unless true masks were asked for.
    seed_B: int64, one number per photo from (train seed, step, place in the batch): what is random in a head
        follows from it, so that spreading a batch over processes changes nothing. It stays on the host, which draws.
    packed: the bytes of all tensors but the seeds in one piece, where `pin_memory` has laid them so.
    on_host: what the host knows of the tensors, so that it need not ask a device; see `facts`.
    """

    photo_B3HW: Tensor
    valid_BHW: Tensor
    tag_BC: Tensor
    mask_BHW: Tensor | None
    seed_B: Tensor
    names: tuple[str, ...]
    packed: Tensor | None = None
    on_host: list[Facts] | None = None

    def __len__(self) -> int:
        return len(self.names)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the crop."""
        return self.photo_B3HW.shape[-2], self.photo_B3HW.shape[-1]

    def image(self) -> Tensor:
        """The photos as float32 in [0, 1], not normalised."""
        return self.photo_B3HW.float() / 255

    def facts(self) -> list[Facts]:
        """Tags and extent of each photo; a device is only asked where the batch was made on it."""
        if self.on_host is None:
            self.on_host = [
                Facts(tuple(np.flatnonzero(tags).tolist()), _box(valid))
                for tags, valid in zip(self.tag_BC.cpu().numpy() > 0, self.valid_BHW.cpu().numpy(), strict=True)
            ]
        return self.on_host

    def pin_memory(self) -> Batch:
        """The same batch in one piece of memory from which a GPU copies by itself; a DataLoader calls this ahead."""
        return self._with(self._pack(pin=torch.cuda.is_available()), self.facts())

    def to(self, device: torch.device | str) -> Batch:
        """The same batch with its tensors on another device; to a GPU as one copy that the host does not wait for."""
        device = torch.device(device)
        facts = self.facts() if self.photo_B3HW.device.type == "cpu" != device.type else self.on_host
        if device.type == "cuda" and self.photo_B3HW.device.type == "cpu":
            packed = self.packed if self.packed is not None else self._pack(pin=True)
            return self._with(packed.to(device, non_blocking=True), facts)
        mask = None if self.mask_BHW is None else self.mask_BHW.to(device)
        photo, valid, tag = self.photo_B3HW.to(device), self.valid_BHW.to(device), self.tag_BC.to(device)
        return Batch(photo, valid, tag, mask, self.seed_B, self.names, None, facts)

    def _tensors(self) -> list[Tensor]:
        given = [self.photo_B3HW, self.valid_BHW, self.tag_BC]
        return given if self.mask_BHW is None else [*given, self.mask_BHW]

    def _pack(self, *, pin: bool) -> Tensor:
        starts, end = _layout(self._tensors())
        packed = torch.empty(end, dtype=torch.uint8, pin_memory=pin)
        for tensor, start in zip(self._tensors(), starts, strict=True):
            packed[start : start + tensor.nbytes].copy_(tensor.contiguous().view(-1).view(torch.uint8))
        return packed

    def _with(self, packed: Tensor, facts: list[Facts] | None) -> Batch:
        """The batch whose tensors lie in a packed piece of memory."""
        starts, _ = _layout(self._tensors())
        photo, valid, tag, *mask = (
            packed[start : start + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
            for tensor, start in zip(self._tensors(), starts, strict=True)
        )
        return Batch(photo, valid, tag, mask[0] if mask else None, self.seed_B, self.names, packed, facts)

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
                None,
                None if self.on_host is None else self.on_host[i : i + size],
            )
            for i in range(0, len(self), size)
        ]


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


class StepBatches:
    """The batches of a training run, each computed from its step alone.

    The photos' order, the scale, and every sample's flip, colours and place follow from (seed, step, place in the
    batch); there is no hidden state, so a resumed run and one spread over processes see exactly the same samples.
    Sample k of the run is photo `permutation(k // n)[k % n]` of n: every photo once per epoch.

    batch_size: photos per step over all processes; `rank` takes its contiguous share.
    with_masks: batches carry true masks (fully supervised training).
    """

    def __init__(
        self,
        data: TaggedImages,
        augment: Augment,
        *,
        batch_size: int,
        seed: int,
        with_masks: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if len(data) == 0:
            raise UserError("there are no photos to train on; check the list or the table of tags")
        if batch_size % world_size:
            raise UserError(
                f"train.batch_size is {batch_size} for all processes together, which {world_size} processes cannot "
                f"share evenly; set it to a multiple of {world_size}"
            )
        if with_masks and (bare := next((photo for photo in data.photos if photo.mask is None), None)):
            raise UserError(f"training on true masks needs one for every photo, and {bare.name} has none; add it")
        assert 0 <= rank < world_size
        self.data = data
        self.augment = augment
        self.batch_size = batch_size
        self.seed = seed
        self.with_masks = with_masks
        self.places = range(rank * (batch_size // world_size), (rank + 1) * (batch_size // world_size))

    def batch(self, step: int) -> Batch:
        """The share of this process in the batch of a step, counted from 0. Raises UserError naming a broken photo."""
        scale = self.augment.draw_scale(np.random.default_rng(_entropy(self.seed, _SCALE, step)))
        photos, valids, masks, seeds, indices = [], [], [], [], []
        for place in self.places:
            epoch, position = divmod(step * self.batch_size + place, len(self.data))
            index = int(_permutation(self.seed, epoch, len(self.data))[position])
            seed = int(_entropy(self.seed, _SAMPLE, step, place).generate_state(1, np.uint64)[0] >> np.uint64(1))
            photo_HW3 = self.data.photo(index, min_side=self.augment.min_side)
            mask_HW = self.data.mask(index) if self.with_masks else None
            photo_3HW, valid_HW, mask = self.augment(photo_HW3, mask_HW, scale=scale, seed=seed)
            photos.append(photo_3HW)
            valids.append(valid_HW)
            if mask is not None:
                masks.append(mask)
            seeds.append(seed)
            indices.append(index)
        return Batch(
            torch.stack(photos),
            torch.stack(valids),
            torch.from_numpy(np.stack([self.data.tag_vector(i) for i in indices])),
            torch.stack(masks) if self.with_masks else None,
            torch.tensor(seeds, dtype=torch.int64),
            tuple(self.data.photos[i].name for i in indices),
        )

    def loader(self, start_step: int, steps: int, workers: int = 0) -> Iterator[Batch]:
        """The batches of `steps` steps from `start_step` on, in order.

        `workers` processes compute them ahead, each a whole batch at a time; with 0 they are computed when asked for.
        """
        run = range(start_step, start_step + steps)
        if workers == 0:
            yield from map(self.batch, run)
            return
        # batch_size None: an item is a batch already. The order of `run` is kept whatever worker is faster.
        loader = DataLoader(
            _Steps(self, run),
            batch_size=None,
            num_workers=min(workers, max(1, len(run))),
            worker_init_fn=_leave_signals_to_the_parent,
            pin_memory=torch.cuda.is_available(),
        )
        for item in loader:
            if isinstance(item, UserError):
                raise item
            yield item


def _leave_signals_to_the_parent(worker: int) -> None:
    # A terminal or scheduler signals the whole process group; the training process ends its workers after the last step.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if (
        multiprocessing.get_start_method() != "fork"
    ):  # forked ones carry the parent's handler, which takes a second SIGTERM
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


class _Steps(Dataset[Batch | UserError]):
    """Batches by number, for a DataLoader's workers; a user's mistake travels as a value, to keep its sentence."""

    def __init__(self, batches: StepBatches, run: range) -> None:
        self.batches, self.run = batches, run

    def __len__(self) -> int:
        return len(self.run)

    def __getitem__(self, i: int) -> Batch | UserError:
        try:
            return self.batches.batch(self.run[i])
        except UserError as error:
            return error


# Streams of random numbers that have nothing to do with one another.
_ORDER, _SCALE, _SAMPLE = range(3)


def _entropy(seed: int, *key: int) -> np.random.SeedSequence:
    return np.random.SeedSequence(seed, spawn_key=key)


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng(_entropy(seed, _ORDER, epoch)).permutation(count)
