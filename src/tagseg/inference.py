"""From photos to probabilities: scales, flips, and the dense CRF.

Shapes: B photos of one size, K classes with background, C = K - 1, H W pixels, h w of the size the model works at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from tagseg.cues.views import in_bfloat16
from tagseg.methods import Method
from tagseg.refine import dense_crf
from tagseg.refine.settings import CRFSettings
from tagseg.settings import Scales, Settings
from tagseg.tiling import Window


class PredictSettings(Settings):
    """How a trained model reads a photo: the defaults are RRM's and ASDT's, one pass at the photo's own size.

    AFA, TSCD and BMP test with long_side 512, scales 1, 0.5 and 0.75, flip and merge "max" (of logits; here of
    probabilities).
    """

    crf: CRFSettings | None = CRFSettings()
    scales: Scales = Field((1.0,), min_length=1, description="sizes at which a photo is read")
    flip: bool = Field(False, description="read it mirrored as well; the mean of both counts")
    merge: Literal["mean", "max"] = Field("mean", description="over scales: the mean, or the elementwise maximum")
    long_side: int | None = Field(
        None, ge=16, le=32_768, description="longer side at scale 1 in pixels; None: as the photo is"
    )
    tagged_background: float = Field(
        1.0,
        gt=0,
        le=1,
        description="where a photo's tags are given, background's probability counts this much: the doubt whether a "
        "class is there at all, which the model gives to background, has gone",
    )
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="bf16: the network under bfloat16 autocast; faster where the processor has it, masks alike"
    )


@torch.inference_mode()
def working_probabilities(
    method: Method, settings: PredictSettings, photo_BHW3: Tensor, tag_BC: Tensor | None = None
) -> Tensor:
    """Probabilities (B, K, h, w) of uint8 photos at the size of scale 1, merged over scales and flips, before any CRF.

    With tags, those of absent classes are 0, and background counts as much as `tagged_background` says. h, w are the
    photo's own size unless the settings name a long side.
    """
    device = next(method.parameters()).device
    photo_B3HW = photo_BHW3.permute(0, 3, 1, 2)
    height, width = photo_B3HW.shape[2:]
    if settings.long_side is not None:
        ratio = settings.long_side / max(height, width)
        height, width = max(round(height * ratio), 1), max(round(width * ratio), 1)
        photo_B3HW = F.interpolate(photo_B3HW, (height, width), mode="bilinear", antialias=True)
    image_B3hw = photo_B3HW.to(device).float() / 255
    tag_BC = None if tag_BC is None else tag_BC.to(device)
    merged_BKhw: Tensor | None = None
    for scale in settings.scales:
        view_B3hw = resize(image_B3hw, (max(round(height * scale), 1), max(round(width * scale), 1)))
        view_BKhw = resize(_both_ways(method, settings, view_B3hw, tag_BC), (height, width))
        if merged_BKhw is None:
            merged_BKhw = view_BKhw
        else:
            merged_BKhw = torch.maximum(merged_BKhw, view_BKhw) if settings.merge == "max" else merged_BKhw + view_BKhw
    assert merged_BKhw is not None
    weighted = tag_BC is not None and settings.tagged_background < 1
    if weighted:
        background, objects = merged_BKhw.split([1, merged_BKhw.shape[1] - 1], 1)
        merged_BKhw = torch.cat([background * settings.tagged_background, objects], 1)
    if len(settings.scales) == 1 and not weighted:
        return merged_BKhw
    return merged_BKhw / merged_BKhw.sum(1, keepdim=True)


def _both_ways(method: Method, settings: PredictSettings, image_B3hw: Tensor, tag_BC: Tensor | None) -> Tensor:
    """Probabilities of a view, or the mean of it and its mirror image, which go through the model as one batch."""
    count = len(image_B3hw)
    if settings.flip:
        image_B3hw = torch.cat([image_B3hw, image_B3hw.flip(-1)])
        tag_BC = None if tag_BC is None else torch.cat([tag_BC, tag_BC])
    with in_bfloat16(settings.precision == "bf16", image_B3hw.device):
        probability_BKhw = method.segment(image_B3hw) if tag_BC is None else method.segment_tagged(image_B3hw, tag_BC)
    probability_BKhw = probability_BKhw.float()
    if settings.flip:
        probability_BKhw = (probability_BKhw[:count] + probability_BKhw[count:].flip(-1)) / 2
    return probability_BKhw


def resize(map_BKhw: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear resize; the map itself where it has the size."""
    if map_BKhw.shape[2:] == size:
        return map_BKhw
    return F.interpolate(map_BKhw, size, mode="bilinear", align_corners=False)


def resized_window(map_Khw: Tensor, size: tuple[int, int], window: Window) -> Tensor:
    """A window of what `resize` to (H, W) would give, without making the rest."""
    for axis, (first, end), full in ((1, window[:2], size[0]), (2, window[2:], size[1])):
        length = map_Khw.shape[axis]
        place = ((torch.arange(first, end, device=map_Khw.device) + 0.5) * (length / full) - 0.5).clamp(0, length - 1)
        lower = place.floor().long()
        share = (place - lower).view((-1, 1) if axis == 1 else (-1,))
        upper = (lower + 1).clamp(max=length - 1)
        map_Khw = torch.lerp(map_Khw.index_select(axis, lower), map_Khw.index_select(axis, upper), share)
    return map_Khw


def refine_probabilities(
    settings: PredictSettings,
    photos: Sequence[NDArray[np.uint8]],
    probabilities: Sequence[Tensor],
    threads: int | None = None,
) -> list[Tensor]:
    """The dense CRF over several photos, with the labels that have a probability anywhere (the others stay 0)."""
    crf = settings.crf
    if crf is None:
        return list(probabilities)
    present = [p.amax((1, 2)).nonzero().flatten() for p in probabilities]
    refined = dense_crf(
        [torch.from_numpy(photo).to(p.device) for photo, p in zip(photos, probabilities, strict=True)],
        [p[labels].contiguous() for p, labels in zip(probabilities, present, strict=True)],
        gaussian=crf.gaussian,
        bilateral=crf.bilateral,
        iterations=crf.iterations,
        threads=threads,
    )
    whole = []
    for probability, labels, marginal in zip(probabilities, present, refined, strict=True):
        result = torch.zeros_like(probability)
        result[labels] = marginal
        whole.append(result)
    return whole


def class_mask(probability_KHW: Tensor) -> NDArray[np.uint8]:
    """The likeliest class of each pixel (H, W) uint8; the first of several that are equal."""
    # torch's max finds the same as its argmax, in a quarter of the time on a CPU
    return probability_KHW.max(0).indices.to(torch.uint8).cpu().numpy()


@contextmanager
def one_thread_a_photo(device: torch.device) -> Iterator[int]:
    """How many photos to work at at once: on a CPU as many as torch has threads, each photo with one of them.

    A photo a thread takes about two thirds of the time of all threads at one photo, which wait for each other after
    every layer. A GPU takes batches instead: 1.
    """
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1:
        yield 1
        return
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)
