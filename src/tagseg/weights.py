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
from tagseg.foreign import reading, shown

KIND, FIX = "safetensors", "it is damaged or of another kind"
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
    _check_fit(path, {name: tuple(tensor.shape) for name, tensor in tensors.items()}, module)
    module.load_state_dict(tensors)


def check_weights(path: Path, module: nn.Module) -> None:
    """Raise as `load_weights` does, by the file's header alone: nothing of the weights is read, or filled in.

    module: may lie on the device "meta", where it takes no memory.
    """
    _check_file(path)
    with reading(path, KIND, FIX), safe_open(path, framework="pt") as file:
        names = list(file.keys())
        kinds = [kind for kind in (AVERAGE, MODEL) if any(name.startswith(kind) for name in names)]
        kind = kinds[0] if kinds and "facts" in (file.metadata() or {}) else ""
        shapes = {
            name.removeprefix(kind): tuple(file.get_slice(name).get_shape()) for name in names if name.startswith(kind)
        }
    _check_fit(path, shapes, module)


def _check_fit(path: Path, given: dict[str, tuple[int, ...]], module: nn.Module) -> None:
    own = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    lacking = [name for name in own if name not in given]
    unknown = [shown(name)[1:-1] for name in given if name not in own]
    shapes = [f"{name} {given[name]} for {own[name]}" for name in own if name in given and given[name] != own[name]]
    problems = [
        f"{what} {_some(names)}"
        for what, names in (("lacks", lacking), ("has unknown", unknown), ("has", shapes))
        if names
    ]
    if problems:
        raise UserError(f"{path} does not fit this model: it {', '.join(problems)}; give the file that belongs to it.")


def _some(names: list[str], limit: int = 3) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def read_with_facts(path: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """Tensors and, of a checkpoint, the facts beside them. Raises as `read_weights`."""
    _check_file(path)
    with reading(path, KIND, FIX):
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
        return tensors, _facts(metadata)


def read_facts(path: Path) -> dict[str, Any] | None:
    """The facts of a checkpoint, by the file's header alone; None of other weights. Raises as `read_weights`."""
    _check_file(path)
    with reading(path, KIND, FIX), safe_open(path, framework="pt") as file:
        return _facts(file.metadata() or {})


def _facts(metadata: dict[str, str]) -> dict[str, Any] | None:
    facts = json.loads(metadata["facts"]) if "facts" in metadata else None
    if not isinstance(facts, dict | None):
        raise ValueError("its facts are no table")
    return facts


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise UserError(f"{path} does not exist or is not a file: give a .safetensors file.")


def named(tensors: dict[str, Tensor], kind: str) -> dict[str, Tensor]:
    """The tensors whose names start with `kind`, without it."""
    return {name.removeprefix(kind): tensor for name, tensor in tensors.items() if name.startswith(kind)}
