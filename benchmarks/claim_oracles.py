"""Could a claim of the papers hold at all? The part in question is given the truth, and what it gains then is read.

    python benchmarks/claim_oracles.py distillation --out DIR --seeds 0,1,2
    python benchmarks/claim_oracles.py feedback --out DIR --seeds 0,1,2
    python benchmarks/claim_oracles.py teachers RUN
    python benchmarks/claim_oracles.py background RUN

distillation: TSCD on generated scenes, the agreement of pixels (SCD) taken from the true masks. feedback: BMP on generated
scenes, the segmentation's labels for the CAM taken from the true masks. Both print mIoU after the CRF, no tags used.
teachers: what the seg-teacher of a finished run of ASDT knows of the validation photos that the class-teacher does not, their
tags used. background: by how much a constant on the background's logit lifts each segmentation of a finished run, before the CRF
and without tags: what it lifts is no knowledge, only a bias. None of this is a result of a method: true masks are read.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

import tagseg
from tagseg.data.batch import Batch
from tagseg.mask_values import IGNORE
from tagseg.methods import METHODS, Method
from tagseg.methods.asdt import ASDT
from tagseg.methods.bmp import BMP
from tagseg.methods.tscd import TSCD
from tagseg.prediction.score import AFTER
from tagseg.progress import nothing_said
from tagseg.recipe import load_recipe
from tagseg.resize import size_of
from tagseg.run_folder import RunFolder
from tagseg.scores import Scores
from tagseg.workflows.opened import run_sources
from tagseg.workflows.train import machine, train

TAKEN = ("method.correspondence.restore=false", "method.correspondence.both=true")
WEIGHT_1, WEIGHT_10 = "method.correspondence.weight=1", "method.correspondence.weight=10"
NORMALIZED, BELOW = "method.seg_to_class.normalized=true", "method.seg_to_class.below=0.5"
ROWS: dict[str, dict[str, tuple[bool, tuple[str, ...]]]] = {  # whether the truth is told, and settings
    "distillation": {
        "without SCD": (False, ("method.correspondence.weight=0",)),
        "SCD as released": (False, ()),
        "both means taken, weight 10": (False, (*TAKEN, WEIGHT_10)),
        "true agreement, as released": (True, ()),
        "true agreement, both means taken, weight 1": (True, (*TAKEN, WEIGHT_1)),
        "true agreement, both means taken, weight 10": (True, (*TAKEN, WEIGHT_10)),
    },
    "feedback": {
        "no feedback": (False, ("method.seg_to_class.weight=0",)),
        "feedback": (False, ()),
        "true objects": (True, ()),
        "true objects, on the normalized CAM": (True, (NORMALIZED,)),
        "true objects, where the CAM is below one half": (True, (BELOW,)),
        "true objects, both": (True, (NORMALIZED, BELOW)),
    },
}
BRANCHES = ("CAM", "P_s")


class TrueAgreement(TSCD):
    """TSCD whose correspondences are those of the true masks, background among the classes."""

    needs_masks: ClassVar[bool] = True

    def kinds(self, batch: Batch, cam_BCHW: Tensor, view_B3hw: Tensor, feature_BFhw: Tensor) -> tuple[Tensor, Tensor]:
        """The true classes of the photo's pixels and of the view's."""
        assert batch.mask_BHW is not None
        true_BKHW = torch.stack([batch.mask_BHW == label for label in range(self.num_classes)], 1).float()
        return true_BKHW, F.interpolate(true_BKHW, size_of(view_B3hw), mode="bilinear", align_corners=True)


class TrueFeedback(BMP):
    """BMP whose classifier hears of every true pixel of an object."""

    needs_masks: ClassVar[bool] = True

    def seg_labels(self, batch: Batch, logit_BKHW: Tensor) -> Tensor:
        """The true classes of objects (B, H, W) in 0..C-1, 255 elsewhere."""
        assert batch.mask_BHW is not None
        object_BHW = (batch.mask_BHW > 0) & (batch.mask_BHW != IGNORE) & batch.valid_BHW
        return torch.where(object_BHW, batch.mask_BHW - 1, IGNORE).to(torch.uint8)


METHOD: dict[str, tuple[str, type[Method], type[Method]]] = {  # its name, as it is, and told the truth
    "distillation": ("tscd", TSCD, TrueAgreement),
    "feedback": ("bmp", BMP, TrueFeedback),
}


def trained(part: str, out: Path, seeds: list[int], device: str, wanted: list[str]) -> None:
    """Train rows, all or those that are wanted, for every seed, passing over what is there, and print the table."""
    name, plain, told = METHOD[part]
    print("| row |" + "".join(f" {branch} | seeds |" for branch in BRANCHES) + "\n|---|" + "---:|---|" * len(BRANCHES))
    for number, (row, (oracle, changes)) in enumerate(ROWS[part].items()):
        if wanted and row not in wanted:
            continue
        METHODS[name] = told if oracle else plain
        runs = []
        for seed in seeds:
            run = out / f"{part}-{number}-seed-{seed}"
            recipe = load_recipe(f"{name}-scenes", [*changes, f"train.seed={seed}"])
            train(recipe, run, device=device, say=nothing_said)
            runs.append(RunFolder(run).result()["scores"]["without tags"])
        cells = []
        for branch in BRANCHES:
            values = [run[branch + AFTER]["miou"] for run in runs]
            cells.append(f"{sum(values) / len(values):.1f} | {', '.join(f'{value:.1f}' for value in values)}")
        print(f"| {row} | {' | '.join(cells)} |", flush=True)
    print(f"\n`python benchmarks/claim_oracles.py {' '.join(sys.argv[1:])}`; {machine()}")


@torch.no_grad()
def teachers(run: Path) -> None:
    """Compare both teachers' labels of the validation photos with the true masks, and print what they know."""
    method, val = tagseg.load(run, device="cpu").method, run_sources(run).val
    assert isinstance(method, ASDT)
    assert val is not None
    names = ("class-teacher where sure", "seg-teacher", "seg-teacher where the class-teacher is open", "better of both")
    scores = {name: Scores(val.num_classes) for name in names}
    pixels = {"all": 0, "open": 0, "open, right": 0, "open, object": 0, "open, object, right": 0, "sure, object": 0}
    pixels |= {"sure, object, right": 0, "sure, wrong": 0, "sure, wrong, seg-teacher right": 0}
    for index, photo in enumerate(val.photos):
        true_HW = torch.from_numpy(val.mask(index))
        picture_3HW = torch.from_numpy(val.photo(index)).permute(2, 0, 1)
        tag_C = torch.zeros(val.num_classes - 1)
        tag_C[[tag - 1 for tag in photo.tags]] = 1
        valid_1HW = torch.ones(1, *true_HW.shape, dtype=torch.bool)
        batch = Batch(picture_3HW[None], valid_1HW, tag_C[None], None, torch.zeros(1, dtype=torch.long), (photo.name,))
        image_B3HW = batch.image()
        stages = method.backbone.stages(image_B3HW)
        logit_BKHW = method.logits("seg_teacher", stages, batch.size)
        ours_BHW, _ = method.class_teacher_labels(batch, image_B3HW, stages, 10**9, "seg_teacher", logit_BKHW)
        theirs_BHW = method.seg_teacher_labels(batch, logit_BKHW.softmax(1))
        ours_HW, theirs_HW, known_HW = ours_BHW[0], theirs_BHW[0], true_HW != IGNORE
        open_HW, right_HW = (ours_HW == IGNORE) & known_HW, theirs_HW == true_HW
        sure_HW = (ours_HW != IGNORE) & known_HW
        wrong_HW, object_HW = sure_HW & (ours_HW != true_HW), sure_HW & (ours_HW > 0)
        for name, where in (
            ("all", known_HW),
            ("open", open_HW),
            ("open, right", open_HW & right_HW),
            ("open, object", open_HW & (theirs_HW > 0)),
            ("open, object, right", open_HW & (theirs_HW > 0) & right_HW),
            ("sure, object", object_HW),
            ("sure, object, right", object_HW & ~wrong_HW),
            ("sure, wrong", wrong_HW),
            ("sure, wrong, seg-teacher right", wrong_HW & right_HW),
        ):
            pixels[name] += int(where.sum())
        better_HW = torch.where(sure_HW & ~(wrong_HW & right_HW), ours_HW, theirs_HW)
        for name, mask_HW, where in (
            (names[0], ours_HW, sure_HW),
            (names[1], theirs_HW, known_HW),
            (names[2], theirs_HW, open_HW),
            (names[3], better_HW, known_HW),
        ):
            scores[name].add(mask_HW.numpy(), torch.where(where, true_HW, IGNORE).numpy())
    shares = (
        ("pixels that the class-teacher leaves open", "open", "all"),
        ("of those the seg-teacher is right about", "open, right", "open"),
        ("objects that the seg-teacher sees there, right", "open, object, right", "open, object"),
        ("objects that the class-teacher is sure of, right", "sure, object, right", "sure, object"),
        ("errors of the class-teacher that the seg-teacher has right", "sure, wrong, seg-teacher right", "sure, wrong"),
    )
    print("| what | % |\n|---|---:|")
    for what, part, whole in shares:
        print(f"| {what} | {100 * pixels[part] / max(pixels[whole], 1):.1f} |")
    print("\n| labels | mIoU |\n|---|---:|")
    for name, score in scores.items():
        print(f"| {name} | {100 * score.miou:.1f} |")
    print(f"\n`python benchmarks/claim_oracles.py {' '.join(sys.argv[1:])}`; {len(val)} photos; {machine()}")


