import torch
import torch.nn.functional as F

from tagseg.cues.cam import summed_cam
from tagseg.cues.views import map_views, min_max


def blocks(image_B3HW: torch.Tensor) -> torch.Tensor:
    """Maps that are not symmetric: means of 4x4 blocks, weighted by column."""
    cells = F.avg_pool2d(image_B3HW, 4)
    return cells * torch.linspace(-1, 1, cells.shape[-1])


def photo() -> torch.Tensor:
    return torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(0))


def test_the_cam_is_the_sum_over_scales_of_the_larger_of_both_mirror_images():
    image = photo()
    expected = torch.zeros(2, 3, 16, 24)
    for size in ((16, 24), (8, 12), (24, 36)):
        view = F.interpolate(image, size, mode="bilinear")
        plain = F.interpolate(blocks(view), (16, 24), mode="bilinear")
        mirrored = F.interpolate(blocks(view.flip(-1)), (16, 24), mode="bilinear").flip(-1)
        expected += torch.maximum(plain, mirrored).clamp(min=0)
    assert torch.allclose(summed_cam(blocks, image, (1.0, 0.5, 1.5)), expected, atol=1e-6)


def test_maps_that_are_already_there_are_not_computed_again():
    seen = []

    def counting(view_B3HW: torch.Tensor) -> torch.Tensor:
        seen.append(view_B3HW.shape)
        return blocks(view_B3HW)

    image = photo()
    for flip in (True, False):
        seen.clear()
        reused = list(map_views(counting, image, (1.0, 0.5), flip, blocks(image)))
        assert sum(shape[0] for shape in seen) == (2 + 4 if flip else 2)
        for one, other in zip(reused, map_views(blocks, image, (1.0, 0.5), flip), strict=True):
            assert torch.allclose(one[0], other[0], atol=1e-6)
            assert torch.allclose(one[1], other[1], atol=1e-6)


def test_views_have_no_gradient():
    weight = torch.ones(1, requires_grad=True)
    assert not summed_cam(lambda view: blocks(view) * weight, photo(), (1.0,)).requires_grad


def test_min_max_reaches_from_0_to_just_below_1():
    scaled = min_max(torch.tensor([[[[2.0, 4.0], [3.0, 6.0]]], [[[5.0, 5.0], [5.0, 5.0]]]]))
    assert torch.allclose(scaled[0, 0], torch.tensor([[0.0, 0.5], [0.25, 1.0]]), atol=1e-5)
    assert (scaled[1] == 0).all()
