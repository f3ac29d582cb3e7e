import pytest
import torch
from torch import Tensor

from tagseg.cues import correspondence_loss
from tagseg.losses.correspondence import random_positions


def case(batch: int = 2, classes: int = 3) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(4)

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    cam1, cam2 = rand(batch, classes, 11, 14), rand(batch, classes, 5, 6)
    seg1, seg2 = rand(batch, classes + 1, 11, 14) - 0.5, rand(batch, classes + 1, 5, 6) - 0.5
    return cam1, cam2, seg1, seg2, torch.arange(10, 10 + batch)


def read(map_CHW: Tensor, x: float, y: float) -> list[float]:
    """The channels at x, y in [-1, 1] by hand, divided by their length."""
    height, width = map_CHW.shape[-2:]
    column, row = (x + 1) / 2 * (width - 1), (y + 1) / 2 * (height - 1)
    c, r = min(int(column), width - 2), min(int(row), height - 2)
    a, b = column - c, row - r
    m = map_CHW.double()
    value = (1 - b) * ((1 - a) * m[:, r, c] + a * m[:, r, c + 1]) + b * (
        (1 - a) * m[:, r + 1, c] + a * m[:, r + 1, c + 1]
    )
    return (value / value.norm()).tolist()


def slow_loss(cam1, cam2, seg1, seg2, seed_B, samples, restore=True, both=False) -> float:
    first, second = random_positions(seed_B, samples, torch.device("cpu"))
    batch, count = len(seed_B), samples * samples
    cam = torch.zeros(batch, count, count, dtype=torch.float64)
    seg = torch.zeros_like(cam)
    for n in range(batch):
        at1 = [(read(cam1[n], *xy), read(seg1[n], *xy)) for xy in first[n, :, 0].tolist()]
        at2 = [(read(cam2[n], *xy), read(seg2[n], *xy)) for xy in second[n, :, 0].tolist()]
        for p in range(count):
            for q in range(count):
                cam[n, p, q] = sum(a * b for a, b in zip(at1[p][0], at2[q][0], strict=True))
                seg[n, p, q] = sum(a * b for a, b in zip(at1[p][1], at2[q][1], strict=True))
    before = cam.mean()
    for n in range(batch):
        for p in range(count):
            cam[n, p] -= cam[n, p].mean()
        if both:
            for q in range(count):
                cam[n, :, q] -= cam[n, :, q].mean()
    cam = cam - cam.mean() + (before if restore else 0)
    return -(seg.clamp(min=0) * cam).mean().item()


@pytest.mark.parametrize(("restore", "both"), [(True, False), (False, False), (False, True), (True, True)])
def test_the_loss_equals_pairs_one_by_one(restore, both):
    maps = case()
    loss = correspondence_loss(*maps, samples=5, restore=restore, both=both)
    assert loss.item() == pytest.approx(slow_loss(*maps, 5, restore, both), abs=1e-6)


def test_gradient_reaches_the_segmentations_and_not_the_cams():
    cam1, cam2, seg1, seg2, seed_B = case()
    for map_ in (cam1, cam2, seg1, seg2):
        map_.requires_grad_()
    correspondence_loss(cam1, cam2, seg1, seg2, seed_B, samples=5).backward()
    assert cam1.grad is None
    assert cam2.grad is None
    assert seg1.grad is not None
    assert seg1.grad.abs().sum() > 0
    assert seg2.grad is not None
    assert seg2.grad.abs().sum() > 0


def test_positions_follow_from_each_photos_seed_alone():
    first, second = random_positions(torch.tensor([7, 8]), 4, torch.device("cpu"))
    alone, _ = random_positions(torch.tensor([8]), 4, torch.device("cpu"))
    assert torch.equal(first[1], alone[0])
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first, second)
    assert first.abs().max() <= 1


def test_segmentations_that_follow_the_cam_have_the_lower_loss():
    cam = torch.zeros(1, 2, 8, 8)
    cam[:, 0, :, :4] = 1
    cam[:, 1, :, 4:] = 1
    seed_B = torch.tensor([3])
    alike = correspondence_loss(cam, cam, cam, cam, seed_B, samples=10)
    turned = cam.transpose(2, 3)
    unlike = correspondence_loss(cam, cam, turned, turned, seed_B, samples=10)
    assert alike < unlike


def test_a_cam_that_is_zero_everywhere_gives_a_finite_loss():
    _, _, seg1, seg2, seed_B = case()
    seg1.requires_grad_()
    zero1, zero2 = torch.zeros(2, 3, 11, 14), torch.zeros(2, 3, 5, 6)
    loss = correspondence_loss(zero1, zero2, seg1, seg2, seed_B, samples=5)
    loss.backward()
    assert loss.item() == 0
    assert seg1.grad is not None
    assert torch.isfinite(seg1.grad).all()
