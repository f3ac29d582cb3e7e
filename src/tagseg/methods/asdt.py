"""ASDT: Alternate Self-Dual Teaching. A class-teacher, a seg-teacher and a student on one backbone.

The class-teacher's reliable labels (B_ct) always teach the seg-teacher; a pulse wave decides whether they or the
seg-teacher's own refined prediction (B_st) teach the student. The final mask is CRF(max(P_st, P_s)).

Shapes: B photos, K classes with background, C = K - 1, H W pixels, h w feature grid.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from tagseg.backbones.backbone import Backbone
from tagseg.cues.cam import cam_probabilities
from tagseg.cues.pulse import PulseWave, preset_values
from tagseg.data.batch import Batch
from tagseg.mask_values import IGNORE
from tagseg.methods.energy import begin_energy
from tagseg.methods.method import MethodSettings
from tagseg.methods.rrm import RRM, RRMSettings
from tagseg.refine import dense_crf
from tagseg.refine.lattice import Lattice
from tagseg.refine.settings import CRFSettings
from tagseg.resize import size_of
from tagseg.settings import Weight


class ASDTSettings(RRMSettings):
    """Settings of ASDT; the teaching modes are the rows of the paper's Table 4."""

    LATER: ClassVar[tuple[str, ...]] = (
        "student_gradient_low",
        "teacher_background",
    )

    name: Literal["asdt"] = "asdt"  # type: ignore[assignment]
    teaching: Literal["alternate", "class-teacher", "seg-teacher", "max", "mean"] = Field(
        "alternate",
        description="who teaches the student: the wave's choice (row V), one teacher (rows I, II), or CRF of the teachers' "
        "element-wise maximum or mean (rows III, IV)",
    )
    wave: PulseWave = PulseWave.preset("minority")
    seg_teacher_weight: Weight = Field(
        0.5, description="weight of the seg-teacher's loss; 0 leaves the head out (row I)"
    )
    student_weight: Weight = Field(0.5, gt=0, description="weight of the student's loss")
    student_gradient: float = Field(
        1.0, ge=0, le=1, description="share of the student's gradient that enters the backbone, times backbone_gradient"
    )
    student_gradient_low: float | None = Field(
        None,
        ge=0,
        le=1,
        description="in its place in steps in which the student does not learn from the class-teacher's labels; none: the same",
    )
    teacher_background: Literal["all", "agreed"] = Field(
        "all",
        description="which background of the seg-teacher's labels the student learns: all of it, or only where the "
        "class-teacher is sure of it too, the rest being left open",
    )
    teacher_crf: CRFSettings = Field(CRFSettings(), description="CRF that turns P_st into the hard labels B_st")

    @classmethod
    def _before(cls, given: dict[str, Any], say: Callable[[str], object]) -> dict[str, Any]:
        given = super()._before(given, say)
        if isinstance(given.get("wave"), str):  # as its keys, so that another block may change one of them
            try:
                given["wave"] = preset_values(given["wave"])
            except ValueError as error:
                raise ValueError(f"wave: {error}") from error
        return given

    @model_validator(mode="after")
    def _teacher_is_there(self) -> Self:
        if self.seg_teacher_weight == 0 and self.teaching != "class-teacher":
            raise ValueError(
                f"teaching {self.teaching} needs a seg-teacher: set seg_teacher_weight above 0, or teaching to class-teacher"
            )
        return self

    def scaled(self, factor: float) -> Self:
        """The wave's warm-up follows too; its period only gets shorter."""
        wave, shorter = self.wave, min(factor, 1)
        period = max(round(wave.period * shorter), 1)
        times = {"warmup": round(wave.warmup * factor), "period": period}
        times["high"] = min(round(wave.high * shorter), period)
        return super().scaled(factor).model_copy(update={"wave": wave.model_copy(update=times)})


