"""Photos per second of prediction, against the same network called photo by photo, as a Markdown table.

    python benchmarks/predict.py --recipe asdt-scenes --photos 16 --repeats 3

Both ways read JPEG files and write palette PNGs; both run in every repeat, in turn, and the best repeat of each counts.
Photo by photo means: read, one pass per scale and mirror image with all of torch's threads in float32, dense CRF,
argmax, write.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from tagseg.data.palette import write_mask
from tagseg.data.photo import read_photo
from tagseg.methods.build import build_method
from tagseg.prediction.segmenter import Segmenter
from tagseg.prediction.settings import PredictSettings
from tagseg.recipe import load_recipe
from tagseg.refine import dense_crf
from tagseg.workflows.predict import predict
from tagseg.workflows.train import machine

SIZES = ((375, 500), (333, 500), (500, 375), (375, 500))  # of PASCAL VOC: most photos have the first
SCALES = (0.5, 0.75, 1.0)
PROTOCOLS = {
    "single-scale": (PredictSettings(), False),
    "single-scale, CRF": (PredictSettings(), True),
    "multi-scale, flip": (PredictSettings(scales=SCALES, flip=True), False),
    "multi-scale, flip, CRF": (PredictSettings(scales=SCALES, flip=True), True),
    "single-scale, bf16": (PredictSettings(precision="bf16"), False),
    "multi-scale, flip, bf16": (PredictSettings(scales=SCALES, flip=True, precision="bf16"), False),
}


def write_photos(folder: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    for number in range(count):
        height, width = SIZES[number % len(SIZES)]
        coarse = Image.fromarray(rng.integers(0, 256, (height // 25, width // 25, 3), dtype=np.uint8))
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(folder / f"{number}.jpg", quality=90)


@torch.no_grad()
def photo_by_photo(segmenter: Segmenter, folder: Path, out: Path, crf: bool) -> None:
    """What a person writes who has the network and knows nothing of this project."""
    settings = segmenter.settings
    out.mkdir()
    for path in sorted(folder.iterdir()):
        photo = read_photo(path)
        image = torch.from_numpy(photo).permute(2, 0, 1)[None].float() / 255
        size = (photo.shape[0], photo.shape[1])
        maps = []
        for scale in settings.scales:
            view = F.interpolate(image, scale_factor=scale, mode="bilinear") if scale != 1 else image
            for flipped in (False, True) if settings.flip else (False,):
                result = segmenter.method.segment(view.flip(-1) if flipped else view)
                result = result.flip(-1) if flipped else result
                maps.append(F.interpolate(result, size, mode="bilinear")[0])
        probability = torch.stack(maps).mean(0)
        if crf and settings.crf is not None:
            kernels = settings.crf
            probability = dense_crf(
                torch.from_numpy(photo), probability, gaussian=kernels.gaussian, bilateral=kernels.bilateral,
                iterations=kernels.iterations,
            )  # fmt: skip
        write_mask(out / f"{path.stem}.png", probability.argmax(0).byte().numpy())


def agreement(first: Path, second: Path) -> float:
    """The share of pixels on which two folders of masks agree."""
    same = [np.asarray(Image.open(path)) == np.asarray(Image.open(second / path.name)) for path in first.glob("*.png")]
    return float(np.concatenate([pixels.ravel() for pixels in same]).mean())


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--recipe", default="asdt-scenes")
    parser.add_argument("--classes", type=int, default=6)
    parser.add_argument("--photos", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", choices=PROTOCOLS, action="append")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    recipe = load_recipe(options.recipe)
    method = build_method(recipe.method, recipe.model, tuple(f"class {i}" for i in range(options.classes))).eval()
    print(f"`python benchmarks/predict.py {' '.join(sys.argv[1:])}`; {machine()}, {options.threads} threads")
    print(f"photos/s, best of {options.repeats}; {options.photos} photos, {options.classes + 1} classes\n")
    print("| protocol | photo by photo | tagseg predict | ratio | pixels agree |\n|---|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as temporary:
        photos = Path(temporary, "photos")
        photos.mkdir()
        write_photos(photos, options.photos)
        for name in options.only or PROTOCOLS:
            settings, crf = PROTOCOLS[name]
            segmenter = Segmenter(method, settings)
            segmenter.predict(read_photo(photos / "0.jpg"), crf=crf)  # what is compiled on first use
            naive, ours = [], []
            for repeat in range(options.repeats):
                one, many = (Path(temporary, f"{name} {repeat} {way}") for way in ("one", "many"))
                naive.append(seconds(partial(photo_by_photo, segmenter, photos, one, crf)))
                ours.append(seconds(partial(predict, segmenter, photos, many, crf=crf)))
            rates = [options.photos / min(times) for times in (naive, ours)]
            cells = f"{rates[0]:.2f} | {rates[1]:.2f} | {rates[1] / rates[0]:.2f} | {agreement(one, many):.3%}"
            print(f"| {name} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
