"""The dense energy against the formula on a direct float64 lattice."""

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from tagseg.errors import UserError
from tagseg.refine import dense_energy
from tagseg.refine.energy import energy_lattices
from tests.refine.direct_lattice import direct_filter
from tests.refine.test_lattice import bilateral_features, photo_like

BACKENDS = ("numba", "torch")


def case(batch: int, classes: int, height: int, width: int) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(batch * classes)
    images = np.stack([photo_like(height, width, seed) for seed in range(batch)])
    image = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    prob = (3 * torch.randn(batch, classes, height, width, generator=generator)).softmax(1)
    valid = torch.ones(batch, height, width, dtype=torch.bool)
    valid[:, :, width - 3 :] = False
    label = torch.randint(0, classes, (batch, height, width), generator=generator).to(torch.uint8)
    label[torch.rand(batch, height, width, generator=generator) < 0.5] = 255
    return image, prob, valid, label


def formula(
    image: torch.Tensor,
    prob: torch.Tensor,
    valid: torch.Tensor,
    label: torch.Tensor,
    srgb: float,
    sxy: float,
    scale: float,
) -> tuple[float, torch.Tensor]:
    """Value and gradient in float64, from the definition."""
    prob = prob.double().requires_grad_()
    shrink = {"scale_factor": scale, "recompute_scale_factor": True}
    small = interpolate(prob, mode="bilinear", **shrink) if scale != 1 else prob
    image, valid, label = (
        interpolate(t.double(), mode="nearest", **shrink) for t in (image, valid[:, None], label[:, None])
    )
    gate = torch.where(label == 255, 1.0, (valid - small.detach().amax(1, keepdim=True)).clamp(min=0))
    inside = (small * valid).detach().numpy()
    filtered = []
    for photo, maps in zip(image, inside, strict=True):
        feature_ND = bilateral_features(photo.permute(1, 2, 0).numpy(), sxy * scale, srgb)
        filtered.append(direct_filter(feature_ND, maps.reshape(len(maps), -1).T).T.reshape(maps.shape))
    filtered = torch.from_numpy(np.stack(filtered))
    value = -(torch.from_numpy(inside) * gate * filtered).sum() / len(image)
    slope = -2 / len(image) * gate * filtered * valid
    return float(value), torch.autograd.grad(small, prob, slope)[0]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("batch", "classes", "height", "width", "scale", "srgb", "sxy"),
    [(2, 7, 33, 41, 0.5, 15, 100), (1, 2, 20, 24, 1.0, 15, 30), (3, 21, 24, 18, 0.5, 6, 23)],
)
def test_value_and_gradient(
    backend: str, batch: int, classes: int, height: int, width: int, scale: float, srgb: float, sxy: float
) -> None:
    image, prob, valid, label = case(batch, classes, height, width)
    value, gradient = formula(image, prob, valid, label, srgb, sxy, scale)
    prob.requires_grad_()
    loss = dense_energy(image, prob, valid, label, srgb=srgb, sxy=sxy, scale=scale, backend=backend)
    (3 * loss).backward()
    assert loss.item() == pytest.approx(value, rel=1e-5)
    assert (prob.grad / 3 - gradient).abs().max() <= 1e-5 * gradient.abs().max()


def test_gradient_is_the_derivative_where_the_filter_is_symmetric() -> None:
    # a black photo under huge sigmas lies on one vertex: the filter is a constant matrix; without labels the gate is 1
    prob = torch.rand(1, 3, 4, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    image = torch.zeros(1, 3, 4, 5)
    valid, label = torch.ones(1, 4, 5), torch.full((1, 4, 5), 255)

    def loss(value: torch.Tensor) -> torch.Tensor:
        return dense_energy(image, value, valid, label, srgb=1e9, sxy=1e9, scale=1)

    (gradient,) = torch.autograd.grad(loss(prob), prob)
    step = torch.zeros_like(prob)
    step[0, 1, 2, 3] = 0.125
    difference = (loss(prob.detach() + step) - loss(prob.detach() - step)).item() / 0.25
    assert gradient[0, 1, 2, 3].item() == pytest.approx(difference, rel=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_lattices_can_be_shared(backend: str) -> None:
    image, prob, valid, label = case(2, 4, 22, 26)
    lattices = energy_lattices(image, backend=backend)
    shared = dense_energy(image, prob, valid, label, lattices=lattices, backend=backend)
    assert shared.item() == dense_energy(image, prob, valid, label, backend=backend).item()


def test_padding_and_sure_pixels_feel_nothing() -> None:
    image, prob, valid, label = case(1, 3, 16, 16)
    prob.requires_grad_()
    dense_energy(image, prob, valid, torch.zeros_like(label), scale=1).backward()
    assert not prob.grad[:, :, ~valid[0]].any()
    assert prob.grad.any()


def test_mistakes_are_named() -> None:
    image, prob, valid, label = case(1, 3, 8, 8)
    with pytest.raises(UserError, match="same photos and pixels"):
        dense_energy(image, prob, valid[:, :5], label)
    with pytest.raises(UserError, match="scale"):
        dense_energy(image, prob, valid, label, scale=0.01)
    with pytest.raises(UserError, match="lattices"):
        dense_energy(image, prob, valid, label, lattices=[])
