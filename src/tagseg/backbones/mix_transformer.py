"""Mix Transformer, the encoder of SegFormer (Xie et al. 2021), MiT-B0 to MiT-B5.

Shapes: B photos, H W pixels, h w feature grid, N = h w tokens, D channels, M attention maps.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tagseg.backbones.backbone import Backbone

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
HEADS = (1, 2, 5, 8)
REDUCTIONS = (8, 4, 2, 1)
PATCHES = (7, 3, 3, 3)
MLP_RATIO = 4
DROP_PATH = 0.1
NORM_EPS = 1e-6
ATTENTION_BLOCKS = 2  # the last blocks whose attention the affinity of AFA and TSCD is made of


class Size(NamedTuple):
    """Channels and blocks of the four stages."""

    channels: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]


WIDE = (64, 128, 320, 512)
SIZES = {
    "mit_b0": Size((32, 64, 160, 256), (2, 2, 2, 2)),
    "mit_b1": Size(WIDE, (2, 2, 2, 2)),
    "mit_b2": Size(WIDE, (3, 4, 6, 3)),
    "mit_b3": Size(WIDE, (3, 4, 18, 3)),
    "mit_b4": Size(WIDE, (3, 8, 27, 3)),
    "mit_b5": Size(WIDE, (3, 6, 40, 3)),
}


def _map(tokens_BND: Tensor, height: int, width: int) -> Tensor:
    return tokens_BND.transpose(1, 2).unflatten(2, (height, width))


class PatchEmbedding(nn.Module):
    """Overlapping patches: a strided convolution and a LayerNorm."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(inputs, outputs, size, stride, size // 2)
        # The patch embedding's own epsilon is torch's default; the blocks' is NORM_EPS.
        self.norm = nn.LayerNorm(outputs)

    def forward(self, x_BDHW: Tensor) -> tuple[Tensor, int, int]:
        """Tokens (B, N, D), and h and w of their grid."""
        patches_BDhw = self.proj(x_BDHW)
        return self.norm(patches_BDhw.flatten(2).transpose(1, 2)), patches_BDhw.shape[2], patches_BDhw.shape[3]