SHIFTS = (-3.0, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0)


@torch.no_grad()
def background(run: Path) -> None:
    """Print the mIoU of each segmentation of a run by what is added to the background's logit."""
    method, val = tagseg.load(run, device="cpu").method, run_sources(run).val
    assert val is not None
    scores: dict[str, list[Scores]] = {}
    for index in range(len(val)):
        true_HW = val.mask(index)
        assert true_HW is not None
        image_13HW = torch.from_numpy(val.photo(index)).permute(2, 0, 1)[None].float() / 255
        for name, map_BKHW in method.branches(image_13HW).items():
            if not name.startswith("P_s"):
                continue
            logit_KHW = map_BKHW[0].clamp(min=1e-8).log()
            own = scores.setdefault(name, [Scores(val.num_classes) for _ in SHIFTS])
            for shift, score in zip(SHIFTS, own, strict=True):
                shifted_KHW = torch.cat([logit_KHW[:1] + shift, logit_KHW[1:]])
                score.add(shifted_KHW.argmax(0).numpy(), true_HW)
    print("| branch |" + "".join(f" {shift:+.1f} |" for shift in SHIFTS) + "\n|---|" + "---:|" * len(SHIFTS))
    for name, own in scores.items():
        print(f"| {name} |" + "".join(f" {100 * score.miou:.1f} |" for score in own))
    print(f"\n`python benchmarks/claim_oracles.py {' '.join(sys.argv[1:])}`; {len(val)} photos; {machine()}")


def main() -> None:
    """Run the part that is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=[*ROWS, "teachers", "background"])
    parser.add_argument("run", type=Path, nargs="?", help="teachers: a finished run of ASDT; background: any")
    parser.add_argument("--out", type=Path, default=Path("oracles"))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--device", default="cpu", help="of trainings: auto, cpu, cuda, cuda:N, mps")
    parser.add_argument("--row", action="append", default=[], help="only this row, may be given several times")
    given = parser.parse_args()
    if given.part in ("teachers", "background"):
        if given.run is None:
            parser.error(f"{given.part} needs a finished run.")
        (teachers if given.part == "teachers" else background)(given.run)
    else:
        for row in given.row:
            if row not in ROWS[given.part]:
                parser.error(f"{given.part} has no row {row!r}; there are {'; '.join(ROWS[given.part])}")
        trained(given.part, given.out, [int(seed) for seed in given.seeds.split(",")], given.device, given.row)


if __name__ == "__main__":
    main()
