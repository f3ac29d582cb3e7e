"""Tables as spreadsheets, data frames, databases and R write them: the right rows, or one sentence."""

from __future__ import annotations

import io
import json
import re
import sqlite3
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import openpyxl
import pytest

from tagseg.data.tables import Problem, read_table
from tagseg.errors import UserError

Write = Callable[..., Path]
CAT_DOG = [("a.jpg", ("cat", "dog")), ("b.jpg", ("dog",))]


def read(path: Path, **options: object) -> list[tuple[str, tuple[str, ...]]]:
    found, problems = read_table(path, **options)  # type: ignore[arg-type]
    assert not [problem for problem in problems if problem.fatal], problems
    return [(row.file.strip(), row.tags) for row in found]


def notes(path: Path, **options: object) -> str:
    _, problems = read_table(path, **options)  # type: ignore[arg-type]
    return " / ".join(problem.text for problem in problems if not problem.fatal)


def fatal(path: Path, **options: object) -> list[Problem]:
    _, problems = read_table(path, **options)  # type: ignore[arg-type]
    return [problem for problem in problems if problem.fatal]


@pytest.mark.parametrize(
    "text",
    [
        "file,tags,,\na.jpg,cat,dog,\nb.jpg,dog,,\n",  # padded by a spreadsheet
        "file,tags,\na.jpg,cat,dog\nb.jpg,dog,\n",
        "file,tags,tags\na.jpg,cat,dog\nb.jpg,dog,\n",
        "file,tag,tag.1\na.jpg,cat,dog\nb.jpg,dog,\n",  # pandas
        "file,tag1,tag2,tag3\na.jpg,cat,dog,\nb.jpg,,,dog\n",
        "file,Label 1,Label 2,width\na.jpg,cat,dog,640\nb.jpg,dog,,640\n",
        "file,tags,,width\na.jpg,cat,dog,640\nb.jpg,dog,,480\n",  # one header over two cells
        "file;tags;;\r\na.jpg;cat;dog;\r\nb.jpg;dog;;\r\n",
        'file,tags\na.jpg,"cat, dog"\nb.jpg,dog\n',
        'file, tags\na.jpg, "cat, dog"\nb.jpg, "dog"\n',  # blanks before quotes
        'file,tags\na.jpg,"cat\ndog"\nb.jpg,dog\n',  # Alt+Enter in Excel
        "file,tags\na.jpg,\"['cat', 'dog']\"\nb.jpg,['dog']\n",  # lists of Python
        'file,tags\na.jpg,"[""cat"", ""dog""]"\nb.jpg,"[""dog""]"\n',  # of JSON
        "file,tags\na.jpg,['cat' 'dog']\nb.jpg,['dog']\n",  # of numpy
        "file,tags\na.jpg,\"('cat', 'dog')\"\nb.jpg,\"('dog',)\"\n",
        'file,tags\na.jpg,"c(""cat"", ""dog"")"\nb.jpg,dog\n',  # of R
        'file,tags\na.jpg,"{cat,dog}"\nb.jpg,{dog}\n',  # of PostgreSQL
        'file,tags\na.jpg,"[cat, dog]"\nb.jpg,[dog]\n',  # of Java and Spark
        '"","file","tags"\n"1","a.jpg","cat;dog"\n"2","b.jpg","dog"\n',  # write.csv
        '"file","tags"\n"1","a.jpg","cat;dog"\n"2","b.jpg","dog"\n',  # write.table(sep=",")
        '"file" "tags"\n"1" "a.jpg" "cat;dog"\n"2" "b.jpg" "dog"\n',  # write.table
        " file  |  tags   \n-------+---------\n a.jpg | cat,dog\n b.jpg | dog\n(2 rows)\n",  # psql
        "+-------+---------+\n| file  | tags    |\n+-------+---------+\n| a.jpg | cat,dog |\n| b.jpg | dog     |\n+---+---+\n",
        "| file | tags |\n|---|---|\n| a.jpg | cat, dog |\n| b.jpg | dog |\n",  # Markdown
        "sep=;\r\nfile;tags\r\na.jpg;cat,dog\r\nb.jpg;dog\r\n",
        "file,tags\ra.jpg,cat;dog\rb.jpg,dog\r",  # Excel for the Mac
        "file,tag\na.jpg,cat\na.jpg,dog\nb.jpg,dog\n",
        'file,tags\na.jpg,"cat, dog"\nb.jpg,dog;dog\nc.jpg,cat;cat\n',
        "file,tags\na.jpg,cat,dog\nb.jpg,dog;dog\n",
        "file\ttags\na.jpg\tcat\tdog\nb.jpg\tdog;dog\n",
        "file,tags\na.jpg,\u200bcat;d\u00adog\nb.jpg,\u00a0dog\u3000\n",  # marks that nobody sees
        "Foto,Merkmale\na.jpg,cat;dog\nb.jpg,dog\n",
        "quux,kind\na.jpg,cat;dog\nb.jpg,dog\n",  # told by what stands in them
        "Table 1\nfile,tags\na.jpg,cat;dog\nb.jpg,dog\n",  # Numbers
        "# exported, 2026\n# by hand\n#file,tags\na.jpg,cat;dog\nb.jpg,dog\n",
        "Field campaign;;\n;;\nfile;tags;\na.jpg;cat,dog;\nb.jpg;dog;\n",
        '"file,tags"\n"a.jpg,cat;dog"\n"b.jpg,dog"\n',  # a table pasted into one column
        'image,choice\na.jpg,"{""choices"": [""cat"", ""dog""]}"\nb.jpg,"{""choices"": [""dog""]}"\n',  # Label Studio
        "file,cat,dog\na.jpg,1,1\nb.jpg,0,1\n",
        "file;cat;dog;notes\na.jpg;x;X;sunny\nb.jpg;;x;\n",
        "file,cat,dog\na.jpg,TRUE,yes\nb.jpg,FALSE,ja\n",
        "file,cat,dog\na.jpg,1.0,1.0\nb.jpg,,1.0\n",
    ],
)
def test_the_same_rows_in_every_writing(table: Write, text: str) -> None:
    rows: dict[str, tuple[str, ...]] = {}
    for file, tags in read(table(text)):
        rows[file] = tuple(sorted({*rows.get(file, ()), *tags}))
    assert {file: rows[file] for file in ("a.jpg", "b.jpg")} == dict(CAT_DOG)


