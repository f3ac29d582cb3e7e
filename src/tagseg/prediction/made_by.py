"""What results were made by: a digest by which results of another model or of other settings are known."""

from __future__ import annotations

import hashlib
import json

from tagseg.prediction.segmenter import Segmenter


def made_by(segmenter: Segmenter, settings: list[object]) -> str:
    """A digest of the model, its way of reading a photo, and the settings that results depend on besides."""
    digest = hashlib.sha256(json.dumps([settings, segmenter.tile]).encode())
    digest.update(segmenter.settings.model_dump_json().encode())
    for name, tensor in segmenter.method.state_dict().items():
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
