"""Names of others do nothing in the programs that open tagseg's files."""

import re

import pytest

from tagseg.outputs.inert import cell_path, code, markdown, path_of_cell

HOSTILE = [
    "a|b",
    "one\n# two",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[link](https://example.org)",
    "![](https://example.org/x.png)",
    "`code`",
    "# title",
    "a\r\n\r\n| x | y |",
    "&lt;script&gt;",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_shows_a_text_and_nothing_else(text: str) -> None:
    shown = markdown(text)
    assert "\n" not in shown
    assert "\r" not in shown
    assert not re.search(r"(?<!\\)[|`\[\]*]|[<>]|^#", shown)
    plain = re.sub(r"\\(.)", r"\1", shown).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    assert plain == " ".join(text.split()), "a reader sees the text itself"
    assert "|" not in code(text).replace("\\|", "")
    assert code(text).count("`") == 2


@pytest.mark.parametrize(
    "name", ["=cmd|'calc'!A1", "+1+1", "-2+3", "@SUM(1)", "\tx", "\rx", "./=1", "a=1", "a/=b", "."]
)
def test_a_cell_is_no_formula_and_is_read_back(name: str) -> None:
    assert cell_path(name)[0] not in "=+-@\t\r"
    assert path_of_cell(cell_path(name)) in (name, name.removeprefix("./"))
