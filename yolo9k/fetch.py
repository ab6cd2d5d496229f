"""Download files: resumable, from several mirrors, verified before use."""

import hashlib
import http.client
import logging
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import platformdirs
from filelock import FileLock, Timeout

from yolo9k.errors import MachineError, WeightsError
from yolo9k.io import check_regular, writing
from yolo9k.progress import Track, silent

CHUNK = 1 << 20  # bytes; progress counts MiB
TIMEOUT_S = 20  # without data
ATTEMPTS = 4  # per address without new data; each resumes where the last one stopped
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
HTML_STARTS = (b"<!doctype html", b"<html")

log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Return the cache folder: `$YOLO9K_CACHE`, else the platform's cache folder."""
    configured = os.environ.get("YOLO9K_CACHE")
    return Path(configured).expanduser() if configured else Path(platformdirs.user_cache_dir("yolo9k"))


@dataclass(frozen=True)
class Remote:
    """A remote file: its URLs (mirrors of equal content), sizes and hashes.

    `sizes`: allowed lengths in bytes, empty if unknown; `hashes`: hexadecimal digests, or their first digits, by the
    algorithm's name in `hashlib`.
    """

    urls: tuple[str, ...]
    sizes: tuple[int, ...] = ()
    hashes: Mapping[str, str] = field(default_factory=dict)


class _UrlFailed(Exception):
    """A URL failed; `again`: whether a retry may help."""

    def __init__(self, reason: str, again: bool = False) -> None:
        super().__init__(reason)
        self.again = again


class _NoResponse(_UrlFailed):
    """No connection, or no response: a retry may help only if the URL has sent data before."""


def fetch(remote: Remote, target: Path, track: Track = silent, wait_s: float = 1.0) -> Path:
    """Download a file to `target`, unless it exists (then only its size is checked); return `target`.

    Data are collected in `target` + `.part`, which the next call resumes, and renamed once size and hashes are right.
    If another process downloads the same file, this one waits and takes its result. Raises `WeightsError` with all URLs
    if every one fails, `MachineError` if the file cannot be written.
    """
    if not target.is_file():
        with sole_download(target):
            if not target.is_file():
                return _fetch_from_any(remote, target, track, wait_s)
    _check_present(remote, target)
    return target


@contextmanager
def sole_download(target: Path) -> Iterator[None]:
    """Let one process at a time run the block, which creates `target`; another waits, and says so once.

    The system releases the lock of a process that ends, however it ends. Raises `MachineError` if the folder of
    `target` cannot be written.
    """
    _make_folder(target.parent)
    path = target.with_name(f".{target.name}.lock")
    lock = FileLock(path)
    with writing(path):
        try:
            lock.acquire(blocking=False)
        except Timeout:
            log.info("waiting for another process that downloads %s", target.name)
            lock.acquire()
    try:
        yield
    finally:
        with suppress(OSError):  # while it is held: who waits sees that this file is gone, and creates another
            path.unlink()
        lock.release()


def _fetch_from_any(remote: Remote, target: Path, track: Track, wait_s: float) -> Path:
    """Download a file from the first URL that works."""
    part = target.with_name(target.name + ".part")
    reasons = []
    for url in remote.urls:
        try:
            _fetch_checked(url, part, remote, track, wait_s)
        except _UrlFailed as broken:
            reasons.append(f"{url} ({broken})")
            continue
        with writing(target):
            part.replace(target)
        return target
    raise WeightsError(
        f"{target.name} could not be downloaded from {', nor from '.join(reasons)}; download it by hand to {target}"
    )


def flaw(path: Path, remote: Remote, hashed: bool = True) -> str | None:
    """Return what is wrong with a local file (an HTML page, a wrong size or hash); `None` if it is right.

    `hashed=False` skips the hashes, which is much faster for a large file.
    """
    try:
        check_regular(path, lambda _, problem: WeightsError(problem))
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(256).lstrip().lower()
        if start.startswith(HTML_STARTS):
            return "an HTML page instead of the file"
        if remote.sizes and size not in remote.sizes:
            return f"{size} bytes; must be {_allowed_sizes(remote)}"
        for name, expected in remote.hashes.items() if hashed else ():
            found = file_hash(path, name)
            if not found.startswith(expected):
                return f"its {name} is {found}; must be {expected}"
    except WeightsError as error:
        return str(error)
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    return None


def _allowed_sizes(remote: Remote) -> str:
    return " or ".join(map(str, remote.sizes))


