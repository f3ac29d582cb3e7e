"""The batches of a run follow from the step alone, whoever computes them."""

from __future__ import annotations

import pickle
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tagseg.data.augment import Augment
from tagseg.data.batch import Batch
from tagseg.data.batches import StepBatches
from tagseg.data.scenes import write_scenes
from tagseg.data.tagged import TaggedImages, TaggedPhoto
from tagseg.data.voc import open_voc
from tagseg.errors import UserError

AUGMENT = Augment(48, (127, 127, 127), short_side=56, color_jitter=(0.2, 0.2, 0.2, 0.05))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TaggedImages:
    root = tmp_path_factory.mktemp("batches") / "scenes"
    write_scenes(root, train=11, val=1, size=(64, 80))
    return open_voc(root, "train")


def equal(a: Batch, b: Batch) -> bool:
    pairs = [(getattr(a, field.name), getattr(b, field.name)) for field in fields(Batch)]
    return all(torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y for x, y in pairs)


def joined(parts: list[Batch]) -> Batch:
    own = ("names", "packed", "on_host")
    given = [f.name for f in fields(Batch) if f.name not in own and getattr(parts[0], f.name) is not None]
    tensors = {name: torch.cat([getattr(p, name) for p in parts]) for name in given}
    return Batch(**tensors, names=tuple(name for part in parts for name in part.names))


def test_what_a_batch_holds(data: TaggedImages) -> None:
    batch = StepBatches(data, AUGMENT, batch_size=5, seed=0, with_masks=True).batch(0)
    assert batch.photo_B3HW.shape == (5, 3, 48, 48)
    assert batch.photo_B3HW.dtype == batch.mask_BHW.dtype == torch.uint8
    assert batch.valid_BHW.dtype == torch.bool
    assert batch.tag_BC.dtype == torch.float32
    assert batch.seed_B.dtype == torch.int64
    assert (batch.seed_B >= 0).all()
    assert len(set(batch.seed_B.tolist())) == 5
    assert ((batch.mask_BHW == 255) == ~batch.valid_BHW).all()
    tags = {photo.name: photo.tags for photo in data.photos}
    for i, name in enumerate(batch.names):
        assert (torch.nonzero(batch.tag_BC[i]).ravel() + 1).tolist() == list(tags[name])
        seen = set(batch.mask_BHW[i].unique().tolist()) - {0, 255}
        assert seen <= set(tags[name])
    assert StepBatches(data, AUGMENT, batch_size=5, seed=0).batch(0).mask_BHW is None


def test_the_same_step_gives_the_same_batch_in_any_order(data: TaggedImages) -> None:
    batches = StepBatches(data, AUGMENT, batch_size=4, seed=7, with_masks=True)
    forward = [batches.batch(step) for step in range(9)]
    torch.manual_seed(123)
    again = StepBatches(data, AUGMENT, batch_size=4, seed=7, with_masks=True)
    for step in (8, 0, 5, 5, 2, 7):
        assert equal(forward[step], again.batch(step))
    assert not equal(forward[0], forward[1])
    other = StepBatches(data, AUGMENT, batch_size=4, seed=8, with_masks=True).batch(0)
    assert not equal(forward[0], other)
    assert set(forward[0].seed_B.tolist()).isdisjoint(other.seed_B.tolist())


def test_every_photo_once_per_epoch(data: TaggedImages) -> None:
    batches = StepBatches(data, AUGMENT, batch_size=4, seed=0)
    names = [name for step in range(33) for name in batches.batch(step).names]
    epochs = [tuple(names[11 * epoch : 11 * epoch + 11]) for epoch in range(12)]
    assert all(len(set(epoch)) == 11 for epoch in epochs)
    assert len(set(epochs)) == 12


