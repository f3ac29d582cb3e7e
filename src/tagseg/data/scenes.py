"""Generated pictures with exact masks, on which the real problem can be tried in minutes.

Fish on a cluttered sea bed. Bodies, fins and tails share their shapes, colors and scales between all classes; which
class a fish belongs to shows in the pattern of its head alone. A class activation map finds the head, the object is
the whole fish. Pebbles and weed carry no class.

Shapes: H W pixels. Coordinates of a fish: its length is 1, it looks to the left, y points down.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from tagseg.cores import cores
from tagseg.data.palette import write_mask
from tagseg.errors import UserError
from tagseg.files import remove_temporaries, replacing
from tagseg.foreign import read_json
from tagseg.places import is_hidden, is_link

SCENE_CLASSES = ("banded", "chequered", "dotted", "ringed", "starred", "striped")

Color = tuple[int, int, int]
_HEADS: dict[str, tuple[Color, Color]] = {
    "banded": ((28, 26, 30), (250, 210, 40)),
    "chequered": ((205, 30, 40), (250, 245, 240)),
    "dotted": ((25, 60, 190), (235, 245, 255)),
    "ringed": ((250, 130, 20), (70, 25, 20)),
    "starred": ((110, 30, 140), (255, 235, 120)),
    "striped": ((15, 120, 60), (190, 255, 120)),
}
_BODIES: tuple[Color, ...] = (
    (238, 150, 132),
    (240, 222, 186),
    (176, 205, 236),
    (214, 180, 226),
    (196, 226, 196),
    (240, 196, 120),
    (218, 218, 222),
)
_GROUNDS: tuple[tuple[Color, Color], ...] = (
    ((52, 44, 34), (118, 98, 70)),
    ((30, 50, 38), (84, 106, 66)),
    ((36, 46, 58), (88, 102, 112)),
    ((26, 58, 62), (70, 116, 112)),
)
_FINE = 2  # pictures are drawn at twice their size and averaged


def draw_scene(size: tuple[int, int], seed: int | tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """One picture and its mask: uint8 (H, W, 3) and uint8 (H, W) of indices into SCENE_CLASSES, 0 = sea bed.

    A pixel belongs to a fish when the fish covers at least half of it. There are one to three fish, mostly of different
    classes. `seed` decides everything.
    """
    height, width = size
    rng = np.random.default_rng(seed)
    canvas = _draw_ground(rng, height * _FINE, width * _FINE)
    mask_HW = np.zeros(size, dtype=np.uint8)
    kinds = rng.permutation(len(SCENE_CLASSES))
    for i, (center, length) in enumerate(_choose_places(rng, height, width)):
        kind = int(kinds[i if rng.random() < 0.85 else 0])
        fish, outline = _draw_fish(rng, SCENE_CLASSES[kind], length * _FINE)
        corner = round(center[0] * _FINE) - fish.width // 2, round(center[1] * _FINE) - fish.width // 2
        shadow = outline.filter(ImageFilter.BoxBlur(length * _FINE // 16)).point(_HALF)
        canvas.paste((8, 12, 14), (corner[0] + length // 16, corner[1] + length // 10), shadow)
        canvas.paste(fish, corner, outline)
        cover = Image.new("L", canvas.size)
        cover.paste(outline, corner)
        mask_HW[np.asarray(cover.reduce(_FINE)) >= 128] = kind + 1
    photo_HW3 = np.asarray(canvas.reduce(_FINE), dtype=np.int16)
    photo_HW3 = photo_HW3 + rng.integers(-6, 7, size=(height, width, 1), dtype=np.int16)
    return np.clip(photo_HW3, 0, 255).astype(np.uint8), mask_HW


WRITTEN = (
    "scenes.json",
    "tags.csv",
    "labels.txt",
    "ImageSets/Segmentation/train.txt",
    "ImageSets/Segmentation/val.txt",
    "JPEGImages/scene_*.jpg",
    "SegmentationClass/scene_*.png",
)
"""What `write_scenes` writes, as patterns below its folder; the first one says which scenes they are."""


def write_scenes(root: Path, *, train: int, val: int, size: tuple[int, int] = (160, 160), seed: int = 0) -> None:
    """Write pictures in the PASCAL VOC layout: JPEG photos, palette masks, lists `train` and `val`, tags and classes.

    train, val: how many pictures. size: (H, W) in pixels. The same arguments give the same files; a folder that holds
    them already is left alone, an unfinished one is finished. Raises UserError when `root` holds anything else.
    """
    settings = {"scenes": 1, "train": train, "val": val, "size": list(size), "seed": seed}
    if train < 1 or val < 0 or min(size) < 32:
        raise UserError(f"scenes need train >= 1, val >= 0 and sides of at least 32 pixels, not {train}, {val}, {size}")
    marker = root / "scenes.json"
    found = _read_marker(root)
    if found == settings | {"finished": True}:
        return
    if found is not None and found != settings | {"finished": False}:
        raise UserError(f"{root} holds something else than these scenes; choose another folder or remove it")
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    _write_text(marker, json.dumps(settings | {"finished": False}))
    names = [f"scene_{i:05d}" for i in range(train + val)]
    with ThreadPoolExecutor(cores()) as pool:
        tags = list(pool.map(lambda i: _write_scene(root, names[i], size, (seed, i)), range(train + val)))
    rows = [f"JPEGImages/{name}.jpg,{' '.join(found)}\n" for name, found in zip(names, tags, strict=True)]
    _write_text(root / "tags.csv", "".join(["file,tags\n", *rows]))
    _write_text(root / "labels.txt", "".join(f"{name}\n" for name in SCENE_CLASSES))
    for split, part in (("train", names[:train]), ("val", names[train:])):
        _write_text(root / "ImageSets" / "Segmentation" / f"{split}.txt", "".join(f"{name}\n" for name in part))
    _write_text(marker, json.dumps(settings | {"finished": True}))


def remove_unfinished(root: Path) -> None:
    """Remove what a process that was killed while it wrote scenes left half written."""
    for folder in sorted({(root / pattern).parent for pattern in WRITTEN}):
        if not any(is_link(place) for place in (folder, *folder.parents) if place.is_relative_to(root)):
            remove_temporaries(folder)


def visible_files(root: Path) -> Iterator[Path]:
    """The files and links below `root`, whoever wrote them, but for what systems hide or put there and what a kill left."""
    for path in root.rglob("*"):
        if (is_link(path) or not path.is_dir()) and not is_hidden(path.relative_to(root)):
            yield path


def _read_marker(root: Path) -> dict[str, object] | None:
    """What `root` says it holds; None when it holds no file or is absent."""
    if not root.exists() or (root.is_dir() and not any(visible_files(root))):
        return None
    found = None
    with suppress(UserError):
        found = read_json(root / "scenes.json", "the marker of a set of scenes")
    return found if isinstance(found, dict) else {}


def _write_scene(root: Path, name: str, size: tuple[int, int], seed: tuple[int, int]) -> list[str]:
    photo_HW3, mask_HW = draw_scene(size, seed)
    with replacing(root / "JPEGImages" / f"{name}.jpg") as temporary:
        Image.fromarray(photo_HW3).save(temporary, format="JPEG", quality=92)
    write_mask(root / "SegmentationClass" / f"{name}.png", mask_HW)
    return [SCENE_CLASSES[v - 1] for v in np.unique(mask_HW) if v > 0]


def _write_text(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


_HALF = [v // 2 for v in range(256)]
_CIRCLE = np.array([(np.cos(t), np.sin(t)) for t in np.arange(20) * np.pi / 10])
_ARC = _CIRCLE[[-4, -3, -2, -1, 0, 1, 2, 3, 4]]  # the side of the circle towards the tail


def _choose_places(rng: np.random.Generator, height: int, width: int) -> list[tuple[tuple[float, float], int]]:
    """Centers (x, y) and lengths of the fish, which hardly overlap; in pixels."""
    side = min(height, width)
    wanted = int(rng.choice([1, 2, 3], p=[0.35, 0.4, 0.25]))
    shortest, longest = {1: (0.55, 0.85), 2: (0.45, 0.62), 3: (0.38, 0.5)}[wanted]
    places: list[tuple[tuple[float, float], int]] = []
    for _ in range(12):
        length = int(side * rng.uniform(shortest, longest))
        x, y = rng.uniform(0.42 * length, width - 0.42 * length), rng.uniform(0.42 * length, height - 0.42 * length)
        if all(np.hypot(x - a, y - b) > 0.42 * (length + other) for (a, b), other in places):
            places.append(((x, y), length))
        if len(places) == wanted:
            break
    return places


def _draw_ground(rng: np.random.Generator, height: int, width: int) -> Image.Image:
    half = (width // 2, height // 2)  # the finest grain is coarser than a pixel of the picture
    dark, light = (Image.new("RGB", half, c) for c in _GROUNDS[rng.integers(len(_GROUNDS))])
    blend = Image.new("L", half)
    for cells, weight in ((5, 1.0), (18, 0.5), (width // 5, 0.5)):
        noise = Image.fromarray(rng.integers(0, 256, size=(cells, cells), dtype=np.uint8))
        blend = Image.blend(blend, noise.resize(half, Image.Resampling.BICUBIC), weight)
    ground = Image.composite(light, dark, blend).resize((width, height), Image.Resampling.BILINEAR)
    pen = ImageDraw.Draw(ground)
    side = min(height, width)
    for _ in range(int(rng.integers(10, 22))):  # pebbles, each with a lighter top
        shade = rng.uniform(0.7, 1.25)
        dull = rng.integers(60, 120) + rng.integers(-14, 15, size=3)
        radius = side * rng.uniform(0.012, 0.06)
        outline = _ellipse(radius, radius * rng.uniform(0.55, 0.9), rng.uniform(0, np.pi))
        at = rng.uniform(0, 1, size=2) * (width, height)
        pen.polygon(_points(outline + at), fill=_tone(dull, 0.75 * shade))
        pen.polygon(_points(outline * 0.8 + at - radius * 0.1), fill=_tone(dull, shade))
    for _ in range(int(rng.integers(3, 9))):  # weed: tapering strands that sway
        base = rng.uniform(0, 1, size=2) * (width, height)
        tall, sway = side * rng.uniform(0.12, 0.4), rng.uniform(-0.6, 0.6)
        green = np.array((40, 84, 40)) + rng.integers(-16, 17, size=3)
        rise = np.linspace(0, 1, 9)
        stem = np.stack([np.sin(rise * 5 + sway * 9) * 0.06 + sway * rise**2, -rise], axis=1) * tall + base
        thick = np.stack([(1 - rise) * side * 0.014 + 1, np.zeros(9)], axis=1)
        pen.polygon(
            _points(np.concatenate([stem - thick, (stem + thick)[::-1]])), fill=_tone(green, rng.uniform(0.7, 1.3))
        )
    return ground


def _draw_fish(rng: np.random.Generator, kind: str, length: int) -> tuple[Image.Image, Image.Image]:
    """A fish of a class on a square tile, and its outline (255 = fish)."""
    tile = int(length * 1.15)
    deep = rng.uniform(0.19, 0.3)
    angle, mirror = rng.uniform(-0.6, 0.6), rng.choice([-1.0, 1.0])
    turn = np.diag([mirror, 1.0]) @ [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
    body_color = np.array(_BODIES[rng.integers(len(_BODIES))]) + rng.integers(-8, 9, size=3)

    def place(points: np.ndarray) -> list[float]:
        return _points(points @ turn * length + tile / 2)

    around = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    waist = rng.uniform(0.75, 1.0)
    body = np.stack(
        [np.cos(around) * 0.38 - 0.1, np.sign(np.sin(around)) * np.abs(np.sin(around)) ** waist * deep], axis=1
    )
    fork = rng.uniform(0.34, 0.42)
    tail = np.array([(0.16, 0.05), (0.5, deep * 0.85), (fork, 0.0), (0.5, -deep * 0.85), (0.16, -0.05)])
    fin = np.array([(-0.2, -deep * 0.9), (0.02, -deep * 1.45), (0.16, -deep * 1.2), (0.14, -deep * 0.55)])
    belly = np.array([(-0.12, deep * 0.9), (0.08, deep * 1.4), (0.1, deep * 0.7)])
    outline = Image.new("L", (tile, tile))
    pen = ImageDraw.Draw(outline)
    for part in (tail, fin, belly, body):
        pen.polygon(place(part), fill=255)

    fish = Image.new("RGB", (tile, tile), _tone(body_color, 0.86))  # the fins' color
    pen = ImageDraw.Draw(fish)
    pen.polygon(place(body), fill=_tone(body_color, 1.0))
    pen.polygon(place(body * (0.96, 0.55) + (-0.004, -deep * 0.3)), fill=_tone(body_color, 1.06))
    scales = np.array([(x, y) for x in np.arange(-0.15, 0.24, 0.085) for y in np.arange(-deep, deep, 0.085)])
    for scale in scales[((scales[:, 0] + 0.1) / 0.36) ** 2 + (scales[:, 1] / deep) ** 2 < 0.75]:
        pen.line(place(_ARC * (0.03, 0.04) + scale), fill=_tone(body_color, 0.88), width=max(1, length // 60))
    head_end = rng.uniform(-0.21, -0.15)
    head = Image.new("L", (tile, tile))
    ImageDraw.Draw(head).polygon(place(body[body[:, 0] < head_end]), fill=255)
    fish.paste(_draw_head(kind, tile, place, deep, head_end), (0, 0), head)
    pen.polygon(place(_ellipse(0.032, 0.032) + np.array((-0.37, -deep * 0.22))), fill=(250, 250, 250))
    pen.polygon(place(_ellipse(0.018, 0.018) + np.array((-0.375, -deep * 0.22))), fill=(10, 10, 10))
    return fish, outline


def _draw_head(
    kind: str, tile: int, place: Callable[[np.ndarray], list[float]], deep: float, end: float
) -> Image.Image:
    """The pattern that tells the class, on a whole tile; only the part in front of x = `end` will be seen."""
    first, second = _HEADS[kind]
    image = Image.new("RGB", (tile, tile), first)
    pen = ImageDraw.Draw(image)

    def box(left: float, top: float, right: float, bottom: float) -> None:
        pen.polygon(place(np.array([(left, top), (right, top), (right, bottom), (left, bottom)])), fill=second)

    front, middle = -0.48, np.array([(end - 0.48) / 2 - 0.01, deep * 0.1])
    if kind == "banded":
        for left in np.arange(front + 0.05, end, 0.12):
            box(left, -deep, left + 0.06, deep)
    elif kind == "striped":
        for top in np.arange(-deep, deep, 0.12):
            box(front, top, end, top + 0.06)
    elif kind == "chequered":
        for row, top in enumerate(np.arange(-deep, deep, 0.075)):
            for left in np.arange(front + 0.075 * (row % 2), end, 0.15):
                box(left, top, left + 0.075, top + 0.075)
    elif kind == "dotted":
        for row, y in enumerate(np.arange(-deep, deep, 0.08)):
            for x in np.arange(front + 0.045 * (row % 2), end, 0.09):
                pen.polygon(place(_ellipse(0.027, 0.027) + np.array((x, y))), fill=second)
    elif kind == "ringed":
        for radius, color in ((0.2, second), (0.15, first), (0.1, second), (0.05, first)):
            pen.polygon(place(_ellipse(radius, radius) + middle), fill=color)
    else:
        turns = np.arange(10) * np.pi / 5
        star = np.stack([np.sin(turns), -np.cos(turns)], axis=1) * np.where(np.arange(10) % 2, 0.055, 0.13)[:, None]
        pen.polygon(place(star + middle), fill=second)
    return image


def _ellipse(a: float, b: float, angle: float = 0.0) -> np.ndarray:
    """Points (20, 2) around the origin."""
    return _CIRCLE * (a, b) @ [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]


def _points(points: np.ndarray) -> list[float]:
    """Points (n, 2) as Pillow draws them fastest: x and y in turn."""
    return points.ravel().tolist()


def _tone(color: np.ndarray, factor: float) -> Color:
    red, green, blue = (int(min(255, max(0, channel * factor))) for channel in color)
    return red, green, blue
