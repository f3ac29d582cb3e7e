import os
from pathlib import Path

import pytest

from tagseg.errors import UserError
from tagseg.foreign import parse_yaml, read_bytes, read_json, read_text, read_yaml_file, reading, shown
from tagseg.interrupt import Interrupted

BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 10)}]\n" for i in range(9)
)


@pytest.mark.parametrize(
    "error",
    [
        RecursionError(),
        MemoryError(),
        AssertionError(),
        KeyError("names"),
        OSError(5, "gone"),
        SystemError("bad\x1b[31m"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_a_parser_raises_becomes_one_sentence_with_file_and_fix(error: Exception) -> None:
    sentence = r"^a\.json cannot be read as a list \(.+\): save it again\.$"
    with pytest.raises(UserError, match=sentence) as caught, reading("a.json", "a list", "save it again"):
        raise error
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("error", [UserError("a sentence"), KeyboardInterrupt(), Interrupted()], ids=repr)
def test_sentences_and_interruptions_pass(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, reading("a.json", "a list"):
        raise error
    assert caught.value is error


def test_missing_endless_and_large_files_are_refused_before_they_are_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        read_bytes(tmp_path / "none", "a list")
    with pytest.raises(UserError, match="no regular file"):
        read_bytes(tmp_path, "a list")
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(1 << 40)  # a hole: no byte on the disk
    with pytest.raises(UserError, match="more than 16 MiB"):
        read_bytes(large, "a list")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "zero").symlink_to("/dev/zero")
        for name in ("pipe", "zero"):
            with pytest.raises(UserError, match="no regular file"):
                read_bytes(tmp_path / name, "a list")


def test_text_loses_its_mark_and_foreign_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffé\r\nb\rc".encode())
    assert read_text(path, "a list") == "é\nb\nc"
    path.write_bytes(b"caf\xe9")
    with pytest.raises(UserError, match="not utf-8 text at byte 3"):
        read_text(path, "a list")


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "{", "1" * 5000, '"\ud800', ""], ids=["deep", "cut", "long", "lone", "none"]
)
def test_json_of_any_kind_ends_in_a_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(UserError, match=r"a\.json cannot be read as facts"):
        read_json(path, "facts")


@pytest.mark.parametrize(
    "text", [BOMB, "[" * 5000, "a: 2024-99-99", f"a: {'1' * 5000}", "a: *a", "a: !!python/object:os.system {}"]
)
def test_yaml_of_any_kind_ends_in_a_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"a\.yaml cannot be read as a recipe") as caught:
        read_yaml_file(path, "a recipe")
    assert len(str(caught.value)) < len(str(path)) + 300


def test_plain_yaml_is_read_and_anchors_without_aliases_do_no_harm() -> None:
    assert parse_yaml("a: &x {b: [1, 2.5, null, true]}\nc: text") == {"a": {"b": [1, 2.5, None, True]}, "c": "text"}


def test_an_echoed_value_is_short_and_on_one_line() -> None:
    deep: list[object] = []
    for _ in range(30):
        deep = [deep] * 10
    for value in (deep, "x" * 10_000_000, "\x1b[31mred\nline", {"k" * 1000: "v" * 1000}, 10**6000, b"\0" * 10_000):
        assert len(shown(value)) <= 125
        assert shown(value).isprintable()
    assert shown("cat") == "'cat'"
    assert shown([1, 2]) == "[1, 2]"
