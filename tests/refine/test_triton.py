"""The Triton kernels, in Triton's interpreter on a CPU and on a GPU where there is one, against the other forms."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tagseg.errors import UserError
from tagseg.refine import Lattice, PixelAdaptive, dense_crf, dense_energy
from tagseg.refine.energy import energy_lattices
from tests.refine.direct_lattice import direct_filter

pytest.importorskip("triton", reason="Triton comes with torch on Linux alone")
DEVICES = [
    pytest.param("cpu", marks=pytest.mark.skipif(torch.cuda.is_available(), reason="the interpreter is for CPUs")),
    pytest.param("cuda", marks=pytest.mark.gpu),
]
on_devices = pytest.mark.parametrize("device", DEVICES)


@pytest.fixture(autouse=True)
def large_programs(monkeypatch):
    """The interpreter takes a second for every few programs."""
    if not torch.cuda.is_available():
        monkeypatch.setattr("tagseg.refine.pixel_adaptive_triton.PIXELS", 4096)
        monkeypatch.setattr("tagseg.refine.lattice_triton.PIXELS", 1024)
        monkeypatch.setattr("tagseg.refine.lattice_triton.ELEMENTS", 1 << 14)
        monkeypatch.setattr("tagseg.refine.mean_field_triton.ELEMENTS", 1 << 14)


def photo(height, width, seed=0):
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (height // 4 + 1, width // 4 + 1, 3)).repeat(4, 0).repeat(4, 1)
    noise = rng.integers(0, 6, (height, width, 3))
    return torch.from_numpy((blocks[:height, :width] + noise).clip(0, 255).astype(np.uint8))


def maps(labels, height, width, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.dirichlet(np.ones(labels), (height, width)).transpose(2, 0, 1).astype(np.float32))


def large(device, small, big):
    """A size: the interpreter's, or one that fills some programs of a GPU."""
    return small if device == "cpu" else big


@on_devices
@pytest.mark.parametrize("kind", ["par", "varm"])
def test_pixel_adaptive_refinement(device, kind):
    height, width = large(device, (9, 26), (70, 133))
    photos, iterations = large(device, 1, 2), large(device, 1, 10)
    image = torch.stack([photo(height, width, n).permute(2, 0, 1) for n in range(photos)]) / 255
    value = torch.stack([maps(3, height, width, n) for n in range(photos)])
    expected = PixelAdaptive(kind, iterations)(image, value)
    got = PixelAdaptive(kind, iterations, "triton")(image.to(device), value.to(device)).cpu()
    assert torch.allclose(got, expected, atol=2e-6 * iterations)


@on_devices
def test_photos_of_several_sizes_in_one_batch(device):
    height, width = large(device, (10, 12), (70, 133))
    image = torch.stack([photo(height, width, n).permute(2, 0, 1) for n in range(2)]) / 255
    value = torch.stack([maps(2, height, width, n) for n in range(2)])
    sizes = [(height, width), (height - 3, width - 5)]
    got = PixelAdaptive("varm", 2, "triton")(image.to(device), value.to(device), sizes).cpu()
    for n, (rows, columns) in enumerate(sizes):
        alone = PixelAdaptive("varm", 2)(image[n : n + 1, :, :rows, :columns], value[n : n + 1, :, :rows, :columns])
        assert torch.allclose(got[n, :, :rows, :columns], alone[0], atol=1e-5)


@on_devices
@pytest.mark.parametrize("padding", [True, False])
def test_a_lattice_filters_as_the_slow_one_does(device, padding):
    image = photo(9, 11)
    value = maps(3, 9, 11)
    lattice = Lattice.bilateral(image.to(device), 7.0, 13.0, padding=padding, backend="triton")
    got = lattice.filter(value.to(device)).cpu()
    x, y = np.meshgrid(np.arange(11), np.arange(9))
    feature = np.concatenate([np.stack([x, y], -1) / 7.0, image.numpy() / 13.0], -1).reshape(-1, 5)
    columns = value.numpy().reshape(3, -1).T.astype(np.float64)
    if not padding:
        assert np.allclose(got.numpy().reshape(3, -1).T, direct_filter(feature, columns), atol=1e-5)
    expected = Lattice.bilateral(image, 7.0, 13.0, padding=padding, backend="torch").filter(value)
    assert torch.allclose(got, expected, atol=1e-5)


@on_devices
def test_gray_and_float_photos(device):
    image = photo(8, 10)[..., 0].float() * 0.7 - 30
    value = maps(2, 8, 10)
    expected = Lattice.bilateral(image, (4.0, 6.0), 9.0, backend="torch").filter(value)
    got = Lattice.bilateral(image.to(device), (4.0, 6.0), 9.0, backend="triton").filter(value.to(device)).cpu()
    assert torch.allclose(got, expected, atol=1e-5)


