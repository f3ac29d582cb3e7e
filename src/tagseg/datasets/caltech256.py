"""Photos of Caltech-256 that show a class of VOC: more tagged photos without masks, for ASDT's Table 3.

The paper names neither its list nor its class map. The map here is tagseg's own: folders whose name means a VOC class.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tagseg.data.voc import VOC_CLASSES
from tagseg.datasets.archive import Archive
from tagseg.datasets.dataset import DataSet, Finding, Options, Part, Workspace, missing, tags_text, write_file
from tagseg.datasets.unpack import look_through, unpack
from tagseg.errors import UserError

CLASS_MAP = {
    "251.airplanes-101": "aeroplane", "224.touring-bike": "bicycle", "146.mountain-bike": "bicycle",
    "113.hummingbird": "bird", "060.duck": "bird", "089.goose": "bird", "151.ostrich": "bird", "152.owl": "bird",
    "158.penguin": "bird", "207.swan": "bird", "049.cormorant": "bird", "114.ibis-101": "bird",
    "197.speed-boat": "boat", "030.canoe": "boat", "122.kayak": "boat", "123.ketch-101": "boat",
    "246.wine-bottle": "bottle", "178.school-bus": "bus", "252.car-side-101": "car",
    "056.dog": "dog", "254.greyhound": "dog", "105.horse": "horse", "145.motorbikes-101": "motorbike",
    "159.people": "person", "253.faces-easy-101": "person", "015.bonsai-101": "pottedplant",
    "046.computer-monitor": "tvmonitor",
}  # fmt: skip
"""Folder of Caltech-256 -> class of VOC. No folder shows a cat, chair, cow, diningtable, sheep, sofa or train."""

CALTECH = Archive(
    "256_ObjectCategories.tar",
    (
        "https://data.caltech.edu/records/nyy15-4j048/files/256_ObjectCategories.tar",
        "https://data.caltech.edu/records/nyy15-4j048/files/256_ObjectCategories.tar?download=1",
    ),
    None,  # "1.16 GB"
    "08ff01b03c65566014ae88eb0490dbe4419fc7ac4de726ee1163e39fd809543e",
    200_000_000,
    about=1_183_000_000,
)


@dataclass(frozen=True)
class Caltech256(DataSet):
    """A folder of photos and a table of tags. least: photos that the map's folders hold together at least."""

    archive: Archive = CALTECH
    least: int = 3_000

    def parts(self, root: Path, options: Options) -> list[Part]:
        """Photos below the folder of their class; then tags, classes and the map."""
        made = missing(root, "tags.csv", "classes.txt", "class-map.csv")
        return [
            Part(
                "photos of VOC's classes",
                missing(root, "photos"),
                (self.archive,),
                self.archive.unpacked,
                20,
                self._photos,
            ),
            Part("tags and the class map", made, (), 200_000, 1, self._tags),
        ]

    def check(self, root: Path) -> list[Finding]:
        """How many photos each class has, and that no folder of the map is empty."""
        findings = []
        total = 0
        for name in dict.fromkeys(CLASS_MAP.values()):
            count = len(list((root / "photos" / name).glob("*.jpg")))
            total += count
            findings.append(Finding(name, f"{count:,} photos", None if count else f"{root / 'photos' / name} is empty"))
        short = f"{root / 'photos'} holds {total:,} photos, fewer than {self.least:,}" if total < self.least else None
        findings.append(Finding("all", f"{total:,} photos", short))
        for name in ("tags.csv", "classes.txt", "class-map.csv"):
            there = (root / name).is_file()
            findings.append(
                Finding(name, "there" if there else "not there", None if there else f"{root / name} is not there")
            )
        return findings

    def _photos(self, work: Workspace) -> None:
        archive = work.archive(self.archive)
        found = look_through(archive, _photo)
        if len(found) < self.least:
            raise UserError(
                f"{archive} holds {len(found):,} photos of the class map in place of {self.least:,} or more: it is another "
                "archive; remove it."
            )
        with work.bar("Unpacking photos", len(found)) as at:
            unpack(archive, work.staging, _photo, at)

    def _tags(self, work: Workspace) -> None:
        photos = sorted((work.root / "photos").glob("*/*.jpg"))
        rows = [(f"photos/{path.parent.name}/{path.name}", [path.parent.name]) for path in photos]
        write_file(work.staging / "tags.csv", tags_text(rows))
        write_file(work.staging / "classes.txt", "".join(f"{name}\n" for name in VOC_CLASSES))
        lines = "".join(f"{folder},{name}\n" for folder, name in sorted(CLASS_MAP.items()))
        write_file(work.staging / "class-map.csv", f"caltech256 folder,VOC class (chosen by tagseg)\n{lines}")


def _photo(name: str) -> str | None:
    """Where a photo of the map goes; the archive holds stray files too, such as 198.spider/RENAME2."""
    parts = name.removeprefix("./").split("/")
    if len(parts) != 3 or parts[1] not in CLASS_MAP or not parts[2].endswith(".jpg") or parts[2].startswith("."):
        return None
    return f"photos/{CLASS_MAP[parts[1]]}/{parts[2]}"


CALTECH256 = Caltech256(
    "caltech256",
    "photos of Caltech-256 that show a class of VOC; CC BY 4.0",
    "tagseg train asdt-voc12 --set data.root=VOC2012 --set data.extra.root={root} --out runs/asdt-extra",
)
