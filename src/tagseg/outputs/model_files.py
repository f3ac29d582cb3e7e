"""A trained network as one file: ONNX, torch.export, safetensors.

Shapes: B photos of one size, K classes with background, H W pixels.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from keyword import iskeyword
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tagseg.errors import UserError
from tagseg.files import replacing

INPUT, OUTPUTS = "photo", ("probabilities", "mask")
TOLERANCE = 1e-4
CHECKED_SIZES = ((1, 64, 96), (2, 97, 71))


class PhotosToMasks(nn.Module):
    """What is exported: uint8 RGB photos (B, H, W, 3) to probabilities (B, K, H, W) and masks (B, H, W) uint8.

    Scaling to [0, 1] and the backbone's normalization are inside; the dense CRF, scales and flips are not.
    network: a module with `segment`.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, photo_BHW3: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities and masks."""
        probability_BKHW = self.network.segment(photo_BHW3.permute(0, 3, 1, 2).float() / 255)
        return probability_BKHW, probability_BKHW.argmax(1).to(torch.uint8)


def trace(network: nn.Module) -> torch.export.ExportedProgram:
    """The network as a graph for photos of any number and size; UserError when it has parts that no graph can hold."""
    dynamic = torch.export.Dim.DYNAMIC
    photo_BHW3 = torch.zeros(2, 97, 130, 3, dtype=torch.uint8, device=next(network.parameters()).device)
    try:
        with torch.no_grad():
            module = PhotosToMasks(_renamed(network)).eval()
            shapes = ({0: dynamic, 1: dynamic, 2: dynamic},)
            return _without_places(torch.export.export(module, (photo_BHW3,), dynamic_shapes=shapes))
    except Exception as error:  # torch raises errors of many kinds here, none of them documented
        raise UserError(
            f"{type(network).__name__} cannot be written as a graph ({_reason(error)}); export it with --format safetensors."
        ) from error


def _without_places(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """The program without the lines of code that each node came from: they name the folders of this machine."""
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)
    return program


def _reason(error: Exception) -> str:
    """The first line of what torch says, which may be pages, or nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


class _RenamedDict(nn.ModuleDict):
    """A ModuleDict whose parts named by a word of Python's stand under that word and an underscore."""

    def __getitem__(self, key: str) -> nn.Module:
        return super().__getitem__(f"{key}_" if iskeyword(key) else key)

    def __contains__(self, key: object) -> bool:
        return f"{key}_" in self._modules if isinstance(key, str) and iskeyword(key) else key in self._modules


def _renamed(network: nn.Module) -> nn.Module:
    """A copy whose parts have no word of Python's for a name: torch would write `self.heads.class` into its code."""
    copy = deepcopy(network)
    for module in list(copy.modules()):
        names = list(module._modules)
        if isinstance(module, nn.ModuleDict) and any(map(iskeyword, names)):
            module.__class__ = _RenamedDict
            module._modules = {f"{name}_" if iskeyword(name) else name: module._modules[name] for name in names}
    return copy


def write_onnx(network: nn.Module, facts: dict[str, Any], path: Path) -> float:
    """Write an ONNX file with its facts as metadata; returns the largest difference to torch that onnxruntime shows.

    Raises UserError when what it needs is not installed, or the file gives other probabilities (by more than 1e-4).
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 (what torch's exporter needs)
    except ImportError as error:
        raise UserError(f'ONNX needs {error.name}: pip install "tagseg[export]".') from error
    exported = torch.onnx.export(
        trace(network), dynamo=True, input_names=[INPUT], output_names=list(OUTPUTS), verbose=False
    )
    assert exported is not None
    exported.model.metadata_props.update({key: _text(value) for key, value in facts.items()})
    with replacing(path) as temporary:
        exported.save(str(temporary), external_data=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        # From the bytes: a file that is open could not be renamed on Windows.
        session = onnxruntime.InferenceSession(temporary.read_bytes(), options, providers=["CPUExecutionProvider"])

        def run(photo_BHW3: Tensor) -> Tensor:
            return torch.from_numpy(session.run(None, {INPUT: photo_BHW3.numpy()})[0])

        return _largest_difference(network, run)


def write_torch(network: nn.Module, facts: dict[str, Any], path: Path) -> float:
    """Write a torch.export program, its facts in the extra file `tagseg.json`; returns as `write_onnx`."""
    program = trace(network)
    with replacing(path) as temporary:
        # The temporary file has the suffix of the path, and torch insists on .pt2.
        try:
            torch.export.save(program, temporary, extra_files={"tagseg.json": json.dumps(facts, ensure_ascii=False)})
        except Exception as error:  # of an operation that torch traces but has no name for in a file
            raise UserError(
                f"torch.export cannot save {type(network).__name__} ({_reason(error)}); "
                "export it with --format onnx or safetensors."
            ) from error
        module = torch.export.load(temporary).module()
        return _largest_difference(network, lambda photo: module(photo)[0])


def write_safetensors(network: nn.Module, facts: dict[str, Any], path: Path) -> None:
    """Write the weights, the facts in the file's header."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata={key: _text(value) for key, value in facts.items()})


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@torch.no_grad()
def _largest_difference(network: nn.Module, run: Callable[[Tensor], Tensor]) -> float:
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    device = next(network.parameters()).device
    for count, height, width in CHECKED_SIZES:
        photo_BHW3 = torch.randint(0, 256, (count, height, width, 3), generator=generator, dtype=torch.uint8)
        expected = PhotosToMasks(network)(photo_BHW3.to(device))[0].cpu()
        try:
            found = run(photo_BHW3).cpu()
        except (AssertionError, RuntimeError) as error:  # torch's guards of a size that the graph has fixed
            raise UserError(
                f"{type(network).__name__} cannot be written as a graph for photos of any size; export it with --format "
                "safetensors."
            ) from error
        worst = max(worst, (expected - found).abs().max().item())
    if not worst <= TOLERANCE:
        raise UserError(f"The exported {type(network).__name__} is off by {worst:.1e}: export it as safetensors.")
    return worst
