"""The pictures of the pages, made from a run of the demo and from free photos.

    python docs/pictures.py demo runs/demo          images/demo.png: photos that training has not seen
    python docs/pictures.py crf coffee.png          images/dense-crf.png: the photo of scikit-image (CC0)
    python docs/pictures.py stages chelsea.png cat classifier=RUN Mentor=RUN segmenter=RUN     images/stages.png

Every picture stays under 300 kB.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tagseg.data.palette import overlay
from tagseg.prediction.load import load
from tagseg.prediction.maps import as_image
from tagseg.refine import dense_crf
from tagseg.resize import resize
from tagseg.run_folder import ChainFolder
from tagseg.workflows.opened import run_sources

IMAGES = Path(__file__).parent / "images"
Picture = NDArray[np.uint8]
GAP, TEXT = 6, 20


def grid(rows: list[list[Picture]], heads: list[str], path: Path) -> None:
    """Write pictures of one size in rows, a word over each column."""
    height, width = rows[0][0].shape[:2]
    canvas = Image.new("RGB", (len(heads) * (width + GAP) - GAP, TEXT + len(rows) * (height + GAP) - GAP), "white")
    pen = ImageDraw.Draw(canvas)
    for column, head in enumerate(heads):
        pen.text((column * (width + GAP), 3), head, fill="black", font_size=13)
        for row, pictures in enumerate(rows):
            canvas.paste(Image.fromarray(pictures[column]), (column * (width + GAP), TEXT + row * (height + GAP)))
    canvas.quantize(160, dither=Image.Dither.FLOYDSTEINBERG).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size // 1000} kB")


def heat(photo: Picture, map_hw: NDArray[np.floating]) -> Picture:
    """A map in [0, 1] over the photo: dark violet, orange, white."""
    stops = np.array([(40, 10, 60), (200, 70, 60), (250, 170, 60), (255, 255, 220)], np.float32)
    at = np.clip(map_hw, 0, 1) * (len(stops) - 1)
    low = np.minimum(at.astype(int), len(stops) - 2)
    color = stops[low] + (stops[low + 1] - stops[low]) * (at - low)[..., None]
    return (0.35 * photo + 0.65 * color).astype(np.uint8)


@torch.inference_mode()
def demo(run: Path, names: tuple[str, ...] = ()) -> None:
    """Photo, activation map, what each stage says, final mask and truth of photos that training has not seen."""
    stages = [load(ChainFolder(run).stage(name).path, device="cpu") for name in ChainFolder.stages(1)]
    teacher, val = stages[0], run_sources(ChainFolder(run).stage("teacher").path).val
    assert val is not None
    rows = []
    for index in [i for i, p in enumerate(val.photos) if not names or p.name in names][:4]:
        photo, truth = val.photo(index), val.mask(index)
        assert truth is not None
        photo_1HW3, size = torch.from_numpy(photo)[None], (photo.shape[0], photo.shape[1])
        told = tuple(teacher.classes[tag] for tag in val.photos[index].tags)
        cam_1Chw = teacher.method.cams(as_image(photo_1HW3, teacher.device))
        cam_HW = (resize(cam_1Chw, size)[0] * teacher.tag_vector(told)[:, None, None]).amax(0).clamp(0, 1)
        masks = [stage.predict(photo).mask for stage in stages]
        rows.append([photo, heat(photo, cam_HW.numpy()), *(overlay(photo, mask) for mask in (*masks, truth))])
    heads = ["photo", "activation map", "classifier's mask", "segmenter's mask", "truth"]
    grid(rows, heads, IMAGES / "demo.png")


def crf(file: Path) -> None:
    """A photo, what a coarse grid says of it, and the same after the dense CRF."""
    photo = np.asarray(Image.open(file).convert("RGB").resize((300, 200), Image.Resampling.LANCZOS))
    drawn = Image.new("L", (300, 200))
    pen = ImageDraw.Draw(drawn)
    pen.ellipse((42, 36, 240, 190), fill=255)
    pen.ellipse((90, 12, 206, 100), fill=255)
    coarse = drawn.resize((18, 12), Image.Resampling.BOX).resize((300, 200), Image.Resampling.BICUBIC)
    object_HW = 0.1 + 0.8 * np.asarray(coarse, np.float32) / 255
    probability_2HW = np.stack([1 - object_HW, object_HW])
    refined_2HW = dense_crf(photo, probability_2HW, gaussian=(3, 3), bilateral=(30, 13, 4))
    masks = [probability.argmax(0).astype(np.uint8) for probability in (probability_2HW, refined_2HW)]
    rows = [[photo, heat(photo, object_HW), *(overlay(photo, mask) for mask in masks)]]
    grid(rows, ["photo", "coarse probabilities", "their mask", "after the dense CRF"], IMAGES / "dense-crf.png")


def stages(file: Path, tag: str, *runs: str) -> None:
    """A photo, and its mask by one run after the other, the tag used; NAME=FOLDER each."""
    photo = Image.open(file).convert("RGB")
    photo_HW3 = np.asarray(photo.resize((224 * photo.width // photo.height, 224), Image.Resampling.LANCZOS))
    named = dict(run.split("=", 1) for run in runs)
    masks = [load(Path(folder), device="cpu").predict(photo_HW3, tags=[tag]).mask for folder in named.values()]
    row = [photo_HW3, *(overlay(photo_HW3, mask) for mask in masks)]
    grid([row], ["photo", *named], IMAGES / "stages.png")


if __name__ == "__main__":
    what, place, *chosen = sys.argv[1:]
    if what == "demo":
        demo(Path(place), tuple(chosen))
    elif what == "crf":
        crf(Path(place))
    else:
        stages(Path(place), *chosen)
