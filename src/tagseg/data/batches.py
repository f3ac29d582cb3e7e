"""Which photos a training step is made of.

Shapes: H W pixels of a photo or of the crop.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from tagseg.data.augment import Augment
from tagseg.data.batch import Batch
from tagseg.data.tagged import TaggedImages, TaggedPhoto
from tagseg.errors import UserError
from tagseg.files import digest_file, stamp, to_json


class StepBatches:
    """The batches of a training run, each computed from its step alone.

    The photos' order, the scale, and every sample's flip, colors and place follow from (seed, step, place in the
    batch); there is no hidden state, so a resumed run and one spread over processes see exactly the same samples.
    Sample k of the run is photo `permutation(k // n)[k % n]` of n: every photo once per epoch. Photos with a true mask come
    several times, until they are a quarter of an epoch, but at most ten times: a few masks that are right would be lost
    among thousands of others, and a dozen that come all the time would be learned by heart.

    batch_size: photos per step over all processes; `rank` takes its contiguous share.
    with_masks: batches carry true masks (fully supervised training).
    balance: how much more often photos of rare classes come: by the number of a class's photos to the power of minus
        that. An epoch has as many photos as before; photos without tags count as a class.
    true_masks: whether photos with one come so often, and batches carry it.
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
        true_masks: bool = True,
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
        true = [i for i, photo in enumerate(data.photos) if photo.true is not None] if true_masks else []
        self.has_true = bool(true)
        self.order = [*range(len(data)), *true * (_times(len(true), len(data)) - 1)]
        self.counts = _counts([data.photos[i] for i in self.order], balance)
        self.places = range(rank * (batch_size // world_size), (rank + 1) * (batch_size // world_size))

    @property
    def listed(self) -> str:
        """The digest of what steps draw from."""
        return digest_listed(self.data, with_masks=self.with_masks)

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


def digest_listed(data: TaggedImages, *, with_masks: bool) -> str:
    """A digest of names, tags, and which photos have masks to learn from, in their order; a second one of these masks.

    with_masks: as StepBatches. Masks that a person has looked at count by their content, others by their size, for there
    may be a million of them.
    """
    photos = [[p.name, list(p.tags), p.true is not None, with_masks and bool(p.mask)] for p in data.photos]
    masks = [
        [
            None if p.true is None else _fact(p.true, digest_file),
            _fact(p.mask, lambda path: stamp(path)[0]) if with_masks and p.mask else None,
        ]
        for p in data.photos
    ]
    return "-".join(hashlib.sha256(to_json(facts).encode()).hexdigest()[:32] for facts in (photos, masks))


def _fact(path: Path, of: Callable[[Path], object]) -> object:
    try:
        return of(path)
    except OSError:  # whoever reads it says so
        return None


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
