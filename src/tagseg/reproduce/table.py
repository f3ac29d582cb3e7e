"""What a published table is made of: trainings that build on one another, and cells that read a score of one.

A stage names the recipe of the published experiment; a twin puts a small recipe in its place and keeps the rest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tagseg.data.scenes import SCENE_CLASSES
from tagseg.errors import UserError


@dataclass(frozen=True)
class Stage:
    """One training. name: its folder. start: the stage whose weights it starts from. masks: the stage whose pseudo masks
    of the training photos it learns from. changes: `key.sub=value`, on the published recipe and on a twin's alike.
    extra: whether it sees the second source of photos.
    """

    name: str
    recipe: str
    changes: tuple[str, ...] = ()
    start: str | None = None
    masks: str | None = None
    extra: bool = False


@dataclass(frozen=True)
class Cell:
    """A score: its column, the branch whose mIoU after the CRF it is (None: the last one), and what the paper reports."""

    column: str
    branch: str | None = None
    reported: float | None = None


@dataclass(frozen=True)
class Row:
    """One row of a table: the stage that it scores. above: the row that it is compared with; None: the table's first."""

    name: str
    stage: str
    cells: tuple[Cell, ...]
    above: str | None = None


@dataclass(frozen=True)
class PaperTable:
    """A published table. data: the data set's name below the folder of data sets. scored: its list for scores.

    note: what differs from the paper's experiment, in sentences. test: whether test masks for VOC's server are made.
    only_on: the twin whose recipes the stages name, where the table is of that twin alone.
    """

    name: str
    title: str
    data: str
    stages: tuple[Stage, ...]
    rows: tuple[Row, ...]
    note: str = ""
    test: bool = False
    only_on: str | None = None

    def needed(self, rows: tuple[Row, ...] | None = None) -> tuple[Stage, ...]:
        """The stages of some rows, those they build on before them."""
        by_name = {stage.name: stage for stage in self.stages}
        wanted: dict[str, Stage] = {}

        def want(name: str | None) -> None:
            if name is not None and name not in wanted:
                stage = by_name[name]
                want(stage.start)
                want(stage.masks)
                wanted[name] = stage

        for row in self.rows if rows is None else rows:
            want(row.stage)
        return tuple(wanted.values())

    def only(self, names: tuple[str, ...]) -> PaperTable:
        """The table with some of its rows. Raises UserError for a row that it lacks."""
        known = [row.name for row in self.rows]
        for name in names:
            if name not in known:
                raise UserError(f"{self.name} has no row {name!r}: its rows are {'; '.join(known)}.")
        return replace(self, rows=tuple(row for row in self.rows if row.name in names)) if names else self


@dataclass(frozen=True)
class DataNeed:
    """A data set as a table reads it: its folder's name, what prepares it, its lists, its photos and its classes."""

    folder: str
    prepare: str
    settings: tuple[str, ...]
    train: int
    val: int
    classes: int


DATA = {
    "voc12": DataNeed("voc12", "tagseg data prepare voc12 --root {root}", (), 10_582, 1_449, 20),
    "coco14": DataNeed("coco14", "tagseg data prepare coco14 --root {root}", (), 82_081, 40_137, 80),
    "coco-stuff10k": DataNeed(
        "coco-stuff10k",
        "tagseg data prepare coco-stuff10k --root {root}",
        ("data.train=train", "data.val=test", "data.tags=null"),
        9_000,
        1_000,
        20,
    ),
    "voc-animals": DataNeed("voc-animals", "put the folder voc-animals there", (), 3_131, 223, 6),
    "scenes": DataNeed("scenes", "made by itself", (), 400, 60, len(SCENE_CLASSES)),
}
EXTRA = "caltech256"

HALF = ("train.steps=200", "train.warmup_steps=30")
"""Half of the steps of the recipes of TSCD and BMP for voc-animals."""
HALF_HEADS = ("train.steps=200", "method.head_steps=50")
HALF_WAVES = (*HALF_HEADS, "method.wave.warmup=50", "method.wave.period=60", "method.wave.high=50")
"""Half of those of ASDT; HALF_HEADS: about a quarter of RRM's, as many as ASDT's."""
TWINS: dict[str, dict[str, tuple[str, tuple[str, ...]]]] = {
    "voc-animals": {
        "classifier-voc12": ("classifier-voc-animals", ()),
        "rrm-voc12": ("rrm-voc-animals", HALF_HEADS),
        "asdt-voc12": ("asdt-voc-animals-row-v", HALF_WAVES),
        "tscd-voc12-mit_b1": ("tscd-voc-animals", HALF),
        "bmp-voc12-mit_b1": ("bmp-voc-animals-object-aware", HALF),
        "supervised-voc12-deeplab_v2": ("supervised-voc-animals", ("method.decoder=deeplab_v2",)),
        "supervised-voc12-resnet38": ("supervised-voc-animals", ("method.decoder=deeplab_resnet38",)),
        "supervised-voc12-pspnet": ("supervised-voc-animals", ("method.decoder=pspnet",)),
    },
    "scenes": {
        "classifier-voc12": ("classifier-scenes", ()),
        "rrm-voc12": ("rrm-scenes", ()),
        "asdt-voc12": ("asdt-scenes", ()),
        "tscd-voc12-mit_b1": ("tscd-scenes", ()),
        "bmp-voc12-mit_b1": ("bmp-scenes", ()),
        "supervised-voc12-deeplab_v2": ("supervised-scenes", ("method.decoder=deeplab_v2",)),
        "supervised-voc12-resnet38": ("supervised-scenes", ("method.decoder=deeplab_resnet38",)),
        "supervised-voc12-pspnet": ("supervised-scenes", ("method.decoder=pspnet",)),
    },
}
for _twin in TWINS.values():
    for _name in ("tscd", "bmp"):
        _twin[f"{_name}-coco14-mit_b1"] = _twin[f"{_name}-voc12-mit_b1"]
