"""What is known of the shipped recipes is what the results page says; the list and the settings page are whole."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tagseg import cli
from tagseg.errors import UserError
from tagseg.reference import settings_page
from tagseg.shipped import about, shipped_chains, shipped_recipes

ROOT = Path(__file__).parents[1]
NAMES = [*shipped_recipes(), *shipped_chains()]


@pytest.mark.parametrize("name", [name for name in NAMES if about(name).miou is not None])
def test_scores_are_those_of_the_results_page(name: str) -> None:
    known, page = about(name), (ROOT / "docs" / "results" / "voc-animals.md").read_text(encoding="utf-8")
    table = re.split(r"\n(?=\| \*\*|\n)", page)  # a run and its branches, or all else between two empty lines
    parts = [part for part in table if known.row and known.row in part.partition("\n")[0]]
    rows = [line for part in parts for line in part.splitlines()]
    if not rows:  # a table without branches has a run in a line, its seeds one by one
        rows = [line for line in page.splitlines() if line.startswith(f"| {known.row} |")]
    assert any(re.search(rf"\| {known.miou:.1f} \(", row) for row in rows), rows
    assert known.seeds == 3
    assert any(", seeds 0, 1, 2" in row or re.search(r"\((\d+\.\d, ){2}\d+\.\d\)", row) for row in rows)


def test_every_recipe_says_what_kind_it_is() -> None:
    kinds = {name: about(name).kind for name in NAMES}
    assert {name for name, kind in kinds.items() if kind == "start"} == {
        name for name in NAMES if name.startswith("photos")
    }
    assert all(kind == "demo" for name, kind in kinds.items() if "scenes" in name)
    assert all(
        kind == "published" and about(name).needs == "GPU"
        for name, kind in kinds.items()
        if re.search("voc12|coco14", name)
    )
    assert all(about(name).data for name, kind in kinds.items() if kind != "ablation")


def listed(*words: str) -> str:
    result = CliRunner().invoke(cli.app, ["recipes", *words])
    if result.exception is not None:
        raise result.exception
    return result.output


def test_the_short_list_fits_a_screen_and_names_how_to_see_more() -> None:
    text = listed()
    assert len(text.splitlines()) <= 30
    assert "photos-chain" in text
    assert f"{len(NAMES) - sum(about(name).first for name in NAMES)} more: tagseg recipes --all." in " ".join(
        text.split()
    )


def test_the_whole_list_and_a_part_of_it() -> None:
    assert all(re.search(rf"{name[:26]}", listed("--all")) for name in NAMES)
    part = listed("tscd-voc")
    assert "tscd-voc-animals" in part
    assert "bmp" not in part.partition("mIoU: of")[0]


@pytest.mark.parametrize("name", ["asdt-voc-animals-row-ii", "chain-voc-animals-bmp"])
def test_every_key_of_a_recipe_is_shown(name: str) -> None:
    text = listed(name)
    for key in ("method.name", "train.steps", "predict.scales"):
        assert key in text
    assert "optimizer steps" in text


def test_a_name_that_there_is_not_gets_the_nearest() -> None:
    with pytest.raises(UserError, match=r"no shipped recipe 'bmp-voc12x'; did you mean bmp-voc12-mit_b1\?"):
        listed("bmp-voc12x")


def test_the_settings_page_is_the_settings() -> None:
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert page == settings_page(), "write it anew: python -m tagseg.reference > docs/settings.md"