def test_a_batch_larger_than_the_set(data: TaggedImages) -> None:
    few = replace(data, photos=data.photos[:3])
    batch = StepBatches(few, AUGMENT, batch_size=8, seed=0).batch(0)
    assert sorted(Counter(batch.names).values()) == [2, 3, 3]
    assert len(set(batch.seed_B.tolist())) == 8


@pytest.mark.parametrize("world_size", [2, 3, 6])
def test_shares_of_processes_make_up_the_whole_batch(data: TaggedImages, world_size: int) -> None:
    whole = StepBatches(data, AUGMENT, batch_size=6, seed=3, with_masks=True)
    shares = [
        StepBatches(data, AUGMENT, batch_size=6, seed=3, with_masks=True, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    for step in (0, 1, 4):
        assert equal(whole.batch(step), joined([share.batch(step) for share in shares]))


def test_one_scale_for_the_whole_batch(data: TaggedImages) -> None:
    """Photos of one size, shrunk below the crop, all keep one size within a batch, and others in other batches."""
    shrink = Augment(64, (0, 0, 0), scale=(0.4, 0.9))
    sizes = []
    for step in range(6):
        valid_BHW = StepBatches(data, shrink, batch_size=6, seed=0).batch(step).valid_BHW
        sides = {(int(v.any(1).sum()), int(v.any(0).sum())) for v in valid_BHW}
        assert len(sides) == 1
        sizes.append(sides.pop())
    assert len(set(sizes)) > 3


def test_a_scale_of_its_own_for_each_photo_whatever_the_processes(data: TaggedImages) -> None:
    shrink = Augment(64, (0, 0, 0), scale=(0.4, 0.9), scale_per="photo")
    whole = StepBatches(data, shrink, batch_size=4, seed=3, with_masks=True).batch(2)
    heights = whole.valid_BHW.any(2).sum(1).tolist()
    assert len(set(heights)) > 1
    many = (StepBatches(data, shrink, batch_size=4, seed=3, with_masks=True, rank=r, world_size=2) for r in range(2))
    shares = [batches.batch(2) for batches in many]
    assert equal(joined(shares), whole)


def test_the_loader_starts_anywhere(data: TaggedImages) -> None:
    batches = StepBatches(data, AUGMENT, batch_size=4, seed=1, with_masks=True)
    for workers in (0, 2):
        loaded = list(batches.loader(3, 5, workers))
        assert len(loaded) == 5
        assert all(equal(batch, batches.batch(3 + i)) for i, batch in enumerate(loaded))
    assert list(batches.loader(0, 0, 2)) == []


def test_batches_survive_pickling(data: TaggedImages) -> None:
    """Windows and macOS start workers afresh, and this is all they get."""
    batches = StepBatches(data, AUGMENT, batch_size=2, seed=1)
    assert equal(pickle.loads(pickle.dumps(batches)).batch(2), batches.batch(2))


@pytest.mark.slow
def test_workers_that_start_afresh(data: TaggedImages) -> None:
    batches = StepBatches(data, AUGMENT, batch_size=2, seed=1)
    method = torch.multiprocessing.get_start_method(allow_none=True)
    torch.multiprocessing.set_start_method("spawn", force=True)
    try:
        (batch,) = batches.loader(2, 1, 1)
    finally:
        torch.multiprocessing.set_start_method(method, force=True)
    assert equal(batch, batches.batch(2))


def test_leaving_the_loader_early_stops_its_workers(data: TaggedImages) -> None:
    loader = StepBatches(data, AUGMENT, batch_size=2, seed=1).loader(0, 1000, 2)
    next(loader)
    loader.close()
    assert torch.multiprocessing.active_children() == []


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_photo_is_named_and_not_swapped(data: TaggedImages, tmp_path: Path, workers: int) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(data.photos[0].photo.read_bytes()[:900])
    photos = (replace(data.photos[0], photo=broken), *data.photos[1:])
    batches = StepBatches(replace(data, photos=photos), AUGMENT, batch_size=4, seed=0)
    with pytest.raises(UserError, match=r"^photo .*broken\.jpg cannot be read .*replace it or leave it out$"):
        list(batches.loader(0, 3, workers))


def test_mistakes_are_refused_at_once(data: TaggedImages) -> None:
    with pytest.raises(UserError, match="there are no photos to train on"):
        StepBatches(replace(data, photos=()), AUGMENT, batch_size=4, seed=0)
    with pytest.raises(UserError, match=r"batch_size is 4 .* which 3 processes cannot share evenly"):
        StepBatches(data, AUGMENT, batch_size=4, seed=0, world_size=3)
    bare = replace(data, photos=(*data.photos, TaggedPhoto("bare", data.photos[0].photo, (1,))))
    with pytest.raises(UserError, match="true masks needs one for every photo, and bare has none"):
        StepBatches(bare, AUGMENT, batch_size=4, seed=0, with_masks=True)
    assert StepBatches(bare, AUGMENT, batch_size=4, seed=0).batch(0).mask_BHW is None


def test_splitting_and_moving(data: TaggedImages) -> None:
    batch = StepBatches(data, AUGMENT, batch_size=5, seed=0, with_masks=True).batch(0)
    parts = batch.split(2)
    assert [len(part) for part in parts] == [2, 2, 1]
    assert equal(joined(parts), batch)
    assert equal(batch.to("cpu"), batch)
    assert batch.image().max() <= 1
    plain = StepBatches(data, AUGMENT, batch_size=5, seed=0).batch(0)
    assert [part.mask_BHW for part in plain.split(3)] == [None, None]
    assert plain.to("cpu").mask_BHW is None


@pytest.mark.parametrize("with_masks", [True, False])
def test_a_batch_in_one_piece_of_memory_holds_the_same(data: TaggedImages, with_masks: bool) -> None:
    batch = StepBatches(data, AUGMENT, batch_size=5, seed=0, with_masks=with_masks).batch(0)
    packed = batch.pin_memory()
    assert packed.packed is not None
    assert packed.photo_B3HW.untyped_storage().data_ptr() == packed.tag_BC.untyped_storage().data_ptr()
    assert equal(replace(packed, packed=None), batch)


def test_what_the_host_knows_of_a_batch(data: TaggedImages) -> None:
    batch = StepBatches(data, AUGMENT, batch_size=3, seed=0).batch(0)
    batch.valid_BHW[0, 40:] = False
    batch.valid_BHW[1] = False
    facts = batch.facts()
    assert [list(one.tags) for one in facts] == [tags.nonzero().ravel().tolist() for tags in batch.tag_BC]
    assert facts[0].box == (0, 40, 0, 48)
    assert facts[1].box is None
    assert [part.facts() for part in batch.split(2)] == [facts[:2], facts[2:]]


def test_large_jpegs_are_reduced_alike_with_and_without_masks(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (12, 18, 3), dtype=np.uint8))
    small.resize((1203, 800)).save(tmp_path / "a.jpg", quality=95)
    Image.new("L", (1203, 800), 1).save(tmp_path / "a.png")
    data = TaggedImages(("cat",), (TaggedPhoto("a", tmp_path / "a.jpg", (1,), tmp_path / "a.png"),))
    with_masks = StepBatches(data, AUGMENT, batch_size=2, seed=0, with_masks=True).batch(0)
    without = StepBatches(data, AUGMENT, batch_size=2, seed=0).batch(0)
    assert torch.equal(with_masks.photo_B3HW, without.photo_B3HW)
    assert ((with_masks.mask_BHW == 1) == with_masks.valid_BHW).all()


def test_balance_shows_rare_classes_more_often(data: TaggedImages) -> None:
    names = [f"photo{i}" for i in range(100)]
    tags = [(1,)] * 64 + [(2,)] * 16 + [(1, 3)] * 4 + [()] * 16
    some = data.photos[0]
    rare = replace(
        data,
        classes=("a", "b", "c"),
        photos=tuple(TaggedPhoto(n, some.photo, t) for n, t in zip(names, tags, strict=True)),
    )
    seen = Counter()
    batches = StepBatches(rare, AUGMENT, batch_size=10, seed=0, balance=0.5)
    for step in range(50):
        seen.update(batches.batch(step).names)
    assert sum(seen.values()) == 500
    weight = {(1,): 68**-0.5, (2,): 16**-0.5, (1, 3): 4**-0.5, (): 16**-0.5}
    total = sum(weight[tag] for tag in tags)
    for kind, share in weight.items():
        mine = [seen[name] for name, tag in zip(names, tags, strict=True) if tag == kind]
        expected = 500 * share / total
        assert np.mean(mine) == pytest.approx(expected, rel=0.1)
        assert max(mine) - min(mine) <= 5, "an epoch rounds up or down"


def reviewed(data: TaggedImages, tmp_path: Path, count: int) -> TaggedImages:
    """The first photos with a true mask, all of class 1."""
    path = tmp_path / "true.png"
    Image.fromarray(np.ones((64, 80), np.uint8)).save(path)
    photos = [replace(photo, true=path if i < count else None) for i, photo in enumerate(data.photos)]
    return replace(data, photos=tuple(photos), true_values=(0, 2, *[254] * 253, 255))


@pytest.mark.parametrize("with_masks", [False, True])
def test_true_masks_come_in_full_beside_other_labels(data: TaggedImages, tmp_path: Path, with_masks: bool) -> None:
    batches = StepBatches(reviewed(data, tmp_path, 3), AUGMENT, batch_size=11, seed=0, with_masks=with_masks)
    true = {photo.name for photo in data.photos[:3]}
    batch = batches.batch(0)
    assert batch.true_B.tolist() == [name in true for name in batch.names]
    made = torch.full_like(batch.mask_BHW, 3)
    labels = batch.with_true(made)
    for i, name in enumerate(batch.names):
        seen = set(labels[i][batch.valid_BHW[i]].tolist())
        assert seen == ({2} if name in true else {3})  # the stored 1 is the run's class 2
        if name not in true and not with_masks:
            assert (batch.mask_BHW[i] == 255).all()
        elif name not in true:
            assert (batch.mask_BHW[i][batch.valid_BHW[i]] != 255).any()
    parts = joined(batch.split(4))
    assert equal(parts, batch)
    assert equal(batch.to("cpu"), batch)


def test_few_true_masks_come_more_often_but_not_all_the_time(data: TaggedImages, tmp_path: Path) -> None:
    def times(count: int, photos: int) -> set[int]:
        many = replace(data, photos=tuple(replace(data.photos[0], name=f"p{i}") for i in range(photos)))
        order = StepBatches(reviewed(many, tmp_path, count), AUGMENT, batch_size=4, seed=0).order
        seen = Counter(order)
        assert {seen[i] for i in range(count, photos)} <= {1}
        return {seen[i] for i in range(count)}

    assert times(2, 2000) == {10}
    assert times(10, 100) == {3}
    assert times(90, 100) == {1}
    assert times(4, 4) == {1}
    assert StepBatches(data, AUGMENT, batch_size=4, seed=0).order == list(range(11))


def test_what_learns_no_masks_sees_photos_with_one_no_more_often(data: TaggedImages) -> None:
    true = replace(data, photos=tuple(replace(p, true=p.mask) for p in data.photos[:1]) + data.photos[1:])
    options = {"batch_size": 4, "seed": 3}
    plain, alone = StepBatches(data, AUGMENT, **options), StepBatches(true, AUGMENT, true_masks=False, **options)
    assert all(equal(plain.batch(step), alone.batch(step)) for step in range(4))
    often = StepBatches(true, AUGMENT, **options)
    assert len(often.order) > len(plain.order)
    assert often.batch(0).true_B is not None
