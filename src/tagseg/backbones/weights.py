"""Weights for a backbone: from a file, safely, with every disagreement named."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from zipfile import ZipFile, is_zipfile

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tagseg.errors import UserError
from tagseg.foreign import reading, shown

PICKLE_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt")
WRAPPERS = ("state_dict", "model_state_dict", "model")


def hub_name(weights: str) -> tuple[str | None, str | None]:
    """Repository and commit of weights on the hub, as in "hub", "hub@COMMIT", "owner/name@COMMIT".

    The repository is "" for the model's own, and None for what is no name on the hub but a file. COMMIT: 40 hexadecimal
    digits, which stand for the same bytes for ever, as the name of a branch doesn't.
    """
    match = re.fullmatch(r"(hub|[\w.-]+/[\w.-]+?)(?:@([0-9a-f]{40}))?", weights)
    if match is None and re.match(r"(hub|[\w.-]+/[\w.-]+)@", weights) and not Path(weights).exists():
        raise UserError(f"weights {shown(weights)}: behind @ stands a commit, 40 hexadecimal digits, no branch or tag.")
    if match is None or (match[2] is None and match[1] != "hub" and Path(weights).suffix):
        return None, None
    return "" if match[1] == "hub" else match[1], match[2]


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors by name from a .safetensors file or a PyTorch file; code inside a file is never run.

    Common wrappings are taken off: a dict around the tensors, "module." in front of every name. Raises UserError when
    the file is missing, broken, of another kind, or needs code to be run.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist: give the path of a weights file (.safetensors or .pth).")
    if path.suffix == ".safetensors":
        with reading(path, "safetensors"):
            return load_file(path)
    if path.suffix not in PICKLE_SUFFIXES:
        raise UserError(f"{path} is not a weights file known here: use .safetensors, or .pth with tensors only.")
    with reading(path, "a PyTorch weights file"):
        _check_packing(path)
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            if "Weights only load failed" in str(error) and "nsupported" in str(error):
                raise UserError(
                    f"{path} holds more than tensors (it would run code when opened) and was refused: "
                    "save its state_dict as .safetensors where you trust it."
                ) from error
            raise ValueError("its pickle is broken") from error  # torch says pages on weights_only
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping):
        raise UserError(f"{path} holds a {type(content).__name__} where tensors by name (a state_dict) are expected.")
    tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    if tensors and all(key.startswith("module.") for key in tensors):
        tensors = {key.removeprefix("module."): value for key, value in tensors.items()}
    return tensors


def _check_packing(path: Path) -> None:
    """Refuse an archive that unpacks to more than it is: torch itself never packs tensors."""
    if is_zipfile(path):
        with ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > path.stat().st_size:
                raise ValueError("its tensors are compressed or larger than the file")


def load_tensors(module: nn.Module, tensors: Mapping[str, Tensor], source: str, *, unused: Sequence[str] = ()) -> None:
    """Copy tensors into a module; names and shapes must agree, apart from names that start with one of `unused`.

    Names that are missing, superfluous or of another shape raise UserError with the first of them.
    """
    own = module.state_dict()
    given = {key: value for key, value in tensors.items() if not key.startswith(tuple(unused))}
    # Older files lack the counter, which nothing reads here.
    missing = [key for key in own if key not in given and not key.endswith("num_batches_tracked")]
    superfluous = [key for key in given if key not in own]
    reshaped = [key for key in own if key in given and own[key].shape != given[key].shape]
    for keys, words in ((missing, "lacks"), (superfluous, "holds unknown")):
        if keys:
            raise UserError(
                f"{source} does not fit this backbone: it {words} {shown(keys[0])[1:-1]} ({len(keys)} of {len(own)} names in all)."
            )
    if reshaped:
        key = reshaped[0]
        raise UserError(
            f"{source} does not fit this backbone: {key} has shape {tuple(given[key].shape)}, "
            f"needed is {tuple(own[key].shape)} ({len(reshaped)} such)."
        )
    module.load_state_dict(given, strict=False)
