"""The sections of `gpu.py`: each yields the lines of its part of the page."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

import gpu_kernels
import gpu_steps
from predict import write_photos
from tagseg.recipe import load_recipe
from tagseg.segmenter import Segmenter, build_method

SMALL_SCENES = [
    "data.scenes.size=[48,48]", "data.scenes.train=4", "data.scenes.val=1", "train.crop=32", "train.batch_size=2",
]  # fmt: skip
Left = Callable[[], float]
HERE = Path(__file__).resolve().parent


def kernels(options: Namespace, left: Left) -> Iterator[str]:
    """CRF, PAR, VARM and energy."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    forms: tuple[gpu_kernels.Backend, ...] = ("triton", "torch") if device.type == "cuda" else ("torch",)
    forms = forms[:1] if options.quick else forms
    yield gpu_kernels.PAR_HEAD
    size, batch = (16, 1) if options.small else (512, 4)
    maps = (2,) if options.small else (4,) if options.quick else (4, 21)
    yield from gpu_kernels.par_rows(size, batch, maps, (*forms, "direct"), device)
    yield f"\n{gpu_kernels.ENERGY_HEAD}"
    crop, photos, classes = (16, 1, 3) if options.small else (321, 4, 21)
    yield from gpu_kernels.energy_rows(crop, photos, classes, forms, device)
    yield f"\n{gpu_kernels.CRF_HEAD}"
    wide, narrow = (80.0, 13.0, 10.0), (83.0, 5.0, 4.0)
    cases = [(321, 321, 32, wide, 5), (321, 321, 32, narrow, 21), (375, 500, 16, wide, 5), (375, 500, 1, wide, 21)]
    cases += [(321, 321, 32, wide, 21), (375, 500, 16, narrow, 21), (1500, 2000, 1, wide, 2)]
    yield from gpu_kernels.crf_rows(
        [(16, 20, 1, wide, 2)] if options.small else cases, forms, device, left, 1 if options.quick else 2
    )


def steps(options: Namespace, left: Left) -> Iterator[str]:
    """All recipes, both precisions."""
    if not torch.cuda.is_available():
        yield "No GPU: operations and host reads of a small step on the CPU, as the tests count them.\n"
        yield "| recipe | crop, batch | operations | host reads |\n|---|---|---:|---:|"
        yield gpu_steps.counted_row("rrm-scenes")
        return
    yield gpu_steps.HEAD
    recipes = tuple(options.recipes.split(",")) if options.recipes else gpu_steps.RECIPES
    yield from gpu_steps.rows(recipes, ("fp32", "bf16"), left)


def plain(options: Namespace, left: Left) -> Iterator[str]:
    """Some recipes without the Triton kernels, for comparison in the same run."""
    if not torch.cuda.is_available():
        yield "Skipped: no GPU."
        return
    yield gpu_steps.HEAD
    yield from gpu_steps.rows(("bmp-voc12-mit_b1", "rrm-voc12", "asdt-voc12", "tscd-voc12-mit_b1"), ("fp32",), left)


def compiled(options: Namespace, left: Left) -> Iterator[str]:
    """`train.compile: true` on recipes that wait for launches."""
    if not torch.cuda.is_available():
        yield "Skipped: no GPU."
        return
    yield gpu_steps.HEAD
    for name, more in (("supervised-voc12-deeplab_v2", ("train.micro_batch=null",)), ("bmp-voc12-mit_b1", ())):
        yield from gpu_steps.rows((name,), ("bf16",), left, ("train.compile=true", *more))
    yield from gpu_steps.rows(("supervised-voc12-deeplab_v2",), ("fp32", "bf16"), left, ("train.micro_batch=null",))


def predict(options: Namespace, left: Left) -> Iterator[str]:
    """Photos a second from files to masks."""
    from tagseg.data.photo import read_photo
    from tagseg.workflows.predict import predict as predict_files

    device = "cuda" if torch.cuda.is_available() else "cpu"
    count = 1 if options.small else 256
    names = ("asdt-scenes",) if options.small else ("asdt-scenes", "bmp-voc12-mit_b1")
    yield "| model | what | photos/s | pixels that differ from the CPU's |\n|---|---|---:|---:|"
    with tempfile.TemporaryDirectory() as temporary:
        photos = Path(temporary, "photos")
        photos.mkdir()
        write_photos(photos, count)
        for name in names:
            recipe = load_recipe(name, ["model.start=null"])
            torch.manual_seed(0)
            method = build_method(recipe.method, recipe.model, gpu_steps.CLASSES, weights="none")
            segmenter = Segmenter(method)
            few = (1 if options.small else 3) if name == names[0] else 0  # a CPU takes long
            some = [read_photo(path) for path in sorted(photos.iterdir())[:few]]
            expected = [segmenter.predict(photo).mask for photo in some]
            segmenter.to(device)
            for crf in (True, False):
                differ = ""
                if crf and few:
                    masks = [segmenter.predict(photo).mask for photo in some]
                    shares = [float((a != b).mean()) for a, b in zip(masks, expected, strict=True)]
                    differ = f"{sum(shares) / len(shares):.4%}"
                predict_files(segmenter, photos, Path(temporary, f"warm {name} {crf}"), crf=crf)
                began = time.perf_counter()
                predict_files(segmenter, photos, Path(temporary, f"{name} {crf}"), crf=crf)
                rate = count / (time.perf_counter() - began)
                yield f"| {name} | predict, {'CRF' if crf else 'no CRF'}, {device} | {rate:.1f} | {differ} |"
            if left() < 8:
                yield "| | no time left | | |"
                return
            yield from _label(name, segmenter, photos, Path(temporary, f"labels {name}"), count)


