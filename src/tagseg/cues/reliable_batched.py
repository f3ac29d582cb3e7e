"""Reliable labels of a whole batch by operations that share their launches and never ask the device.

The same labels as photo by photo; what the host has to know, the tags, it is told.

Shapes: B photos, C classes, P tags of the photo that has most, S = P + 1, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from tagseg.mask_values import IGNORE
from tagseg.refine import dense_crf
from tagseg.refine.lattice import Lattice

if TYPE_CHECKING:
    from tagseg.cues.reliable import ReliableSettings

FLOOR = 0.1  # CAM values up to this are never sure (RRM)


@torch.no_grad()
def reliable_labels_batched(
    photo_B3HW: Tensor,
    cam_BCHW: Tensor,
    tags: Sequence[Sequence[int]],
    settings: ReliableSettings,
    *,
    lattice: Lattice | None = None,
    backend: str = "auto",
) -> Tensor:
    """Labels (B, H, W) uint8 as `reliable_labels` gives them.

    tags: the tagged classes of each photo, ascending. lattice, backend: of the CRF, as for `dense_crf`; a lattice holds
    the whole batch.
    """
    batch, device = len(photo_B3HW), photo_B3HW.device
    most = max((len(own) for own in tags), default=0)
    index_BP = _table([[*own, *[0] * (most - len(own))] for own in tags], most, device)
    present_BP = _table([[1] * len(own) + [0] * (most - len(own)) for own in tags], most, device)
    cam_BPHW = cam_BCHW.gather(1, index_BP[:, :, None, None].expand(-1, -1, *cam_BCHW.shape[2:]))
    cam_BPHW = cam_BPHW * present_BP[:, :, None, None]
    # the CAM of an absent class is 0, which changes no maximum: CAMs are at least 0
    rest_B1HW = 1 - cam_BPHW.amax(1, keepdim=True) if most else torch.ones_like(cam_BCHW[:, :1])
    low_BSHW, high_BSHW = (
        torch.cat([rest_B1HW**alpha, cam_BPHW], 1) for alpha in (settings.alpha_low, settings.alpha_high)
    )
    photos = [photo.permute(1, 2, 0) for photo in photo_B3HW]
    crf = settings.crf
    marginals = dense_crf(
        photos * 2,
        [scores[: len(own) + 1] for maps in (low_BSHW, high_BSHW) for scores, own in zip(maps, tags, strict=True)],
        gaussian=crf.gaussian,
        bilateral=crf.bilateral,
        iterations=crf.iterations,
        lattice=None if lattice is None else [lattice] * 2 * batch,
        backend=backend,
        check_finite=False,
    )
    q_low_BSHW, q_high_BSHW = (_padded(part, most + 1) for part in (marginals[:batch], marginals[batch:]))
    channel_low, channel_high = q_low_BSHW.argmax(1), q_high_BSHW.argmax(1)
    channel_BHW = torch.where(channel_low > 0, channel_low, IGNORE)
    channel_BHW = torch.where(channel_high == 0, 0, channel_BHW)
    sure_BHW = _sure(high_BSHW, channel_low, settings)
    crf_sure_BHW = torch.maximum(q_high_BSHW[:, 0], q_low_BSHW[:, 1:].amax(1)) if most else q_high_BSHW[:, 0]
    channel_BHW = torch.where(sure_BHW & (crf_sure_BHW >= settings.crf_sure), channel_BHW, IGNORE)
    classes = [[0, *[tag + 1 for tag in own], *[IGNORE] * (IGNORE - len(own))] for own in tags]
    class_BK = _table(classes, IGNORE + 1, device).to(torch.uint8)
    return class_BK.gather(1, channel_BHW.flatten(1)).view_as(channel_BHW)


def _sure(score_BSHW: Tensor, channel_BHW: Tensor, settings: ReliableSettings) -> Tensor:
    """Where the CAM is sure (B, H, W): of background above a score, of a class among its highest values.

    Only channels that the CRF under the low power gives to some pixel count.
    """
    channels = score_BSHW.shape[1]
    number_S11 = torch.arange(channels, device=score_BSHW.device)[:, None, None]
    value_BSN = (score_BSHW * (score_BSHW.argmax(1, keepdim=True) == number_S11)).flatten(2)
    given_BS = (channel_BHW[:, None] == number_S11).flatten(2).any(2)
    sure_BN = (value_BSN[:, 0] > settings.background_sure) & given_BS[:, :1]
    if channels > 1:
        foreground_BPN = value_BSN[:, 1:]
        count_BP = (foreground_BPN > FLOOR).sum(2)
        pixels = foreground_BPN.shape[2]
        place_BP = left_out(settings.keep, pixels, score_BSHW.device)[count_BP] + pixels - count_BP
        place_BP1 = place_BP.clamp(max=pixels - 1)[:, :, None]
        bound_BP1 = foreground_BPN.sort(2).values.gather(2, place_BP1)
        allowed_BP1 = (given_BS[:, 1:] & (count_BP > 0))[:, :, None]
        sure_BN = sure_BN | ((foreground_BPN > bound_BP1) & allowed_BP1).any(1)
    return sure_BN.view_as(channel_BHW)


@lru_cache(maxsize=8)
def left_out(keep: float, most: int, device: torch.device) -> Tensor:
    """int((1 - keep) * n) for n of 0 to `most` values, counted in double precision, which not every device has."""
    return ((1 - keep) * torch.arange(most + 1, dtype=torch.float64)).long().to(device)


def _padded(maps: Sequence[Tensor], channels: int) -> Tensor:
    """Maps of several photos as (B, channels, H, W), 0 in channels that a photo lacks."""
    if all(len(one) == channels for one in maps):
        return torch.stack(list(maps))
    return torch.stack([F.pad(one, (0, 0, 0, 0, 0, channels - len(one))) for one in maps])


def _table(rows: list[list[int]], columns: int, device: torch.device) -> Tensor:
    """Whole numbers (B, columns) from the host."""
    return torch.tensor(rows, dtype=torch.int64).view(len(rows), columns).to(device, non_blocking=True)
