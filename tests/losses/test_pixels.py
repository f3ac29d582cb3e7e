"""Losses of pixels where a device computes in half precision."""

import pytest
import torch
import torch.nn.functional as F

from tagseg.losses import normalized_loss

PLAIN = F.binary_cross_entropy


def test_the_loss_of_normalized_cams_is_the_same_under_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    def as_on_cuda(*given: torch.Tensor, **options: str) -> torch.Tensor:
        if torch.is_autocast_enabled("cpu"):
            raise RuntimeError("binary_cross_entropy is unsafe to autocast")
        return PLAIN(*given, **options)

    share = torch.rand(2, 3, 5, 4, generator=torch.Generator().manual_seed(0))
    label = torch.tensor([0, 1, 2, 255, 1], dtype=torch.uint8)[None, :, None].expand(2, -1, 4)
    expected = normalized_loss(share, label, torch.ones(2, 3))
    monkeypatch.setattr(F, "binary_cross_entropy", as_on_cuda)
    with torch.autocast("cpu", torch.bfloat16):
        assert normalized_loss(share, label, torch.ones(2, 3)) == expected
