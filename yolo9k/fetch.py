"""Fetching files from the net: resumed after a break, from several addresses, checked before use."""

import hashlib
import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import platformdirs

from yolo9k.errors import MachineError, WeightsError
from yolo9k.progress import Track, silent

CHUNK = 1 << 20  # bytes; progress counts MiB
TIMEOUT_S = 20  # of silence
ATTEMPTS = 4  # in a row that bring nothing, per address; each goes on where the last one broke off
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
HTML_STARTS = (b"<!doctype html", b"<html")


def cache_folder() -> Path:
    """The folder of all that can be had again: `$YOLO9K_CACHE`, else where the platform keeps such files."""
    wanted = os.environ.get("YOLO9K_CACHE")
    return Path(wanted).expanduser() if wanted else Path(platformdirs.user_cache_dir("yolo9k"))


@dataclass(frozen=True)
class Remote:
    """A file on the net: its addresses (mirrors of equal content), and what is known of it.

    `sizes` are the lengths in bytes that are right, none where no length is known; `hashes` maps names of
    `hashlib` to hexadecimal digests, or to what those begin with.
    """

    urls: tuple[str, ...]
    sizes: tuple[int, ...] = ()
    hashes: Mapping[str, str] = field(default_factory=dict)


class _Broken(Exception):
    """One address failed; `again` says whether it may do better the next time."""

    def __init__(self, reason: str, again: bool = False) -> None:
        super().__init__(reason)
        self.again = again


class _Unreached(_Broken):
    """No connection was made, or nothing was said: worth another try only where something came before."""


def fetch(remote: Remote, target: Path, track: Track = silent, wait_s: float = 1.0) -> Path:
    """Bring a file to `target`, unless it is there already (then only its size is checked); gives `target` back.

    The data gather in `target` + `.part`, which the next call goes on with, and are renamed when size and
    hashes are right. Raises `WeightsError` with the addresses where all of them fail, `MachineError`
    where the file cannot be written.
    """
    if target.is_file():
        _check_present(remote, target)
        return target
    part = target.with_name(target.name + ".part")
    reasons = []
    for url in remote.urls:
        try:
            _fetch_checked(url, part, remote, track, wait_s)
        except _Broken as broken:
            reasons.append(f"{url} ({broken})")
            continue
        _rename(part, target)
        return target
    raise WeightsError(
        f"{target.name} could not be fetched from {', nor from '.join(reasons)}; get it by hand and put it at {target}"
    )


