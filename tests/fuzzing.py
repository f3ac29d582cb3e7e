"""Mutated files for every reader of a user's file: a seeded mutator, a reader's valid files, and counts.

`python -m tests.fuzzing 600` prints the table of docs/results/robustness.md: so many mutations of each reader.
"""

from __future__ import annotations

import io
import json
import struct
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from tagseg.backbones.mxnet_file import read_mxnet_params
from tagseg.backbones.weights import read_weights
from tagseg.data.check import check_photos
from tagseg.data.class_lists import find_class_list
from tagseg.data.inputs import open_inputs
from tagseg.data.label_files import read_label_file
from tagseg.data.masks import read_mask
from tagseg.data.photo import photo_size, read_photo
from tagseg.data.review_journal import Journal, read_verdicts
from tagseg.data.tables import read_table
from tagseg.data.voc import open_voc
from tagseg.data.voc_xml import object_names
from tagseg.datasets.coco14 import read_instances
from tagseg.engine.checkpoint import Checkpoints
from tagseg.errors import UserError
from tagseg.foreign import read_array
from tagseg.outputs import OUTPUTS, READERS, read_summaries
from tagseg.outputs.charts import charts_of_run
from tagseg.prediction.load import load
from tagseg.recipe import load_recipe
from tagseg.refine import dense_crf
from tagseg.run_folder import RunFolder
from tagseg.weights import save_weights
from tagseg.workflows.chain import load_chain
from tagseg.workflows.train import machine

Rng = np.random.Generator
MEMORY = 4 << 30  # bytes that all mutations of a reader may take beyond what the imports took
NUMBERS = (
    "0",
    "-1",
    "1e308",
    "NaN",
    "Infinity",
    "1e-320",
    "4611686018427387904",
    "9" * 30,
    "0.5",
    "255",
    "256",
    "2147483648",
)
TOKENS = (
    b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b'"', b"\n", b"\r", b"\t", b",", b";", b"|", b"{", b"[", b"]", b"}", b": ", b"&a ",
    b"*a", b"!!python/object ", b"../", b"/dev/zero", b"C:\\", b"<", b"</", b"<!ENTITY x 'y'>", b"&x;", b"null", b"true", b"=cmd",
    "\u2028".encode(), "\u202e".encode(), b"\xed\xa0\x80", b"\x1b[31m", b"[/x]", b"%s", b"nan", b"'", b"#", b"\\", b"\x80\x02",
)  # fmt: skip


def mutated(content: bytes, rng: Rng) -> bytes:
    """The bytes with one to four changes, of which some keep the file's form and others don't."""
    for _ in range(min(rng.geometric(0.6), 4)):
        kind = rng.integers(10)
        size = len(content)
        at = int(rng.integers(size + 1))
        end = min(size, at + int(rng.integers(1, 40)))
        if kind == 0:
            content = content[:at]
        elif kind == 1:
            content = content[:at] + TOKENS[rng.integers(len(TOKENS))] + content[at:]
        elif kind == 2:
            content = content[:at] + content[end:]
        elif kind == 3:
            content = content[:at] + content[at:end] * int(rng.integers(2, 60)) + content[end:]
        elif kind == 4:
            content = content[:at] + rng.bytes(end - at) + content[end:]
        elif kind == 5:
            content = (
                content[:at]
                + struct.pack("<Q", int(rng.choice([0, 1, 255, 2**31, 2**32 - 1, 2**62, 2**63])))
                + content[at + 8 :]
            )
        elif kind in (6, 7):  # a number for another
            runs = [i for i in range(size) if 48 <= content[i] <= 57 and (i == 0 or not 48 <= content[i - 1] <= 57)][
                :500
            ]
            if runs:
                at = int(rng.choice(runs))
                end = at
                while end < size and 48 <= content[end] <= 57:
                    end += 1
                content = content[:at] + NUMBERS[rng.integers(len(NUMBERS))].encode() + content[end:]
        elif kind == 8:  # a part for another
            other = int(rng.integers(size + 1))
            content = content[:at] + content[other : other + end - at] + content[end:]
        elif size:  # a bit
            changed = bytearray(content)
            changed[at % size] ^= 1 << int(rng.integers(8))
            content = bytes(changed)
    return content[: 1 << 20]


