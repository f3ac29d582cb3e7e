"""The lattice without numba: torch takes over, and one warning says so."""

import sys
import warnings

import numpy as np
import pytest
import torch

from tagseg.refine import Lattice, PixelAdaptive, compiled, dense_crf, dense_energy, mean_field_cpu
from tests.refine.test_crf_arrays import IMAGE, MAPS, SETTINGS


@pytest.fixture(params=["import", "compile", "wrong numbers"])
def broken(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    if request.param == "import":
        monkeypatch.setitem(sys.modules, "tagseg.refine.mean_field_cpu", None)
    elif request.param == "compile":

        def fail(*args: object) -> None:
            raise NotImplementedError("cgutils has no such function\nand pages more")

        monkeypatch.setattr(mean_field_cpu, "mean_field", fail)
    else:
        monkeypatch.setattr(mean_field_cpu, "mean_field", lambda value, *_: np.zeros_like(value))
    compiled.compiled_works.cache_clear()
    yield
    compiled.compiled_works.cache_clear()


def test_torch_takes_over_with_one_warning(broken: None) -> None:
    expected = dense_crf(IMAGE, MAPS, **SETTINGS, backend="torch")
    with pytest.warns(RuntimeWarning, match="numba cannot compile it") as caught:
        found = [dense_crf(IMAGE, MAPS, **SETTINGS) for _ in range(3)]
    assert len(caught) == 1
    assert "\n" not in str(caught[0].message)
    for result in found:
        assert np.array_equal(result, expected)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for lattice in (Lattice.bilateral(IMAGE, 20, 13), Lattice.gaussian(21, 26, 3)):
            assert type(lattice.structure).__name__ == "TorchLattice"
        photo_B3HW = torch.rand(2, 3, 12, 16)
        refined = PixelAdaptive("varm", 2)(photo_B3HW, torch.rand(2, 3, 12, 16))
        assert torch.isfinite(refined).all()
        prob_BKHW = torch.rand(2, 3, 12, 16).softmax(1)
        labels_BHW, valid_BHW = torch.zeros(2, 12, 16, dtype=torch.long), torch.ones(2, 12, 16, dtype=torch.bool)
        assert torch.isfinite(dense_energy(photo_B3HW * 255, prob_BKHW, valid_BHW, labels_BHW))


def test_where_numba_works_nobody_is_warned() -> None:
    compiled.compiled_works.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert compiled.compiled_works()
        assert type(Lattice.bilateral(IMAGE, 20, 13).structure).__name__ == "CpuLattice"
