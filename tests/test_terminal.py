"""Names on a terminal: as they are, on every encoding, and without power over it."""

import io
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.table import Table
from typer.testing import CliRunner

from tagseg import cli
from tagseg.cli.frame import console, printable, say
from tagseg.errors import UserError

HOSTILE = {
    "markup that ends nothing": "[/red]",
    "markup that is one": "[bold]x[/bold]",
    "a link": "[link=https://example.org]x[/link]",
    "an escape": "\x1b[31mred",
    "a title of the terminal": "\x1b]0;owned\x07",
    "writing turned round": "abc\u202egnp.exe",
    "a backspace": "cat\b\b\bdog",
    "a C1 control": "\x9b31m",
    "not UTF-8": "caf\udce9",
}


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_a_name_is_printed_as_it_is_and_moves_nothing(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    say(f"classes: {name}, end.")
    table = Table("what")
    table.add_row(name.replace("[", "\\["))
    console.print(table)
    out = capsys.readouterr().out
    shown = printable(name.translate(dict.fromkeys((7, 8))))  # these two rich leaves out by itself
    assert f"classes: {shown}, end." in out.splitlines()[0]
    assert shown in "".join(out.splitlines()[1:])
    assert not [c for c in out if c != "\n" and (ord(c) < 32 or 0x7F <= ord(c) < 0xA0 or c == "\u202e")]


def test_joined_pictures_and_letters_stay_whole() -> None:
    for name in ("\N{MAN}\u200d\N{WOMAN}", "می\u200cخواهم", "naïve", "犬"):
        assert printable(name) == name


def write(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(str(path))).integers(0, 256, (40, 48, 3))
    Image.fromarray(noise.astype(np.uint8)).save(path)


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_every_name_is_printed_on_every_encoding(encoding: str, tmp_path: Path) -> None:
    for name in ("\N{GRINNING FACE}/1.jpg", "Łódź [red]/2.jpg", "cat/3.jpg"):
        write(tmp_path / "p" / name)
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    words = [sys.executable, "-m", "tagseg", "check", "--images", str(tmp_path / "p")]
    ended = subprocess.run(words, capture_output=True, env=environment, timeout=200, check=False)
    text = (ended.stdout + ended.stderr).decode(encoding)
    assert ended.returncode == 0, text
    assert "Traceback" not in text
    assert "\\U0001f600" in text
    assert "[red]" in text
    words = [sys.executable, "-m", "tagseg", "check", "--images", str(tmp_path / "\N{GRINNING FACE}")]
    ended = subprocess.run(words, capture_output=True, env=environment, timeout=200, check=False)
    assert ended.returncode == 2
    assert "tagseg: " in ended.stderr.decode(encoding)


@pytest.mark.parametrize("encoding", ["cp1252", "cp437", "ascii", "utf-8"])
def test_every_message_goes_through_a_pipe_of_every_encoding(
    encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    face, polish = "\N{GRINNING FACE}", "\u0141\u00f3d\u017a"
    for name in (f"{face}/1.jpg", f"{polish}/2.jpg"):
        write(tmp_path / "p" / name)
    write(tmp_path / f"masks {face}" / "1.png")
    Image.new("L", (8, 8)).save(tmp_path / f"masks {face}" / "1.png")
    table = tmp_path / "tags.csv"
    table.write_text(f"file,tags\n{face}/1.jpg,{face}\n{polish}/2.jpg,{polish}\n{polish}/3.jpg,x\n", encoding="utf-8")
    masks = str(tmp_path / f"masks {face}")
    for line, code in (
        (["check", "--images", str(tmp_path / "p")], 0),  # classes from folders
        (["check", "--images", str(tmp_path / "p"), "--tags", str(table)], None),  # a problem names a photo
        (["evaluate", masks, masks, "--out", f"{masks} 2/s.json"], 0),  # where the results are
        (["evaluate", masks, f"{masks} 3"], 2),  # a mistake, on the stream of errors
    ):
        streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2)]
        monkeypatch.setattr(sys, "argv", ["tagseg", *line])
        monkeypatch.setattr(sys, "stdout", streams[0])
        monkeypatch.setattr(sys, "stderr", streams[1])
        before = signal.getsignal(signal.SIGTERM)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        signal.signal(signal.SIGTERM, before)
        monkeypatch.undo()
        for stream in streams:
            stream.flush()
        text = "".join(stream.buffer.getvalue().decode(encoding) for stream in streams)  # type: ignore[attr-defined]
        assert code in (None, ended.value.code or 0), (line, text)
        assert "Traceback" not in text
        assert (face if encoding == "utf-8" else "\\U0001f600") in text, (line, text)


def test_a_message_of_bearable_length(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(*_: object, **__: object) -> None:
        raise UserError("x" * 100_000 + " end.")

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert len(error) < 2500
    assert error.rstrip().endswith("end.")


def test_a_command_gives_each_warning_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def warn(*_: object, **__: object) -> None:
        for name in ("bmp", "tscd", "bmp", "[red]\x1b[31m", "bmp"):
            logging.getLogger("tagseg.methods.afa_network").warning("%s trains without it.", name)

    monkeypatch.setattr(cli, "app", warn)
    for _ in range(2):  # the next command gives them again
        with pytest.raises(SystemExit):
            cli.main()
        lines = capsys.readouterr().err.splitlines()
        assert lines == [f"{name} trains without it." for name in ("bmp", "tscd", "[red]\N{REPLACEMENT CHARACTER}[31m")]


@pytest.mark.slow
def test_a_plan_that_measures_many_trainings_gives_each_warning_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["reproduce", "bmp-voc12", "--on", "scenes", "--dry-run", "--data", str(tmp_path), "--steps", "2"]
    words += ["--row", "BMP", "--row", "without feedback", "--set", "train.crop=64", "--set", "train.batch_size=2"]
    monkeypatch.setattr(sys, "argv", ["tagseg", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    out, err = capsys.readouterr()
    assert ended.value.code == 0
    assert out.count(": bmp on efficientnet_lite0") == 2
    assert err.splitlines() == ["efficientnet_lite0 offers no attention maps: BMP trains without its affinity term."]


def test_the_folder_of_results_is_named_with_its_brackets(tmp_path: Path) -> None:
    for name in ("masks [final]", "m[/q]"):
        write(tmp_path / "t" / "a.png")
        Image.new("L", (8, 8)).save(tmp_path / "t" / "a.png")
        out = tmp_path / name / "scores.json"
        result = CliRunner().invoke(cli.app, ["evaluate", str(tmp_path / "t"), str(tmp_path / "t"), "--out", str(out)])
        assert result.exception is None, result.output
        assert name in result.output
