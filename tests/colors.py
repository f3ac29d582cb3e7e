"""A method that needs no training: the class of a pixel is the strongest color channel of it."""

from pydantic import ConfigDict
from torch import Tensor, nn

from tagseg.backbones.backbone import Backbone
from tagseg.data.batch import Batch
from tagseg.methods.method import Method, MethodSettings, ParameterGroup

CLASSES = ("green", "blue")


class ColorSettings(MethodSettings):
    model_config = ConfigDict(extra="forbid")

    name: str = "colors"


class _Pixels(Backbone):
    name = "pixels"
    license = "CC0-1.0"
    output_stride = 1

    def __init__(self) -> None:
        super().__init__((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
        self.scale = nn.Conv2d(3, 3, 1, bias=False)
        nn.init.dirac_(self.scale.weight)

    def stages(self, image_B3HW: Tensor) -> tuple[Tensor, ...]:
        return (self.scale(image_B3HW),)


class Untrained(Method):
    """Answers by `segment` alone, everywhere."""

    def segment(self, image_B3HW: Tensor) -> Tensor:
        raise NotImplementedError

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        raise AssertionError("never trained")

    def branches(self, image_B3HW: Tensor, tag_BC: Tensor | None = None) -> dict[str, Tensor]:
        return {"P": self.segment(image_B3HW)}

    def cams(self, image_B3HW: Tensor) -> Tensor:
        return self.segment(image_B3HW)[:, 1:]

    def parameter_groups(self) -> list[ParameterGroup]:
        return []


class Colors(Untrained):
    """Background where a pixel is red, else green or blue; it keeps the sizes of what it saw."""

    Settings = ColorSettings

    def __init__(self) -> None:
        super().__init__(_Pixels(), CLASSES)
        self.settings = ColorSettings()
        self.seen: list[tuple[int, ...]] = []

    def segment(self, image_B3HW: Tensor) -> Tensor:
        self.seen.append(tuple(image_B3HW.shape))
        return (10 * self.backbone(image_B3HW)).softmax(1)
