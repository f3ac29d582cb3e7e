"""How many kernels a training step launches on a device, and how often it makes the host wait: ceilings.

Counted on a CPU that takes a device's ways, one launch for each operation that computes.
"""

import pytest
import torch
from accelerate import Accelerator
from benchmarks.counting import as_on_a_device, counting

from tagseg.engine.optim import build_optimizer
from tagseg.engine.settings import TrainSettings
from tagseg.engine.step import train_step
from tests.methods.small import batch, build

pytest.importorskip("triton", reason="Triton comes with torch on Linux alone")
pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="counts by Triton's interpreter")

THREE = [[1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 1.0, 1.0]]
FEW = {  # iterations
    "rrm": {"labels": {"crf": {"iterations": 2}}},
    "asdt": {"labels": {"crf": {"iterations": 2}}, "teacher_crf": {"iterations": 2}},
    "tscd": {"labels": {"iterations": 2}},
    "bmp": {"labels": {"iterations": 2}},
}
STEP = 1  # BMP's labels are background-aware, ASDT's seg-teacher teaches


def counts_of(name, backbone, monkeypatch):
    monkeypatch.setattr("tagseg.refine.pixel_adaptive_triton.PIXELS", 4096)
    monkeypatch.setattr("tagseg.refine.lattice_triton.PIXELS", 4096)
    monkeypatch.setattr("tagseg.refine.lattice_triton.ELEMENTS", 1 << 15)
    monkeypatch.setattr("tagseg.refine.mean_field_triton.ELEMENTS", 1 << 15)
    method = build(name, backbone, **FEW.get(name, {})).train()
    settings = TrainSettings(optimizer="adamw")
    photos = batch(THREE, size=32)
    photos.facts()  # as the loader does, before the step
    with as_on_a_device(triton=True):
        optimizer = build_optimizer(method, settings)
        for parameter in method.parameters():  # what an update keeps is made by the first one
            parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
        optimizer.step()
        with counting() as counts:
            train_step(method, optimizer, photos, STEP, settings, Accelerator(cpu=True))
    return counts


@pytest.mark.parametrize(
    ("name", "backbone", "most"),
    [
        ("classifier", "efficientnet_lite0", 700),
        ("rrm", "efficientnet_lite0", 1000),
        ("supervised", "efficientnet_lite0", 700),
        ("mentor", "efficientnet_lite0", 1550),
        ("asdt", "efficientnet_lite0", 1250),
        ("tscd", "mit_b0", 2150),
        ("bmp", "mit_b0", 1250),
    ],  # of ASDT, TSCD and BMP below half of the first count
)
def test_launches_and_host_reads_of_a_step(name, backbone, most, monkeypatch):
    counts = counts_of(name, backbone, monkeypatch)
    assert counts.reads == {"tolist": 1}, "the loss is all that the host reads"
    assert counts.launches.total() <= most
