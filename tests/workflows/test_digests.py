"""What stages of a chain know their data by."""

from dataclasses import replace
from pathlib import Path

from tagseg.data.sources import Sources
from tagseg.data.tagged import TaggedImages
from tagseg.workflows.digests import contents, digest_photos


def test_colors_that_masks_are_read_by_count(tmp_path: Path) -> None:
    data = TaggedImages(("cat",), ())
    plain, red, green = (
        digest_photos(Sources(replace(data, mask_colors=colors), None), contents)
        for colors in (None, ((0, 0, 0), (200, 0, 0)), ((0, 0, 0), (0, 200, 0)))
    )
    assert len({plain, red, green}) == 3
