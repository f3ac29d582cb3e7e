import torch

from tagseg.cues.noise import NoiseSettings, missed_objects


def losses() -> tuple[torch.Tensor, torch.Tensor]:
    """Two photos of background: in the first a tenth of it is hard, the second is all of one kind."""
    generator = torch.Generator().manual_seed(0)
    loss = (0.2 + 0.1 * torch.randn(2, 50, 50, generator=generator)).clamp(min=0)
    loss[0, :5] = 2.5 + 0.3 * torch.randn(5, 50, generator=generator)
    return loss, torch.ones(2, 50, 50, dtype=torch.bool)


def test_the_harder_of_two_modes_is_found() -> None:
    loss, where = losses()
    missed = missed_objects(loss, where, NoiseSettings(from_step=0))
    assert missed[0, :5].float().mean() > 0.95
    assert not missed[0, 5:].any()
    assert not missed[1].any()


def test_only_pixels_asked_for_count() -> None:
    loss, where = losses()
    where[0, :3] = False
    missed = missed_objects(loss, where, NoiseSettings(from_step=0))
    assert not missed[0, :3].any()
    assert missed[0, 3:5].float().mean() > 0.9
    assert not missed_objects(loss, torch.zeros_like(where), NoiseSettings(from_step=0)).any()


def test_modes_closer_than_the_gap_are_one() -> None:
    loss, where = losses()
    assert not missed_objects(loss, where, NoiseSettings(from_step=0, gap=3.0)).any()
