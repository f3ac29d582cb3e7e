"""Tables of tags as spreadsheets, scripts and data hubs write them."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tagseg.data.tables import read_table
from tagseg.data.text import clean
from tagseg.errors import UserError

Write = Callable[..., Path]


def rows(path: Path, **options: object) -> list[tuple[str, tuple[str, ...]]]:
    found, problems = read_table(path, **options)
    assert not [problem for problem in problems if problem.fatal]
    return [(row.file, row.tags) for row in found]


CAT_DOG = [("a.jpg", ("cat", "dog")), ("b.jpg", ("cat",))]


@pytest.mark.parametrize(
    "text",
    [
        "file,tags\na.jpg,cat dog\nb.jpg,cat\n",
        "file,tags\na.jpg,cat;dog\nb.jpg,cat",
        "file,tags\na.jpg,cat | dog\nb.jpg,cat",
        'file,tags\na.jpg,"cat, dog"\nb.jpg,cat',
        "file,tags\na.jpg,cat,dog\nb.jpg,cat",
        '"file","tags"\r\n"a.jpg","cat;dog"\r\n"b.jpg","cat"\r\n',
        "\ufefffile,tags\r\na.jpg,cat;dog\r\nb.jpg,cat\r\n",
        "File;Tags\na.jpg;cat dog\nb.jpg;cat",
        'file;tags\na.jpg;"cat;dog"\nb.jpg;cat',
        "file\ttags\na.jpg\tcat,dog\nb.jpg\tcat",
        "Image Name,split,LABELS\na.jpg,train,cat;dog\nb.jpg,val,cat",
        "labels,filename\ncat dog,a.jpg\ncat,b.jpg",
        "file,tags\n\na.jpg,cat dog cat\n,\nb.jpg, cat \n\n",
    ],
)
def test_spellings_of_the_same_table(table: Write, text: str) -> None:
    assert rows(table(text)) == CAT_DOG


def test_utf16_from_a_spreadsheet(table: Write) -> None:
    assert rows(table("file\ttags\nä.jpg\tKatze;Hündin\n".encode("utf-16"))) == [("ä.jpg", ("Katze", "Hündin"))]


def test_names_with_spaces_and_commas(table: Write) -> None:
    path = table('file,tags\n"red, green.jpg",traffic light;person\nb c.jpg,fire hydrant\n')
    assert rows(path) == [("red, green.jpg", ("traffic light", "person")), ("b c.jpg", ("fire hydrant",))]
    single = table("file,tags\na.jpg,traffic light\nb.jpg,person\n")
    assert rows(single)[0][1] == ("traffic", "light")
    assert rows(single, separator=";")[0][1] == ("traffic light",)
    assert rows(single, classes=("traffic light", "person"))[0][1] == ("traffic light",)


def test_a_given_separator_wins(table: Write) -> None:
    path = table("file,tags\na.jpg,a;b+c\n")
    assert rows(path, separator="+") == [("a.jpg", ("a;b", "c"))]
    with pytest.raises(UserError, match="separator of tags must not be empty"):
        read_table(path, separator="")


def test_words_for_no_tag(table: Write) -> None:
    path = table("file,tags\na.jpg,\nb.jpg,none\nc.jpg,Background\nd.jpg,OK\ne.jpg\nf.jpg,cat none\n")
    assert [tags for _, tags in rows(path)] == [(), (), (), (), (), ("cat",)]


def test_json_lines(table: Write) -> None:
    lines = [{"file_name": "a.jpg", "labels": ["cat", "traffic light"]}, {"file_name": "b.jpg", "labels": "cat;dog"}]
    path = table("\n\n".join(json.dumps(line) for line in lines), "metadata.jsonl")
    assert rows(path) == [("a.jpg", ("cat", "traffic light")), ("b.jpg", ("cat", "dog"))]


def test_bad_json_lines_are_all_named(table: Write) -> None:
    good = '{"file": "a.jpg", "tags": ["cat"]}'
    bad = [
        "{",
        "[1]",
        '{"tags": ["cat"]}',
        '{"file": "b.jpg", "tags": [1]}',
        '{"file": "b.jpg", "tags": {"x": 1}}',
        "[" * 9999,
    ]
    found, problems = read_table(table("\n".join([good, *bad]), "tags.jsonl"))
    assert [row.file for row in found] == ["a.jpg"]
    assert {f"line {number}" for number in range(2, 8)} == {
        re.search(r"line \d+", problem.text)[0] for problem in problems
    }


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "must begin with the header `file,tags`"),
        ("a.jpg,cat\nb.jpg,dog\n", r"must begin with the header `file,tags`, not 'a\.jpg,cat'"),
        (b"file,tags\na.jpg,caf\xe9\n", r"is not UTF-8 text \(byte 19\); line 2 would read 'café' in Windows-1252"),
        (b"PK\x03\x04\x14\x00\x06\x00spreadsheet", "is a zip file: unpack it"),
    ],
)
def test_unreadable_tables_are_refused_by_name(table: Write, content: str | bytes, reason: str) -> None:
    with pytest.raises(UserError, match=reason) as error:
        read_table(table(content))
    assert "tags.csv" in str(error.value)


def test_missing_table(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"tags file .*nowhere\.csv does not exist"):
        read_table(tmp_path / "nowhere.csv")
    with pytest.raises(UserError, match="cannot be read"):
        read_table(tmp_path)


def test_rows_are_counted_as_a_spreadsheet_shows_them(table: Write) -> None:
    found, problems = read_table(table('file,tags\na.jpg,cat\n\n,dog\n"b\n.jpg",cat\nc.jpg,dog\n'))
    assert [(row.number, row.file) for row in found] == [(2, "a.jpg"), (5, "b\n.jpg"), (6, "c.jpg")]
    assert [problem.text for problem in problems] == ["tags.csv, row 4 names no file"]


def test_too_many_cells_where_they_cannot_be_tags(table: Write) -> None:
    found, problems = read_table(table("tags,file\ncat,a.jpg,dog\ndog,b.jpg\n"))
    assert [row.file for row in found] == ["b.jpg"]
    assert problems[0].text == "tags.csv, row 2 has 3 cells under a header of 2; quote the tags"


NAMES = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1, max_size=12)
TAGS = st.lists(st.text("abcdefÄж ", min_size=1, max_size=8), max_size=4)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
@given(records=st.lists(st.tuples(NAMES, TAGS), min_size=1, max_size=5), delimiter=st.sampled_from(",;\t"))
def test_what_csv_writes_is_read_back(table: Write, records: list[tuple[str, list[str]]], delimiter: str) -> None:
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=delimiter)
    writer.writerow(["file", "tags"])
    writer.writerows([name, "|".join(tags)] for name, tags in records)
    found, problems = read_table(table(buffer.getvalue()), separator="|")
    expected = [
        (name.strip(), tuple(dict.fromkeys(clean(tag) for tag in tags if tag.strip())))
        for name, tags in records
        if name.strip()
    ]
    assert [(row.file, row.tags) for row in found] == expected
    assert len(problems) <= len(records) - len(expected)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
@given(
    noise=st.one_of(
        st.binary(max_size=80), st.text(max_size=80).map(lambda text: ("file,tags\n" + text).encode("utf-8", "replace"))
    ),
    name=st.sampled_from(["tags.csv", "tags.tsv", "tags.jsonl"]),
)
def test_any_bytes_give_rows_or_one_sentence(table: Write, noise: bytes, name: str) -> None:
    sentence = name
    try:
        found, problems = read_table(table(noise, name))
    except UserError as error:
        found, problems, sentence = [], [], str(error)
    assert name in sentence
    assert all(row.file.strip() for row in found)
    assert all(name in problem.text for problem in problems)


@pytest.mark.parametrize(("mark", "name"), [(",", "a.jpg"), ("\t", "a.jpg"), (";", "caf\xe9.jpg")])
def test_a_file_whose_quotation_mark_is_never_closed_is_no_name(table: Write, mark: str, name: str) -> None:
    path = table(f'file{mark}tags\nz.jpg{mark}cat\n"{name}{mark}cat\nb.jpg{mark}dog\nc.jpg{mark}dog\n')
    _, problems = read_table(path)
    (fatal,) = [problem for problem in problems if problem.fatal]
    assert "runs on for 3 lines; close its quotation mark" in fatal.text
