"""The forms in which a prediction leaves: PNG, overlay, JSON with RLE or polygons, Hugging Face's image segmentation.

Shapes: H W pixels, K classes with background.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tagseg.data.palette import PALETTE, color, overlay
from tagseg.data.photo import browser_type
from tagseg.mask_values import IGNORE
from tagseg.outputs.polygons import trace
from tagseg.outputs.rle import compress, encode_rle
from tagseg.outputs.writer import box
from tagseg.segmenter import Prediction

MASKS = ("rle", "polygons", "png", "none")


def tag_names(text: str, classes: Sequence[str]) -> list[str]:
    """The tags in a text: the one that it is as a whole, for a name may hold a comma, else those between its commas."""
    return [text] if text in classes else [part for part in map(str.strip, text.split(",")) if part]


def mask_png(mask: NDArray[np.uint8]) -> bytes:
    """A mask as a palette PNG of class numbers, as `tagseg predict` writes it."""
    image = Image.fromarray(mask, mode="P")
    image.putpalette(PALETTE.tobytes())
    return _bytes(image, "PNG")


def overlay_jpeg(photo: NDArray[np.uint8], mask: NDArray[np.uint8]) -> bytes:
    """The photo with the classes' colors over it."""
    return _bytes(Image.fromarray(overlay(photo, mask)), "JPEG", quality=90)


def as_json(prediction: Prediction, masks: str = "rle") -> dict[str, Any]:
    """Size and classes found, each with its area, share, box, confidence and mask: COCO's RLE, polygons, or a PNG."""
    mask_HW = prediction.mask
    height, width = mask_HW.shape
    found = []
    for k in np.flatnonzero(np.bincount(mask_HW.ravel(), minlength=256)[:IGNORE]):
        if k == 0:
            continue
        inside = mask_HW == k
        about: dict[str, Any] = {
            "class": int(k),
            "label": prediction.classes[k],
            "color": color(int(k)),
            "area": int(inside.sum()),
            "share": round(float(inside.mean()), 6),
            "box": list(box(inside)),
            "confidence": _confidence(prediction, inside),
        }
        if masks == "rle":
            about["rle"] = {"size": [height, width], "counts": compress(encode_rle(inside))}
        elif masks == "polygons":
            about["polygons"] = [polygon.astype(int).tolist() for polygon in trace(inside)]
        found.append(about)
    whole = {"mask": base64.b64encode(mask_png(mask_HW)).decode()} if masks == "png" else {}
    return {"height": height, "width": width, "classes": list(prediction.classes), "found": found, **whole}


def upright_photo(file: bytes, photo: NDArray[np.uint8]) -> dict[str, str]:
    """The photo (H, W, 3) as JPEG in base64, where a browser would show its file in another way; else nothing."""
    if browser_type(io.BytesIO(file)) is not None:
        return {}
    return {"photo": base64.b64encode(_bytes(Image.fromarray(photo), "JPEG", quality=90)).decode()}


def as_huggingface(prediction: Prediction, threshold: float = 0.0) -> list[dict[str, Any]]:
    """One entry a class found: label, score (mean probability), and its mask as a black-and-white PNG in base64."""
    entries = []
    for k in np.flatnonzero(np.bincount(prediction.mask.ravel(), minlength=256)[:IGNORE]):
        inside = prediction.mask == k
        score = _confidence(prediction, inside)
        if score >= threshold:
            picture = base64.b64encode(_bytes(Image.fromarray(np.where(inside, 255, 0).astype(np.uint8)), "PNG"))
            entries.append({"label": prediction.classes[k], "score": score, "mask": picture.decode()})
    return entries


def _confidence(prediction: Prediction, inside: NDArray[np.bool_]) -> float:
    """The mean probability of a class over its pixels."""
    return round(float(prediction.confidence[inside].mean()), 4)


def _bytes(image: Image.Image, format: str, **settings: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=format, **settings)
    return buffer.getvalue()
