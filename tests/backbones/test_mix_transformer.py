"""Mix Transformer: sizes, attention, and SegFormer checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tagseg.backbones import create_backbone
from tagseg.backbones.mix_transformer import SIZES


def parameters_by_hand(channels: tuple[int, ...], depths: tuple[int, ...]) -> int:
    total, inputs = 0, 3
    for width, depth, patch, reduction in zip(channels, depths, (7, 3, 3, 3), (8, 4, 2, 1), strict=True):
        embedding = inputs * width * patch**2 + width + 2 * width
        attention = 4 * (width * width + width)
        if reduction > 1:
            attention += width * width * reduction**2 + width + 2 * width
        hidden = 4 * width
        mlp = 2 * width * hidden + hidden + width + 9 * hidden + hidden
        total += embedding + depth * (attention + mlp + 4 * width) + 2 * width
        inputs = width
    return total


@pytest.mark.parametrize("name", list(SIZES))
def test_parameter_counts(name: str) -> None:
    with torch.device("meta"):
        backbone = create_backbone(name, weights="none")
    published = {"mit_b0": 3.3, "mit_b1": 13.2, "mit_b2": 24.2, "mit_b3": 44.1, "mit_b4": 60.8, "mit_b5": 81.4}
    count = sum(parameter.numel() for parameter in backbone.parameters())
    assert count == parameters_by_hand(SIZES[name].channels, SIZES[name].depths)
    assert round(count / 1e6, 1) == published[name]


def test_attention_logits() -> None:
    torch.manual_seed(0)
    backbone = create_backbone("mit_b0", weights="none", output_stride=16).eval()
    image = torch.rand(2, 3, 48, 80)
    stages, attention_BMNN = backbone.stages_with_attention(image)
    assert attention_BMNN.shape == (2, backbone.attention_maps, 15, 15)
    assert backbone.attention_maps == 16
    for mine, other in zip(stages, backbone.stages(image), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)
    # Stage 4 does not reduce its keys: the logits of its first block follow from the public parts.
    block = backbone.blocks[3][0]
    tokens, *_ = backbone.embeddings[3](stages[2])
    query, key = block.attention.query(block.norm1(tokens)), block.attention.key(block.norm1(tokens))
    first_head = query[:, :, :32] @ key[:, :, :32].transpose(1, 2)
    torch.testing.assert_close(attention_BMNN[:, 0], first_head, rtol=1e-4, atol=1e-5)
    gradient = torch.autograd.grad(attention_BMNN.square().mean(), backbone.embeddings[0].proj.weight)[0]
    assert gradient.abs().max() > 0


def test_drop_path_only_in_training() -> None:
    torch.manual_seed(0)
    backbone = create_backbone("mit_b0", weights="none")
    image = torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(backbone.eval()(image), backbone(image))
        backbone.train()
        assert not torch.equal(backbone(image), backbone(image))


@pytest.mark.parametrize("size", [(1, 1), (5, 40), (28, 28)])
def test_photos_smaller_than_a_coarse_cell(size: tuple[int, int]) -> None:
    backbone = create_backbone("mit_b0", weights="none").eval()
    with torch.no_grad():
        stages, attention_BMNN = backbone.stages_with_attention(torch.rand(1, 3, *size))
    assert all(stage.isfinite().all() for stage in stages)
    assert attention_BMNN.isfinite().all()


@pytest.mark.parametrize("layout", ["saved", "in memory", "segmentation model"])
def test_segformer_checkpoint(tmp_path: Path, layout: str) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    encoder = transformers.SegformerModel(transformers.SegformerConfig()).eval()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    # SegFormer's blocks have 1e-6 here, transformers leaves torch's default.
    for name, module in encoder.named_modules():
        if isinstance(module, torch.nn.LayerNorm) and not ("patch_embeddings" in name or "sequence_reduction" in name):
            module.eps = 1e-6
    path = tmp_path / "model.safetensors"
    if layout == "saved":
        encoder.save_pretrained(tmp_path)
    else:
        state = {key: value.contiguous() for key, value in encoder.state_dict().items()}
        if layout == "segmentation model":
            state = {f"segformer.{key}": value for key, value in state.items()}
            state["decode_head.classifier.weight"] = torch.zeros(2, 2)
        save_file(state, path)
    backbone = create_backbone("mit_b0", output_stride=32, weights=path).eval()
    image = torch.rand(2, 3, 65, 97)
    with torch.no_grad():
        wanted = encoder(backbone.normalize(image), output_hidden_states=True).hidden_states
        for mine, theirs in zip(backbone.stages(image), wanted[-4:], strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)
