"""What a shard's masks are kept in: a tar, a Parquet file, or one PNG a photo. Equal masks give equal bytes.

Shapes: H W pixels.
"""

from __future__ import annotations

import io
import json
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tagseg.data.palette import PALETTE
from tagseg.errors import UserError
from tagseg.foreign import reading
from tagseg.scale.places import Place

ROWS = 64  # of a row group: few enough that a reader takes them at once
Row = tuple[dict[str, Any], bytes | None]
"""What is known of a photo (the columns of a Parquet file but the mask), and its mask as PNG.

Older Parquet files have no "file_name".
"""


def encode(mask: NDArray[np.uint8]) -> bytes:
    """A palette PNG of a mask uint8 (H, W)."""
    image = Image.fromarray(np.ascontiguousarray(mask), mode="P")
    image.putpalette(PALETTE.tobytes())
    out = io.BytesIO()
    image.save(out, format="PNG")
    return out.getvalue()


class Container(ABC):
    """A shard's results in one local file, which `commit` stores as a whole. file: where it grows."""

    suffix: str

    def __init__(self, file: Path, plan_facts: dict[str, Any]) -> None:
        self.file, self.plan_facts = file, plan_facts

    @classmethod  # noqa: B027 - most containers need nothing
    def check(cls) -> None:
        """Raise UserError where what writes such files is not installed."""

    @abstractmethod
    def add(self, facts: dict[str, Any], png: bytes | None) -> None:
        """One photo's result, or why there is none (`facts["error"]`)."""

    @abstractmethod
    def close(self) -> None:
        """Finish the file."""

    @staticmethod
    @abstractmethod
    def read(file: Path) -> Iterator[Row]:
        """The results back, in their order."""


class Tar(Container):
    """`<name>.png` and `<name>.json` for each photo, as WebDataset reads them; dots in names are written %2E."""

    suffix = ".tar"

    def __init__(self, file: Path, plan_facts: dict[str, Any]) -> None:
        super().__init__(file, plan_facts)
        self.tar = tarfile.open(file, "w", format=tarfile.PAX_FORMAT)  # noqa: SIM115 (closed by close)

    def add(self, facts: dict[str, Any], png: bytes | None) -> None:
        """Members with fixed times and owners, so that equal masks give equal bytes."""
        key = facts["name"].replace("%", "%25").replace(".", "%2E")
        if png is not None:
            self._member(f"{key}.png", png)
        self._member(f"{key}.json", json.dumps(facts, sort_keys=True, ensure_ascii=True).encode())

    def _member(self, name: str, content: bytes) -> None:
        member = tarfile.TarInfo(name)
        member.size, member.mode = len(content), 0o644
        self.tar.addfile(member, io.BytesIO(content))

    def close(self) -> None:
        """Write the archive's end."""
        self.tar.close()

    @staticmethod
    def read(file: Path) -> Iterator[Row]:
        """PNG before JSON, as written."""
        with reading(file, "a tar of masks"), tarfile.open(file, "r:") as tar:
            png = None
            for member in tar:
                opened = tar.extractfile(member)
                content = opened.read() if opened is not None else b""
                if member.name.endswith(".png"):
                    png = content
                else:
                    yield json.loads(content), png
                    png = None


class Parquet(Container):
    """A row a photo; the mask is an image in the form that Hugging Face's `datasets` decodes."""

    suffix = ".parquet"

    @classmethod
    def check(cls) -> None:
        """It needs pyarrow."""
        _arrow()

    def __init__(self, file: Path, plan_facts: dict[str, Any]) -> None:
        super().__init__(file, plan_facts)
        arrow, parquet = _arrow()
        image = {"_type": "Image"}
        columns = {"name": "string", "file_name": "string", "height": "int32", "width": "int32", "error": "string"}
        columns |= {"confidence": "float64", "expected_iou": "float64"}
        features: dict[str, Any] = {key: {"dtype": kind, "_type": "Value"} for key, kind in columns.items()}
        features["mask"] = image
        features["classes"] = {"feature": {"dtype": "string", "_type": "Value"}, "_type": "List"}
        features["pixels"] = {"feature": {"dtype": "int64", "_type": "Value"}, "_type": "List"}
        self.schema = arrow.schema(
            [
                ("name", arrow.string()),
                ("file_name", arrow.string()),
                ("height", arrow.int32()),
                ("width", arrow.int32()),
                ("mask", arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])),
                ("classes", arrow.list_(arrow.string())),
                ("pixels", arrow.list_(arrow.int64())),
                ("confidence", arrow.float64()),
                ("expected_iou", arrow.float64()),
                ("error", arrow.string()),
            ],
            metadata={
                "huggingface": json.dumps({"info": {"features": {name: features[name] for name in _ORDER}}}),
                "tagseg": json.dumps(plan_facts, sort_keys=True),
            },
        )
        self.arrow, self.rows = arrow, list[dict[str, Any]]()
        self.writer = parquet.ParquetWriter(file, self.schema, compression="zstd")

    def add(self, facts: dict[str, Any], png: bytes | None) -> None:
        """Rows are written in groups."""
        mask = None if png is None else {"bytes": png, "path": f"{facts['name']}.png"}
        self.rows.append({name: facts.get(name) for name in _ORDER} | {"mask": mask})
        if len(self.rows) >= ROWS:
            self._flush()

    def _flush(self) -> None:
        if self.rows:
            self.writer.write_table(self.arrow.Table.from_pylist(self.rows, schema=self.schema))
            self.rows = []

    def close(self) -> None:
        """Write the footer, without which nobody takes the file for whole."""
        self._flush()
        self.writer.close()

    @staticmethod
    def read(file: Path) -> Iterator[Row]:
        """Group by group."""
        _, parquet = _arrow()
        with reading(file, "a Parquet file of masks"):
            for batch in parquet.ParquetFile(file).iter_batches(batch_size=ROWS):
                for row in batch.to_pylist():
                    mask = row.pop("mask")
                    yield {key: value for key, value in row.items() if value is not None}, mask and mask["bytes"]


_ORDER = ("name", "file_name", "height", "width", "mask", "classes", "pixels", "confidence", "expected_iou", "error")


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UserError('Parquet needs pyarrow: pip install "tagseg[scale]".') from error
    return pyarrow, pyarrow.parquet


class Pictures(Container):
    """`masks/<name>.png` at the place itself; the file of the shard keeps what is known of each photo, a line each."""

    suffix = ".jsonl"

    def __init__(self, file: Path, plan_facts: dict[str, Any], place: Place | None = None) -> None:
        super().__init__(file, plan_facts)
        self.place, self.out = place, file.open("w", encoding="utf-8", newline="\n")

    def add(self, facts: dict[str, Any], png: bytes | None) -> None:
        """Equal masks give equal files, so that writing one twice does no harm."""
        if png is not None and self.place is not None:
            self.place.write(f"masks/{facts['name']}.png", png)
        self.out.write(json.dumps(facts, sort_keys=True) + "\n")

    def close(self) -> None:
        """Close the list."""
        self.out.close()

    @staticmethod
    def read(file: Path) -> Iterator[Row]:
        """The facts; the masks are files of their own."""
        with reading(file, "a list of masks"):
            for line in file.read_text(encoding="utf-8").splitlines():
                yield json.loads(line), None


CONTAINERS: dict[str, type[Container]] = {"tar": Tar, "parquet": Parquet, "png": Pictures}
