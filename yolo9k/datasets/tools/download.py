"""Download the public data sets (VOC, COCO) from their official addresses and unpack them safely."""

import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

from yolo9k.errors import WeightsError
from yolo9k.fetch import Remote, fetch, sole_download
from yolo9k.io import writing
from yolo9k.progress import Track, silent

DAMAGED_ARCHIVE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)


@dataclass(frozen=True)
class Archive:
    """An archive to download: it is unpacked into `folder`, where it creates the path `contains`."""

    remote: Remote
    folder: str
    contains: str

    @property
    def name(self) -> str:
        """Return its file name."""
        return self.remote.urls[0].rsplit("/", 1)[-1]


def _voc(path: str, size: int, md5: str, contains: str) -> Archive:
    hosts = ("http://host.robots.ox.ac.uk/pascal/VOC", "https://thor.robots.ox.ac.uk/pascal/VOC")
    urls = tuple(f"{host}/{path}" for host in hosts)
    return Archive(Remote(urls, (size,), {"md5": md5}), "", f"VOCdevkit/{contains}")


def _coco(path: str, size: int, md5: str, contains: str) -> Archive:
    # no https: the server has no certificate for this host name; the MD5 sum protects the content
    urls = (f"http://images.cocodataset.org/{path}",)
    return Archive(Remote(urls, (size,), {"md5": md5}), "coco", f"coco/{contains}")


ARCHIVES: dict[str, tuple[Archive, ...]] = {
    "voc": (
        _voc(
            "voc2007/VOCtrainval_06-Nov-2007.tar",
            460_032_000,
            "c52e279531787c972589f7e41ab4ae64",
            "VOC2007/ImageSets/Main/trainval.txt",
        ),
        _voc(
            "voc2007/VOCtest_06-Nov-2007.tar",
            451_020_800,
            "b6e924de25625d8de591ea690078ad9f",
            "VOC2007/ImageSets/Main/test.txt",
        ),
        _voc(
            "voc2012/VOCtrainval_11-May-2012.tar",
            1_999_639_040,
            "6cd6e144f989b92b3379bac3b3de84fd",
            "VOC2012/ImageSets/Main/trainval.txt",
        ),
    ),
    "coco": (
        _coco("zips/train2017.zip", 19_336_861_798, "cced6f7f71b7629ddf16f17bbcfab6b2", "train2017"),
        _coco("zips/val2017.zip", 815_585_330, "442b8da7639aecaf257c1dceb8ba8c80", "val2017"),
        _coco(
            "annotations/annotations_trainval2017.zip",
            252_907_541,
            "f4bbac642086de4f52a3fdda2de5fa2c",
            "annotations/instances_val2017.json",
        ),
    ),
}


def download(name: str, base: Path, keep_archives: bool = False, track: Track = silent) -> list[Path]:
    """Download and unpack a data set of `ARCHIVES` below `base`; return the path that each archive creates.

    Archives that are already unpacked are skipped; another process that downloads the data set is waited for. Raises
    `WeightsError` if a download fails or an archive is damaged, `MachineError` if the disk is full or cannot be
    written.
    """
    archives = ARCHIVES[name]
    if not all(_is_unpacked(archive, base) for archive in archives):
        with sole_download(base / "downloads" / name):
            for archive in archives:
                _ensure_unpacked(archive, base, keep_archives, track)
    return [base / archive.contains for archive in archives]


def _ensure_unpacked(archive: Archive, base: Path, keep: bool, track: Track) -> None:
    if _is_unpacked(archive, base):
        return
    packed = base / "downloads" / archive.name
    fetch(archive.remote, packed, track)
    unpack(packed, base / archive.folder, track)
    if not keep:
        packed.unlink()


def _is_unpacked(archive: Archive, base: Path) -> bool:
    """Return whether an archive is unpacked; if it is still there, that may have been interrupted."""
    return (base / archive.contains).exists() and not (base / "downloads" / archive.name).exists()


class _Member(NamedTuple):
    name: str
    size: int
    open: Callable[[], IO[bytes] | None]


def unpack(archive: Path, folder: Path, track: Track = silent) -> None:
    """Unpack a tar or zip file into `folder`; files that exist with the right size are skipped.

    Only regular files are written, and only below `folder`. Raises `WeightsError` for links, devices, paths that lead
    outside and damaged archives, `MachineError` if a file cannot be written.
    """
    members = _zip_members if zipfile.is_zipfile(archive) else _tar_members
    try:
        for member in track(members(archive), f"Unpacking {archive.name}"):
            _write_member(member, _resolve_inside(folder, member.name, archive))
    except DAMAGED_ARCHIVE as error:
        reason = str(error).partition("\n")[0].rstrip(":")  # tarfile appends every format it has tried
        raise WeightsError(f"{archive}: damaged ({reason}); remove it to download it again") from error


def _tar_members(archive: Path) -> Iterator[_Member]:
    with tarfile.open(archive) as tar:
        for entry in tar:
            if entry.isfile():
                yield _Member(entry.name, entry.size, lambda entry=entry: tar.extractfile(entry))  # type: ignore[misc]
            elif not entry.isdir():
                raise WeightsError(f"{archive}: {entry.name} is neither a file nor a folder, which is not allowed")


def _zip_members(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as packed:
        for entry in packed.infolist():
            if not entry.is_dir():
                yield _Member(entry.filename, entry.file_size, lambda entry=entry: packed.open(entry))  # type: ignore[misc]


def _resolve_inside(folder: Path, name: str, archive: Path) -> Path:
    root = folder.resolve()
    target = (root / name).resolve()
    if root not in target.parents:
        raise WeightsError(f"{archive}: {name!r} would be written outside {folder}, which is not allowed")
    return target


def _write_member(member: _Member, target: Path) -> None:
    if target.is_file() and target.stat().st_size == member.size:
        return
    source = member.open()
    if source is None:
        return
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with source, target.open("wb") as file:
                shutil.copyfileobj(source, file)
        except BaseException:
            target.unlink(missing_ok=True)  # half of it
            raise
