"""Where the masks under review come from: a model that labels photos while the page is open, or a folder of masks.

Shapes: H W pixels, D numbers that describe a photo.
"""

from __future__ import annotations

import base64
import json
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tagseg.data.folders import find_masks
from tagseg.data.palette import write_mask
from tagseg.data.paths import held
from tagseg.data.photo import photo_size, read_mask, read_photo
from tagseg.errors import UserError
from tagseg.files import digest_file, is_marked, make_folder, stamp, to_json, write_text
from tagseg.outputs.confidence import Sureness
from tagseg.places import safe_name
from tagseg.review.doubt import Doubt, doubt_of_mask, doubt_of_probabilities
from tagseg.review.gain import propose

if TYPE_CHECKING:
    from tagseg.segmenter import Segmenter

FACTS = "facts.jsonl"
LOOK = 8  # side of the small picture that describes a photo where there is no model
FEATURES = 64  # numbers kept of the model's description of a photo


@dataclass(frozen=True)
class Proposal:
    """What is known of a photo's proposed mask.

    size: (H, W). found: the classes in it. areas: the share of the photo that each of these has. features: D numbers, float16.

    Packed numbers: thousands of small arrays, each made between two large photos, would leave holes that nothing fills.
    """

    size: tuple[int, int]
    found: tuple[int, ...]
    areas: tuple[float, ...]
    doubt: Doubt
    features: bytes


class Proposals(ABC):
    """Masks by photo. What was found out is kept in the review's folder, so that it is not computed again."""

    can_label: bool = False
    classes: tuple[str, ...]

    def begin(self) -> None:  # noqa: B027 - most have nothing to do
        """Look at what lies in the review's folder, which nobody else writes to from now on. Raises UserError."""

    @abstractmethod
    def describe(self, name: str, photo: Path, tags: Sequence[str] | None, retagged: bool = False) -> Proposal:
        """Make or look at a photo's mask. Raises UserError for a broken photo or mask.

        retagged: whether a person has corrected the tags, so that a mask made with the old ones no longer fits.
        """

    @abstractmethod
    def mask(self, name: str, photo: Path, tags: Sequence[str] | None, retagged: bool = False) -> NDArray[np.uint8]:
        """The proposed mask (H, W) uint8, in the photo's size."""

    def cam(self, photo: Path, index: int) -> NDArray[np.float32] | None:
        """The class activation map (h, w) in [0, 1] of class `index`; None where there is no model."""
        return None


class FolderProposals(Proposals):
    """Masks that lie in a folder, named like the photos.

    model: labels a photo again when its tags are corrected; without it classes that are no longer tagged become
    background.
    """

    def __init__(
        self,
        folder: Path,
        classes: tuple[str, ...],
        confidences: dict[str, Sureness] | None = None,
        model: ModelProposals | None = None,
    ) -> None:
        self.files = find_masks(folder)
        self.classes, self.confidences, self.model = classes, confidences or {}, model
        self.can_label = model is not None

    def begin(self) -> None:
        """That of the model, where there is one."""
        if self.model is not None:
            self.model.begin()

    def describe(self, name: str, photo: Path, tags: Sequence[str] | None, retagged: bool = False) -> Proposal:
        """Look at the mask in the folder."""
        if retagged and self.model is not None:
            # photos are compared with each other, and most of them are described by their look
            return replace(self.model.describe(name, photo, tags), features=_look(photo))
        mask_HW = self.mask(name, photo, tags, retagged)
        doubt = doubt_of_mask(mask_HW, self.classes, tags, self.confidences.get(name))
        return Proposal(_size(mask_HW), *classes_in(mask_HW), doubt, _look(photo))

    def mask(self, name: str, photo: Path, tags: Sequence[str] | None, retagged: bool = False) -> NDArray[np.uint8]:
        """The mask of the folder; all background where it has none."""
        if retagged and self.model is not None:
            return self.model.mask(name, photo, tags)
        height, width = photo_size(photo)
        if name not in self.files:
            return np.zeros((height, width), dtype=np.uint8)
        mask_HW = read_mask(self.files[name])
        if mask_HW.shape != (height, width):
            raise UserError(
                f"mask {self.files[name]} is {mask_HW.shape[1]} x {mask_HW.shape[0]} pixels, but its photo {width} x "
                f"{height}; masks need the photo's size"
            )
        strange = mask_HW[(mask_HW >= len(self.classes)) & (mask_HW < 255)]
        if strange.size:
            raise UserError(
                f"mask {self.files[name]} holds the value {int(strange[0])}, but there are {len(self.classes)} classes "
                "with background; give their names with --classes"
            )
        if retagged and tags is not None:
            kept = [k == 0 or name in tags for k, name in enumerate(self.classes)] + [True] * (256 - len(self.classes))
            mask_HW = np.where(np.array(kept)[mask_HW], mask_HW, np.uint8(0))
        return mask_HW

    def cam(self, photo: Path, index: int) -> NDArray[np.float32] | None:
        """That of the model, where there is one."""
        return None if self.model is None else self.model.cam(photo, index)


