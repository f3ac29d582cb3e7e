"""Weights on disk: safetensors, whole or not there, never unpickled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from tagseg.errors import UserError
from tagseg.files import replacing
from tagseg.foreign import reading

MODEL, AVERAGE = "model.", "average."  # how the names of a checkpoint's tensors start


def save_weights(path: Path, module: nn.Module) -> None:
    """Write a module's weights as safetensors, atomically."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    with replacing(path, durable=True) as temporary:
        save_file(tensors, temporary)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The weights of a safetensors file by name, on the CPU; of a checkpoint, those that were scored: the mean, if any.

    Raises UserError when the file is missing or is not safetensors.
    """
    tensors, facts = read_with_facts(path)
    if facts is None:
        return tensors
    return named(tensors, AVERAGE) or named(tensors, MODEL)


def load_weights(path: Path, module: nn.Module) -> None:
    """Fill a module with the weights of a file; every name and shape has to fit.

    Raises UserError that names the file and what does not fit.
    """
    tensors = read_weights(path)
    own = module.state_dict()
    lacking = [name for name in own if name not in tensors]
    unknown = [name for name in tensors if name not in own]
    shapes = [
        f"{name} {tuple(tensors[name].shape)} for {tuple(own[name].shape)}"
        for name in own
        if name in tensors and tensors[name].shape != own[name].shape
    ]
    problems = [
        f"{what} {_some(names)}"
        for what, names in (("lacks", lacking), ("has unknown", unknown), ("has", shapes))
        if names
    ]
    if problems:
        raise UserError(f"{path} does not fit this model: it {', '.join(problems)}; give the file that belongs to it.")
    module.load_state_dict(tensors)


def _some(names: list[str], limit: int = 3) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def read_with_facts(path: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """Tensors and, of a checkpoint, the facts beside them. Raises as `read_weights`."""
    if not path.is_file():
        raise UserError(f"{path} does not exist or is not a file: give a .safetensors file.")
    with reading(path, "safetensors", "it is damaged or of another kind"):
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
        return tensors, json.loads(metadata["facts"]) if "facts" in metadata else None


def named(tensors: dict[str, Tensor], kind: str) -> dict[str, Tensor]:
    """The tensors whose names start with `kind`, without it."""
    return {name.removeprefix(kind): tensor for name, tensor in tensors.items() if name.startswith(kind)}
