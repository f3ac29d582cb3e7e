"""Lists of classes beside numbered masks: the numbers are the list's, or the list is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tagseg.data.class_lists import find_class_list
from tagseg.errors import UserError


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        ("background cat dog void", ("cat", "dog")),
        ("__ignore__ _background_ cat", ("cat",)),
        ("cat 255", ("cat",)),
        ("0_background 1_cat 2_dog 255_void", ("cat", "dog")),
        ("2_dog 1_cat", ("cat", "dog")),
        ("0=background 1=cat", ("cat",)),
        ("1._cat 2._dog", ("cat", "dog")),
        ("background_0 cat_1", ("cat",)),
        ("background,0 dog,2 cat,1", ("cat", "dog")),
        ("id,name 0,background 1,cat", ("cat",)),
        ("stage_1 stage_2", ("stage 1", "stage 2")),
        ("2_wheels 4_wheels", ("2 wheels", "4 wheels")),
        ("3_series audi", ("3 series", "audi")),
        ("boeing_737 airbus_320", ("boeing 737", "airbus 320")),
        ("3_toed_sloth 9_banded_armadillo", ("3 toed sloth", "9 banded armadillo")),
        ("1_cent 2_cent 5_cent 1_euro 2_euro", ("1 cent", "2 cent", "5 cent", "1 euro", "2 euro")),
        ("background 1_cent 2_cent 1_euro", ("1 cent", "2 cent", "1 euro")),
        ("0 1 2", ("0", "1", "2")),
    ],
)
def test_numbers_of_a_list_are_followed(tmp_path: Path, lines: str, names: tuple[str, ...]) -> None:
    (tmp_path / "labels.txt").write_text("\n".join(line.replace("_", " ") for line in lines.split(" ")))
    found = find_class_list(tmp_path)
    assert found is not None
    assert found.names == names


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("0: background/1: cat/3: dog", "no class has the number 2"),
        ("0 background/1 void/2 cat", "no class has the number 1"),
        ("1 background/2 cat", "masks store background as 0"),
        ("0 cat/1 dog", "masks store background as 0"),
        ("0 background/1 cat/1 dog", "the number 1 to 'cat' and 'dog'"),
        ("0 background/1 cat/2 cat", "cat"),
        ("0 background/1 cat/255 dog", "masks store ignored pixels as 255"),
        ("2 cat/3 dog", "no class has the number 1"),
        ("0 background/cat", "not every class"),
        ("background 0/cat", "not every class"),
        ("background/void/cat", "between the classes"),
        ("cat/background", "put it first"),
        ("0 background", "is empty"),
    ],
)
def test_a_list_that_leaves_a_number_open_is_refused(tmp_path: Path, lines: str, said: str) -> None:
    (tmp_path / "classes.txt").write_text(lines.replace("/", "\n"))
    with pytest.raises(UserError, match=said):
        find_class_list(tmp_path)