@pytest.mark.parametrize(
    "text",
    [
        '{"file": "a.jpg", "tags": ["cat", "dog"]}\r\n{"file": "b.jpg", "tags": ["dog"]}\r\n',
        '{"file": "a.jpg", "tags": ["cat", "dog"]}\r{"file": "b.jpg", "tags": "dog"}\r',
        '[{"file": "a.jpg", "tags": ["cat", "dog"]}, {"file": "b.jpg", "tags": ["dog"]}]',
        json.dumps([{"file": "a.jpg", "tags": ["cat", "dog"]}, {"file": "b.jpg", "tags": ["dog"]}], indent=2),
        '{"file": {"0": "a.jpg", "1": "b.jpg"}, "tags": {"0": ["cat", "dog"], "1": ["dog"]}}',  # pandas, as it is
        '{"0": {"file": "a.jpg", "tags": ["cat", "dog"]}, "1": {"file": "b.jpg", "tags": "dog"}}',  # orient="index"
        '{"columns": ["file", "tags"], "index": [0, 1], "data": [["a.jpg", ["cat", "dog"]], ["b.jpg", "dog"]]}',
        '{"a.jpg": ["cat", "dog"], "b.jpg": ["dog"]}',
        '{"image": {"bytes": null, "path": "a.jpg"}, "labels": ["cat", "dog"]}\n{"image": {"path": "b.jpg"}, "labels": "dog"}',
        '{"file": "a.jpg", "cat": 1, "dog": true}\n{"file": "b.jpg", "cat": 0, "dog": 1}\n',
    ],
)
@pytest.mark.parametrize("name", ["tags.json", "tags.jsonl", "tags.txt"])
def test_the_same_rows_in_json(table: Write, text: str, name: str) -> None:
    assert read(table(text, name)) == CAT_DOG


def test_line_separators_are_letters_in_json(table: Write) -> None:
    path = table('{"file": "a\u2028.jpg", "tags": ["cat\u2028dog"]}\n{"file": "b.jpg", "tags": []}\n', "tags.jsonl")
    assert read(path) == [("a\u2028.jpg", ("cat dog",)), ("b.jpg", ())]


def test_json_without_the_key_is_a_bad_row(table: Write) -> None:
    path = table(
        '{"file": "a.jpg", "tags": ["cat"]}\n{"file": "b.jpg", "lables": ["dog"]}\n{"file": "c.jpg", "tags": null}\n',
        "tags.jsonl",
    )
    found, problems = read_table(path)
    assert [(row.file, row.tags) for row in found] == [("a.jpg", ("cat",)), ("c.jpg", ())]
    assert [problem.text for problem in problems] == [
        "tags.jsonl, line 2: 'b.jpg' has no key 'tags'; write [] for no tag"
    ]
    objects = '{"file_name": "a.jpg", "objects": {"bbox": [[1, 2, 3, 4]], "category": [0]}}\n'
    with pytest.raises(UserError, match="must begin with the header"):
        read_table(table(objects, "metadata.jsonl"))


