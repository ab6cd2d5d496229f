"""Find the files in a tar file by reading only its headers (POSIX ustar and pax, GNU long names).

Python's `tarfile` takes a broken header for the end of the archive, reads names of any length into memory, and loops
forever on a negative size. Files from strangers need a stricter reader; `tarfile` only decodes single headers here.
"""

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from yolo9k.errors import DataError

BLOCK = 512  # bytes; headers and contents start at multiples of it
MAX_EXTENDED_SIZE = 1 << 20  # bytes of a long name or of pax records; real ones have some hundred
TYPES_WITHOUT_CONTENT = (
    tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE,
)  # fmt: skip
EXTENDED_TYPES = (
    tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.XGLTYPE,
)  # fmt: skip
REGULAR_TYPES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
COMPRESSION_MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"PK": "zip"}


class Member(NamedTuple):
    """A file in a tar file: `size` bytes from byte `offset`; `is_link`: a link to another member, without content."""

    name: str
    offset: int
    size: int
    is_link: bool = False


class _Extended(NamedTuple):
    """The name and size that extended headers (GNU, pax) set for the next member."""

    name: str = ""
    size: int | None = None


def members(file: BinaryIO, path: Path) -> Iterator[Member]:
    """Yield the files and links in a tar file in order; each lies completely inside. The caller may seek in `file`.

    Raises `DataError` with `path` and the byte offset if the file is compressed, broken, truncated or not a tar file.
    """
    length = file.seek(0, 2)
    position, extended = 0, _Extended()
    while (header := _read_header(file, path, position)) is not None:
        start = position + BLOCK
        size = header.size if extended.size is None else extended.size
        if header.type in TYPES_WITHOUT_CONTENT:
            size = 0
        if not 0 <= size <= length - start:
            raise _broken(path, position, f"{header.name!r} has {size} bytes, but the file ends at byte {length}")
        position = start + -(-size // BLOCK) * BLOCK
        if header.type in EXTENDED_TYPES:
            content = _read_content(file, path, start, size)
            extended = _parse_extended(extended, header.type, content, path, start)
            continue
        name, extended = extended.name or header.name, _Extended()
        if header.type in REGULAR_TYPES:
            yield Member(name, start, size)
        elif header.type in (tarfile.LNKTYPE, tarfile.SYMTYPE):
            yield Member(name, start, 0, is_link=True)
        elif header.type == tarfile.GNUTYPE_SPARSE:
            raise _sparse(path, start)


def _read_header(file: BinaryIO, path: Path, position: int) -> tarfile.TarInfo | None:
    """Return the header at a position; `None` at the end of the archive."""
    file.seek(position)
    block = file.read(BLOCK)
    if len(block) == BLOCK and not block.strip(b"\0"):
        return None
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError) as error:
        if position == 0:
            raise _not_a_tar_file(path, block) from error
        if len(block) < BLOCK:
            message = "the file ends without the end marker of a tar file; it may be truncated"
        else:
            message = f"not a tar header ({error})"
        raise _broken(path, position, message) from error


def _not_a_tar_file(path: Path, start: bytes) -> DataError:
    compression = next((name for magic, name in COMPRESSION_MAGIC.items() if start.startswith(magic)), None)
    if compression:
        return DataError(f"{path}: compressed ({compression}): images need random access; decompress it to a .tar file")
    return DataError(f"{path}: {'not a tar file' if start else 'an empty file, not a tar file'}")


def _read_content(file: BinaryIO, path: Path, start: int, size: int) -> bytes:
    if size > MAX_EXTENDED_SIZE:
        raise _broken(path, start, f"a name or record has {size} bytes, at most {MAX_EXTENDED_SIZE} are allowed")
    file.seek(start)
    return file.read(size)


def _parse_extended(extended: _Extended, kind: bytes, content: bytes, path: Path, position: int) -> _Extended:
    """Return `extended` updated by an extended header."""
    if kind == tarfile.GNUTYPE_LONGNAME:
        return extended._replace(name=_decode(content.split(b"\0", 1)[0]))
    if kind not in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
        return extended  # long names of links, and pax records for all members: neither sets a name
    records = _parse_pax(content, path, position)
    if any(key.startswith(b"GNU.sparse.") for key in records):
        raise _sparse(path, position)
    size = records.get(b"size", b"0")
    if not size.isdigit() or len(size) > len(str(1 << 63)):
        raise _broken(path, position, f"a pax header has the invalid size {_decode(size)!r}")
    name = _decode(records.get(b"path", b"")) or extended.name
    return _Extended(name, int(size) if b"size" in records else extended.size)


def _parse_pax(content: bytes, path: Path, position: int) -> dict[bytes, bytes]:
    """Parse the records of a pax header: `LENGTH KEY=VALUE`, each ended by a newline."""
    records, start = {}, 0
    while start < len(content) and content[start]:
        digits = content[start : start + 8].split(b" ", 1)[0]
        end = start + int(digits) if digits.isdigit() else start
        key, equals, value = content[start + len(digits) + 1 : max(end - 1, start)].partition(b"=")
        if not start < end <= len(content) or content[end - 1 : end] != b"\n" or not equals:
            raise _broken(path, position + start, "a pax header violates its format")
        records[key] = value
        start = end
    return records


def _decode(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _broken(path: Path, position: int, message: str) -> DataError:
    return DataError(f"{path}: byte {position}: {message}")


def _sparse(path: Path, position: int) -> DataError:
    return _broken(path, position, "a sparse file, which is not supported; pack it without --sparse")
