"""The systems by name: a new one is a file here and a line in METHODS."""

from __future__ import annotations

from tagseg.methods.asdt import ASDT
from tagseg.methods.bmp import BMP
from tagseg.methods.classifier import Classifier
from tagseg.methods.mentor import Mentor
from tagseg.methods.method import Method
from tagseg.methods.rrm import RRM
from tagseg.methods.supervised import Supervised
from tagseg.methods.tscd import TSCD

METHODS: dict[str, type[Method]] = {
    "classifier": Classifier,
    "rrm": RRM,
    "asdt": ASDT,
    "tscd": TSCD,
    "bmp": BMP,
    "mentor": Mentor,
    "supervised": Supervised,
}

__all__ = ["METHODS", "Method"]
