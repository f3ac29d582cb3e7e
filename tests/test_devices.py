"""Which device is chosen, and what is said where there is none."""

import pytest
import torch
from accelerate.state import AcceleratorState

from tagseg.devices import choose_device, is_out_of_memory
from tagseg.engine.processes import create_accelerator, default_workers
from tagseg.errors import UserError


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def test_auto_takes_a_gpu_where_there_is_one(two_gpus: None) -> None:
    assert choose_device() == choose_device("auto") == choose_device(None) == torch.device("cuda")
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("cuda:1") == torch.device("cuda:1")


def test_auto_takes_the_cpu_where_there_is_none(no_gpu: None) -> None:
    assert choose_device() == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "xpu", "meta", ""])
def test_names_of_no_device_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"There is no device .* choose auto, cpu, cuda, cuda:N or mps"):
        choose_device(name)


def test_devices_that_are_not_there_are_refused(no_gpu: None) -> None:
    with pytest.raises(UserError, match=r"--device cuda cannot be used: .*; choose auto or cpu"):
        choose_device("cuda")
    with pytest.raises(UserError, match="needs macOS"):
        choose_device("mps")


def test_a_gpu_beyond_the_last_is_refused(two_gpus: None) -> None:
    with pytest.raises(UserError, match="the last GPU here is cuda:1"):
        choose_device("cuda:2")


def test_errors_of_full_memory_are_known_from_others() -> None:
    full = [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("MPS backend out of memory (MPS allocated: 9.05 GB)"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
    ]
    assert all(is_out_of_memory(error) for error in full)
    assert not any(is_out_of_memory(e) for e in (RuntimeError("shapes differ"), ValueError("out of memory")))


def test_training_computes_on_the_device_that_is_named() -> None:
    assert create_accelerator("cpu").device == torch.device("cpu")
    assert default_workers(torch.device("cpu")) <= 1 <= default_workers(torch.device("cuda"))


def test_one_gpu_is_not_for_several_processes(two_gpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(UserError, match="--device cuda:1 is one GPU"):
        create_accelerator("cuda:1")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_later_training_may_have_another_device() -> None:
    assert create_accelerator("cpu").device == torch.device("cpu")
    assert create_accelerator("auto").device == torch.device("cuda")
    assert create_accelerator("cuda:0").device == torch.device("cuda:0")
    AcceleratorState._reset_state(reset_partial_state=True)
