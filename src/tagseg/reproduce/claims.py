"""Three claims of the papers on the small twin: the alternation, the correspondence distillation, the feedback.

Each table holds a claim's baseline first. The page says by how much each row is above it, seed by seed, or above the row
that differs from it in the claim alone.
"""

from __future__ import annotations

from tagseg.reproduce.table import HALF, HALF_WAVES, Cell, PaperTable, Row, Stage

TWIN = "voc-animals"
ASDT, TSCD, BMP = "asdt-voc-animals-row-v", "tscd-voc-animals-varm-scd", "bmp-voc-animals-object-aware"
CHEAP = ("method.cam_scales=[1.0]", "predict.crf=null")
"""The CAM at one size, scores before the CRF: five seeds cost hours all the same."""
SHARED = ("method.backbone_gradient=0.15", "method.student_gradient=1")
LOW = (*SHARED, "method.student_gradient_low=0")
OPEN = ("method.teacher_background=agreed",)
FROZEN = ("method.backbone_gradient=0", "method.class_weight=0")
HALVES = ("method.wave.high=30",)  # half of each period by the seg-teacher
SCD = "method.correspondence"
MAXIMUM = (
    "method.pooling=max",
    "method.class_steps=150",
    "method.background_aware.from_step=200",
    "method.seg_to_class.from_step=200",
    "train.steps=350",
)
NO_FEEDBACK = "method.seg_to_class.weight=0"
ABOVE = {
    "frozen, alternation": "frozen, class-teacher",
    "frozen, alternation by halves": "frozen, class-teacher",
    "frozen, seg-teacher": "frozen, class-teacher",
    "no object-aware decoding, feedback": "no object-aware decoding, no feedback",
    "max pooling, feedback": "max pooling, no feedback",
    "max pooling, normalized": "max pooling, no feedback",
}
"""What a row is compared with, where that is not the table's first row."""


def _table(
    name: str,
    title: str,
    recipe: str,
    shortened: tuple[str, ...],
    columns: tuple[str, ...],
    rows: dict[str, tuple[str, ...]],
) -> PaperTable:
    changed = [(*shortened, *changes) for changes in rows.values()]
    stages = tuple(Stage(f"{name}-{number}", recipe, changes) for number, changes in enumerate(changed, 1))
    cells = tuple(Cell(column, column) for column in columns)
    return PaperTable(
        name,
        title,
        TWIN,
        stages,
        tuple(Row(row, stage.name, cells, ABOVE.get(row)) for row, stage in zip(rows, stages, strict=True)),
        "Every row of a seed starts from one classifier and takes half of its recipe's steps, with the CAM at one size. "
        "Scores are those before the CRF.",
        only_on=TWIN,
    )


ALTERNATION = _table(
    "claim-alternation",
    "Does the alternation beat RRM?",
    ASDT,
    (*HALF_WAVES, *CHEAP),
    ("P_st", "P_s", "combined"),
    {
        "RRM": (
            "method.teaching=class-teacher",
            "method.seg_teacher_weight=0",
            "method.student_weight=1",
            "method.student_gradient=1",
        ),
        "two heads, one teacher": ("method.teaching=class-teacher", *SHARED),
        "alternation, student apart": (),
        "alternation, shared": SHARED,
        "alternation, shared in high phases": LOW,
        "alternation, background open": OPEN,
        "alternation, shared, background open": (*SHARED, *OPEN),
        "alternation, both": (*LOW, *OPEN),
        "frozen, class-teacher": (*FROZEN, "method.teaching=class-teacher"),
        "frozen, alternation": FROZEN,
        "frozen, alternation by halves": (*FROZEN, *HALVES),
        "frozen, seg-teacher": (*FROZEN, "method.teaching=seg-teacher"),
    },
)
DISTILLATION = _table(
    "claim-distillation",
    "Does the correspondence distillation help?",
    TSCD,
    (*HALF, *CHEAP),
    ("P_s",),
    {
        "without SCD": (f"{SCD}.weight=0",),
        "SCD as released": (),
        "mean not restored, weight 1": (f"{SCD}.restore=false", f"{SCD}.weight=1"),
        "mean not restored, weight 10": (f"{SCD}.restore=false", f"{SCD}.weight=10"),
        "both means taken, weight 1": (f"{SCD}.restore=false", f"{SCD}.both=true", f"{SCD}.weight=1"),
        "both means taken, weight 10": (f"{SCD}.restore=false", f"{SCD}.both=true", f"{SCD}.weight=10"),
        "both means taken, weight 10, view 0.75": (
            f"{SCD}.restore=false",
            f"{SCD}.both=true",
            f"{SCD}.weight=10",
            f"{SCD}.view_scale=0.75",
        ),
    },
)
FEEDBACK = _table(
    "claim-feedback",
    "Does the segmentation's feedback improve the CAM?",
    BMP,
    (*HALF, *CHEAP),
    ("CAM", "P_s"),
    {
        "no feedback": (NO_FEEDBACK,),
        "feedback": (),
        "feedback on the normalized CAM": ("method.seg_to_class.normalized=true",),
        "feedback where the CAM is below one half": ("method.seg_to_class.below=0.5",),
        "normalized, below one half": ("method.seg_to_class.normalized=true", "method.seg_to_class.below=0.5"),
        "no object-aware decoding, no feedback": ("method.object_aware=false", NO_FEEDBACK),
        "no object-aware decoding, feedback": ("method.object_aware=false",),
        "max pooling, no feedback": (*MAXIMUM, NO_FEEDBACK),
        "max pooling, feedback": MAXIMUM,
        "max pooling, normalized": (*MAXIMUM, "method.seg_to_class.normalized=true"),
    },
)
CLAIMS = {table.name: table for table in (ALTERNATION, DISTILLATION, FEEDBACK)}