@on_devices
@pytest.mark.parametrize(
    "settings", [{}, {"gaussian": None, "normalization": "after", "unary": "energies"}, {"padding": True}]
)
def test_a_dense_crf_of_photos_of_several_sizes_and_labels(device, settings):
    sizes = large(device, [(8, 12), (7, 5), (8, 12)], [(60, 80), (50, 33), (60, 80)])
    images = [photo(*size, seed=n) for n, size in enumerate(sizes)]
    images.append(images[0])  # shares its lattice
    values = [maps(labels, *image.shape[:2], seed=labels) for labels, image in zip((3, 4, 2, 5), images, strict=True)]
    tags = [[1, 2], [2], [1], [4, 1]]
    settings = {"bilateral": (10.0, 13.0, 5.0), "iterations": large(device, 2, 10), "tags": tags} | settings
    expected = dense_crf(images, values, backend="torch", **settings)
    there = {id(image): image.to(device) for image in images}
    got = dense_crf([there[id(i)] for i in images], [v.to(device) for v in values], backend="triton", **settings)
    for one, other in zip(got, expected, strict=True):
        assert torch.allclose(one.cpu(), other, atol=1e-4)


@on_devices
def test_chunks_bound_the_memory_and_change_nothing(device, monkeypatch):
    images = [photo(6, 8, seed=n) for n in range(3)]
    values = [maps(2, 6, 8, seed=n) for n in range(3)]
    settings = {"bilateral": (10.0, 13.0, 5.0), "iterations": 1, "backend": "triton"}
    arguments = [i.to(device) for i in images], [v.to(device) for v in values]
    together = dense_crf(*arguments, **settings)
    monkeypatch.setattr("tagseg.refine.mean_field_triton.CHUNK", 100)
    apart = dense_crf(*arguments, **settings)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(together, apart, strict=True))


@on_devices
def test_the_dense_energy_and_its_gradient(device):
    side = large(device, 12, 64)
    image = torch.stack([photo(side, side, n).permute(2, 0, 1) for n in range(2)])
    valid = torch.ones(2, side, side, dtype=torch.bool)
    label = torch.zeros(2, side, side, dtype=torch.uint8)
    label[:, ::2] = 255

    def loss(where, backend):
        value = torch.stack([maps(3, side, side, n) for n in range(2)]).to(where).requires_grad_()
        lattices = energy_lattices(image.to(where), sxy=20.0, backend=backend)
        energy = dense_energy(image.to(where), value, valid.to(where), label.to(where), lattices=lattices)
        energy.backward()
        return energy.detach().cpu(), value.grad.cpu()

    (expected, slope), (got, gradient) = loss("cpu", "numba"), loss(device, "triton")
    assert got.item() == pytest.approx(expected.item(), rel=1e-5)
    assert torch.allclose(gradient, slope, atol=1e-5)


@pytest.mark.skipif(torch.cuda.is_available(), reason="the tests above compile them")
def test_the_compiler_takes_every_kernel_for_a_gpu():
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    script = Path(__file__).with_name("compile_triton.py")
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    names = {"_weights", "_propagate", "locate", "renumber", "neighbors", "splat", "blur", "slice_", "_update"}
    assert set(run.stdout.split()) == names


def test_a_device_that_triton_does_not_serve_is_refused(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(UserError, match="CUDA"):
        PixelAdaptive("par", backend="triton")(torch.zeros(1, 3, 4, 4), torch.zeros(1, 1, 4, 4))


def test_a_switch_that_is_neither_on_nor_off_is_refused(monkeypatch):
    monkeypatch.setenv("TAGSEG_TRITON", "yes")
    from tagseg.refine.fused import serves

    with pytest.raises(UserError, match="TAGSEG_TRITON"):
        serves(torch.device("cuda"))


@pytest.mark.gpu
@pytest.mark.parametrize("labels", [2, 21])
def test_on_a_gpu_a_batch_of_photos_gets_the_cpus_labels(labels):
    images = [photo(120, 160, n) for n in range(6)]
    values = [F.avg_pool2d(maps(labels, 120, 160, n), 9, 1, 4) for n in range(6)]
    expected = dense_crf(images, values)
    got = dense_crf([i.cuda() for i in images], [v.cuda() for v in values], backend="triton")
    same = [(a.argmax(0).cpu() == b.argmax(0)).float().mean().item() for a, b in zip(got, expected, strict=True)]
    assert min(same) > 0.999


def test_kernels_that_fail_leave_the_work_to_torch_and_say_so_once(monkeypatch):
    from tagseg.refine import fused

    def fail(*given, **settings):
        raise RuntimeError("no such instruction\nand more")

    monkeypatch.setattr("tagseg.refine.dense_crf", fail, raising=False)
    fused._works.cache_clear()
    try:
        with pytest.warns(RuntimeWarning, match=r"plain torch.*no such instruction\)"):
            assert not fused._works(torch.device("cpu"))
        assert not fused._works(torch.device("cpu"))  # without a second warning
    finally:
        fused._works.cache_clear()
