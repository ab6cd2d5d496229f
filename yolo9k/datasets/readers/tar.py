"""Where the files in a tar file lie, read from its headers alone (POSIX ustar and pax, GNU's long names).

Python's `tarfile` takes a broken header for the end, reads names of any length into memory and turns in circles on a
negative size; files from strangers need a stricter reader. It decodes single headers here.
"""

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from yolo9k.errors import DataError

BLOCK = 512
MAX_EXTRA = 1 << 20  # bytes of a long name or of pax records: real ones have some hundred
WITHOUT_CONTENT = (
    tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE,
)  # fmt: skip
EXTRA = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.XGLTYPE)
REGULAR = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"PK": "zip"}


class Member(NamedTuple):
    """A file in a tar file: `size` bytes from byte `offset` on. `is_link`: its content stands with another one."""

    name: str
    offset: int
    size: int
    is_link: bool = False


class _Extra(NamedTuple):
    """What headers before a member say of it."""

    name: str = ""
    size: int | None = None


def members(file: BinaryIO, path: Path) -> Iterator[Member]:
    """The files in a tar file and links to them, in order; each lies wholly inside. Between two, `file` may be sought.

    Raises `DataError`, with `path` and the byte, for what is compressed, broken, cut off, or no tar file.
    """
    length = file.seek(0, 2)
    position, extra = 0, _Extra()
    while (header := _header(file, path, position)) is not None:
        start = position + BLOCK
        size = header.size if extra.size is None else extra.size
        if header.type in WITHOUT_CONTENT:
            size = 0
        if not 0 <= size <= length - start:
            raise _broken(path, position, f"{header.name!r} has {size} bytes, but the file ends at byte {length}")
        position = start + -(-size // BLOCK) * BLOCK
        if header.type in EXTRA:
            extra = _with_extra(extra, header.type, _content(file, path, start, size), path, start)
            continue
        name, extra = extra.name or header.name, _Extra()
        if header.type in REGULAR:
            yield Member(name, start, size)
        elif header.type in (tarfile.LNKTYPE, tarfile.SYMTYPE):
            yield Member(name, start, 0, is_link=True)
        elif header.type == tarfile.GNUTYPE_SPARSE:
            raise _sparse(path, start)


def _header(file: BinaryIO, path: Path, position: int) -> tarfile.TarInfo | None:
    """The header at a position, none at the end of the archive."""
    file.seek(position)
    block = file.read(BLOCK)
    if len(block) == BLOCK and not block.strip(b"\0"):
        return None
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError) as error:
        if position == 0:
            raise _no_tar(path, block) from error
        if len(block) < BLOCK:
            message = "the file ends without the mark of a tar file's end; was it cut off?"
        else:
            message = f"no header of a tar file ({error})"
        raise _broken(path, position, message) from error


def _no_tar(path: Path, start: bytes) -> DataError:
    packing = next((name for mark, name in PACKED.items() if start.startswith(mark)), None)
    if packing:
        return DataError(f"{path}: compressed ({packing}): images in it cannot be sought; unpack it to a plain .tar")
    return DataError(f"{path}: {'not a tar file' if start else 'an empty file, not a tar file'}")


def _content(file: BinaryIO, path: Path, start: int, size: int) -> bytes:
    if size > MAX_EXTRA:
        raise _broken(path, start, f"a name or record of {size} bytes; at most {MAX_EXTRA} are read")
    file.seek(start)
    return file.read(size)


def _with_extra(extra: _Extra, kind: bytes, content: bytes, path: Path, position: int) -> _Extra:
    if kind == tarfile.GNUTYPE_LONGNAME:
        return extra._replace(name=_decoded(content.split(b"\0", 1)[0]))
    if kind not in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
        return extra  # long names of links; records about all members, which have no names
    records = _pax_records(content, path, position)
    if any(key.startswith(b"GNU.sparse.") for key in records):
        raise _sparse(path, position)
    size = records.get(b"size", b"0")
    if not size.isdigit() or len(size) > len(str(1 << 63)):
        raise _broken(path, position, f"a pax header with the size {_decoded(size)!r}")
    return _Extra(_decoded(records.get(b"path", b"")) or extra.name, int(size) if b"size" in records else extra.size)


def _pax_records(content: bytes, path: Path, position: int) -> dict[bytes, bytes]:
    """The records `LENGTH KEY=VALUE`, each with a line end, of a pax header."""
    records, start = {}, 0
    while start < len(content) and content[start]:
        digits = content[start : start + 8].split(b" ", 1)[0]
        end = start + int(digits) if digits.isdigit() else start
        key, equals, value = content[start + len(digits) + 1 : max(end - 1, start)].partition(b"=")
        if not start < end <= len(content) or content[end - 1 : end] != b"\n" or not equals:
            raise _broken(path, position + start, "a pax header that breaks the rules of its format")
        records[key] = value
        start = end
    return records


def _decoded(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _broken(path: Path, position: int, message: str) -> DataError:
    return DataError(f"{path}: byte {position}: {message}")


def _sparse(path: Path, position: int) -> DataError:
    return _broken(path, position, "a sparse file, which lies in pieces; pack it without --sparse")