def test_an_excel_workbook(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    cover = book.active
    cover.title = "cover"
    cover.append(["Field campaign 2026"])
    sheet = book.create_sheet("tags")
    sheet.append(["File", "Tags", None])
    sheet.append(["a.jpg", "cat", "dog"])
    sheet.append([None, None, None])
    sheet.append([17.0, "dog", None])
    book.save(tmp_path / "tags.xlsx")
    found, problems = read_table(tmp_path / "tags.xlsx")
    assert problems == []
    assert [(row.number, row.file, row.tags) for row in found] == [(2, "a.jpg", ("cat", "dog")), (4, "17", ("dog",))]
    (tmp_path / "tags.xlsx").rename(tmp_path / "tags.csv")  # whatever it is called
    assert len(read_table(tmp_path / "tags.csv")[0]) == 2


def test_an_excel_workbook_with_a_column_a_tag(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for row in (["photo", "yellow rust", "healthy"], ["a.jpg", 1, 0], ["b.jpg", None, True], ["c.jpg", 0, 0]):
        book.active.append(row)
    book.save(tmp_path / "tags.xlsx")
    assert read(tmp_path / "tags.xlsx") == [("a.jpg", ("yellow rust",)), ("b.jpg", ("healthy",)), ("c.jpg", ())]


def test_a_formula_without_its_value_is_no_empty_cell(tmp_path: Path) -> None:
    """As openpyxl and pandas write formulas; Excel and LibreOffice store what they gave."""
    path, opened = tmp_path / "tags.xlsx", tmp_path / "opened.xlsx"
    book = openpyxl.Workbook()
    rows = (["a.jpg", "cat", "=NOW()"], ["b.jpg", None], ["c.jpg", "=B2"], ['="d"&".jpg"', "cat"], ["e.jpg", '=""'])
    for row in (["file", "tags", "note"], *rows):
        book.active.append(row)
    book.save(path)
    found, problems = read_table(path)
    assert [(row.number, row.tags) for row in found] == [(2, ("cat",)), (3, ())]
    assert [problem.text for problem in problems if problem.fatal] == [
        f"tags.xlsx, row {number}: the formula {text!r} has no value in the file; open it in a spreadsheet and save it"
        for number, text in ((4, "=B2"), (5, '="d"&".jpg"'), (6, '=""'))
    ]
    with zipfile.ZipFile(path) as written, zipfile.ZipFile(opened, "w") as calculated:
        for name in written.namelist():
            content = written.read(name)
            for place, value in ((b"B4", b"cat"), (b"A5", b"d.jpg"), (b"B6", b"")):
                pattern = rb'<c r="%b">(<f>.*?</f>)<v ?/>' % place
                content = re.sub(pattern, rb'<c r="%b" t="str">\1<v>%b</v>' % (place, value), content)
            calculated.writestr(name, content)
    assert read(opened) == [("a.jpg", ("cat",)), ("b.jpg", ()), ("c.jpg", ("cat",)), ("d.jpg", ("cat",)), ("e.jpg", ())]


def test_a_formula_without_its_value_in_a_column_a_tag(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for row in (["photo", "cat", "dog"], ["a.jpg", 1, 0], ["b.jpg", "=B2", 1]):
        book.active.append(row)
    book.save(tmp_path / "tags.xlsx")
    _, problems = read_table(tmp_path / "tags.xlsx")
    assert [problem.text.partition(";")[0] for problem in problems if problem.fatal] == [
        "tags.xlsx, row 3: the formula '=B2' has no value in the file"
    ]


def test_a_column_a_tag_may_say_no_for_long(table: Write) -> None:
    rows = [f"{i}.jpg,{i % 2},{int(i == 2500)}\n" for i in range(2501)]
    assert read(table("file,cat,rare\n" + "".join(rows)))[-1] == ("2500.jpg", ("rare",))


@pytest.mark.parametrize(
    ("cells", "told", "tags"),
    [
        ('"cat;dog\nbird"', None, ("cat", "dog", "bird")),
        ('"cat;dog\nbird"', ";", ("cat", "dog", "bird")),
        ('"cat;dog\nbird"', "|", ("cat;dog", "bird")),
        ('"traffic light\nbird"', None, ("traffic light", "bird")),
    ],
)
def test_several_lines_in_a_cell(table: Write, cells: str, told: str | None, tags: tuple[str, ...]) -> None:
    path = table(f"file,tags\na.jpg,{cells}\nb.jpg,traffic light\n")
    assert read(path, separator=told) == [("a.jpg", tags), ("b.jpg", ("traffic light",))]


def test_a_line_that_is_a_class_is_never_split(table: Write) -> None:
    path = table('file;tags\na.jpg;"big, red\nbird, cat"\n')
    assert read(path, classes=("big, red", "bird", "cat")) == [("a.jpg", ("bird", "cat", "big, red"))]


def test_without_openpyxl_the_sentence_says_how_to_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = openpyxl.Workbook()
    book.active.append(["file", "tags"])
    book.save(tmp_path / "tags.xlsx")
    monkeypatch.setitem(__import__("sys").modules, "openpyxl", None)
    with pytest.raises(UserError, match=r"Excel workbook: in Excel choose File, Save As, 'CSV UTF-8.*tagseg\[excel\]"):
        read_table(tmp_path / "tags.xlsx")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "is an old Excel workbook"),
        (b"PAR1" + bytes(50), "is a Parquet file"),
        (b"SQLite format 3\0" + bytes(50), "is an SQLite database"),
        (b"PK\x03\x04" + b"\0" * 26 + b"mimetypeapplication/vnd.oasis.opendocument.spreadsheet", "LibreOffice sheet"),
        (b"\x1f\x8b\x08" + bytes(50), "is packed with gzip"),
        (b"<html><table><tr><td>file</td></tr></table>", "is a web page"),
        ("datei;marke\nä.jpg;Käfer\n".encode("cp1252"), r"line 2 would read 'ä\.jpg' in Windows-1252"),
        (
            b'{\n "images": [{"file_name": "a.jpg"}],\n "annotations": []\n}',
            "no list of objects with a file and its tags",
        ),
        (b"a.jpg,cat\nb.jpg,dog\n", "must begin with the header `file,tags`, not 'a.jpg,cat'"),
        (b"Nummer;Ort;Art\n1;Ulm;Fuchs\n", "name its columns with --file-column and --tags-column"),
    ],
)
def test_other_files_are_named(table: Write, content: bytes, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        read_table(table(content))


def test_columns_as_told(table: Write) -> None:
    path = table("Nummer;Ort;Art;Farbe\n1;Ulm;Fuchs;rot\n2;Bonn;Reh;\n")
    assert read(path, file_column="nummer", tags_column="Art") == [("1", ("Fuchs",)), ("2", ("Reh",))]
    assert read(path, file_column="Nummer", tags_column="Art, Farbe") == [("1", ("Fuchs", "rot")), ("2", ("Reh",))]
    with pytest.raises(UserError, match=r"no column 'Species' \(--tags-column\); its columns are 'Nummer', 'Ort'"):
        read_table(path, file_column="Nummer", tags_column="Species")


def test_what_was_guessed_is_said(table: Write) -> None:
    assert "one column a tag: cat, dog; 'notes' not read" in notes(table("file,cat,dog,notes\na.jpg,1,0,far away\n"))
    assert "read from class_name, not label" in notes(table("file,label,class_name\na.jpg,3,cat\nb.jpg,4,dog\n"))
    assert "all tags are numbers" in notes(table("file,label\na.jpg,0\nb.jpg,1\n"))
    assert "1 cell with nan" in notes(table("file,tags\na.jpg,nan\nb.jpg,cat\n"))
    assert read(table("file,tags\na.jpg,nan\nb.jpg,NA\nc.jpg,\\N\nd.jpg,cat\n"))[:3] == [
        ("a.jpg", ()), ("b.jpg", ()), ("c.jpg", ())
    ]  # fmt: skip
    assert read(table("file,tags\na.jpg,NA\n"), classes=("NA", "SA")) == [("a.jpg", ("NA",))]


def test_names_of_several_words(table: Write) -> None:
    path = table("file,tags\na.jpg,yellow rust\nb.jpg,healthy leaf\n")
    assert notes(path).startswith(
        "tags.csv: tags are split at spaces: 'yellow rust' gives yellow and rust (and 1 more like it); "
        "if that is one tag: --separator ';'"
    )
    assert read(path, separator=";") == [("a.jpg", ("yellow rust",)), ("b.jpg", ("healthy leaf",))]
    assert notes(path, separator=";") == ""
    assert read(path, classes=("healthy leaf", "yellow rust")) == [
        ("a.jpg", ("yellow rust",)),
        ("b.jpg", ("healthy leaf",)),
    ]
    sure = table("file,tags\na.jpg,yellow rust\nb.jpg,rust\nc.jpg,yellow\n")
    assert read(sure)[0] == ("a.jpg", ("yellow", "rust"))
    assert notes(sure) == ""
    # where rows hold several cells, these are the tags
    assert read(table("file,tags,\na.jpg,yellow rust,dry\nb.jpg,healthy leaf,\n")) == [
        ("a.jpg", ("yellow rust", "dry")), ("b.jpg", ("healthy leaf",))
    ]  # fmt: skip


def test_two_separators_in_one_table(table: Write) -> None:
    """A part that holds another mark is split where its pieces are tags of their own, and else is looked at."""
    assert read(table('file,tags\na.jpg,"cat, dog"\nb.jpg,dog;cat\n'))[0] == ("a.jpg", ("cat", "dog"))
    path = table('file,tags\na.jpg,"red, green"\nb.jpg,dog;cat\n')
    assert read(path)[0] == ("a.jpg", ("red, green",))
    assert "the tag 'red, green' may be several; if it is one: --separator ';'" in notes(path)
    assert "the tag 'cat/dog' may be several" in notes(table("file,tags\na.jpg,cat/dog\nb.jpg,cat\nc.jpg,dog\n"))
    assert notes(table("file,tags\na.jpg,and/or\nb.jpg,cat\n")) == ""


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('file,tags\n0,"cat\n1,cat\n2,dog"\n3,dog\n', "row 2: a cell runs over several lines"),
        ('file,tags\na.jpg,cat\nb.jpg,"dog\nc.jpg,cat\nd.jpg,cat\n', "row 3: a cell runs over several lines"),
        ("file,tags\na.jpg,(ignore)\n", "row 2: the tag '(ignore)' is what masks call ignored pixels"),
        ("file,tags\na.jpg,cat\tdog;x\n", r"row 2: the tag 'cat\tdog' holds a line break or another control character"),
        ("file,tags\na.jpg,\x1b[31mcat\n", r"row 2: the tag '\x1b[31mcat' holds a line break or another control"),
        ("file,tags\na.jpg," + "x" * 200_000 + "\n", "has 200,000 characters, more than the 200 of a class name"),
        ("file,cat,dog\na.jpg,1,0\n" + "b.jpg,0,1\n" * 20 + "c.jpg,0,7\n", "row 23: column 'dog' holds '7'; write 1"),
        ('file,tags\na.jpg,"[{""name"": ""cat""}]"\n', "the tags of a.jpg must be a text or a list of texts, not"),
        ('file,tags\na.jpg,"{""cat"": 1, ""dog"": 0}"\n', "the tags of a.jpg must be a text or a list of texts, not"),
        ("file,cat\na.jpg,1,1\n", "row 2 has 3 cells under a header of 2"),
    ],
)
def test_bad_rows_are_named(table: Write, text: str, sentence: str) -> None:
    assert sentence in fatal(table(text))[0].text
    assert "\n" not in fatal(table(text))[0].text


