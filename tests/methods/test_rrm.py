"""The segmentation head's loss, and what of it reaches the backbone."""

import pytest
import torch
from torch import Tensor

from tagseg.losses import seg_cross_entropy
from tests.methods.small import TWO, batch, build


def test_the_cross_entropy_against_a_slow_sum() -> None:
    generator = torch.Generator().manual_seed(0)
    logit = torch.randn(2, 4, 6, 5, generator=generator, dtype=torch.float64)
    label = torch.tensor([0, 0, 1, 3, 3, 3, 255])[torch.randint(0, 7, (2, 6, 5), generator=generator)]
    losses: dict[bool, list[float]] = {True: [], False: []}
    for b, y, x in torch.cartesian_prod(torch.arange(2), torch.arange(6), torch.arange(5)).tolist():
        if (k := int(label[b, y, x])) != 255:
            losses[k == 0].append(-float(logit[b, :, y, x].log_softmax(0)[k]))
    means = {background: sum(values) / len(values) for background, values in losses.items()}
    assert float(seg_cross_entropy(logit, label)) == pytest.approx(means[True] + means[False])
    assert float(seg_cross_entropy(logit, label, 0.7)) == pytest.approx(0.3 * means[True] + 0.7 * means[False])


@pytest.mark.parametrize("name", ["rrm", "asdt"])
def test_the_backbone_takes_its_share_of_the_heads_gradient(name: str) -> None:
    def gradients(step: int, **settings: float) -> tuple[Tensor, Tensor]:
        method = build(name, class_weight=0.0, **settings).train()
        sum(method(batch(TWO), step).values()).backward()  # type: ignore[union-attr]
        first = next(p for p in method.backbone.parameters() if p.requires_grad)
        head = method.heads["student"][0].weight
        assert isinstance(first.grad, Tensor)
        assert isinstance(head.grad, Tensor)
        return first.grad, head.grad

    whole, head = gradients(2)
    assert whole.abs().max() > 0
    held = gradients(1, head_steps=2)
    assert held[0].abs().max() == 0
    share = gradients(2, head_steps=2, backbone_gradient=0.25)
    torch.testing.assert_close(share[0], 0.25 * whole, rtol=1e-3, atol=1e-3 * float(whole.abs().max()))
    torch.testing.assert_close(share[1], head)
