"""Weights of a Mix Transformer from SegFormer checkpoints in Hugging Face layout."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from tagseg.backbones.mix_transformer import MixTransformer
from tagseg.backbones.weights import hub_name, load_tensors, read_weights
from tagseg.errors import UserError

HUB_LICENSE = "NVIDIA Source Code License for SegFormer (non-commercial)"

# Hugging Face's names as stored on the hub, and as transformers 5 has them in memory.
OUTER = (
    (r"patch_embeddings\.(\d)\.proj", r"embeddings.\1.proj"),
    (r"patch_embeddings\.(\d)\.layer_norm", r"embeddings.\1.norm"),
    (r"layer_norm\.(\d)", r"norms.\1"),
    (r"block\.(\d)\.(\d+)", r"blocks.\1.\2"),
    (r"stages\.(\d)\.patch_embeddings\.proj", r"embeddings.\1.proj"),
    (r"stages\.(\d)\.patch_embeddings\.layer_norm", r"embeddings.\1.norm"),
    (r"stages\.(\d)\.layer_norm", r"norms.\1"),
    (r"stages\.(\d)\.blocks\.(\d+)", r"blocks.\1.\2"),
)
INNER = {
    "layer_norm_1": "norm1", "layernorm_before": "norm1", "layer_norm_2": "norm2", "layernorm_after": "norm2",
    "attention.self.query": "attention.query", "attention.q_proj": "attention.query",
    "attention.self.key": "attention.key", "attention.k_proj": "attention.key",
    "attention.self.value": "attention.value", "attention.v_proj": "attention.value",
    "attention.output.dense": "attention.out", "attention.o_proj": "attention.out",
    "attention.self.sr": "attention.reduce", "attention.sequence_reduction.sequence_reduction": "attention.reduce",
    "attention.self.layer_norm": "attention.norm", "attention.sequence_reduction.layer_norm": "attention.norm",
    "mlp.dense1": "mlp.fc1", "mlp.fc1": "mlp.fc1", "mlp.dense2": "mlp.fc2", "mlp.fc2": "mlp.fc2",
    "mlp.dwconv.dwconv": "mlp.depthwise",
}  # fmt: skip


def segformer_to_mit(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the encoder's tensors of a SegFormer checkpoint to ours; decoder and classifier are left out.

    Names that are ours already pass unchanged.
    """
    renamed = {}
    for key, tensor in tensors.items():
        if key.startswith(("decode_head.", "classifier.")):
            continue
        name = re.sub(r"^(segformer\.)?(encoder\.)?", "", key)
        module, _, field = name.rpartition(".")
        renamed[f"{_module_name(module)}.{field}"] = tensor
    return renamed


def build(name: str, output_stride: int | None, weights: str) -> MixTransformer:
    """Build a Mix Transformer with weights that are random, from the hub (nvidia/mit-b* or an id), or from a file."""
    if output_stride not in (None, 16, 32):
        raise UserError(f"{name} has no output stride {output_stride}: it works at 16 and 32.")
    if weights == "embedded":
        raise UserError(
            f"{name} has no embedded weights: set weights to none, hub, a SegFormer hub id or a file's path."
        )
    backbone = MixTransformer(name, output_stride or 32)
    if weights == "none":
        return backbone
    repository, revision = hub_name(weights)
    if repository is None or Path(weights).exists():
        path, backbone.license = Path(weights), "unknown"
    else:
        known = f"nvidia/{name.replace('_', '-')}"
        repository = repository or known
        backbone.license = HUB_LICENSE if repository == known else "unknown"
        path = _fetch(repository, revision, is_known=repository == known)
    load_tensors(backbone, segformer_to_mit(read_weights(path)), str(path))
    return backbone


def _module_name(module: str) -> str:
    for pattern, ours in OUTER:
        match = re.match(pattern + r"(?:\.|$)", module)
        if match is not None:
            inner = module[match.end() :]
            outer = match.expand(ours)
            return f"{outer}.{INNER.get(inner, inner)}" if inner else outer
    return module


def _fetch(hub_id: str, revision: str | None, *, is_known: bool) -> Path:
    """The weights of a repository at a revision; of others than the published ones, safetensors of a commit alone."""
    from huggingface_hub import hf_hub_download

    if not is_known and revision is None:
        raise UserError(
            f"{hub_id} is a repository of the hub, whose files may change: write {hub_id}@<commit>, the 40 characters of "
            "a commit's name, or give a file's path."
        )
    error: Exception | None = None
    for filename in ("model.safetensors", "pytorch_model.bin")[: 2 if is_known else 1]:
        try:
            return Path(hf_hub_download(hub_id, filename, revision=revision))
        except Exception as caught:  # the hub's client raises many kinds; the user's remedy is the same
            error = caught
    raise UserError(
        f"The weights of {hub_id} could not be fetched ({type(error).__name__}): "
        "check the network, or give a file's path."
    ) from error