def test_cells_of_any_length(table: Write) -> None:
    path = table('"' + "y" * 200_000 + '",file,tags\n' + "z" * 300_000 + ",a.jpg,cat;dog\n2,b.jpg,dog\n")
    assert read(path) == CAT_DOG


def test_other_encodings(table: Write) -> None:
    for encoding in ("utf-8-sig", "utf-16", "utf-16-le", "utf-32"):
        assert read(table("file,tags\nä.jpg,Käfer\n".encode(encoding))) == [("ä.jpg", ("Käfer",))], encoding


def test_composed_and_decomposed_tags_are_one(table: Write) -> None:
    assert {tags for _, tags in read(table("file,tags\na.jpg,cafe\u0301\nb.jpg,caf\u00e9\n"))} == {("café",)}


def test_what_sqlite_writes(table: Write) -> None:
    base = sqlite3.connect(":memory:")
    base.execute("create table t (file, tags)")
    base.executemany("insert into t values (?, ?)", [("a.jpg", "cat;dog"), ("b.jpg", "dog")])
    text = io.StringIO()
    text.write("file|tags\n")
    text.writelines("|".join(row) + "\n" for row in base.execute("select * from t"))
    assert read(table(text.getvalue())) == CAT_DOG


def test_a_column_of_captions_is_refused_at_once(table: Write) -> None:
    start = time.process_time()
    path = table("file,tags\n" + "".join(f"{i}.jpg,caption {i} of many;another {i}\n" for i in range(100_000)))
    assert len(read(path)) == 100_000
    assert time.process_time() - start < 20
