"""The function that CVAT's client calls; the client itself stands in where it is not installed."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tagseg.serve.cvat_function import CvatFunction
from tests.review.photos import picture, segmenter


@pytest.fixture
def cvat(monkeypatch: pytest.MonkeyPatch) -> None:
    """The four helpers of cvat_sdk 2.80 that are used, by its documentation: points are runs from zeros, then the box."""
    interface, masks = ModuleType("cvat_sdk.auto_annotation"), ModuleType("cvat_sdk.masks")
    interface.label_spec = lambda name, id, **more: SimpleNamespace(name=name, id=id, **more)
    interface.DetectionFunctionSpec = SimpleNamespace
    interface.mask = lambda label, points: ("mask", label, points)
    interface.polygon = lambda label, points: ("polygon", label, points)

    def encode_mask(mask: np.ndarray) -> list[int]:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = [int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])]
        flat = np.concatenate([[False], mask[box[1] : box[3] + 1, box[0] : box[2] + 1].ravel()])
        edges = np.flatnonzero(np.diff(flat.astype(int)))
        return [*np.diff([0, *edges, flat.size - 1]).tolist(), *box]

    masks.encode_mask = encode_mask
    for name, module in {
        "cvat_sdk": ModuleType("cvat_sdk"),
        interface.__name__: interface,
        masks.__name__: masks,
    }.items():
        monkeypatch.setitem(sys.modules, name, module)


def context(threshold: float | None = None, polygons: bool = False) -> SimpleNamespace:
    return SimpleNamespace(frame_name="a.png", conf_threshold=threshold, conv_mask_to_poly=polygons)


def test_a_frame_s_masks(cvat: None) -> None:
    function = CvatFunction(segmenter())
    assert [(label.name, label.id) for label in function.spec.labels] == [("green", 1), ("blue", 2)]
    image = Image.fromarray(picture(0))
    expected = segmenter().predict(picture(0)).mask
    for kind, label, points in function.detect(context(), image):
        assert kind == "mask"
        left, top, right, bottom = points[-4:]
        values = np.repeat(np.arange(len(points) - 4) % 2 == 1, points[:-4])
        found = np.zeros(expected.shape, bool)
        found[top : bottom + 1, left : right + 1] = values.reshape(bottom - top + 1, right - left + 1)
        assert np.array_equal(found, expected == label)
    assert [each[:2] for each in function.detect(context(), image)] == [("mask", 1), ("mask", 2)]
    assert function.detect(context(threshold=1.0), image) == []
    assert function.detect(context(polygons=True), image)[0] == ("polygon", 1, [20, 0, 40, 0, 40, 60, 20, 60])
