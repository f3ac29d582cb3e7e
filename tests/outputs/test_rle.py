import numpy as np
import pytest
from pycocotools import mask as oracle

from tagseg.outputs.rle import compress, decode_rle, decompress, encode_rle


@pytest.mark.parametrize("seed", range(40))
def test_equals_pycocotools(seed):
    rng = np.random.default_rng(seed)
    mask = rng.random(rng.integers(1, 60, 2)) < rng.choice([0, 0.02, 0.5, 0.98, 1])
    if seed % 2:
        mask = np.kron(mask, np.ones((17, 23))) > 0  # long runs
    expected = oracle.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert expected["size"] == list(mask.shape)
    text = compress(encode_rle(mask))
    assert text == expected["counts"].decode()
    assert np.array_equal(decode_rle(decompress(text), *mask.shape), mask)
    assert np.array_equal(oracle.decode({"size": list(mask.shape), "counts": text.encode()}), mask)


def test_more_runs_than_one_block():
    mask = np.random.default_rng(0).random((300, 400)) < 0.5
    expected = oracle.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    assert compress(encode_rle(mask)) == expected
    assert np.array_equal(decode_rle(decompress(expected), 300, 400), mask)


@pytest.mark.parametrize("text", ["", "P", "\x1f0", "pppppppp0", "é0", "~0"])
def test_a_broken_string_is_refused(text):
    with pytest.raises(ValueError, match="RLE"):
        decompress(text)


@pytest.mark.parametrize("runs", [[5], [7], [8, -2], []])
def test_runs_must_fill_the_mask(runs):
    with pytest.raises(ValueError, match=r"the runs (cover|reach)"):
        decode_rle(np.array(runs, dtype=np.int64), 2, 3)