class ModelProposals(Proposals):
    """Masks that a model makes, kept as `<name>.png` in a folder of its own; one photo at a time.

    classes: in whose order the masks are numbered, with background; None: the model's own. Raises UserError for one that
    the model does not know.
    """

    can_label = True

    def __init__(self, segmenter: Segmenter, folder: Path, classes: tuple[str, ...] | None = None) -> None:
        self.segmenter, self.folder, self.classes = segmenter, folder, classes or segmenter.classes
        self.lock = threading.Lock()
        self.known: dict[str, dict[str, Any]] = {}
        unknown = [name for name in self.classes if name not in segmenter.classes]
        if unknown:
            raise UserError(
                f"The model does not know {unknown[0]!r}, a class of the masks; it knows {', '.join(segmenter.classes[1:])}."
            )
        # a class that the masks lack is never tagged, and so never found
        self._numbers = np.array(
            [self.classes.index(n) if n in self.classes else 0 for n in segmenter.classes], np.uint8
        )

    def begin(self) -> None:
        """Drop what another model found out, and take up what this one did."""
        from tagseg.prediction.made_by import made_by

        make_folder(self.folder)
        path, marker = held(self.folder / FACTS, self.folder), held(self.folder / ".made-by", self.folder)
        order = [] if self.classes == self.segmenter.classes else list(self.classes)
        by = made_by(self.segmenter, ["review", *order])
        if not marker.is_file() or marker.read_text(encoding="utf-8") != by:
            path.unlink(missing_ok=True)  # of another model: its masks are replaced as photos are looked at
            write_text(marker, by)
        self.known = read_facts(self.folder)

    def describe(self, name: str, photo: Path, tags: Sequence[str] | None, retagged: bool = False) -> Proposal:
        """Label a photo, or take what is there for its file and these tags."""
        row = self._found(name, photo, tags)
        if row is None:
            with self.lock:  # another thread may have labeled it while this one waited
                row = self._found(name, photo, tags) or self._label(name, photo, tags)
        features = base64.b64decode(row["features"])
        doubt = Doubt(row["doubt"], row["reason"], tuple(tuple(spot) for spot in row["spots"]))
        return Proposal((row["size"][0], row["size"][1]), tuple(row["found"]), tuple(row["areas"]), doubt, features)

    def mask(self, name: str, photo: Path, tags: Sequence[str] | None, retagged: bool = False) -> NDArray[np.uint8]:
        """The model's mask."""
        self.describe(name, photo, tags)
        return read_mask(self._path(name))

    def cam(self, photo: Path, index: int) -> NDArray[np.float32] | None:
        """The model's activation map of a class."""
        import torch

        its_own = self.segmenter.classes.index(self.classes[index])
        photo_HW3 = read_photo(photo, min_side=256)
        step = max(max(photo_HW3.shape[:2]) // 512, 1)
        image_13hw = torch.from_numpy(np.ascontiguousarray(photo_HW3[::step, ::step])).permute(2, 0, 1)[None] / 255
        with self.lock, torch.inference_mode():
            return (
                self.segmenter.method.cams(image_13hw.to(self.segmenter.device))[0, its_own - 1].float().cpu().numpy()
            )

    def _found(self, name: str, photo: Path, tags: Sequence[str] | None) -> dict[str, Any] | None:
        row = self.known.get(name)
        if row is None or "areas" not in row:  # of a version that did not measure them
            return None
        fits = row["tags"] == _listed(tags) and self._path(name).is_file() and _is_of(row, photo)
        return row if fits else None

    def _label(self, name: str, photo: Path, tags: Sequence[str] | None) -> dict[str, Any]:
        before_it_was_read = stamp(photo)
        photo_HW3 = read_photo(photo)
        chosen = None if tags is None else self.segmenter.tag_vector(list(tags))
        before = self.segmenter.probabilities(photo_HW3, chosen)
        free = None if chosen is None else self.segmenter.probabilities(photo_HW3).cpu().numpy()
        (after,) = self.segmenter.refine([photo_HW3], [before])
        mask_HW = after.max(0).indices.cpu().numpy().astype(np.uint8)
        doubt = doubt_of_probabilities(photo_HW3, before.float().cpu(), mask_HW, self.segmenter.classes, tags, free)
        mask_HW = self._numbers[mask_HW]
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_mask(path, mask_HW)
        found, areas = classes_in(mask_HW)
        row = {
            "photo": name,
            "stamp": list(before_it_was_read),
            "sha256": digest_file(photo),
            "tags": _listed(tags),
            "size": list(mask_HW.shape),
            "found": list(found),
            "areas": [round(area, 6) for area in areas],
            "doubt": round(doubt.value, 5),
            "reason": doubt.reason,
            "spots": [[round(value, 4) for value in spot] for spot in doubt.spots],
            "features": base64.b64encode(self._features(photo_HW3).astype(np.float16).tobytes()).decode(),
        }
        with (self.folder / FACTS).open("a", encoding="utf-8", newline="\n") as file:
            file.write(to_json(row) + "\n")
        self.known[name] = row
        return row

    def _features(self, photo_HW3: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The backbone's features of the small photo, their mean over the pixels, projected at random to a few numbers."""
        import torch

        step = max(min(photo_HW3.shape[:2]) // 160, 1)
        image_13hw = torch.from_numpy(np.ascontiguousarray(photo_HW3[::step, ::step])).permute(2, 0, 1)[None] / 255
        method = self.segmenter.method
        with torch.inference_mode():
            mean_F = method.backbone(image_13hw.to(self.segmenter.device)).mean((2, 3))[0].float().cpu().numpy()
        projection = np.random.default_rng(0).standard_normal((mean_F.size, FEATURES)).astype(np.float32)
        projected = mean_F @ projection
        return (projected / max(float(np.linalg.norm(projected)), 1e-6)).astype(np.float32)

    def _path(self, name: str) -> Path:
        return held(self.folder / f"{safe_name(name)}.png", self.folder)


def propose_masks(proposals: Sequence[Proposal], classes: int, count: int, *, seed: int = 0) -> list[tuple[int, bool]]:
    """Up to `count` of the proposals in the order of expected gain, as `propose` gives them. classes: with background."""
    if not proposals:
        return []
    features = np.stack([np.frombuffer(proposal.features, dtype=np.float16) for proposal in proposals])
    doubts = np.array([proposal.doubt.value for proposal in proposals])
    areas = np.zeros((len(proposals), classes))
    for row, proposal in zip(areas, proposals, strict=True):
        row[list(proposal.found)] = proposal.areas
    return propose(features, doubts, areas, count, seed=seed)


def read_facts(folder: Path) -> dict[str, dict[str, Any]]:
    """What the model found out of each photo, by its name: of the photos whose mask in the folder is that model's."""
    path, known = held(folder / FACTS, folder), {}
    for line in path.read_bytes().splitlines() if path.is_file() else []:
        try:
            row = json.loads(line)
            known[str(row["photo"])] = row
        except (ValueError, KeyError, TypeError, RecursionError):  # torn by a kill: that photo is labeled again
            continue
    return known


def _is_of(row: dict[str, Any], photo: Path) -> bool:
    """Whether a row is of the photo's file as it is now; the row of a version that did not note it, where the size is."""
    if not photo.is_file():  # a file that is gone tells nothing
        return True
    if "sha256" not in row:
        return tuple(row["size"]) == photo_size(photo)
    if not is_marked(photo, [*row["stamp"], row["sha256"]]):
        return False
    row["stamp"] = list(stamp(photo))  # that of a copy is another
    return True


def _listed(tags: Sequence[str] | None) -> list[str] | None:
    return None if tags is None else sorted(tags)


def _size(mask_HW: NDArray[np.uint8]) -> tuple[int, int]:
    return int(mask_HW.shape[0]), int(mask_HW.shape[1])


def classes_in(mask_HW: NDArray[np.uint8]) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """The classes of a mask, without background and ignored pixels, and the share of the photo that each has."""
    counts = np.bincount(mask_HW.ravel(), minlength=256)[:255]
    found = [int(k) for k in np.flatnonzero(counts) if k]
    return tuple(found), tuple(float(counts[k]) / mask_HW.size for k in found)


def _look(photo: Path) -> bytes:
    """A photo's colors and coarse layout, where no model describes it."""
    small = Image.fromarray(read_photo(photo, min_side=LOOK)).resize((LOOK, LOOK), Image.Resampling.BOX)
    return (np.asarray(small, dtype=np.float16).ravel() / np.float16(255)).tobytes()
