"""What a training step receives, and which photos a step is made of.

Shapes: B photos, C classes without background, H W pixels of the crop.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

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


class StepBatches:
    """The batches of a training run, each computed from its step alone.

    The photos' order, the scale, and every sample's flip, colours and place follow from (seed, step, place in the
    batch); there is no hidden state, so a resumed run and one spread over processes see exactly the same samples.
    Sample k of the run is photo `permutation(k // n)[k % n]` of n: every photo once per epoch.

    batch_size: photos per step over all processes; `rank` takes its contiguous share.
    with_masks: batches carry true masks (fully supervised training).
    balance: how much more often photos of rare classes come: by the number of a class's photos to the power of minus
        that. An epoch has as many photos as before; photos without tags count as a class.
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
        balance: float = 0.0,
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
        self.counts = _counts(data, balance)
        self.places = range(rank * (batch_size // world_size), (rank + 1) * (batch_size // world_size))

    def batch(self, step: int) -> Batch:
        """The share of this process in the batch of a step, counted from 0. Raises UserError naming a broken photo."""
        scale = self.augment.draw_scale(np.random.default_rng(_entropy(self.seed, _SCALE, step)))
        photos, valids, masks, seeds, indices = [], [], [], [], []
        for place in self.places:
            epoch, position = divmod(step * self.batch_size + place, len(self.data))
            index = int(_order(self.seed, epoch, self.counts)[position])
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


def _counts(data: TaggedImages, balance: float) -> tuple[float, ...]:
    """How often each photo comes in an epoch, on average; the rarest of a photo's classes decides."""
    if balance == 0:
        return (1.0,) * len(data)
    photos_of: dict[int, int] = {}
    for photo in data.photos:
        for tag in photo.tags or (0,):
            photos_of[tag] = photos_of.get(tag, 0) + 1
    weight_n = np.array([min(photos_of[tag] for tag in photo.tags or (0,)) ** -balance for photo in data.photos])
    return tuple((weight_n * (len(data) / weight_n.sum())).tolist())


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, counts: tuple[float, ...]) -> np.ndarray:
    """The photos of an epoch; where counts are not 1, each as often as its count says, rounded up or down by chance."""
    rng = np.random.default_rng(_entropy(seed, _ORDER, epoch))
    order = rng.permutation(len(counts))
    if all(count == 1 for count in counts):
        return order
    ends = np.cumsum(np.array(counts)[order])
    draws = (np.arange(len(counts)) + rng.random()) * (ends[-1] / len(counts))
    return rng.permutation(order[np.searchsorted(ends, draws, side="right").clip(0, len(counts) - 1)])
