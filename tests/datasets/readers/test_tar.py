"""Headers of tar files: every format that `tarfile` writes, and broken or malicious files."""

import gzip
import io
import os
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo9k.datasets.readers.tar import BLOCK, MAX_EXTENDED_SIZE, members
from yolo9k.errors import DataError

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def packed(files, form="pax", **options):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=FORMATS[form], encoding="utf-8", **options) as tar:
        for name, content in files:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def stored(tmp_path, content, name="a.tar"):
    path = tmp_path / name
    path.write_bytes(content)
    return path


def read(path):
    """Return names and contents, read at the offsets of the members."""
    content = path.read_bytes()
    with path.open("rb") as file:
        found = list(members(file, path))
    return [(member.name, content[member.offset : member.offset + member.size]) for member in found]


def refuse(path):
    with pytest.raises(DataError) as error, path.open("rb") as file:
        list(members(file, path))
    text = str(error.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text.removeprefix(f"{path}: ")


LONG = "a-folder/" * 30 + "ä" * 150 + ".jpg"


@pytest.mark.parametrize("form", FORMATS)
def test_every_format(tmp_path, form):
    files = [("a.jpg", b"x" * 513), ("n/b.cls", b""), ("n/" * 60 + "c.jpg", b"y" * 512), ("é.jpg", b"z")]
    if form != "ustar":
        files += [(LONG, b"long"), ("after.jpg", b"with its own name")]
    assert read(stored(tmp_path, packed(files, form))) == files


@pytest.mark.parametrize("form", ["gnu", "pax"])
def test_names_that_are_not_utf_8(tmp_path, form):
    odd = os.fsdecode(b"\xff\xfe.jpg")
    assert read(stored(tmp_path, packed([(odd, b"1")], form)))[0][0] == odd


@given(st.lists(st.tuples(st.text("ab/.é", min_size=1, max_size=300), st.binary(max_size=1500)), max_size=6))
@settings(max_examples=60)
@pytest.mark.parametrize("form", ["gnu", "pax"])
def test_as_tarfile_reads_them(tmp_path_factory, form, files):
    content = packed([(f"p{name}q", data) for name, data in files], form)
    path = stored(tmp_path_factory.mktemp("tar"), content)
    with tarfile.open(path) as tar:
        assert read(path) == [(entry.name, tar.extractfile(entry).read()) for entry in tar]


def test_other_members_are_skipped(tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", pax_headers={"comment": "about all of them"}) as tar:
        for name, kind in (("n", tarfile.DIRTYPE), ("pipe", tarfile.FIFOTYPE), ("device", tarfile.CHRTYPE)):
            entry = tarfile.TarInfo(name)
            entry.type = kind
            tar.addfile(entry)
        entry = tarfile.TarInfo("n/a.jpg")
        entry.size = 1
        tar.addfile(entry, io.BytesIO(b"1"))
        link = tarfile.TarInfo("b.jpg")
        link.type, link.linkname = tarfile.LNKTYPE, "n/a.jpg"
        tar.addfile(link)
    path = stored(tmp_path, buffer.getvalue())
    with path.open("rb") as file:
        assert [(m.name, m.size, m.is_link) for m in members(file, path)] == [("n/a.jpg", 1, False), ("b.jpg", 0, True)]


def test_data_after_the_end_is_ignored(tmp_path):
    files = [("a.jpg", b"1")]
    assert read(stored(tmp_path, packed(files) + b"noise" * 1000)) == files
    assert read(stored(tmp_path, packed(files)[: 2 * BLOCK] + bytes(BLOCK))) == files  # one block of zeros is enough
    assert read(stored(tmp_path, packed([]))) == []


@pytest.mark.parametrize("form", ["gnu", "pax"])
def test_truncated_files(tmp_path, form):
    content = packed([("a.jpg", b"x" * 700), (LONG, b"y" * 100), ("b.jpg", b"z" * 600)], form)
    end = len(content.rstrip(b"\0")) // BLOCK * BLOCK + BLOCK
    for length in range(1, end + BLOCK, 100):
        message = refuse(stored(tmp_path, content[:length]))
        assert message.startswith("byte ") or (length < BLOCK and message == "not a tar file"), (length, message)
    assert "but the file ends at byte 1100" in refuse(stored(tmp_path, content[:1100]))
    assert refuse(stored(tmp_path, content[:end])).endswith("without the end marker of a tar file; it may be truncated")


def test_a_broken_header_is_not_the_end(tmp_path):
    content = bytearray(packed([("a.jpg", b"x"), ("b.jpg", b"y"), ("c.jpg", b"z")]))
    content[2 * BLOCK + 3] ^= 1
    assert refuse(stored(tmp_path, bytes(content))) == "byte 1024: not a tar header (bad checksum)"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "an empty file, not a tar file"),
        (b"hello", "not a tar file"),
        (b"hello" * 500, "not a tar file"),
        (gzip.compress(packed([("a.jpg", b"x")])), "compressed (gzip): images need random access; decompress it"),
        (b"BZh91AY" + b"x" * 999, "compressed (bzip2)"),
        (b"\xfd7zXZ\0" + b"x" * 999, "compressed (xz)"),
        (b"\x28\xb5\x2f\xfd", "compressed (zstd)"),
    ],
)
def test_files_that_are_not_tar_files(tmp_path, content, message):
    assert refuse(stored(tmp_path, content)).startswith(message)


