"""CVAT's "Segmentation mask 1.1": a zip of colored masks with a map of the colors.

Shapes: H W pixels.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tagseg.data.class_lists import labelmap_rows
from tagseg.data.palette import PALETTE
from tagseg.data.paths import held
from tagseg.data.photo import PIXEL_CAP
from tagseg.errors import UnwritableNameError, UserError
from tagseg.files import replacing
from tagseg.foreign import reading, shown
from tagseg.mask_values import IGNORE
from tagseg.outputs.writer import IGNORE_NAME, Stored, Writer, present
from tagseg.places import safe_name

FILE = "cvat.zip"
FOLDER, INSTANCES = "SegmentationClass/", "SegmentationObject/"
MAP, LIST = "labelmap.txt", "ImageSets/Segmentation/default.txt"
MEMBER_CAP = 500_000_000  # bytes of one unpacked file


class CvatMasks(Writer):
    """`cvat.zip`, to upload as annotations "Segmentation mask 1.1": RGB masks in VOC's colors, labelmap.txt, a list.

    Ignored pixels have the label "(ignore)" in VOC's cream. With the masks of instances, one a class, CVAT makes no
    object of background, for which most tasks have no label.
    """

    shared = (FILE,)

    def __init__(self, out: Path, classes: Sequence[str]) -> None:
        super().__init__(out, classes)
        temporary = self.files.enter_context(replacing(out / FILE))
        try:
            self._zip = self.files.enter_context(zipfile.ZipFile(temporary, "w"))
        except OSError as error:
            raise UserError(f"{out / FILE} cannot be written: {error.strerror or error}") from error
        self._names: list[str] = []
        self._has_ignored = False

    @classmethod
    def check_classes(cls, classes: Sequence[str]) -> None:
        """As every format, and by the signs of labelmap.txt."""
        super().check_classes(classes)
        for name in classes:
            if ":" in name or name.startswith("#"):
                raise UserError(f"class {name!r} cannot stand in CVAT's labelmap.txt: leave out ':' and a leading '#'")

    def write(
        self,
        name: str,
        photo: NDArray[np.uint8],
        mask: NDArray[np.uint8],
        probabilities: NDArray[np.float32] | None,
        file_name: str,
    ) -> None:
        """Add one mask."""
        number = np.zeros(256, dtype=np.uint8)  # of the instance, by class
        number[present(mask)] = np.arange(1, len(present(mask)) + 1)
        for folder, index_HW in ((FOLDER, mask), (INSTANCES, number[mask])):
            buffer = io.BytesIO()
            Image.fromarray(PALETTE[index_HW]).save(buffer, format="PNG")
            self._put(f"{folder}{name}.png", buffer.getvalue())
        self._names.append(name)
        self._has_ignored |= bool((mask == IGNORE).any())

    @classmethod
    def check_name(cls, name: str) -> None:
        """What the list of names, a name a line, cannot hold."""
        super().check_name(name)
        if name.startswith("#") or name != name.strip() or not name.isprintable():
            raise UnwritableNameError(f"photo {shown(name)} cannot stand in CVAT's list of names; rename it")

    def finish(self) -> None:
        """Add the map of colors and the list of names."""
        labels = dict(enumerate(self.classes)) | ({IGNORE: IGNORE_NAME} if self._has_ignored else {})
        rows = [f"{label}:{','.join(map(str, PALETTE[k]))}::\n" for k, label in labels.items()]
        self._put(MAP, "".join(["# label:color_rgb:parts:actions\n", *rows]).encode())
        self._put(LIST, "".join(f"{name}\n" for name in self._names).encode())

    def _put(self, name: str, content: bytes) -> None:
        # A date of its own would make equal results differ; PNG is packed already.
        compression = zipfile.ZIP_STORED if name.endswith(".png") else zipfile.ZIP_DEFLATED
        self._zip.writestr(zipfile.ZipInfo(name), content, compression)


def read_cvat(out: Path) -> Stored:
    """The masks of `cvat.zip` in a folder, or of a zip in this format; nothing is unpacked to disk.

    Colors are taken from labelmap.txt, indices from its order, where background may stand anywhere: it is 0. Raises
    UserError for a broken zip, a path that leads outside, a file that unpacks to too much, a color without a label or with
    two, and a map without background.
    """
    path = held(out / FILE, out) if out.is_dir() else out
    with reading(path, "a zip"):
        if path.exists() and not path.is_file():
            raise ValueError("it is no regular file")
        archive = zipfile.ZipFile(path)
    with reading(f"{path}: {MAP}", "UTF-8 text"):
        text = _read(path, archive, MAP).decode("utf-8-sig")
    rows = labelmap_rows(f"{path}: {MAP}", text)
    names = [label for label, _ in rows if label != IGNORE_NAME]
    if len(names) > IGNORE:
        raise UserError(f"{path}: {MAP} has {len(names)} labels, more than the {IGNORE} that a mask holds")
    value = {label: k for k, label in enumerate(names)} | {IGNORE_NAME: IGNORE}
    index = {red << 16 | green << 8 | blue: value[label] for label, (red, green, blue) in rows}
    return Stored(tuple(names), _masks(path, archive, index))


def _masks(path: Path, archive: zipfile.ZipFile, index: dict[int, int]) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    known = np.array(sorted(index))
    values = np.array([index[code] for code in known.tolist()], dtype=np.uint8)
    with archive:
        for member in archive.namelist():
            safe_name(member)
            if not member.startswith(FOLDER) or not member.endswith(".png"):
                continue
            color_HW = _colors(path, member, _read(path, archive, member))
            place_HW = np.searchsorted(known, color_HW).clip(max=len(known) - 1)
            strange = color_HW[known[place_HW] != color_HW]
            if strange.size:
                code = int(strange[0])
                raise UserError(
                    f"{path}: {member} has the color {code >> 16},{code >> 8 & 255},{code & 255}, "
                    f"which {MAP} does not name; add it"
                )
            yield member.removeprefix(FOLDER).removesuffix(".png"), values[place_HW]


def _colors(path: Path, member: str, content: bytes) -> NDArray[np.int32]:
    with reading(f"{path}: {member}", "PNG"), Image.open(io.BytesIO(content), formats=("PNG",)) as image:
        if image.width * image.height > PIXEL_CAP:
            raise UserError(f"{path}: {member} has {image.width} x {image.height} pixels; the cap is {PIXEL_CAP:,}")
        rgb_HW3 = np.asarray(image.convert("RGB"), dtype=np.int32)
    return rgb_HW3[..., 0] << 16 | rgb_HW3[..., 1] << 8 | rgb_HW3[..., 2]


def _read(path: Path, archive: zipfile.ZipFile, member: str) -> bytes:
    try:
        info = archive.getinfo(member)
    except KeyError as error:
        raise UserError(f"{path} has no {member}; is it CVAT's Segmentation mask 1.1?") from error
    with reading(f"{path}: {member}", "a packed file"), archive.open(info) as stream:
        content = stream.read(MEMBER_CAP + 1)  # what the zip's directory says of the size may be a lie
    if len(content) > MEMBER_CAP:
        raise UserError(f"{path}: {member} unpacks to more than {MEMBER_CAP:,} bytes; it is no mask")
    return content
