"""Fetching files from the net: resumed after a break, from several addresses, checked before use."""

import hashlib
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from yolo9k.errors import EnvironmentFault, WeightsError
from yolo9k.progress import Track, silent

CHUNK = 1 << 20  # bytes; progress counts MiB
TIMEOUT_S = 30
ATTEMPTS = 4  # per address; each goes on where the last one broke off
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
HTML_STARTS = (b"<!doctype html", b"<html")


@dataclass(frozen=True)
class Remote:
    """A file on the net: its addresses (mirrors of equal content), and what is known of it.

    `size` is in bytes; `hashes` maps names of `hashlib` to hexadecimal digests.
    """

    urls: tuple[str, ...]
    size: int | None = None
    hashes: Mapping[str, str] = field(default_factory=dict)


class _Broken(Exception):
    """One address failed; `again` says whether it may do better the next time."""

    def __init__(self, reason: str, again: bool = False) -> None:
        super().__init__(reason)
        self.again = again


def fetch(remote: Remote, target: Path, track: Track = silent, wait_s: float = 1.0) -> Path:
    """Bring a file to `target`, unless it is there already; gives `target` back.

    The data gather in `target` + `.part`, which the next call goes on with, and are renamed when size and
    hashes are right. Raises `WeightsError` with the addresses where all of them fail, `EnvironmentFault`
    where the file cannot be written.
    """
    if target.is_file():
        _check_present(remote, target)
        return target
    part = target.with_name(target.name + ".part")
    reasons = []
    for url in remote.urls:
        try:
            _fetch_patiently(url, part, remote, track, wait_s)
        except _Broken as broken:
            reasons.append(f"{url} ({broken})")
            continue
        part.replace(target)
        return target
    raise WeightsError(
        f"{target.name} could not be fetched from {', nor from '.join(reasons)}; get it by hand and put it at {target}"
    )


def _check_present(remote: Remote, target: Path) -> None:
    size = target.stat().st_size
    if remote.size is not None and size != remote.size:
        raise WeightsError(f"{target}: {size} bytes, but {remote.size} are right; remove it to fetch it again")


def _fetch_patiently(url: str, part: Path, remote: Remote, track: Track, wait_s: float) -> None:
    """Try one address until the file is whole; a wrong one is removed, for it cannot be gone on with."""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(wait_s * 2 ** (attempt - 1))
        try:
            _go_on(url, part, remote.size, track)
            break
        except _Broken as broken:
            if not broken.again or attempt == ATTEMPTS - 1:
                raise
    try:
        _check_content(part, remote)
    except _Broken:
        part.unlink(missing_ok=True)
        raise


def _go_on(url: str, part: Path, size: int | None, track: Track) -> None:
    """Append what is missing to `part`; starts anew where the server knows no ranges."""
    _make_folder(part.parent)
    have = part.stat().st_size if part.exists() else 0
    if have and have == size:
        return
    request = urllib.request.Request(url, headers={"User-Agent": "yolo9k", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            _receive(response, part, have, size, track)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing lies behind what is here: the size and hashes decide
            if size is not None or error.headers.get("Content-Range") != f"bytes */{have}":
                part.unlink()
                raise _Broken("what was fetched before does not fit", again=True) from error
            return
        raise _Broken(f"HTTP {error.code} {error.reason}", again=error.code in TRANSIENT) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _Broken(f"{getattr(error, 'reason', None) or error}", again=True) from error


def _receive(response: http.client.HTTPResponse, part: Path, have: int, size: int | None, track: Track) -> None:
    if response.headers.get_content_type() == "text/html":
        raise _Broken("a web page came instead of the file")
    if response.status != 206:
        have = 0
    elif not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
        raise _Broken(f"another range than the one asked for: {response.headers.get('Content-Range')}")
    length = response.headers.get("Content-Length")
    total = size if size is not None else have + int(length) if length else None
    chunks = None if total is None else -(-(total - have) // CHUNK)
    name = f"Fetching {part.stem} [MiB]"
    for chunk in track(_chunks(response), name, chunks):
        _write(part, chunk, have)
        have += len(chunk)
    if total is not None and have < total:
        raise _Broken(f"broke off after {have} of {total} bytes", again=True)


def _chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    while chunk := response.read(CHUNK):
        yield chunk


def _write(part: Path, chunk: bytes, place: int) -> None:
    try:
        with part.open("r+b" if place else "wb") as file:
            file.seek(place)
            file.write(chunk)
    except OSError as error:
        raise EnvironmentFault(f"{part}: cannot be written: {error.strerror or error}") from error


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentFault(f"{folder}: cannot be made: {error.strerror or error}") from error


def _check_content(part: Path, remote: Remote) -> None:
    if not part.exists():
        raise _Broken("nothing came")
    size = part.stat().st_size
    with part.open("rb") as file:
        start = file.read(256).lstrip().lower()
    if start.startswith(HTML_STARTS):
        raise _Broken("a web page came instead of the file")
    if remote.size is not None and size != remote.size:
        raise _Broken(f"{size} bytes came, {remote.size} are right")
    for name, expected in remote.hashes.items():
        found = file_hash(part, name)
        if found != expected:
            raise _Broken(f"its {name} is {found}, {expected} is right")


def file_hash(path: Path, name: str) -> str:
    """The digest of a file, in hexadecimal; `name` is one of `hashlib`."""
    digest = hashlib.new(name, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