@dataclass(frozen=True)
class Reader:
    """What is read, from which kind of folder, and which of its files is mutated.

    make: writes a valid folder. read: reads it all. files: those that are mutated, one at a time.
    """

    make: Callable[[Path], None]
    read: Callable[[Path], object]
    files: tuple[str, ...]
    weight: float = 1.0  # of the mutations, for readers that are slow


def photo(seed: int = 0, height: int = 12, width: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def write_photos(folder: Path, *names: str) -> None:
    for seed, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo(seed)).save(path)


def write_text(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(text.encode()) and None


def write_results(format: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        with OUTPUTS[format](folder, ("background", "cat", "dog")) as writer:
            for seed, name in enumerate(("a", "sub/b")):
                mask = np.random.default_rng(seed).integers(0, 3, (3, 4), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
                writer.add(name, photo(seed), mask)

    return make


def read_results(format: str) -> Callable[[Path], object]:
    return lambda folder: [mask.sum() for _, mask in READERS[format](folder).masks]


def write_table(name: str, text: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        write_photos(folder / "photos", "a.png", "b.png", "cat.png")
        (folder / name).write_text(text, encoding="utf-8", newline="")

    return make


def read_tags(name: str) -> Callable[[Path], object]:
    def read(folder: Path) -> None:
        read_table(folder / name)
        check_photos(folder / "photos", folder / name)

    return read


def write_workbook(folder: Path) -> None:
    import openpyxl

    book = openpyxl.Workbook()
    for row in (("file", "tags"), ("a.png", "cat; dog"), ("b.png", "dog"), ("cat.png", 3)):
        book.active.append(row)
    book.save(folder / "t.xlsx")


def write_voc(folder: Path) -> None:
    write_photos(folder / "JPEGImages", "a.jpg", "b.jpg")
    for name, text in {
        "ImageSets/Segmentation/train.txt": "a\nb\n",
        "Annotations/a.xml": "<annotation><size><width>16</width></size><object><name>cat</name></object></annotation>",
        "Annotations/b.xml": "<annotation><object><name>dog</name><part><name>head</name></part></object></annotation>",
        "labels.txt": "cat\ndog\n",
        "labelmap.txt": "background:0,0,0::\ncat:128,0,0::\n",
        "class_names.txt": "__ignore__\n_background_\ncat\n",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def read_voc(folder: Path) -> None:
    object_names(folder / "Annotations/a.xml")
    open_voc(folder, "train", tags="xml")
    for name in ("labels.txt", "class_names.txt"):
        find_class_list(folder)
        (folder / name).unlink()
    find_class_list(folder)


def write_list(folder: Path) -> None:
    write_photos(folder / "photos", "a.png", "b.png")
    (folder / "list.txt").write_text("photos/a.png\nphotos/b.png\n# a remark\n")


def read_inputs(name: str) -> Callable[[Path], object]:
    def read(folder: Path) -> None:
        with open_inputs([folder / name], out=folder / "out") as inputs:
            for given in inputs.photos:
                try:
                    given.read()
                except UserError:
                    continue

    return read


def write_zip(folder: Path) -> None:
    for packing, name in ((zipfile.ZIP_DEFLATED, "a.zip"), (zipfile.ZIP_LZMA, "b.zip")):
        with zipfile.ZipFile(folder / name, "w", packing) as archive:
            for seed, member in enumerate(("x.png", "sub/y.jpg")):
                buffer = io.BytesIO()
                Image.fromarray(photo(seed)).save(buffer, format="PNG" if member.endswith("png") else "JPEG")
                archive.writestr(member, buffer.getvalue())


PHOTOS = ("a.png", "a.jpg", "a.webp", "a.bmp", "a.tif", "a.gif", "g.png", "d.tif")
MASKS = ("m.png", "l.png", "g.gif", "t.tif", "b.bmp")


def write_pictures(folder: Path) -> None:
    for name in PHOTOS[:6]:
        Image.fromarray(photo()).save(folder / name)
    deep = (photo()[..., 0].astype(np.uint16) << 8) + 7
    Image.fromarray(deep).save(folder / "g.png")
    Image.fromarray(deep).save(folder / "d.tif", compression="tiff_lzw")


def write_masks(folder: Path) -> None:
    mask = np.arange(192, dtype=np.uint8).reshape(12, 16) % 3
    for name in MASKS:
        image = Image.fromarray(mask)
        if name in ("m.png", "g.gif"):
            image = Image.fromarray(mask).convert("P")
            image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
        image.save(folder / name)


def only(read: Callable[[Path], object]) -> Callable[[Path], object]:
    """Reads the mutated file alone."""
    return lambda folder: read(folder / (folder / ".mutated").read_text())


def write_arrays(folder: Path) -> None:
    maps = np.random.default_rng(0).random((2, 12, 16), np.float32)
    np.save(folder / "a.npy", maps)
    np.save(folder / "b.npy", np.asfortranarray(maps.astype(">f8")))
    np.save(folder / "c.npy", maps.astype(np.float16))


def read_maps(path: Path) -> None:
    maps = read_array(path, "an array of probabilities")
    dense_crf(photo(), maps, bilateral=(5, 10, 3), iterations=1, threads=1)


def draw_call(content: bytes) -> None:
    """A call of the dense CRF whose arguments follow from bytes: kinds, layouts, sizes, values."""
    rng = np.random.default_rng(list(content))
    odd = [
        None,
        3,
        -1,
        0,
        1.5,
        float("nan"),
        float("inf"),
        1e-300,
        1e300,
        "auto",
        "x",
        b"",
        True,
        object(),
        {},
        [],
        [1],
    ]
    odd += [(1, 2), (3, 4, 5), [[1, 2], [3, 4]], ("after", "none"), (80, 13, 10), (3, 3), np.float32(2), np.zeros(3)]
    odd.append(torch.ones(2))
    kinds = [np.uint8, np.float32, np.float64, ">f4", np.float16, bool, np.int64, complex, object, "U1", np.uint16]

    def array(usual: type, *shape: int) -> object:
        scale = 255 if usual is np.uint8 else 1
        scale = rng.choice([1, 255, 1e30, -1]) if rng.integers(6) == 0 else scale
        kind = kinds[rng.integers(len(kinds))] if rng.integers(3) == 0 else usual
        value = np.asarray(rng.random(shape) * scale).astype(kind)
        layout = rng.integers(8) if value.ndim else 7
        if layout == 0:
            value = value[::-1]
        elif layout == 1:
            value = np.asfortranarray(value)
        elif layout == 2:
            value = value[..., ::-1]
        elif layout == 3 and value.dtype.kind in "fiu" and value.dtype.isnative and value.dtype != np.uint16:
            return torch.from_numpy(value).to(torch.bfloat16 if rng.integers(2) else torch.float32)
        elif layout == 4:
            value.flags.writeable = False
        elif layout == 5 and rng.integers(3) == 0:
            return value.tolist()
        return value

    height, width = rng.integers(0, 9, 2) if rng.integers(4) == 0 else (5, 7)
    shapes = [(height, width, 3), (height, width), (height, width, 1), (height, width, 3, 1), (3,), ()]
    image = array(np.uint8, *shapes[rng.integers(len(shapes)) if rng.integers(3) == 0 else 0])
    maps = array(
        np.float32,
        *[(2, height, width), (3, height, width), (0, height, width), (height, width)][
            rng.integers(4) if rng.integers(3) == 0 else 1
        ],
    )
    if rng.integers(8) == 0:
        image, maps = odd[rng.integers(len(odd))], maps
    names = (
        "gaussian",
        "bilateral",
        "iterations",
        "tags",
        "unary",
        "normalization",
        "compatibility",
        "lattice",
        "threads",
        "backend",
    )
    settings = {name: odd[rng.integers(len(odd))] for name in names if rng.integers(18) == 0}
    if rng.integers(6) == 0:
        image, maps = [image, image], [maps, maps]
    if isinstance(settings.get("iterations"), int) and settings["iterations"] > 5:
        settings["iterations"] = 2
    dense_crf(image, maps, **({"iterations": 1, "threads": 1} | settings))


def write_model(folder: Path) -> None:
    """A run folder of the smallest network of timm's, made once."""
    global _model
    if not _model:
        from tests.workflows.test_export import small

        made = Path(tempfile.mkdtemp())
        model = small("classifier")
        save_weights(made / "model.safetensors", model.method)
        model.save(made, {})
        _model.extend((name, (made / name).read_bytes()) for name in ("model.json", "model.safetensors"))
    for name, content in _model:
        (folder / name).write_bytes(content)


_model: list[tuple[str, bytes]] = []


def write_weights(folder: Path) -> None:
    tensors = {"a.weight": torch.arange(12.0).view(3, 4), "b": torch.ones(2)}
    save_file(tensors, folder / "w.safetensors", metadata={"facts": json.dumps({"step": 3})})
    torch.save(tensors, folder / "w.pth")
    torch.save({"state_dict": tensors}, folder / "old.pth", _use_new_zipfile_serialization=False)
    array = struct.pack("<IiIqq", 0xF993FAC9, 0, 2, 2, 3) + struct.pack("<iii", 1, 0, 0) + b"\0" * 24
    (folder / "w.params").write_bytes(struct.pack("<QQQ", 0x112, 0, 1) + array + struct.pack("<QQ", 1, 1) + b"a")


def read_tensors(path: Path) -> None:
    read_mxnet_params(path) if path.suffix == ".params" else read_weights(path)


def write_run(folder: Path) -> None:
    checkpoints = Checkpoints(folder / "checkpoints")
    (folder / "checkpoints").mkdir()
    for step in (1, 2):
        checkpoints.save(step, {"model.a": torch.ones(2)}, {"identity": {}, "row": {"step": step}, "seconds": 1.5})
    checkpoints.set_scores(2, {"miou": 0.5})
    rows = [{"step": s, "loss": 2.0 / s, "wave": s % 2, "lr": 1e-3, "scores": {"miou": 0.1 * s}} for s in range(1, 9)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def read_run(folder: Path) -> None:
    checkpoints = Checkpoints(folder / "checkpoints", best="miou")
    checkpoints.best()
    checkpoints.newest(lambda text: None)
    charts_of_run(list(RunFolder(folder).metric_rows()))


def write_scores(folder: Path) -> None:
    branch = {"miou": 50.0, "iou": {"background": 90.0, "cat": None}}
    facts = {
        "labels": "image-level tags only",
        "classes": ["cat"],
        "minutes": 1.5,
        "peak_memory_gib": 1.0,
        "machine": "m",
    }
    facts |= {
        "scores": {"without tags": {"P_s": branch, "P_s + CRF": branch}},
        "photo_miou": {"a": 0.5},
        "command": "c",
    }
    (folder / "scores.json").write_text(json.dumps(facts))


def write_review(folder: Path) -> None:
    journal = Journal(folder, ("background", "cat", "dog"))
    journal.append({"photo": "a", "event": "decision", "state": "accepted", "version": 1})
    journal.append({"photo": "b", "event": "tags", "tags": ["cat"], "version": 1})
    journal.close()


def write_label_file(folder: Path) -> None:
    vectors = {f"2007_00000{i}": np.array([i % 2, 1.0], np.float32) for i in range(3)}
    np.save(folder / "cls_labels.npy", vectors, allow_pickle=True)  # type: ignore[arg-type]


def read_labels(folder: Path) -> None:
    read_label_file(folder / "cls_labels.npy", ("cat", "dog"), ["2007_000000", "2007_000002"])


RECIPE = """title: mine
data: {format: tagged, root: photos, tags: t.csv, scenes: {size: [64, 64]}}
model: {backbone: efficientnet_lite0, frozen: [conv_stem], output_stride: 16}
method: {name: rrm, hidden: 16, cam_scales: [1.0, 0.5], labels: {crf: {bilateral: [80, 13, 10]}}}
train: {steps: 10, batch_size: 2, crop: 64, scale: [0.7, 1.3], color_jitter: [0.1, 0.1, 0.1, 0.1]}
predict: {scales: [1.0, 0.5], flip: true, crf: null}
"""
CHAIN = """title: chain
teacher: {base: rrm-scenes, train: {steps: 10}}
segmenter: {base: supervised-scenes, train: {steps: 10}}
label: {confidence: 0.5}
rounds: 2
seed: 3
"""
CSV = 'file,tags\na.png,"cat; dog"\nb.png,dog\ncat.png,\n'
TSV = "name\tcat\tdog\na.png\t1\t0\nb.png\t0\t1\ncat.png\tx\t\n"
JSONL = (
    '{"file_name": "a.png", "tags": ["cat", "dog"]}\n{"file_name": "b.png", "tags": "dog"}\n{"file_name": "cat.png"}\n'
)
JSON = '[{"file": "a.png", "tags": ["cat"]}, {"file": "b.png", "tags": null}, {"file": "cat.png", "tags": "dog;cat"}]'

CALL = "arguments of the dense CRF"
READERS_OF_FILES: dict[str, Reader] = {
    "table, CSV": Reader(write_table("t.csv", CSV), read_tags("t.csv"), ("t.csv",)),
    "table, TSV": Reader(write_table("t.tsv", TSV), read_tags("t.tsv"), ("t.tsv",)),
    "table, JSON Lines": Reader(write_table("t.jsonl", JSONL), read_tags("t.jsonl"), ("t.jsonl",)),
    "table, JSON": Reader(write_table("t.json", JSON), read_tags("t.json"), ("t.json",)),
    "table, Excel": Reader(write_workbook, lambda folder: read_table(folder / "t.xlsx"), ("t.xlsx",), 0.5),
    "VOC: XML, lists of photos and classes": Reader(
        write_voc,
        read_voc,
        (
            "Annotations/a.xml",
            "Annotations/b.xml",
            "ImageSets/Segmentation/train.txt",
            "labels.txt",
            "labelmap.txt",
            "class_names.txt",
        ),
    ),
    "list of photos": Reader(write_list, read_inputs("list.txt"), ("list.txt",)),
    "zip of photos": Reader(
        write_zip, lambda folder: (read_inputs("a.zip")(folder), read_inputs("b.zip")(folder)), ("a.zip", "b.zip")
    ),
    "photo": Reader(write_pictures, only(lambda path: (read_photo(path), photo_size(path))), PHOTOS),
    "mask": Reader(write_masks, only(read_mask), MASKS),
    "COCO": Reader(write_results("coco"), read_results("coco"), ("annotations.json",)),
    "YOLO": Reader(write_results("yolo"), read_results("yolo"), ("data.yaml", "labels/a.txt", "images/a.jpg")),
    "Label Studio": Reader(
        write_results("label-studio"), read_results("label-studio"), ("label-studio.json", "label-studio.xml")
    ),
    "CVAT": Reader(write_results("cvat"), read_results("cvat"), ("cvat.zip",)),
    "folders of masks": Reader(write_results("folders"), read_results("folders"), ("classes.txt", "masks/a.png")),
    "summaries": Reader(write_results("json"), read_summaries, ("a.json",)),
    "array of probabilities": Reader(write_arrays, only(read_maps), ("a.npy", "b.npy", "c.npy")),
    CALL: Reader(
        lambda folder: (folder / "call").write_bytes(b"0123456789abcdef") and None,
        lambda folder: draw_call((folder / "call").read_bytes()),
        ("call",),
    ),
    "model.json and its weights": Reader(write_model, load, ("model.json", "model.safetensors"), 0.1),
    "weights: safetensors, .pth, MXNet": Reader(
        write_weights, only(read_tensors), ("w.safetensors", "w.pth", "old.pth", "w.params")
    ),
    "recipe": Reader(write_text("r.yaml", RECIPE), lambda folder: load_recipe(folder / "r.yaml"), ("r.yaml",)),
    "chain": Reader(write_text("c.yaml", CHAIN), lambda folder: load_chain(str(folder / "c.yaml")), ("c.yaml",)),
    "scores of a run": Reader(write_scores, lambda folder: RunFolder(folder).result(), ("scores.json",)),
    "journal of a review": Reader(write_review, read_verdicts, ("review.json", "journal.jsonl")),
    "tags of the papers, .npy": Reader(write_label_file, read_labels, ("cls_labels.npy",)),
    "COCO's file of instances": Reader(
        write_results("coco"), lambda folder: read_instances(folder / "annotations.json"), ("annotations.json",)
    ),
    "checkpoints and metrics": Reader(
        write_run, read_run, ("metrics.jsonl", "checkpoints/step-0000002.json", "checkpoints/step-0000002.safetensors")
    ),
}


@dataclass
class Counts:
    """What became of a reader's mutations. slowest: seconds of CPU of a single one."""

    taken: int = 0
    refused: int = 0
    slowest: float = 0.0

    def add(self, other: Counts) -> None:
        """Count another reader's too."""
        self.taken += other.taken
        self.refused += other.refused
        self.slowest = max(self.slowest, other.slowest)

    def __str__(self) -> str:
        """The cells of a row; other errors end a run, so a row has none."""
        return f"{self.taken + self.refused:,} | {self.taken:,} | {self.refused:,} | 0 | {self.slowest:.2f}"


class Escaped(Exception):  # noqa: N818 (what got away)
    """Another error than UserError left a reader."""


def fuzz(name: str, count: int, folder: Path, seed: int = 0) -> Counts:
    """Read `count` mutations; raises Escaped with what is needed to do it again. folder: an empty one."""
    reader, counts = READERS_OF_FILES[name], Counts()
    made = folder / "valid"
    made.mkdir(parents=True)
    reader.make(made)
    valid = {file: (made / file).read_bytes() for file in reader.files}
    reads = {path.relative_to(made): path.read_bytes() for path in made.rglob("*") if path.is_file()}
    for file in reader.files:  # without a change, each of them is read
        (made / ".mutated").write_text(file)
        with suppress(UserError) if name == CALL else nullcontext():  # a call drawn from bytes may be wrong as it is
            reader.read(made)
        for path, content in reads.items():
            (made / path).write_bytes(content)
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        file = reader.files[number % len(reader.files)]
        broken = mutated(valid[file], rng)
        (made / file).write_bytes(broken)
        (made / ".mutated").write_text(file)
        began = time.process_time()
        try:
            with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
                warnings.simplefilter("ignore")
                reader.read(made)
            counts.taken += 1
        except UserError as error:
            text = str(error)
            if "\n" in text or len(text) > 1500:
                raise Escaped(
                    f"{name}, {file}, seed {seed}, number {number}: a sentence of {len(text)} characters"
                ) from error
            counts.refused += 1
        except Exception as error:
            raise Escaped(f"{name}, {file}, seed {seed}, number {number}: {error!r}, of {broken[:300]!r}") from error
        counts.slowest = max(counts.slowest, time.process_time() - began)
        for path, content in reads.items():
            if path.as_posix() == file or not (made / path).exists():
                (made / path).write_bytes(content)
    return counts


@contextmanager
def limited() -> Iterator[None]:
    """A limit of MEMORY beyond what the process has already, where the system knows one."""
    if not sys.platform.startswith("linux"):
        yield
        return
    import resource

    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def main() -> None:
    """Print the table, under the limit of memory; an error that is no sentence ends it with a traceback."""
    count = int(sys.argv[1])
    print("| reader | mutations | read | refused in a sentence | other errors | slowest, s of CPU |")
    print("|---|---:|---:|---:|---:|---:|", flush=True)
    total = Counts()
    for name, reader in READERS_OF_FILES.items():
        with tempfile.TemporaryDirectory() as folder, limited():
            counts = fuzz(name, max(round(count * reader.weight), 1), Path(folder), seed=1)
        print(f"| {name} | {counts} |", flush=True)
        total.add(counts)
    print(f"| all | {total} |")
    print(f"\n{MEMORY >> 30} GiB of memory at most, {machine()}, {torch.get_num_threads()} thread(s).")


if __name__ == "__main__":
    main()
