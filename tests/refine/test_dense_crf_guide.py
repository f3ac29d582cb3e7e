"""The Python of docs/dense-crf.md runs as printed."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

GUIDE = Path(__file__).parents[2] / "docs" / "dense-crf.md"


def test_the_python_of_the_guide_runs_and_both_columns_agree() -> None:
    pytest.importorskip("pydensecrf.densecrf")
    blocks = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 3
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, str(GUIDE), "exec"), names)
    image, p = names["image"], names["probabilities"]
    np.testing.assert_allclose(names["again"], names["marginals"], atol=1e-6)
    p = p / p.sum(0)  # as the peer's softmax gives them
    theirs = names["refine_with_pydensecrf"](image, p)
    np.testing.assert_allclose(names["refine_with_tagseg"](image, p), theirs, atol=1e-4)
    assert not names["with_tags"][[1, 3]].any()
    assert names["deep"].shape == p.shape
