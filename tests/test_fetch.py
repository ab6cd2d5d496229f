import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from yolo9k import fetch as fetching
from yolo9k.errors import EnvironmentFault, WeightsError
from yolo9k.fetch import ATTEMPTS, Remote, fetch

CONTENT = bytes(range(256)) * 12_000  # about 3 MB: several chunks
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves CONTENT: /plain without ranges, /ranges with them, /reset breaks off once, /html is a page."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[tuple[str, str | None]] = []
        self.resets = 1

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{path}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.requests.append((self.path, wanted))
        if self.path == "/missing":
            self.send_error(404)
        elif self.path == "/busy":
            self.send_error(503)
        elif self.path == "/html":
            self.answer(b"<html>log in</html>", "text/html; charset=utf-8")
        elif self.path == "/disguised":
            self.answer(b"<!DOCTYPE html><html></html>", "application/octet-stream")
        elif self.path == "/reset" and self.server.resets:
            self.server.resets -= 1
            self.answer(CONTENT[: len(CONTENT) // 2], length=len(CONTENT))
            self.close_connection = True
        elif self.path == "/plain" or not wanted:
            self.answer(CONTENT)
        else:
            self.answer_range(int(wanted.removeprefix("bytes=").removesuffix("-")))

    def answer_range(self, start: int) -> None:
        if start >= len(CONTENT):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(CONTENT)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        span = f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"
        self.answer(CONTENT[start:], status=206, span=span)

    def answer(self, body, kind="application/octet-stream", length=None, status=200, span=None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        if span:
            self.send_header("Content-Range", span)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def get(server: Server, folder: Path, *paths: str, size=None, hashes=None) -> Path:
    remote = Remote(tuple(server.url(path) for path in paths), size, hashes or {})
    return fetch(remote, folder / "new" / "file.bin", wait_s=0)


def part(folder: Path, content: bytes) -> Path:
    (folder / "new").mkdir()
    path = folder / "new" / "file.bin.part"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("path", ["plain", "ranges"])
def test_a_file_comes_whole(server, tmp_path, path):
    got = get(server, tmp_path, path, size=len(CONTENT), hashes={"md5": MD5})
    assert got.read_bytes() == CONTENT
    assert [p.name for p in got.parent.iterdir()] == ["file.bin"]  # the part is gone


def test_what_is_there_is_not_fetched_again(server, tmp_path):
    get(server, tmp_path, "ranges")
    get(server, tmp_path, "ranges", size=len(CONTENT))
    assert len(server.requests) == 1
    with pytest.raises(WeightsError, match=f"{len(CONTENT)} bytes, but 7 are right; remove it"):
        get(server, tmp_path, "ranges", size=7)


@pytest.mark.parametrize("size", [None, len(CONTENT)])
def test_a_part_is_gone_on_with(server, tmp_path, size):
    part(tmp_path, CONTENT[:1_000_000])
    assert get(server, tmp_path, "ranges", size=size).read_bytes() == CONTENT
    assert server.requests == [("/ranges", "bytes=1000000-")]


def test_a_part_is_replaced_where_the_server_knows_no_ranges(server, tmp_path):
    part(tmp_path, b"x" * 1_000_000)
    assert get(server, tmp_path, "plain").read_bytes() == CONTENT


@pytest.mark.parametrize("size", [None, len(CONTENT)])
def test_a_part_that_is_whole_is_taken(server, tmp_path, size):
    part(tmp_path, CONTENT)
    assert get(server, tmp_path, "ranges", size=size, hashes={"md5": MD5}).read_bytes() == CONTENT


def test_a_part_that_is_too_long_is_thrown_away(server, tmp_path):
    part(tmp_path, CONTENT + b"more")
    assert get(server, tmp_path, "ranges").read_bytes() == CONTENT


def test_a_broken_connection_is_taken_up_again(server, tmp_path):
    assert get(server, tmp_path, "reset", hashes={"md5": MD5}).read_bytes() == CONTENT
    assert server.requests == [("/reset", None), ("/reset", f"bytes={len(CONTENT) // 2}-")]


@pytest.mark.parametrize("path", ["html", "disguised"])
def test_a_web_page_is_refused(server, tmp_path, path):
    with pytest.raises(WeightsError, match=f"{path} \\(a web page came instead of the file\\)"):
        get(server, tmp_path, path)
    assert not list((tmp_path / "new").iterdir())


def test_a_wrong_hash_is_refused_and_leaves_nothing(server, tmp_path):
    with pytest.raises(WeightsError, match=f"its md5 is {MD5}, 00 is right.*put it at .*file.bin") as caught:
        get(server, tmp_path, "ranges", hashes={"md5": "00"})
    assert caught.value.exit_code == 4
    assert not list((tmp_path / "new").iterdir())


def test_the_next_address_is_tried(server, tmp_path):
    assert get(server, tmp_path, "missing", "plain").read_bytes() == CONTENT
    assert [path for path, _ in server.requests] == ["/missing", "/plain"]  # a 404 is not asked again


def test_a_busy_server_is_asked_again(server, tmp_path):
    with pytest.raises(WeightsError, match="HTTP 503"):
        get(server, tmp_path, "busy")
    assert len(server.requests) == ATTEMPTS


def test_nobody_answers(tmp_path):
    with pytest.raises(WeightsError, match=r"file.bin could not be fetched from http://127.0.0.1:9/x \("):
        fetch(Remote(("http://127.0.0.1:9/x",)), tmp_path / "file.bin", wait_s=0)


def test_a_place_that_cannot_be_written(server, tmp_path):
    (tmp_path / "new").write_text("a file where the folder should be")
    with pytest.raises(EnvironmentFault, match="new: cannot be made"):
        get(server, tmp_path, "plain")


def test_a_full_disk(server, tmp_path, monkeypatch):
    def full(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fetching.Path, "open", full)
    with pytest.raises(EnvironmentFault, match=r"file.bin.part: cannot be written: No space left on device"):
        get(server, tmp_path, "plain")


def test_progress_counts_mib(server, tmp_path):
    seen = []

    def track(items, description, total=None):
        seen.append((description, total))
        return items

    fetch(Remote((server.url("plain"),)), tmp_path / "file.bin", track)
    assert seen == [("Fetching file.bin [MiB]", 3)]