def test_a_name_that_begins_like_a_zip_file(tmp_path):
    files = [("PK.jpg", b"x"), ("BZh.jpg", b"y")]
    assert read(stored(tmp_path, packed(files))) == files


def header(name, size, kind=tarfile.REGTYPE):
    """Return a header as tarfile writes it, with any size."""
    entry = tarfile.TarInfo(name)
    entry.type = kind
    entry.size = size
    return entry.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("size", [-1, -512, -(1 << 40), 1 << 20, 1 << 62])
def test_impossible_sizes(tmp_path, size):
    message = refuse(stored(tmp_path, header("a.jpg", size) + bytes(4 * BLOCK)))
    assert message == f"byte 0: 'a.jpg' has {size} bytes, but the file ends at byte 2560"


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_long_names_have_a_limit(tmp_path, kind):
    size = MAX_EXTENDED_SIZE + 1
    content = header("x", size, kind) + bytes(size + BLOCK)
    assert f"a name or record has {size} bytes" in refuse(stored(tmp_path, content))


def pax(*records):
    content = b"".join(records)
    padded = content + bytes(-len(content) % BLOCK)
    return header("pax", len(content), tarfile.XHDTYPE) + padded + header("a.jpg", 1) + b"x" + bytes(BLOCK - 1 + BLOCK)


@pytest.mark.parametrize(
    "record",
    [b"12 path", b"99999 path=a\n", b"0 path=a\n", b"-3 path=a\n", b"x path=a\n", b"10 path=ab ", b"9 pathab\n"],
)
def test_invalid_pax_records(tmp_path, record):
    assert refuse(stored(tmp_path, pax(record))) == "byte 512: a pax header violates its format"


def test_unusual_pax_records(tmp_path):
    assert read(stored(tmp_path, pax(b"14 path=b.jpg\n", b"9 size=1\n"))) == [("b.jpg", b"x")]
    assert "byte 1024: 'a.jpg' has 999999 bytes" in refuse(stored(tmp_path, pax(b"15 size=999999\n")))
    assert "the invalid size '-1'" in refuse(stored(tmp_path, pax(b"11 size=-1\n")))
    assert "a sparse file" in refuse(stored(tmp_path, pax(b"22 GNU.sparse.major=1\n")))


def test_old_sparse_files(tmp_path):
    content = header("a.jpg", 0, tarfile.GNUTYPE_SPARSE) + bytes(BLOCK)
    assert refuse(stored(tmp_path, content)).startswith("byte 512: a sparse file, which is not supported")
