"""Files are read ahead and written behind while a device computes: in order, bounded, and no error is lost."""

import threading
import time
from functools import partial

import pytest
import torch

from tagseg.errors import UserError
from tagseg.prediction.work import Behind, ahead

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize("device", [CPU, GPU])
def test_what_is_read_ahead_comes_in_order_and_not_all_at_once(device):
    begun = []

    def read(number):
        begun.append(number)
        time.sleep(0.002 * (number % 3))
        return number

    results = ahead(read, range(60), device)
    first = [next(results) for _ in range(5)]
    assert first == [0, 1, 2, 3, 4]
    assert len(begun) < 40
    assert list(results) == list(range(5, 60))


def test_a_writing_that_fails_is_not_lost():
    def fail():
        raise UserError("the disk is full")

    with pytest.raises(UserError, match="full"), Behind(GPU, together=True) as behind:
        behind(fail)


@pytest.mark.parametrize(("device", "together"), [(CPU, True), (GPU, False)])
def test_files_that_belong_together_are_written_one_after_another(device, together):
    written = []
    with Behind(device, together=together) as behind:
        for number in range(30):
            behind(partial(written.append, number))
    assert written == list(range(30))


def test_files_that_stand_for_themselves_are_written_by_several_threads():
    meet = threading.Barrier(2, timeout=20)
    with Behind(GPU, together=True) as behind:
        behind(meet.wait)
        behind(meet.wait)
