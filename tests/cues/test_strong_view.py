import torch
from torchvision.transforms.v2 import functional

from tagseg.cues.strong_view import StrongViewSettings, blurred, strong_view

PHOTO = torch.rand(3, 3, 20, 28, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
SEEDS = torch.tensor([5, 6, 7])


def test_a_photos_view_follows_from_its_own_seed() -> None:
    whole = strong_view(PHOTO, SEEDS, StrongViewSettings())
    alone = torch.cat([strong_view(PHOTO[i : i + 1], SEEDS[i : i + 1], StrongViewSettings()) for i in range(3)])
    assert torch.allclose(whole, alone)
    assert 0 <= whole.min() <= whole.max() <= 1
    assert not torch.allclose(whole, strong_view(PHOTO, SEEDS + 1, StrongViewSettings()))


def test_nothing_switched_on_changes_nothing() -> None:
    assert torch.equal(strong_view(PHOTO, SEEDS, StrongViewSettings(color=0, hue=0, gray=0, blur=0)), PHOTO)


def test_gray_is_the_photos_luma() -> None:
    gray = strong_view(PHOTO, SEEDS, StrongViewSettings(color=0, hue=0, gray=1, blur=0))
    expected = functional.rgb_to_grayscale(PHOTO, num_output_channels=3)
    assert torch.allclose(gray, expected, atol=1e-3)  # torchvision rounds the weights


def test_a_turned_hue_leaves_gray_and_the_mean_of_the_channels_alone() -> None:
    settings = StrongViewSettings(color=0, hue=0.1, gray=0, blur=0)
    gray = torch.linspace(0, 1, 20 * 28, dtype=torch.float64).view(1, 1, 20, 28).expand(3, 3, -1, -1)
    assert torch.allclose(strong_view(gray, SEEDS, settings), gray)
    muted = 0.4 + 0.2 * PHOTO  # far from the limits
    assert torch.allclose(strong_view(muted, SEEDS, settings).mean(1), muted.mean(1))


def test_blur_is_torchvisions_gaussian_and_none_where_sigma_is_zero() -> None:
    view = blurred(PHOTO, torch.tensor([0.0, 1.0, 1.5], dtype=torch.float64), 4)
    assert torch.allclose(view[0], PHOTO[0])
    inner = (slice(None), slice(4, -4), slice(4, -4))  # torchvision reflects at the border
    for photo, seen, sigma in zip(PHOTO[1:], view[1:], (1.0, 1.5), strict=True):
        expected = functional.gaussian_blur(photo, [9, 9], [sigma, sigma])
        assert torch.allclose(seen[inner], expected[inner], atol=1e-6)
