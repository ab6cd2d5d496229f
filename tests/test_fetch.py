import hashlib
import os
import socket
import subprocess
import sys
import time
import urllib.error
from pathlib import Path

import pytest

from yolo9k import fetch as fetching
from yolo9k.errors import MachineError, WeightsError
from yolo9k.fetch import ATTEMPTS, Remote, fetch, flaw

CONTENT = bytes(range(256)) * 12_000  # about 3 MB: several chunks
MD5 = hashlib.md5(CONTENT).hexdigest()
SIZES = [(), (len(CONTENT),), (len(CONTENT), len(CONTENT) + 4), (len(CONTENT) - 4, len(CONTENT))]


@pytest.fixture
def server(file_server):
    file_server.files[""] = CONTENT
    return file_server


def get(server, folder: Path, *paths: str, sizes=(), hashes=None) -> Path:
    remote = Remote(tuple(server.url(path) for path in paths), sizes, hashes or {})
    return fetch(remote, folder / "new" / "file.bin", wait_s=0)


def fail_once(monkeypatch, reason: OSError, call: int = 1) -> None:
    """One of the calls to open an address fails to connect."""
    really, calls = fetching.urllib.request.urlopen, []

    def urlopen(*args, **options):
        calls.append(args)
        if len(calls) == call:
            raise urllib.error.URLError(reason)
        return really(*args, **options)

    monkeypatch.setattr(fetching.urllib.request, "urlopen", urlopen)


def part(folder: Path, content: bytes) -> Path:
    (folder / "new").mkdir()
    path = folder / "new" / "file.bin.part"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("path", ["plain", "ranges"])
def test_a_file_comes_whole(server, tmp_path, path):
    got = get(server, tmp_path, path, sizes=(len(CONTENT),), hashes={"md5": MD5})
    assert got.read_bytes() == CONTENT
    assert [p.name for p in got.parent.iterdir()] == ["file.bin"]  # the part is gone


def test_what_is_there_is_not_fetched_again(server, tmp_path):
    get(server, tmp_path, "ranges")
    get(server, tmp_path, "ranges", sizes=(len(CONTENT),))
    assert len(server.requests) == 1
    with pytest.raises(WeightsError, match=f"{len(CONTENT)} bytes; must be 7 or 11; remove it"):
        get(server, tmp_path, "ranges", sizes=(7, 11))


@pytest.mark.parametrize("sizes", SIZES)
def test_a_part_is_gone_on_with(server, tmp_path, sizes):
    part(tmp_path, CONTENT[:1_000_000])
    assert get(server, tmp_path, "ranges", sizes=sizes).read_bytes() == CONTENT
    assert server.requests == [("/ranges", "bytes=1000000-")]


def test_a_part_is_replaced_where_the_server_knows_no_ranges(server, tmp_path):
    part(tmp_path, b"x" * 1_000_000)
    assert get(server, tmp_path, "plain").read_bytes() == CONTENT


@pytest.mark.parametrize("sizes", SIZES)
def test_a_part_that_is_whole_is_taken(server, tmp_path, sizes):
    part(tmp_path, CONTENT)
    assert get(server, tmp_path, "ranges", sizes=sizes, hashes={"md5": MD5}).read_bytes() == CONTENT


def test_a_part_that_is_too_long_is_thrown_away(server, tmp_path):
    part(tmp_path, CONTENT + b"more")
    assert get(server, tmp_path, "ranges").read_bytes() == CONTENT


def test_a_broken_connection_is_taken_up_again(server, tmp_path):
    assert get(server, tmp_path, "reset", hashes={"md5": MD5}).read_bytes() == CONTENT
    assert server.requests == [("/reset", None), ("/reset", f"bytes={len(CONTENT) // 2}-")]


@pytest.mark.parametrize("path", ["html", "disguised"])
def test_a_web_page_is_refused(server, tmp_path, path):
    with pytest.raises(WeightsError, match=f"{path} \\(an HTML page instead of the file\\)"):
        get(server, tmp_path, path)
    assert not list((tmp_path / "new").iterdir())


def test_a_file_that_is_too_short_is_not_asked_for_again(server, tmp_path):
    with pytest.raises(WeightsError, match=f"{len(CONTENT) // 2} bytes; must be {len(CONTENT)}"):
        get(server, tmp_path, "half", sizes=(len(CONTENT),))
    assert len(server.requests) == 1
    assert not list((tmp_path / "new").iterdir())


@pytest.mark.parametrize(("path", "says"), [("plain", "the server offers"), ("endless", "more than 1000000 bytes")])
def test_a_file_that_is_too_long_is_not_fetched_to_its_end(server, tmp_path, path, says):
    with pytest.raises(WeightsError, match=says):
        get(server, tmp_path, path, sizes=(1_000_000,))
    assert not list((tmp_path / "new").iterdir())


@pytest.mark.parametrize("sizes", SIZES)
def test_a_length_that_is_not_told(server, tmp_path, sizes):
    assert get(server, tmp_path, "endless", sizes=sizes).read_bytes() == CONTENT


@pytest.mark.parametrize("path", ["ranges", "plain"])
def test_a_part_of_something_else_is_thrown_away(server, tmp_path, path):
    part(tmp_path, b"x" * 1_000_000)
    assert get(server, tmp_path, path, hashes={"md5": MD5}).read_bytes() == CONTENT


def test_a_part_longer_than_the_file_is_thrown_away_unasked(server, tmp_path):
    part(tmp_path, CONTENT + b"more")
    assert get(server, tmp_path, "ranges", sizes=(len(CONTENT),)).read_bytes() == CONTENT


