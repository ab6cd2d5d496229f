"""Fixtures that all tests share."""

import os
import signal
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch
from PIL import Image

from yolo9k.signals import STOP_SIGNALS
from yolo9k.wordtree import WordTree

hypothesis.settings.register_profile("no deadline", deadline=None)  # a busy machine is no issue
hypothesis.settings.load_profile("no deadline")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Ctrl-C and a hangup work as in a terminal: a shell and nohup let what they start ignore them."""
    before = {signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler)}
    for number in {*STOP_SIGNALS} - {signal.SIGINT}:
        before[number] = signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say with which seed pytest-randomly ordered the tests: `-q` hides its own line."""
    seed = config.getoption("randomly_seed", default=None)
    if seed is not None:
        terminalreporter.write_line(f"order of the tests: --randomly-seed={seed}")


@pytest.fixture(autouse=True)
def torch_seed() -> None:
    """Torch's random numbers depend neither on the order of the tests nor on the seed of that order."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared() -> Callable[..., Path]:
    """Reference data: `shared("golden", "ap")` is a path below `$YOLO9K_SHARED`; the test skips without it."""
    base = Path(os.environ.get("YOLO9K_SHARED", REPOSITORY.parent / "shared"))

    def find(*parts: str) -> Path:
        path = base.joinpath(*parts)
        if not path.exists():
            if os.environ.get("YOLO9K_REQUIRE_SHARED"):
                pytest.fail(f"reference data {path} are required here and missing")
            pytest.skip(f"reference data {'/'.join(parts)} are not here (set YOLO9K_SHARED)")
        return path

    return find


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing that a test lists or fetches stays on the machine."""
    before = os.environ.get("YOLO9K_CACHE")
    os.environ["YOLO9K_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    os.environ.pop("YOLO9K_CACHE")
    if before is not None:
        os.environ["YOLO9K_CACHE"] = before


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    """A folder with `zoo.txt` (a taxonomy), `boxes.yaml` (hounds and cars: 4 images to train on, 2 to look at),
    `kinds/` (class folders: 3 images of a poodle, 2 of a terrier, 1 of a car), and `joint.yaml` of it all.
    """
    rng = np.random.default_rng(0)

    def draw(name: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (48, 64, 3), np.uint8)).save(path)

    (tmp_path / "zoo.txt").write_text(
        "animal\n  dog (hound)\n    poodle [n1]\n    terrier\n  cat\nvehicle\n  car\n  bus\n"
    )
    for split, count in (("train", 4), ("val", 2)):
        for number in range(count):
            draw(f"boxes/{split}/{number}.png")
            (tmp_path / "boxes" / split / f"{number}.txt").write_text("0 .3 .4 .4 .5\n1 .7 .6 .4 .3\n")
    for kind, count in (("poodle", 3), ("terrier", 2), ("car", 1)):
        for number in range(count):
            draw(f"kinds/{kind}/{number}.png")
    (tmp_path / "boxes.yaml").write_text(
        f"kind: yolo\nroot: {tmp_path / 'boxes'}\nsplits: {{train: [train], val: [val]}}\nlabels: [hound, car]\n"
    )
    (tmp_path / "joint.yaml").write_text(
        f"labels: {{tree: {tmp_path / 'zoo.txt'}}}\nsources:\n- {{dataset: boxes.yaml, use: boxes}}\n"
        "- {dataset: kinds, use: images, weight: 2}\n"
    )
    return tmp_path


@pytest.fixture
def random_tree() -> Callable[[int], WordTree]:
    """Trees that are random in depth and size of their groups, by a seed."""

    def grow(seed: int) -> WordTree:
        rng = np.random.default_rng(seed)
        parents = [-1] * int(rng.integers(2, 5))
        waiting = list(range(len(parents)))
        while waiting and len(parents) < 40:
            parent, children = waiting.pop(int(rng.integers(len(waiting)))), int(rng.integers(0, 5))
            waiting += range(len(parents), len(parents) + children)
            parents += [parent] * children
        ids = tuple(f"n{node}" for node in range(len(parents)))
        return WordTree(ids, ids, tuple(parents))

    return grow


class FileServer(ThreadingHTTPServer):
    """Serves `files` by name, in the way that the first part of the path says; nothing leaves this machine.

    /plain/NAME without ranges, /ranges/NAME with them; /cut/NAME is reset without an answer once; /reset/NAME
    breaks off half way once, /broken/NAME each time, /drip/NAME after each fifth; /half/NAME is a shorter file;
    /endless/NAME tells no length; /held/NAME waits half way for `release`, after `half_sent`; /html, /disguised, /busy
    and /missing do what they say.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), FileHandler)
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str | None]] = []  # path, the wanted range
        self.resets = 1
        self.half_sent, self.release = threading.Event(), threading.Event()

    def handle_error(self, request, client_address) -> None:
        """A client that hangs up is no news."""

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{path}"


class FileHandler(BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.requests.append((self.path, wanted))
        how, _, name = self.path.strip("/").partition("/")
        content = self.server.files.get(name)
        if how == "busy":
            self.send_error(503)
        elif how == "html":
            self.answer(b"<html>log in</html>", "text/html; charset=utf-8")
        elif how == "disguised":
            self.answer(b"<!DOCTYPE html><html></html>")
        elif content is None or how == "missing":
            self.send_error(404)
        elif how == "cut" and self.server.resets:
            self.server.resets -= 1
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
            self.connection.close()
        elif how == "half":
            self.answer(content[: len(content) // 2])
        elif how == "endless":
            self.answer(content, length=None)
        elif how == "broken" or (how == "reset" and self.server.resets):
            self.server.resets -= 1
            self.answer(content[: len(content) // 2], length=len(content))
        elif how == "held" and not self.server.release.is_set():
            self.answer(content[: len(content) // 2], length=len(content))
            self.server.half_sent.set()
            self.server.release.wait(60)
            self.wfile.write(content[len(content) // 2 :])
        elif how == "plain" or (how != "drip" and not wanted):
            self.answer(content)
        else:
            most = len(content) // 5 + 1 if how == "drip" else len(content)
            self.answer_range(content, int((wanted or "bytes=0-").removeprefix("bytes=").removesuffix("-")), most)

    def answer_range(self, content: bytes, start: int, most: int) -> None:
        if start >= len(content):
            self.answer(b"", status=416, span=f"bytes */{len(content)}")
        else:
            span = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.answer(content[start : start + most], length=len(content) - start, status=206, span=span)

    def answer(self, body, kind="application/octet-stream", length=-1, status=200, span=None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if length is not None:
            self.send_header("Content-Length", str(len(body) if length < 0 else length))
        if span:
            self.send_header("Content-Range", span)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args) -> None:
        pass


@pytest.fixture
def file_server() -> Iterator[FileServer]:
    """A running `FileServer` without files."""
    with FileServer() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()