class Attention(nn.Module):
    """Self-attention whose keys and values come from a grid made coarser by `reduction`."""

    def __init__(self, channels: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.heads, self.reduction = heads, reduction
        self.query, self.key, self.value, self.out = (nn.Linear(channels, channels) for _ in range(4))
        self.reduce = nn.Conv2d(channels, channels, reduction, reduction) if reduction > 1 else None
        self.norm = nn.LayerNorm(channels) if reduction > 1 else None

    def forward(
        self, x_BND: Tensor, height: int, width: int, keep_logits: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """The tokens' update (B, N, D) and, when asked for, raw query times key (B, heads, N, N)."""
        coarse_BnD = x_BND
        if self.reduce is not None and self.norm is not None:
            # A photo of less than 32 pixels has fewer tokens on a side than one coarse cell covers.
            missing = (0, max(self.reduction - width, 0), 0, max(self.reduction - height, 0))
            grid_BDhw = F.pad(_map(x_BND, height, width), missing)
            coarse_BnD = self.norm(self.reduce(grid_BDhw).flatten(2).transpose(1, 2))
        query, key, value = (
            tokens.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for tokens in (self.query(x_BND), self.key(coarse_BnD), self.value(coarse_BnD))
        )
        logits = None
        if keep_logits:
            logits = query @ key.transpose(2, 3)
            update = (logits * query.shape[-1] ** -0.5).softmax(-1) @ value
        else:
            update = F.scaled_dot_product_attention(query, key, value)
        return self.out(update.transpose(1, 2).flatten(2)), logits


class MixMlp(nn.Module):
    """Two linear layers with a depthwise 3x3 convolution between, which tells tokens where they are."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = MLP_RATIO * channels
        self.fc1 = nn.Linear(channels, hidden)
        self.depthwise = nn.Conv2d(hidden, hidden, 3, 1, 1, groups=hidden)
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, x_BND: Tensor, height: int, width: int) -> Tensor:
        """The tokens' update (B, N, D)."""
        hidden = self.depthwise(_map(self.fc1(x_BND), height, width))
        return self.fc2(F.gelu(hidden.flatten(2).transpose(1, 2)))


class DropPath(nn.Module):
    """Leave a block out for some photos while training, and scale up the others."""

    def __init__(self, drop_prob: float) -> None:
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x_BND: Tensor) -> Tensor:
        """Keep each photo's update with probability 1 - `drop_prob`."""
        if not self.training or self.drop_prob == 0:
            return x_BND
        keep = 1 - self.drop_prob
        return x_BND * x_BND.new_empty(len(x_BND), 1, 1).bernoulli_(keep).div_(keep)


class Block(nn.Module):
    """Attention and MLP, each on normalized tokens and added to them."""

    def __init__(self, channels: int, heads: int, reduction: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, NORM_EPS)
        self.attention = Attention(channels, heads, reduction)
        self.norm2 = nn.LayerNorm(channels, NORM_EPS)
        self.mlp = MixMlp(channels)
        self.drop_path = DropPath(drop_path)

    def forward(
        self, x_BND: Tensor, height: int, width: int, keep_logits: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Tokens (B, N, D) and, when asked for, the attention logits (B, heads, N, N)."""
        update, logits = self.attention(self.norm1(x_BND), height, width, keep_logits)
        x_BND = x_BND + self.drop_path(update)
        return x_BND + self.drop_path(self.mlp(self.norm2(x_BND), height, width)), logits


class MixTransformer(Backbone):
    """MiT-B0 to MiT-B5; `output_stride` 32 is the standard, 16 leaves stage 4 at the grid of stage 3 (AFA, TSCD, BMP).

    attention_maps: M, the heads of the last two blocks together.
    """

    def __init__(self, name: str, output_stride: int = 16) -> None:
        super().__init__(IMAGENET_MEAN, IMAGENET_STD)
        size = SIZES[name]
        self.name, self.license = name, ""
        self.stage_channels, self.channels = size.channels, size.channels[-1]
        self.stage_strides, self.output_stride = (4, 8, 16, output_stride), output_stride
        self.attention_maps = ATTENTION_BLOCKS * HEADS[-1]
        strides = (4, 2, 2, output_stride // 16)
        inputs = (3, *size.channels[:-1])
        last = sum(size.depths) - 1
        drop_paths = (DROP_PATH * block / last for block in range(last + 1))
        self.embeddings = nn.ModuleList(map(PatchEmbedding, inputs, size.channels, PATCHES, strides))
        self.blocks = nn.ModuleList(
            nn.ModuleList(Block(channels, heads, reduction, next(drop_paths)) for _ in range(depth))
            for channels, heads, reduction, depth in zip(size.channels, HEADS, REDUCTIONS, size.depths, strict=True)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(channels, NORM_EPS) for channels in size.channels)
        self.apply(_initialize)

    def stages(self, image_B3HW: Tensor) -> tuple[Tensor, ...]:
        """The four stages, each after its LayerNorm: (B, D, h, w) at strides 4, 8, 16 and the output stride."""
        return self._run(image_B3HW, keep_logits=False)[0]

    def stages_with_attention(self, image_B3HW: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """The stages, and the raw attention logits (B, M, N, N) of the last two blocks: not scaled, before softmax."""
        stages, logits = self._run(image_B3HW, keep_logits=True)
        return stages, torch.cat(logits, 1)

    def _run(self, image_B3HW: Tensor, *, keep_logits: bool) -> tuple[tuple[Tensor, ...], list[Tensor]]:
        x = self.normalize(image_B3HW)
        stages, kept = [], []
        last = len(self.norms) - 1
        for stage, (embedding, norm) in enumerate(zip(self.embeddings, self.norms, strict=True)):
            blocks = self.get_submodule(f"blocks.{stage}")
            assert isinstance(blocks, nn.ModuleList)
            tokens, height, width = embedding(x)
            for place, block in enumerate(blocks):
                asked = keep_logits and stage == last and place >= len(blocks) - ATTENTION_BLOCKS
                tokens, logits = block(tokens, height, width, asked)
                if logits is not None:
                    kept.append(logits)
            x = _map(norm(tokens), height, width).contiguous()
            stages.append(x)
        return tuple(stages), kept


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=(2 / fan_out) ** 0.5)
        assert module.bias is not None
        nn.init.zeros_(module.bias)