def _check_present(remote: Remote, target: Path) -> None:
    if wrong := flaw(target, remote, hashed=False):
        raise WeightsError(f"{target}: {wrong}; remove it to download it again")


def _fetch_checked(url: str, part: Path, remote: Remote, track: Track, wait_s: float) -> None:
    """Download the whole file from one URL; a wrong file is removed, since it cannot be resumed."""
    inherited = part.exists()
    _fetch_with_retries(url, part, remote, track, wait_s)
    wrong = flaw(part, remote)
    if wrong and inherited:  # the data of an earlier call or another URL may be the cause
        part.unlink()
        _fetch_with_retries(url, part, remote, track, wait_s)
        wrong = flaw(part, remote)
    if wrong:
        part.unlink()
        raise _UrlFailed(wrong)


def _fetch_with_retries(url: str, part: Path, remote: Remote, track: Track, wait_s: float) -> None:
    has_responded, failures = False, 0
    while True:
        have = _length(part)
        try:
            _resume(url, part, remote, track)
            break
        except _UrlFailed as broken:
            grew = _length(part) > have
            has_responded, failures = has_responded or grew, 0 if grew else failures + 1
            again = broken.again or (has_responded and isinstance(broken, _NoResponse))
            if failures == ATTEMPTS or not again:
                raise
        time.sleep(wait_s * 2 ** (failures - 1))
    if not part.exists():
        raise _UrlFailed("no data")


def _resume(url: str, part: Path, remote: Remote, track: Track) -> None:
    """Append the missing bytes to `part`; start anew if the server does not support ranges."""
    _make_folder(part.parent)
    have = _length(part)
    if have and have == max(remote.sizes, default=None):
        return
    try:
        with urllib.request.urlopen(_request(url, have), timeout=TIMEOUT_S) as response:
            _receive(response, part, have, remote, track)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise _UrlFailed(f"HTTP {error.code} {error.reason}", again=error.code in TRANSIENT) from error
        # no more bytes: if this is the whole file, size and hashes decide
        if have not in remote.sizes and error.headers.get("Content-Range") != f"bytes */{have}":
            part.unlink()
            raise _UrlFailed("the partial file does not match the remote file", again=True) from error
    except (urllib.error.URLError, TimeoutError) as error:
        cut = isinstance(getattr(error, "reason", None), ConnectionResetError)
        raise _NoResponse(_reason(error), again=cut) from error
    except (OSError, http.client.HTTPException) as error:
        raise _UrlFailed(_reason(error), again=not isinstance(error, http.client.InvalidURL)) from error
    except ValueError as error:  # urllib's error for an invalid URL
        raise _UrlFailed(_reason(error)) from error


def _request(url: str, have: int) -> urllib.request.Request:
    request = urllib.request.Request(url, headers={"User-Agent": "yolo9k", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    return request


def _length(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    return getattr(reason, "strerror", None) or str(reason) or type(reason).__name__


def _receive(response: http.client.HTTPResponse, part: Path, have: int, remote: Remote, track: Track) -> None:
    if response.headers.get_content_type() == "text/html":
        raise _UrlFailed("an HTML page instead of the file")
    if response.status != 206:
        have = 0
    elif not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
        raise _UrlFailed(f"the server sent another range: {response.headers.get('Content-Range')}")
    length = response.headers.get("Content-Length")
    offered = have + int(length) if length else None
    max_size = max(remote.sizes, default=None)
    if max_size and offered and offered > max_size:
        raise _UrlFailed(f"the server offers {offered} bytes; must be {_allowed_sizes(remote)}")
    total = offered or max_size
    title = f"Downloading {part.stem} [MiB]"
    for chunk in track(_chunks(response), title, None if total is None else -(-(total - have) // CHUNK)):
        if max_size and have + len(chunk) > max_size:  # the server sent no length, or a wrong one
            part.unlink(missing_ok=True)
            raise _UrlFailed(f"more than {max_size} bytes; must be {_allowed_sizes(remote)}")
        with writing(part), part.open("r+b" if have else "wb") as file:
            file.seek(have)
            file.write(chunk)
        have += len(chunk)
    expected = offered or min(remote.sizes, default=0)
    if have < expected:
        raise _UrlFailed(f"connection lost after {have} of {expected} bytes", again=True)


def _chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    while chunk := response.read(CHUNK):
        yield chunk


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MachineError(f"{folder}: cannot be created: {error.strerror or error}") from error


def file_hash(path: Path, name: str) -> str:
    """Return the hexadecimal digest of a file; `name`: an algorithm of `hashlib`."""
    digest = hashlib.new(name, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
