from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tagseg.datasets import download as module
from tagseg.datasets.archive import Archive
from tagseg.datasets.download import download
from tagseg.errors import UserError
from tests.datasets import tiny

PAGE = b"<!doctype html><html><body>sign in</body></html>" * 40


class Server:
    """Serves one file in several ways, and notes the ranges asked for."""

    def __init__(self, content: bytes) -> None:
        self.content, self.ranges, self.cut = content, list[str](), len(content) // 3
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def address(self, how: str) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/{how}"

    def answer(self, to: BaseHTTPRequestHandler) -> None:
        how, content, start = to.path[1:], self.content, 0
        wanted = re.match(r"bytes=(\d+)-", to.headers.get("Range", ""))
        if wanted and not how.startswith("no-ranges"):
            start = int(wanted[1])
            self.ranges.append(f"{how} {start}")
        if how == "missing":
            to.send_error(404)
            return
        if how == "page":
            content = PAGE
        if how == "other":
            content = content[:600] + bytes([content[600] ^ 1]) + content[601:]
        if how == "shorter":
            content = content[:-512]
        rest = content[start:]
        if start and not rest:
            to.send_response(416)
            to.send_header("Content-Range", f"bytes */{len(content)}")
            to.send_header("Content-Length", "0")
            to.end_headers()
            return
        to.send_response(206 if start else 200)
        if start:
            to.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if how == "page":
            to.send_header("Content-Type", "text/html; charset=utf-8")
        to.send_header("Content-Length", str(len(rest)))
        to.end_headers()
        to.wfile.write(rest[: self.cut] if how.endswith("cut") else rest)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Server, Path]]:
    path = tiny.write_tar(tmp_path / "a.tar", {f"d/{i}": tiny.jpeg(i, (60, 60)) for i in range(30)})
    server = Server(path.read_bytes())
    yield server, path
    server.server.shutdown()
    server.server.server_close()


def archive(served: tuple[Server, Path], *ways: str) -> Archive:
    return tiny.archive_of(served[1], *(served[0].address(way) for way in ways))


def test_whole_and_right(served: tuple[Server, Path], tmp_path: Path) -> None:
    seen: list[int] = []
    folder = tmp_path / "x"
    folder.mkdir()
    path, digest = download(archive(served, "plain"), folder, seen.append)
    assert path.read_bytes() == served[0].content
    assert digest == archive(served).sha256
    assert seen[-1] == len(served[0].content)
    assert [p.name for p in folder.iterdir()] == ["a.tar"]


def test_a_broken_connection_goes_on_behind_what_came(served: tuple[Server, Path], tmp_path: Path) -> None:
    folder = tmp_path / "x"
    folder.mkdir()
    path, _ = download(archive(served, "cut"), folder)  # every answer ends after a third
    assert path.read_bytes() == served[0].content
    cut = served[0].cut
    assert served[0].ranges == [f"cut {cut}", f"cut {2 * cut}"] + [f"cut {3 * cut}"] * (
        len(served[0].content) > 3 * cut
    )


def test_a_stopped_download_goes_on_in_the_next_call(served: tuple[Server, Path], tmp_path: Path) -> None:
    folder = tmp_path / "x"
    folder.mkdir()
    (folder / "a.tar.part").write_bytes(served[0].content[:1000])
    download(archive(served, "plain"), folder)
    assert served[0].ranges == ["plain 1000"]


def test_a_mirror_without_ranges_sends_all_again(served: tuple[Server, Path], tmp_path: Path) -> None:
    folder = tmp_path / "x"
    folder.mkdir()
    (folder / "a.tar.part").write_bytes(served[0].content[:1000])
    path, _ = download(archive(served, "no-ranges"), folder)
    assert path.read_bytes() == served[0].content


@pytest.mark.timeout(60)
def test_a_mirror_without_ranges_that_always_breaks_off_is_given_up(
    served: tuple[Server, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "x"
    folder.mkdir()
    with pytest.raises(UserError, match=rf"the connection ends after {served[0].cut:,} bytes"):
        download(archive(served, "no-ranges-cut"), folder)
    path, _ = download(archive(served, "plain"), folder)
    assert path.read_bytes() == served[0].content


def test_an_archive_of_unknown_size_that_is_there_whole_is_kept(served: tuple[Server, Path], tmp_path: Path) -> None:
    folder = tmp_path / "x"
    folder.mkdir()
    (folder / "a.tar.part").write_bytes(served[0].content)
    unknown = tiny.archive_of(served[1], served[0].address("plain"), known=False)
    path, _ = download(unknown, folder)
    assert path.read_bytes() == served[0].content
    assert served[0].ranges == [f"plain {len(served[0].content)}"]
    (folder / "a.tar").unlink()
    (folder / "a.tar.part").write_bytes(served[0].content + b"more")  # of another file
    with pytest.raises(UserError, match="the bytes so far are not of its file; they were removed"):
        download(unknown, folder)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("how", ["missing", "page", "other", "shorter"])
def test_a_useless_mirror_is_passed_over(served: tuple[Server, Path], tmp_path: Path, how: str) -> None:
    folder = tmp_path / "x"
    folder.mkdir()
    path, _ = download(archive(served, how, "plain"), folder)
    assert path.read_bytes() == served[0].content


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("missing", "status 404"),
        ("page", "a page in place of the archive"),
        ("other", "another file than the published one"),
        ("shorter", "a file of [0-9,]+ bytes in place of"),
    ],
)
def test_without_a_good_mirror_every_answer_is_said(
    served: tuple[Server, Path], tmp_path: Path, how: str, said: str
) -> None:
    folder = tmp_path / "x"
    folder.mkdir()
    with pytest.raises(UserError, match=said) as caught:
        download(archive(served, how), folder)
    assert "load it by hand" in str(caught.value)
    assert list(folder.iterdir()) == []  # nothing half-written, nothing wrong


def test_nobody_answers(tmp_path: Path, served: tuple[Server, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TRIES", 1)
    with pytest.raises(UserError, match="no answer"):
        download(tiny.archive_of(served[1], "http://127.0.0.1:9/a.tar"), tmp_path / "archives")


def test_a_full_disk_keeps_what_came(
    served: tuple[Server, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "x"
    folder.mkdir()
    monkeypatch.setattr(module, "BLOCK", 1000)
    real = Path.open

    class Full:
        def __init__(self, file: object) -> None:
            self.file, self.count = file, 0

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()  # type: ignore[attr-defined]

        def write(self, block: bytes) -> None:
            self.count += 1
            if self.count > 3:
                raise OSError(28, "No space left on device")
            self.file.write(block)  # type: ignore[attr-defined]

    def full(path: Path, mode: str = "r", *rest: object, **more: object) -> object:
        file = real(path, mode, *rest, **more)  # type: ignore[call-overload]
        return Full(file) if path.suffix == ".part" and mode in ("ab", "wb") else file

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(UserError, match=r"disk .* is full: 3,000 bytes are kept"):
        download(archive(served, "plain"), folder)
    monkeypatch.setattr(Path, "open", real)
    assert (folder / "a.tar.part").stat().st_size == 3000
    path, _ = download(archive(served, "plain"), folder)
    assert path.read_bytes() == served[0].content
