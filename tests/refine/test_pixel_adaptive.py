import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tagseg.refine import PixelAdaptive
from tagseg.refine.pixel_adaptive import kernel_torch

KINDS = ("par", "varm")


def neighbors(map_BKHW: Tensor) -> Tensor:
    """(B, K, 48, H, W): every neighbor picked by its clamped row and column."""
    height, width = map_BKHW.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    found = []
    for dilation in (1, 2, 4, 8, 12, 24):
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                if (dy, dx) != (0, 0):
                    rows = (y + dy * dilation).clamp(0, height - 1)
                    columns = (x + dx * dilation).clamp(0, width - 1)
                    found.append(map_BKHW[..., rows, columns])
    return torch.stack(found, 2)


def slow_kernel(kind: str, image_B3HW: Tensor) -> Tensor:
    near = neighbors(image_B3HW.double())
    image = image_B3HW.double()[:, :, None]
    deviation = near.std(2, keepdim=True) + 1e-8
    if kind == "par":
        color = (-(((near - image).abs() / deviation / 0.3) ** 2)).mean(1).softmax(1)
        distance = torch.tensor(
            [d * (2**0.5 if dy and dx else 1) for d in (1, 2, 4, 8, 12, 24)
             for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx], dtype=torch.float64
        )  # fmt: skip
        return color + 0.01 * (-((distance / (distance.std() + 1e-8) / 0.3) ** 2)).softmax(0).view(1, -1, 1, 1)
    color = (-((4 * (near - image).abs() / deviation) ** 2)).mean(1).softmax(1)
    down = torch.cat([near[..., 1:, :], near[..., -1:, :]], -2)
    right = torch.cat([near[..., 1:], near[..., -1:]], -1)
    return color - 0.01 * ((near - down) ** 2 + (near - right) ** 2).mean(1).softmax(1)


def slow_refine(kind: str, image_B3HW: Tensor, map_BKhw: Tensor, iterations: int = 10) -> Tensor:
    kernel_BJHW = slow_kernel(kind, image_B3HW)
    map_BKHW = F.interpolate(map_BKhw.double(), image_B3HW.shape[-2:], mode="bilinear", align_corners=True)
    for _ in range(iterations):
        map_BKHW = (neighbors(map_BKHW) * kernel_BJHW[:, None]).sum(2)
    return map_BKHW


def case(height: int, width: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(2, 3, 5, 5, generator=generator)
    image = F.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
    image = (image * 255 + torch.randn(image.shape, generator=generator)).round().clamp(0, 255) / 255
    return image, torch.rand(2, 3, height // 2 + 1, width // 2 + 1, generator=generator)


@pytest.mark.parametrize(("kind", "total"), [("par", 1.01), ("varm", 0.99)])
def test_a_kernel_sums_to_its_constant(kind, total):
    image, _ = case(19, 33)
    for kernel in (PixelAdaptive(kind).kernel(image), kernel_torch(image, kind)):
        assert kernel.shape == (2, 48, 19, 33)
        assert torch.allclose(kernel.sum(1), torch.tensor(total), atol=2e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_kernels_equal_the_formula(kind):
    image, _ = case(21, 30)
    slow = slow_kernel(kind, image).float()
    assert torch.allclose(PixelAdaptive(kind).kernel(image), slow, atol=5e-6)
    assert torch.allclose(kernel_torch(image, kind), slow, atol=5e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(40, 53), (3, 9)])
def test_refined_maps_equal_the_formula(kind, size):
    image, maps = case(*size)
    slow = slow_refine(kind, image, maps).float()
    assert torch.allclose(PixelAdaptive(kind)(image, maps), slow, atol=2e-5)
    assert torch.allclose(PixelAdaptive(kind)(image, maps.clone().requires_grad_()), slow, atol=2e-5)


def test_a_flat_photo_keeps_a_flat_map_up_to_the_kernels_sum():
    image = torch.full((1, 3, 30, 30), 0.5)
    refined = PixelAdaptive("par")(image, torch.ones(1, 1, 30, 30))
    assert torch.allclose(refined, torch.tensor(1.01**10), atol=1e-4)


def test_maps_follow_the_photos_edge():
    image = torch.zeros(1, 3, 32, 32)
    image[..., 16:] = 1
    blurred = torch.linspace(0, 1, 32).expand(1, 1, 32, 32)
    refined = PixelAdaptive("varm")(image, blurred)[0, 0]
    assert (refined[:, 16] - refined[:, 15]).min() > 5 * (blurred[0, 0, 0, 16] - blurred[0, 0, 0, 15])
    assert refined[:, :16].std() < blurred[..., :16].std()


def test_gradient_reaches_the_maps():
    image, maps = case(10, 10)
    maps = maps.double().requires_grad_()
    PixelAdaptive("par", iterations=2)(image, maps).square().sum().backward()
    assert maps.grad is not None
    step = 1e-3
    moved = maps.detach().clone()
    moved[0, 1, 2, 3] += step
    before, after = (slow_refine("par", image, m, 2).square().sum() for m in (maps.detach(), moved))
    assert maps.grad[0, 1, 2, 3].item() == pytest.approx((after - before).item() / step, rel=1e-2)


def test_the_number_of_threads_changes_nothing():
    image, maps = case(31, 20)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = PixelAdaptive("varm")(image, maps)
        torch.set_num_threads(3)
        shared = PixelAdaptive("varm")(image, maps)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(alone, shared)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="'par' or 'varm'"):
        PixelAdaptive("crf")  # type: ignore[arg-type]


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_a_gpu_gives_what_a_cpu_gives(kind):
    image, maps = case(40, 53)
    there = PixelAdaptive(kind)(image.cuda(), maps.cuda()).cpu()
    assert torch.allclose(there, PixelAdaptive(kind)(image, maps), atol=2e-5)
