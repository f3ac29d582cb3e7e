"""What a training step receives, and which photos a step is made of.

Shapes: B photos, C classes without background, H W pixels of the crop.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tagseg.data.augment import Augment
from tagseg.data.tagged import TaggedImages, TaggedPhoto
from tagseg.errors import UserError


@dataclass
class Batch:
    """Photos of one step (or of one process's share of it), cropped to one size.

    photo_B3HW: uint8 RGB, padding filled with the backbone's mean colour.
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
        """The photos as float32 in [0, 1], not normalised."""
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


class StepBatches:
    """The batches of a training run, each computed from its step alone.

    The photos' order, the scale, and every sample's flip, colours and place follow from (seed, step, place in the
    batch); there is no hidden state, so a resumed run and one spread over processes see exactly the same samples.
    Sample k of the run is photo `permutation(k // n)[k % n]` of n: every photo once per epoch. Photos with a true mask come
    several times, until they are a quarter of an epoch, but at most ten times: a few masks that are right would be lost
    among thousands of others, and a dozen that come all the time would be learned by heart.

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
        if with_masks and (bare := next((p for p in data.photos if p.mask is None and p.true is None), None)):
            raise UserError(f"training on true masks needs one for every photo, and {bare.name} has none; add it")
        assert 0 <= rank < world_size
        self.data = data
        self.augment = augment
        self.batch_size = batch_size
        self.seed = seed
        self.with_masks = with_masks
        true = [i for i, photo in enumerate(data.photos) if photo.true is not None]
        self.has_true = bool(true)
        self.order = [*range(len(data)), *true * (_times(len(true), len(data)) - 1)]
        self.counts = _counts([data.photos[i] for i in self.order], balance)
        self.places = range(rank * (batch_size // world_size), (rank + 1) * (batch_size // world_size))

    def batch(self, step: int) -> Batch:
        """The share of this process in the batch of a step, counted from 0. Raises UserError naming a broken photo."""
        scale = self.augment.draw_scale(np.random.default_rng(_entropy(self.seed, _SCALE, step)))
        photos, valids, masks, seeds, indices = [], [], [], [], []
        for place in self.places:
            epoch, position = divmod(step * self.batch_size + place, len(self.order))
            index = self.order[int(_drawn(self.seed, epoch, self.counts)[position])]
            seed = int(_entropy(self.seed, _SAMPLE, step, place).generate_state(1, np.uint64)[0] >> np.uint64(1))
            photo_HW3 = self.data.photo(index, min_side=self.augment.min_side)
            mask_HW = self.data.true_mask(index) if self.has_true else None
            if mask_HW is None and self.with_masks:
                mask_HW = self.data.mask(index)
            elif mask_HW is None and self.has_true:
                mask_HW = np.full(photo_HW3.shape[:2], _NO_LABEL, dtype=np.uint8)
            if self.augment.scale_per == "photo":
                scale = self.augment.draw_scale(np.random.default_rng(_entropy(self.seed, _SCALE, step, place)))
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
            torch.stack(masks) if masks else None,
            torch.tensor(seeds, dtype=torch.int64),
            tuple(self.data.photos[i].name for i in indices),
            torch.tensor([self.data.photos[i].true is not None for i in indices]) if self.has_true else None,
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


def _times(true: int, photos: int) -> int:
    """How often a photo with a true mask comes in an epoch."""
    if true == 0 or true == photos:
        return 1
    wanted = _TRUE_SHARE / (1 - _TRUE_SHARE) * (photos - true) / true
    return int(np.clip(round(wanted), 1, _TRUE_TIMES))


_NO_LABEL = 255
_TRUE_SHARE, _TRUE_TIMES = 0.25, 10

# Streams of random numbers that have nothing to do with one another.
_ORDER, _SCALE, _SAMPLE = range(3)


def _entropy(seed: int, *key: int) -> np.random.SeedSequence:
    return np.random.SeedSequence(seed, spawn_key=key)


def _counts(photos: Sequence[TaggedPhoto], balance: float) -> tuple[float, ...]:
    """How often each photo comes in an epoch, on average; the rarest of a photo's classes decides."""
    if balance == 0:
        return (1.0,) * len(photos)
    photos_of: dict[int, int] = {}
    for photo in photos:
        for tag in photo.tags or (0,):
            photos_of[tag] = photos_of.get(tag, 0) + 1
    weight_n = np.array([min(photos_of[tag] for tag in photo.tags or (0,)) ** -balance for photo in photos])
    return tuple((weight_n * (len(photos) / weight_n.sum())).tolist())


@lru_cache(maxsize=4)
def _drawn(seed: int, epoch: int, counts: tuple[float, ...]) -> np.ndarray:
    """The photos of an epoch; where counts are not 1, each as often as its count says, rounded up or down by chance."""
    rng = np.random.default_rng(_entropy(seed, _ORDER, epoch))
    order = rng.permutation(len(counts))
    if all(count == 1 for count in counts):
        return order
    ends = np.cumsum(np.array(counts)[order])
    draws = (np.arange(len(counts)) + rng.random()) * (ends[-1] / len(counts))
    return rng.permutation(order[np.searchsorted(ends, draws, side="right").clip(0, len(counts) - 1)])
