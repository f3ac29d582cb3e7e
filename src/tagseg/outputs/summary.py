"""A JSON file a photo: which classes, how much of the photo, how sure.

Shapes: H W pixels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tagseg.data.paths import held
from tagseg.files import replacing, to_json
from tagseg.foreign import read_json
from tagseg.mask_values import IGNORE
from tagseg.outputs.writer import IGNORE_NAME, Writer, box


class Summaries(Writer):
    """`<name>.json`: size, and for each class found its pixels, share of the photo, box and confidence.

    confidence: the mean probability of a class over its pixels, of the photo over all; null where probabilities are not
    known.
    """

    needs_probabilities = True

    def write(
        self,
        name: str,
        photo: NDArray[np.uint8],
        mask: NDArray[np.uint8],
        probabilities: NDArray[np.float32] | None,
        file_name: str,
    ) -> None:
        """Write one photo's file."""
        with replacing(self.place(*self.paths(name))) as temporary:
            summary = summarize(name, mask, self.classes, probabilities)
            temporary.write_text(to_json(summary, indent=2) + "\n", encoding="utf-8", newline="\n")

    @classmethod
    def paths(cls, name: str) -> tuple[str, ...]:
        """The file."""
        return (f"{name}.json",)


def summarize(
    name: str, mask: NDArray[np.uint8], classes: tuple[str, ...], probabilities: NDArray[np.float32] | None = None
) -> dict[str, Any]:
    """What stands in the file of a photo: see Summaries."""
    height, width = mask.shape
    found = []
    for k in (int(k) for k in np.flatnonzero(np.bincount(mask.ravel(), minlength=256))):
        region_HW = mask == k
        pixels = int(region_HW.sum())
        sure = None if probabilities is None or k == IGNORE else round(float(probabilities[k][region_HW].mean()), 4)
        found.append(
            {
                "class": IGNORE_NAME if k == IGNORE else classes[k],
                "index": k,
                "pixels": pixels,
                "share": round(pixels / mask.size, 6),
                "box": list(box(region_HW)),
                "confidence": sure,
            }
        )
    overall = None if probabilities is None else round(float(probabilities.max(axis=0).mean()), 4)
    return {"name": name, "width": width, "height": height, "confidence": overall, "classes": found}


def read_summaries(out: Path) -> dict[str, dict[str, Any]]:
    """The files that Summaries wrote below a folder, by name. Raises UserError naming a broken one."""
    found = {}
    for path in sorted(out.rglob("*.json")):
        found[path.relative_to(out).as_posix().removesuffix(".json")] = read_json(held(path, out), "JSON")
    return found