def test_a_wrong_hash_is_refused_and_leaves_nothing(server, tmp_path):
    with pytest.raises(WeightsError, match=f"its md5 is {MD5}; must be 00.*by hand to .*file.bin") as caught:
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


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://127.0.0.1:9/x", "Connection refused"),
        ("http://nobody.invalid/x", "Name or service not known"),
        ("no address", "unknown url type"),
        ("http://127.0.0.1:port/x", "nonnumeric port"),
    ],
)
def test_who_cannot_be_reached_is_not_asked_again(tmp_path, monkeypatch, url, says):
    def unknown(*_args, **_options):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    if "invalid" in url:  # so that no name server is asked
        monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setattr(time, "sleep", lambda _seconds: pytest.fail("waited"))
    with pytest.raises(WeightsError, match=rf"file.bin could not be downloaded from {url} \(.*{says}"):
        fetch(Remote((url,)), tmp_path / "file.bin")


def test_a_server_that_says_nothing_is_not_asked_again(tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "TIMEOUT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as deaf, pytest.raises(WeightsError, match=r"x \(timed out\)"):
        fetch(Remote((f"http://127.0.0.1:{deaf.getsockname()[1]}/x",)), tmp_path / "file.bin", wait_s=60)


def test_a_connection_that_is_reset_before_an_answer_is_taken_up_again(server, tmp_path):
    assert get(server, tmp_path, "cut").read_bytes() == CONTENT
    assert len(server.requests) == 2


def test_a_connection_that_is_reset_while_it_is_made_is_taken_up_again(server, tmp_path, monkeypatch):
    fail_once(monkeypatch, ConnectionResetError(104, "Connection reset by peer"))
    assert get(server, tmp_path, "plain").read_bytes() == CONTENT


def test_a_network_that_goes_away_meanwhile_is_waited_for(server, tmp_path, monkeypatch):
    fail_once(monkeypatch, OSError(101, "Network is unreachable"), call=2)
    assert get(server, tmp_path, "reset", hashes={"md5": MD5}).read_bytes() == CONTENT


def test_a_connection_that_breaks_often_but_brings_something_each_time(server, tmp_path):
    assert get(server, tmp_path, "drip", hashes={"md5": MD5}).read_bytes() == CONTENT
    assert len(server.requests) == 5 > ATTEMPTS


def test_a_connection_that_breaks_at_the_same_place_is_given_up(server, tmp_path):
    with pytest.raises(WeightsError, match=f"connection lost after {len(CONTENT) // 2} of {len(CONTENT)} bytes"):
        get(server, tmp_path, "broken")
    assert len(server.requests) == 1 + ATTEMPTS


def test_a_place_that_cannot_be_written(server, tmp_path):
    (tmp_path / "new").write_text("a file where the folder should be")
    with pytest.raises(MachineError, match="new: cannot be created"):
        get(server, tmp_path, "plain")


def test_a_full_disk(server, tmp_path, monkeypatch):
    def full(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fetching.Path, "open", full)
    with pytest.raises(MachineError, match=r"file.bin.part: cannot be written: No space left on device"):
        get(server, tmp_path, "plain")


def test_a_folder_in_the_place_of_the_file(server, tmp_path):
    (tmp_path / "new" / "file.bin").mkdir(parents=True)
    with pytest.raises(MachineError, match=r"file.bin: cannot be written"):
        get(server, tmp_path, "plain")


def test_progress_counts_mib(server, tmp_path):
    seen = []

    def track(items, description, total=None):
        seen.append((description, total))
        return items

    fetch(Remote((server.url("plain"),)), tmp_path / "file.bin", track)
    assert seen == [("Downloading file.bin [MiB]", 3)]


def test_a_hash_may_be_known_by_its_beginning(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    assert flaw(path, Remote((), hashes={"sha256": "ba7816bf"})) is None  # FIPS 180: ba7816bf 8f01cfea ...
    assert "must be a7816bf8" in flaw(path, Remote((), hashes={"sha256": "a7816bf8"}))


def test_a_pipe_in_the_place_of_a_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert flaw(tmp_path / "pipe", Remote(())) == "is a named pipe; a file is needed"


DOWNLOAD = """
import logging, sys
from pathlib import Path
from yolo9k.fetch import Remote, fetch
logging.basicConfig(level=logging.INFO, format="%(message)s")
fetch(Remote((sys.argv[1],), hashes={"md5": sys.argv[2]}), Path(sys.argv[3]), wait_s=0)
"""


def start_download(server, target: Path) -> subprocess.Popen:
    command = [sys.executable, "-c", DOWNLOAD, server.url("held"), MD5, str(target)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("killed", [False, True])
def test_two_processes_download_once(server, tmp_path, killed):
    """The second one waits, and then takes the file, or goes on with the part if the first one was killed."""
    target = tmp_path / "file.bin"
    first = start_download(server, target)
    assert server.half_sent.wait(60)
    second = start_download(server, target)
    assert second.stderr.readline() == "waiting for another process that downloads file.bin\n"
    if killed:
        first.kill()
    server.release.set()
    assert (first.wait(60), first.stderr.read()) == (-9 if killed else 0, "")
    assert (second.wait(60), second.stderr.read()) == (0, "")
    for process in (first, second):
        process.stderr.close()
    assert target.read_bytes() == CONTENT
    assert len(server.requests) == (2 if killed else 1)
    assert [path.name for path in tmp_path.iterdir()] == ["file.bin"]
