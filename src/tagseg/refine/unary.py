"""Unary terms of the dense CRF made of labels. L labels, H W pixels."""

from __future__ import annotations

import numpy as np

from tagseg.errors import UserError


def probabilities_from_labels(
    label_HW: np.ndarray, labels: int, *, confidence: float = 0.7, unsure: int | None = 255
) -> np.ndarray:
    """Probabilities (L, H, W) float32 of hard labels: `confidence` for the label, the rest shared by the others.

    Pixels with the value `unsure` get 1 / L for every label. As in pydensecrf's `unary_from_labels`. Raises UserError for
    a confidence of 1 / L or less, under which other labels would be likelier.
    """
    if labels < 2 or not 1 / labels < confidence < 1:
        raise UserError(f"labels need L >= 2 and a confidence between 1 / L and 1, not {labels} and {confidence}.")
    label_HW = np.asarray(label_HW)
    known = np.ones(label_HW.shape, bool) if unsure is None else label_HW != unsure
    if known.any() and not 0 <= label_HW[known].min() <= label_HW[known].max() < labels:
        raise UserError(f"labels must lie in 0..{labels - 1}, found {label_HW[known].max()}; give more labels.")
    index = np.where(known, label_HW, 0).astype(np.intp)
    probability = np.full((labels, *label_HW.shape), (1 - confidence) / (labels - 1), np.float32)
    np.put_along_axis(probability, index[None], confidence, 0)
    probability[:, ~known] = 1 / labels
    return probability
