"""From photos to probabilities: scales, flips, branches, and the dense CRF.

Shapes: B photos of one size, K classes with background, C = K - 1, H W pixels, h w of the size the model works at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from tagseg.errors import UserError
from tagseg.methods import Method
from tagseg.methods.method import present_classes
from tagseg.precision import computing_in
from tagseg.prediction.settings import NO_LOGITS, PredictSettings
from tagseg.prediction.tiling import Window
from tagseg.refine import dense_crf
from tagseg.resize import resize, size_of

# A label that is nowhere likelier than this keeps no pixel in the CRF, whose time grows with the labels it carries.
NEGLIGIBLE = 0.01
Read = Callable[[Method, Tensor, Tensor | None], Tensor]
ENLARGED_CAP = 1 << 26  # pixels that a photo is enlarged to at most
REFINED_CAP = 1 << 20  # pixels for the dense CRF of a photo that the network has read smaller still


@torch.inference_mode()
def working_probabilities(
    method: Method, settings: PredictSettings, photo_BHW3: Tensor, tag_BC: Tensor | None = None
) -> Tensor:
    """Probabilities (B, K, h, w) of uint8 photos at the size of scale 1, merged over scales and flips, before any CRF.

    With tags, those of absent classes are 0, and background counts as much as `tagged_background` says. h, w are the
    photo's own size unless the settings name a long or a short side.
    """
    photo_B3HW = photo_BHW3.permute(0, 3, 1, 2)
    size = settings.working_size(photo_B3HW.shape[2], photo_B3HW.shape[3])
    _check_enlarged(settings, size, photo_B3HW.shape[2] * photo_B3HW.shape[3])
    if size != photo_B3HW.shape[2:]:
        photo_B3HW = F.interpolate(photo_B3HW, size, mode="bilinear", antialias=True)
    image_B3hw = photo_B3HW.to(device_of(method)).float() / 255
    tag_BC = None if tag_BC is None else tag_BC.to(image_B3hw.device)
    logits = settings.merge == "max_logits"
    merged_BKhw: Tensor | None = None
    for scale in settings.scales:
        view_B3hw = resize(image_B3hw, (max(round(size[0] * scale), 1), max(round(size[1] * scale), 1)))
        read = _logits if logits else _probabilities
        view_BKhw = resize(_both_ways(read, method, settings, view_B3hw, tag_BC), size)
        if merged_BKhw is None:
            merged_BKhw = view_BKhw
        else:
            merged_BKhw = merged_BKhw + view_BKhw if settings.merge == "mean" else torch.maximum(merged_BKhw, view_BKhw)
    assert merged_BKhw is not None
    if logits:
        merged_BKhw = merged_BKhw.softmax(1)
        if tag_BC is not None:
            merged_BKhw = present_classes(merged_BKhw, tag_BC)
    weighted = tag_BC is not None and settings.tagged_background < 1
    if weighted:
        background, objects = merged_BKhw.split([1, merged_BKhw.shape[1] - 1], 1)
        merged_BKhw = torch.cat([background * settings.tagged_background, objects], 1)
    if (len(settings.scales) == 1 or logits) and not weighted:
        return merged_BKhw
    return merged_BKhw / merged_BKhw.sum(1, keepdim=True)


def _check_enlarged(settings: PredictSettings, size: tuple[int, int], pixels: int) -> None:
    """Refuse to enlarge a photo beyond all memory: the cap on photos says nothing of what is made of them."""
    scale = max(1.0, *settings.scales)
    height, width = (max(round(side * scale), 1) for side in size)
    if height * width > max(ENLARGED_CAP, pixels):
        cause = f"scale {scale:g}" if size[0] * size[1] <= max(ENLARGED_CAP, pixels) else "long_side or short_side"
        raise UserError(
            f"{cause} makes {width:,} x {height:,} pixels of a photo, more than {ENLARGED_CAP:,}: set a smaller one, "
            "or leave the photo out."
        )


def _probabilities(method: Method, image_B3hw: Tensor, tag_BC: Tensor | None) -> Tensor:
    return method.segment(image_B3hw) if tag_BC is None else method.segment_tagged(image_B3hw, tag_BC)


def _logits(method: Method, image_B3hw: Tensor, tag_BC: Tensor | None) -> Tensor:
    logit_BKhw = method.segment_logits(image_B3hw) if tag_BC is None else method.tagged_logits(image_B3hw, tag_BC)
    if logit_BKhw is None:
        raise UserError(f"{NO_LOGITS.format(method.settings.name)}.")
    return logit_BKhw


def _both_ways(
    read: Read, method: Method, settings: PredictSettings, image_B3hw: Tensor, tag_BC: Tensor | None
) -> Tensor:
    """Maps of a view, or the mean of it and its mirror image, which go through the model as one batch."""
    count = len(image_B3hw)
    if settings.flip:
        image_B3hw = torch.cat([image_B3hw, image_B3hw.flip(-1)])
        tag_BC = None if tag_BC is None else torch.cat([tag_BC, tag_BC])
    with computing_in(settings.precision, image_B3hw.device):
        map_BKhw = read(method, image_B3hw, tag_BC)
    map_BKhw = map_BKhw.float()
    if settings.flip:
        map_BKhw = (map_BKhw[:count] + map_BKhw[count:].flip(-1)) / 2
    return map_BKhw


@torch.inference_mode()
def branch_maps(method: Method, photo_BHW3: Tensor, tag_BC: Tensor | None = None) -> dict[str, Tensor]:
    """Probabilities (B, K, H, W) of each branch in one pass at the photos' own size; with tags, absent classes are 0."""
    device = device_of(method)
    tag_BC = None if tag_BC is None else tag_BC.to(device)
    branches = method.branches(as_image(photo_BHW3, device), tag_BC)
    if tag_BC is None:
        return branches
    return {name: present_classes(probability, tag_BC) for name, probability in branches.items()}


