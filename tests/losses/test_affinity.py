import pytest
import torch

from tagseg.cues import affinity_loss
from tagseg.losses import affinity_labels
from tagseg.methods.heads import AffinityHead


def random_labels(batch: int, height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    label = torch.randint(0, 4, (batch, height, width), generator=generator)
    return torch.where(label == 3, 255, label).to(torch.uint8)


@pytest.mark.parametrize("radius", [1, 2, 8])
def test_labels_equal_a_loop_over_pairs(radius):
    height, width = 5, 6
    label = random_labels(2, height, width)
    found = affinity_labels(label, (height, width), radius)
    for n in range(2):
        for i in range(height * width):
            for j in range(height * width):
                (y1, x1), (y2, x2) = divmod(i, width), divmod(j, width)
                a, b = label[n, y1, x1].item(), label[n, y2, x2].item()
                left_out = 255 in (a, b) or abs(y1 - y2) > radius or abs(x1 - x2) > radius
                assert found[n, i, j] == (255 if left_out else int(a == b))


def test_cells_take_the_nearest_pixels_label():
    label = random_labels(1, 32, 48)
    assert torch.equal(affinity_labels(label, (2, 3)), affinity_labels(label[:, ::16, ::16], (2, 3)))


def test_the_loss_equals_a_loop_over_pairs():
    label = affinity_labels(random_labels(2, 4, 4), (4, 4), 2)
    affinity = torch.rand(2, 16, 16, generator=torch.Generator().manual_seed(2))
    same, different = [], []
    for a, value in zip(affinity.flatten().tolist(), label.flatten().tolist(), strict=True):
        if value == 1:
            same.append(1 - a)
        elif value == 0:
            different.append(a)
    expected = 0.5 * sum(same) / (len(same) + 1) + 0.5 * sum(different) / (len(different) + 1)
    assert affinity_loss(affinity, label).item() == pytest.approx(expected, rel=1e-5)


def test_without_any_labeled_pair_the_loss_is_zero():
    affinity = torch.rand(1, 4, 4, requires_grad=True)
    loss = affinity_loss(affinity, torch.full((1, 4, 4), 255, dtype=torch.uint8))
    loss.backward()
    assert loss.item() == 0


def test_the_symmetric_head_adds_the_transpose_before_its_convolution():
    attention = torch.randn(2, 6, 9, 9, generator=torch.Generator().manual_seed(3))
    torch.manual_seed(0)
    symmetric, plain = AffinityHead(6, symmetric=True), AffinityHead(6, symmetric=False)
    plain.load_state_dict(symmetric.state_dict())
    affinity = symmetric(attention)
    assert torch.allclose(affinity, affinity.transpose(1, 2), atol=1e-6)
    assert torch.allclose(affinity, plain(attention + attention.transpose(2, 3)), atol=1e-6)
    assert not torch.allclose(plain(attention), plain(attention).transpose(1, 2), atol=1e-3)