def flaw(path: Path, remote: Remote, hashed: bool = True) -> str | None:
    """What is wrong with a file that is here: a web page in its place, its size or a hash; none if it is right.

    Without `hashed` the hashes are left out, which for a large file is much faster.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(256).lstrip().lower()
        if start.startswith(HTML_STARTS):
            return "a web page came instead of the file"
        if remote.sizes and size not in remote.sizes:
            return f"{size} bytes, but {_right_sizes(remote)} are right"
        for name, expected in remote.hashes.items() if hashed else ():
            found = file_hash(path, name)
            if not found.startswith(expected):
                return f"its {name} is {found}, {expected} is right"
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    return None


def _right_sizes(remote: Remote) -> str:
    return " or ".join(map(str, remote.sizes))


def _check_present(remote: Remote, target: Path) -> None:
    if wrong := flaw(target, remote, hashed=False):
        raise WeightsError(f"{target}: {wrong}; remove it to fetch it again")


def _fetch_checked(url: str, part: Path, remote: Remote, track: Track, wait_s: float) -> None:
    """Get the whole file from one address; a wrong one is removed, for it cannot be gone on with."""
    inherited = part.exists()
    _fetch_patiently(url, part, remote, track, wait_s)
    wrong = flaw(part, remote)
    if wrong and inherited:  # what an earlier call or another address left may be to blame
        part.unlink()
        _fetch_patiently(url, part, remote, track, wait_s)
        wrong = flaw(part, remote)
    if wrong:
        part.unlink()
        raise _Broken(wrong)


def _fetch_patiently(url: str, part: Path, remote: Remote, track: Track, wait_s: float) -> None:
    answered, fruitless = False, 0
    while True:
        have = _length(part)
        try:
            _go_on(url, part, remote, track)
            break
        except _Broken as broken:
            grew = _length(part) > have
            answered, fruitless = answered or grew, 0 if grew else fruitless + 1
            again = broken.again or (answered and isinstance(broken, _Unreached))
            if fruitless == ATTEMPTS or not again:
                raise
        time.sleep(wait_s * 2 ** (fruitless - 1))
    if not part.exists():
        raise _Broken("nothing came")


def _go_on(url: str, part: Path, remote: Remote, track: Track) -> None:
    """Append what is missing to `part`; starts anew where the server knows no ranges."""
    _make_folder(part.parent)
    have = _length(part)
    if have and have == max(remote.sizes, default=None):
        return
    try:
        with urllib.request.urlopen(_request(url, have), timeout=TIMEOUT_S) as response:
            _receive(response, part, have, remote, track)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise _Broken(f"HTTP {error.code} {error.reason}", again=error.code in TRANSIENT) from error
        # nothing lies behind what is here: size and hashes decide, if it is the whole file
        if have not in remote.sizes and error.headers.get("Content-Range") != f"bytes */{have}":
            part.unlink()
            raise _Broken("what was fetched before does not fit", again=True) from error
    except (urllib.error.URLError, TimeoutError) as error:
        cut = isinstance(getattr(error, "reason", None), ConnectionResetError)
        raise _Unreached(_words(error), again=cut) from error
    except (OSError, http.client.HTTPException) as error:
        raise _Broken(_words(error), again=not isinstance(error, http.client.InvalidURL)) from error
    except ValueError as error:  # what urllib says of a text that is no address
        raise _Broken(_words(error)) from error


def _request(url: str, have: int) -> urllib.request.Request:
    request = urllib.request.Request(url, headers={"User-Agent": "yolo9k", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    return request


def _length(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _words(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    return getattr(reason, "strerror", None) or str(reason) or type(reason).__name__


def _receive(response: http.client.HTTPResponse, part: Path, have: int, remote: Remote, track: Track) -> None:
    if response.headers.get_content_type() == "text/html":
        raise _Broken("a web page came instead of the file")
    if response.status != 206:
        have = 0
    elif not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
        raise _Broken(f"another range than the one asked for: {response.headers.get('Content-Range')}")
    length = response.headers.get("Content-Length")
    offered = have + int(length) if length else None
    most = max(remote.sizes, default=None)
    if most and offered and offered > most:
        raise _Broken(f"{offered} bytes are offered, but {_right_sizes(remote)} are right")
    total = offered or most
    name = f"Fetching {part.stem} [MiB]"
    for chunk in track(_chunks(response), name, None if total is None else -(-(total - have) // CHUNK)):
        if most and have + len(chunk) > most:  # it told no length, or a wrong one
            part.unlink(missing_ok=True)
            raise _Broken(f"more than {most} bytes came, but {_right_sizes(remote)} are right")
        _write(part, chunk, have)
        have += len(chunk)
    least = offered or min(remote.sizes, default=0)
    if have < least:
        raise _Broken(f"broke off after {have} of {least} bytes", again=True)


def _chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    while chunk := response.read(CHUNK):
        yield chunk


def _write(part: Path, chunk: bytes, place: int) -> None:
    try:
        with part.open("r+b" if place else "wb") as file:
            file.seek(place)
            file.write(chunk)
    except OSError as error:
        raise MachineError(f"{part}: cannot be written: {error.strerror or error}") from error


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MachineError(f"{folder}: cannot be made: {error.strerror or error}") from error


def _rename(part: Path, target: Path) -> None:
    try:
        part.replace(target)
    except OSError as error:
        raise MachineError(f"{target}: cannot be written: {error.strerror or error}") from error


def file_hash(path: Path, name: str) -> str:
    """The digest of a file, in hexadecimal; `name` is one of `hashlib`."""
    digest = hashlib.new(name, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