def device_of(method: Method) -> torch.device:
    """Where a method computes."""
    return next(method.parameters()).device


def as_image(photo_BHW3: Tensor, device: torch.device) -> Tensor:
    """Photos as float (B, 3, H, W) in [0, 1] on a device."""
    return photo_BHW3.to(device).permute(0, 3, 1, 2).float() / 255


def reduced(photo: NDArray[np.uint8], pixels: int) -> NDArray[np.uint8]:
    """The photo itself up to so many pixels, else made smaller to about as many."""
    height, width = photo.shape[:2]
    if height * width <= pixels:
        return photo
    ratio = (pixels / (height * width)) ** 0.5
    size = (max(int(height * ratio), 1), max(int(width * ratio), 1))
    photo_13HW = torch.from_numpy(photo).permute(2, 0, 1)[None]
    return F.interpolate(photo_13HW, size, mode="bilinear", antialias=True)[0].permute(1, 2, 0).contiguous().numpy()


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
    """The dense CRF over several photos, with the labels that are likely enough anywhere to keep a pixel.

    The others come back as 0. What the network has read smaller is refined with at most a million pixels, and enlarged.
    """
    crf = settings.crf
    if crf is None or not probabilities:
        return list(probabilities)
    sizes = [size_of(probability) for probability in probabilities]
    photos = [refined_photo(settings, photo) for photo in photos]
    probabilities = [_at_size(p, photo.shape[:2]) for p, photo in zip(probabilities, photos, strict=True)]
    device = probabilities[0].device
    # one read for all photos: on a device each would be a wait
    peaks = torch.stack([p.amax((1, 2)) for p in probabilities]).tolist()
    carried = [[k for k, peak in enumerate(own) if peak >= NEGLIGIBLE] or list(range(len(own))) for own in peaks]
    present = [torch.tensor(labels).to(device, non_blocking=True) for labels in carried]
    refined = dense_crf(
        [torch.from_numpy(photo).to(device, non_blocking=True) for photo in photos],
        [p.index_select(0, labels) for p, labels in zip(probabilities, present, strict=True)],
        gaussian=crf.gaussian,
        bilateral=crf.bilateral,
        iterations=crf.iterations,
        threads=threads,
        check_finite=False,
    )
    whole = []
    for probability, labels, marginal in zip(probabilities, present, refined, strict=True):
        whole.append(torch.zeros_like(probability).index_copy_(0, labels, marginal))
    return [_at_size(refined, size) for refined, size in zip(whole, sizes, strict=True)]


def refined_photo(settings: PredictSettings, photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The photo as the dense CRF sees it: smaller where it is very large, and the network has read it smaller still."""
    height, width = photo.shape[:2]
    smaller = settings.working_size(height, width)[0] < height
    return reduced(photo, REFINED_CAP) if smaller else photo


def _at_size(map_KHW: Tensor, size: Sequence[int]) -> Tensor:
    return map_KHW if size_of(map_KHW) == tuple(size) else resize(map_KHW[None], (size[0], size[1]))[0]


def class_mask(probability_KHW: Tensor) -> NDArray[np.uint8]:
    """The likeliest class of each pixel (H, W) uint8; the first of several that are equal."""
    # torch's max finds the same as its argmax, in a quarter of the time on a CPU
    return probability_KHW.max(0).indices.to(torch.uint8).cpu().numpy()