class ASDT(RRM):
    """Two teachers and a student (ASDT section 3): branches P_ct, P_st, P_s and their combination max(P_st, P_s)."""

    Settings: ClassVar[type[MethodSettings]] = ASDTSettings
    own_photos: ClassVar[str | None] = "photos-asdt"
    meanings: ClassVar[Mapping[str, str]] = {
        **RRM.meanings,
        "P_st": "seg-teacher",
        "P_s": "student",
        "combined": "the larger of seg-teacher and student",
    }
    drawn: ClassVar[tuple[str, ...]] = ("P_st", "P_s")
    step_cost: ClassVar[float] = 5.0
    settings: ASDTSettings

    def __init__(self, backbone: Backbone, classes: tuple[str, ...], settings: ASDTSettings) -> None:
        super().__init__(backbone, classes, settings)
        self.has_seg_teacher = settings.seg_teacher_weight > 0
        if self.has_seg_teacher:
            self.add_head("seg_teacher")

    @classmethod
    def has_logits(cls, settings: MethodSettings) -> bool:
        """Only without a seg-teacher: the maximum of two heads' probabilities is no softmax of logits."""
        assert isinstance(settings, ASDTSettings)
        return settings.seg_teacher_weight == 0

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """L_cls + L_d(ct -> st) + L_ad, the last one by the teacher of this step (ASDT eqs 2-6)."""
        settings = self.settings
        lattices, lattice = begin_energy(batch, settings.energy), self.label_lattice(batch, step)
        teacher_lattice = self.teacher_lattice(batch, step)
        image_B3HW = batch.image()
        stages = self.backbone.stages(image_B3HW)
        shared = self.features_for_heads(stages, step, self.student_share(step))
        student_BKHW = teacher_BKHW = self.logits("student", shared, batch.size, batch.seed_B)
        if self.has_seg_teacher:
            shared = self.features_for_heads(stages, step)
            teacher_BKHW = self.logits("seg_teacher", shared, batch.size, batch.seed_B)
        taught = "seg_teacher" if self.has_seg_teacher else "student"
        class_label_BHW, cam_BCHW = self.class_teacher_labels(
            batch, image_B3HW, stages, step, taught, teacher_BKHW, lattice
        )

        terms = {"class": self.class_loss(batch, stages[-1])}
        student_label_BHW = class_label_BHW
        if self.has_seg_teacher:
            weight = settings.seg_teacher_weight
            terms |= self.taught(batch, lattices, "seg_teacher", teacher_BKHW, class_label_BHW, weight)
            probability_BKHW = self.teaching_probabilities(teacher_BKHW, cam_BCHW, step)
            if probability_BKHW is not None:
                student_label_BHW = self.seg_teacher_labels(batch, probability_BKHW, teacher_lattice)
                if settings.teacher_background == "agreed":
                    doubted_BHW = (student_label_BHW == 0) & (class_label_BHW != 0)
                    student_label_BHW = student_label_BHW.masked_fill(doubted_BHW, IGNORE)
        return terms | self.taught(batch, lattices, "student", student_BKHW, student_label_BHW, settings.student_weight)

    def student_share(self, step: int) -> float:
        """The share of the student's gradient that enters the backbone at a step."""
        low = self.settings.student_gradient_low
        return self.settings.student_gradient if low is None or self.teaching(step) == "class-teacher" else low

    def teaching(self, step: int) -> str:
        """Who teaches the student at a step: class-teacher, seg-teacher, max or mean."""
        teaching = self.settings.teaching
        return self.settings.wave.teacher(step) if teaching == "alternate" else teaching

    def teacher_lattice(self, batch: Batch, step: int) -> Lattice | None:
        """The photos' lattice for the seg-teacher's CRF, begun before the network; none where it doesn't teach."""
        if not self.has_seg_teacher or self.teaching(step) == "class-teacher":
            return None
        return Lattice.of_batch(batch.photo_B3HW, *self.settings.teacher_crf.bilateral[:2])

    @torch.no_grad()
    def teaching_probabilities(self, logit_BKHW: Tensor, cam_BCHW: Tensor, step: int) -> Tensor | None:
        """What the student's labels are refined from at a step (B, K, H, W); None: the class-teacher's reliable labels."""
        teaching = self.teaching(step)
        if teaching == "class-teacher":
            return None
        seg_BKHW = logit_BKHW.softmax(1)
        if teaching == "seg-teacher":
            return seg_BKHW
        class_BKHW = cam_probabilities(cam_BCHW)
        return torch.maximum(class_BKHW, seg_BKHW) if teaching == "max" else (class_BKHW + seg_BKHW) / 2

    @torch.no_grad()
    def seg_teacher_labels(self, batch: Batch, probability_BKHW: Tensor, lattice: Lattice | None = None) -> Tensor:
        """B_st: hard labels (B, H, W) of the CRF over the crop, absent classes left out, 255 in the padding."""
        crf = self.settings.teacher_crf
        device = batch.photo_B3HW.device
        present = [
            torch.tensor([0, *[tag + 1 for tag in facts.tags]]).to(device, non_blocking=True) for facts in batch.facts()
        ]
        marginals = dense_crf(
            [photo.permute(1, 2, 0) for photo in batch.photo_B3HW],
            [probability[labels] for probability, labels in zip(probability_BKHW, present, strict=True)],
            gaussian=crf.gaussian,
            bilateral=crf.bilateral,
            iterations=crf.iterations,
            lattice=None if lattice is None else [lattice] * len(batch),
            check_finite=False,
        )
        label_BHW = torch.stack([labels[q.argmax(0)] for labels, q in zip(present, marginals, strict=True)])
        return torch.where(batch.valid_BHW, label_BHW, IGNORE).to(torch.uint8)

    def head_branches(self, image_B3HW: Tensor, stages: Sequence[Tensor]) -> dict[str, Tensor]:
        """P_st and P_s."""
        student = super().head_branches(image_B3HW, stages)
        if not self.has_seg_teacher:
            return student
        return {"P_st": self.logits("seg_teacher", stages, size_of(image_B3HW)).softmax(1)} | student

    def combine(self, branches: dict[str, Tensor]) -> Tensor:
        """The element-wise maximum of P_st and P_s (ASDT eq. 1), divided by its sum."""
        if not self.has_seg_teacher:
            return branches["P_s"]
        largest_BKHW = torch.maximum(branches["P_st"], branches["P_s"])
        return largest_BKHW / largest_BKHW.sum(1, keepdim=True)

    def branches(self, image_B3HW: Tensor, tag_BC: Tensor | None = None) -> dict[str, Tensor]:
        """P_ct, P_st, P_s and `combined`."""
        branches = super().branches(image_B3HW, tag_BC)
        return branches | ({"combined": self.combine(branches)} if self.has_seg_teacher else {})

    def describe_step(self, step: int) -> dict[str, float]:
        """The level of the wave, where it decides."""
        return {"wave": float(self.settings.wave.level(step))} if self.settings.teaching == "alternate" else {}