def _label(name: str, segmenter: Segmenter, photos: Path, out: Path, count: int) -> Iterator[str]:
    """Labeling the same photos, two tags each."""
    from tagseg.data.sources import DataSettings, open_sources
    from tagseg.workflows.label import label

    table = out.with_name(f"{out.name}.csv")
    classes = segmenter.classes[1:]
    files = sorted(photos.iterdir())
    rows = [f"{path.name},{classes[i % 20]};{classes[(i + 7) % 20]}" for i, path in enumerate(files)]
    table.write_text("file,tags\n" + "\n".join(rows) + "\n", encoding="utf-8")
    settings = DataSettings.model_validate(
        {"format": "tagged", "root": photos, "tags": table, "separator": ";", "val": None}
    )
    source = open_sources(settings, out.with_name("cache")).train
    began = time.perf_counter()
    label(segmenter, source, out)
    seconds = time.perf_counter() - began
    yield f"| {name} | label, CRF, {segmenter.device.type} | {len(source) / seconds:.1f} | |"


def tests(options: Namespace, left: Left) -> Iterator[str]:
    """The tests that need a GPU, each failure by name."""
    if not torch.cuda.is_available():
        yield "Skipped: no GPU."
        return
    yield from _pytest(["-m", "gpu", "tests/refine"], left)


def suite(options: Namespace, left: Left) -> Iterator[str]:
    """As many of all tests as there is time for, on a machine whose trainings run on a GPU; each failure by name."""
    if not torch.cuda.is_available():
        yield "Skipped: no GPU."
        return
    folders = (
        "refine",
        "methods",
        "engine",
        "cues",
        "segmenters",
        "backbones",
        "prediction",
        "workflows",
        "outputs",
        "data",
    )
    there = [f"tests/{name}" for name in folders if (HERE.parent / "tests" / name).is_dir()]
    yield from _pytest(["-n", "12", "--dist", "loadfile", *there], left)


def _pytest(arguments: list[str], left: Left) -> Iterator[str]:
    command = [sys.executable, "-m", "pytest", "-vv", "--tb=line", "-p", "no:cacheprovider", *arguments]
    cut = ""
    try:
        run = subprocess.run(
            command, cwd=HERE.parent, capture_output=True, text=True, timeout=max(left() - 3, 5), check=False
        )
        output = run.stdout or run.stderr
    except subprocess.TimeoutExpired as error:
        output = (
            (error.stdout or b"").decode(errors="replace") if isinstance(error.stdout, bytes) else str(error.stdout)
        )
        cut = "cut off; "
    broken = dict.fromkeys(re.findall(r"(?:FAILED|ERROR) (tests/\S+)|(tests/\S+) (?:FAILED|ERROR)", output))
    yield from (f"- {one or other}" for one, other in broken)
    reasons = dict.fromkeys(re.findall(r"^(?:E  |/.*: )(.*(?:Error|Exception).*)$", output, re.MULTILINE))
    yield from (f"    {reason[:200]}" for reason in list(reasons)[:12])
    passed = len(re.findall(r"PASSED", output))
    last = output.strip().splitlines()[-1][:200] if output.strip() else ""
    yield f"{cut}{passed} passed, {len(broken)} did not; {last}"


def resume(options: Namespace, left: Left) -> Iterator[str]:
    """A training killed once by SIGKILL and resumed, and its losses."""
    if not hasattr(signal, "SIGKILL"):
        yield "Skipped: this system has no SIGKILL."
        return
    recipe = (
        "asdt-voc-animals-reference" if options.data else "tscd-scenes" if not options.small else "classifier-scenes"
    )
    count = 8 if options.small else 300
    overrides = [f"train.steps={count}", f"train.checkpoint_every={2 if options.small else 10}", "model.start=null"]
    overrides += [f"data.root={options.data}"] if options.data else SMALL_SCENES if options.small else []
    overrides += ["model.weights=none"]
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary, "run")
        command = [sys.executable, "-m", "tagseg", "train", recipe, "--out", str(out)]
        command += [part for override in overrides for part in ("--set", override)]
        killed = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        while killed.poll() is None and left() > 5 and not list(out.glob("checkpoints/step-*.json")):
            time.sleep(0.05)
        time.sleep(0.3)
        if killed.poll() is None:
            killed.send_signal(signal.SIGKILL)
        _, errors = killed.communicate()
        saved = sorted(path.stem for path in out.glob("checkpoints/step-*.json"))
        if not saved:
            yield f"`tagseg train {recipe}` saved no checkpoint in time: {errors[-400:]}"
            return
        began = time.perf_counter()
        run = subprocess.run(command, capture_output=True, text=True, timeout=max(left(), 5), check=False)
        done = (out / "model.safetensors").is_file()
        device = "cuda" if torch.cuda.is_available() else "cpu"
        yield (
            f"`tagseg train {recipe}` on {device}, {count} steps, killed after {saved[-1]}; resumed: exit {run.returncode}, "
            f"{'finished' if done else 'not finished'} in {time.perf_counter() - began:.0f} s."
        )
        if run.returncode:
            yield f"\n```\n{run.stderr[-600:]}\n```"


SECTIONS: dict[str, Callable[[Namespace, Left], Iterator[str]]] = {
    "kernels": kernels,
    "steps": steps,
    "predict": predict,
    "plain": plain,
    "compiled": compiled,
    "tests": tests,
    "resume": resume,
    "suite": suite,
}
