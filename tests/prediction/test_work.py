"""Many photos at once: batches of one size, full memory, errors of single photos, and threads."""

import threading
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from tagseg.errors import UserError
from tagseg.prediction.segmenter import Request, Segmenter
from tagseg.prediction.settings import PredictSettings
from tagseg.threads import ordered_map
from tests.colors import Colors

SIZES = [(20, 30), (30, 20), (20, 30), (20, 30), (9, 9), (30, 20), (20, 30)]


def requests() -> list[Request]:
    rng = np.random.default_rng(0)
    tags: list[Sequence[str] | None] = [None, None, ["blue"], None, None, [], None]
    photos = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES]
    return list(zip(photos, tags, strict=True))


class Small(Colors):
    """A method whose device has memory for so many pixels."""

    memory = 2 * 20 * 30

    def segment(self, image_B3HW: Tensor) -> Tensor:
        if image_B3HW.shape[0] * image_B3HW.shape[2] * image_B3HW.shape[3] > self.memory:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return super().segment(image_B3HW)


def batched(method: Colors, batch: int = 8) -> Segmenter:
    """A segmenter that takes photos as on a GPU."""
    segmenter = Segmenter(method, PredictSettings(crf=None))
    segmenter.batch = batch
    return segmenter


def test_photos_of_one_size_go_together_and_come_back_in_order() -> None:
    model = batched(Colors())
    results = list(model.predict_many(requests()))
    assert sorted(shape[0] for shape in model.method.seen) == [1, 1, 1, 1, 3]  # with tags and without apart
    for (photo, tags), result in zip(requests(), results, strict=True):
        alone = Segmenter(Colors(), PredictSettings(crf=None)).predict(photo, tags=tags)
        np.testing.assert_array_equal(result.mask, alone.mask)
        np.testing.assert_allclose(result.probabilities, alone.probabilities, atol=1e-6)


def test_a_batch_that_does_not_fit_into_memory_is_made_smaller() -> None:
    model = batched(Small())
    results = list(model.predict_many(requests()))
    assert max(shape[0] for shape in model.method.seen) == 1  # three did not fit, so one, and so on
    for result, expected in zip(results, batched(Colors()).predict_many(requests()), strict=True):
        np.testing.assert_array_equal(result.mask, expected.mask)


@pytest.mark.parametrize("batch", [1, 8])
def test_a_photo_that_does_not_fit_into_memory_is_one_sentence(batch: int) -> None:
    method = Small()
    method.memory = 599
    results = batched(method, batch).predict_many(requests()[3:])
    sentence = r"^A photo of 30 x 20 pixels does not fit into the memory of this machine: try --tile 512, .*--scales\.$"
    with pytest.raises(UserError, match=sentence):
        next(results)
    with pytest.raises(UserError, match="does not fit"):
        batched(method).predict(requests()[0][0])


def test_a_tile_that_does_not_fit_into_memory_is_one_sentence() -> None:
    model = batched(Small())
    model.tile = 128
    with pytest.raises(UserError, match="A tile of 128 pixels does not fit"):
        model.predict(np.zeros((400, 400, 3), np.uint8))


def test_an_error_of_one_photo_is_raised_where_its_prediction_is_due() -> None:
    class Picky(Colors):
        def segment(self, image_B3HW: Tensor) -> Tensor:
            if (image_B3HW == 0).all((1, 2, 3)).any():
                raise ValueError("black")
            return super().segment(image_B3HW)

    items = requests()
    items[3] = (np.zeros((20, 30, 3), np.uint8), None)  # of a size with the first and the third
    done = []
    with pytest.raises(ValueError, match="black"):
        done.extend(batched(Picky()).predict_many(items))
    results = batched(Picky()).predict_many(items)
    assert [next(results).mask.shape for _ in range(3)] == SIZES[:3]
    with pytest.raises(ValueError, match="black"):
        next(results)


@pytest.fixture
def three_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(threads)


def threads_elsewhere() -> int:
    """torch's number of threads in a thread that is born now."""
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return found[0]


def test_the_callers_threads_are_left_alone(three_threads: None) -> None:
    results = Segmenter(Colors(), PredictSettings(crf=None)).predict_many(requests())
    next(results)
    assert torch.get_num_threads() == 3  # while photos are still under work
    assert threads_elsewhere() == 3
    results.close()
    assert torch.get_num_threads() == 3
    assert threads_elsewhere() == 3


def test_workers_have_one_thread_each(three_threads: None) -> None:
    def threads(number: int) -> int:
        torch.nn.functional.conv2d(torch.rand(1, 8, 64, 64), torch.rand(8, 8, 3, 3))
        return torch.get_num_threads()

    assert list(ordered_map(threads, range(9), 3)) == [1] * 9
    assert torch.get_num_threads() == 3
