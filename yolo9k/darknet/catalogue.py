"""The catalogue of Darknet's official models: their files, download URLs, sizes and hashes, and the cache.

Weights are downloaded from the author's site or its mirrors. Text files (cfg, names, tree, maps) come from one commit
of Darknet's repository, so that they match the weights. Everything is stored in `cache_folder()`/weights: the weights
under their own names, the text files in a folder per commit with Darknet's layout, so that a cfg's
`tree=data/9k.tree` is found from the parent of the cfg's folder.
"""

import difflib
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from yolo9k.fetch import Remote, cache_folder, fetch, flaw
from yolo9k.io import replacing
from yolo9k.progress import Track, silent

COMMIT = "f6afaabcdf85f77e7aff2ec55c020c0e297c77f9"
TEXT_HOSTS = (
    f"https://raw.githubusercontent.com/pjreddie/darknet/{COMMIT}",
    f"https://cdn.jsdelivr.net/gh/pjreddie/darknet@{COMMIT}",
)
WEIGHTS_HOSTS = (
    "https://pjreddie.com/media/files",
    "https://data.pjreddie.com/files",
    "https://web.archive.org/web/2024id_/https://pjreddie.com/media/files",
)
TEXT_FOLDER = f"darknet-{COMMIT[:8]}"

VOC_NAMES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip

ModelKind = Literal["detector", "classifier", "partial"]
FileStatus = Literal["missing", "size ok, hash unverified", "ok", "wrong"]


@dataclass(frozen=True)
class File:
    """A file of a model. `path` is relative to `weights_folder()`.

    `content`: bytes that are written instead of downloaded; such a file has no URLs.
    """

    path: str
    remote: Remote
    content: bytes = b""

    @property
    def cached_path(self) -> Path:
        """Path in the cache, whether the file exists or not."""
        return weights_folder() / self.path


@dataclass(frozen=True)
class Entry:
    """An official model.

    `kind`: "partial" has only the weights of the first layers, to start training from. `score`: published accuracy
    with its source. `maps`: by file name without suffix.
    """

    name: str
    kind: ModelKind
    description: str
    score: str
    weights: File
    cfg: File
    names: File | None = None
    labels: File | None = None
    tree: File | None = None
    maps: Mapping[str, File] = field(default_factory=dict)

    @property
    def texts(self) -> tuple[File, ...]:
        """All files except the weights, the cfg first."""
        texts = (self.cfg, self.names, self.labels, self.tree, *self.maps.values())
        return tuple(file for file in texts if file)

    @property
    def files(self) -> tuple[File, ...]:
        """All files, the weights first."""
        return (self.weights, *self.texts)


@dataclass(frozen=True)
class ModelFiles:
    """The paths of a model's files; `maps` by file name without suffix (`coco9k`)."""

    weights: Path
    cfg: Path
    names: Path | None
    labels: Path | None
    tree: Path | None
    maps: dict[str, Path]


@dataclass(frozen=True)
class FileCheck:
    """The result of `verify` for one file; `reason`: what is wrong, for status "wrong"."""

    path: Path
    status: FileStatus
    reason: str = ""


def _weights(name: str, size: int, **hashes: str) -> File:
    # `seen` in the header has 32 or 64 bits, and both variants of the official files are in circulation
    return File(name, Remote(tuple(f"{host}/{name}" for host in WEIGHTS_HOSTS), (size, size + 4), hashes))


def _text(path: str, size: int, sha256: str) -> File:
    urls = tuple(f"{host}/{path}" for host in TEXT_HOSTS)
    return File(f"{TEXT_FOLDER}/{path}", Remote(urls, (size,), {"sha256": sha256}))


def _generated(path: str, lines: Iterable[str]) -> File:
    content = "".join(f"{line}\n" for line in lines).encode()
    digest = hashlib.sha256(content).hexdigest()
    return File(f"{TEXT_FOLDER}/{path}", Remote((), (len(content),), {"sha256": digest}), content)


_COCO_NAMES = _text("data/coco.names", 625, "634a1132eb33f8091d60f2c346ababe8b905ae08387037aed883953b7329af84")
_VOC_NAMES = _generated("data/voc.names", VOC_NAMES)
_DARKNET19_448_CFG = _text(
    "cfg/darknet19_448.cfg", 2_004, "95cbcec678b08f087493bd4dd0257109020a732d554479cf4cb439b5932a7e56"
)

ENTRIES: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry(
            name="yolov2",
            kind="detector",
            description="COCO, 80 classes, 608 px",
            score="paper: AP50 44.0, AP 21.6 on COCO test-dev at 544",
            weights=_weights(
                "yolov2.weights",
                203_934_260,
                sha256="d9945162ed6f54ce1a901e3ec537bdba4d572ecae7873087bd730e5a7942df3f",
                md5="70d89ba2e180739a1c700a9ff238e354",
            ),
            cfg=_text("cfg/yolov2.cfg", 2_726, "9bb5bd2620624613483c8447bc713fe99e0a4af5f8e8d923b81520a162993574"),
            names=_COCO_NAMES,
        ),
        Entry(
            name="yolov2-voc",
            kind="detector",
            description="VOC 2007 + 2012, 20 classes, 416 px",
            score="mAP 75.8 to 76.2 on VOC07 test at 416 (re-evaluated by others; paper: 76.8)",
            weights=_weights("yolov2-voc.weights", 202_704_260),
            cfg=_text("cfg/yolov2-voc.cfg", 2_721, "ecf8b24ca01bdedc5c569300a6e99120ca5e251108eaa973b9cb19e28ed93352"),
            names=_VOC_NAMES,
        ),
        Entry(
            name="yolov2-tiny",
            kind="detector",
            description="COCO, 80 classes, 416 px, small and fast",
            score="",
            weights=_weights("yolov2-tiny.weights", 44_948_596, md5="04904b18f0e0835d8e1d6e75d3fa93fe"),
            cfg=_text("cfg/yolov2-tiny.cfg", 1_488, "58e8f4390c8080a90a40f3b7ec5868ee9ae32519f3c08f57d104e494de04b34d"),
            names=_COCO_NAMES,
        ),
        Entry(
            name="yolov2-tiny-voc",
            kind="detector",
            description="VOC 2007 + 2012, 20 classes, 416 px, small and fast",
            score="mAP 55.6 to 57.1 on VOC07 test (re-evaluated by others)",
            weights=_weights("yolov2-tiny-voc.weights", 63_471_556, md5="fca33deaff44dec1750a34df42d2807e"),
            cfg=_text(
                "cfg/yolov2-tiny-voc.cfg", 1_456, "1e012b455b845579096378b0ab4a82f1d9cb53b3b1282724a6de5d45537cb7e6"
            ),
            names=_VOC_NAMES,
        ),
        Entry(
            name="yolo9000",
            kind="detector",
            description="COCO + ImageNet, 9418 labels in a tree, 544 px",
            score="paper: mAP 19.7 on ImageNet-DET, 16.0 on its 156 classes without boxes",
            weights=_weights("yolo9000.weights", 195_230_020),
            cfg=_text("cfg/yolo9000.cfg", 2_329, "cfcdfc59907887f22bafb738b4c05bffdd0ff5861918eb280a2d0dce88666096"),
            names=_text("data/9k.names", 99_137, "ec9d79f248c0faff73e84b1980eb0b0ef56ad46005ba0b61bf8ab1d7f844f038"),
            labels=_text("data/9k.labels", 94_180, "2bd6c1881c7f14b1a01b091584fa66c982f0f72e574ce861ccef5a9402219fac"),
            tree=_text("data/9k.tree", 140_047, "124b05033e928707069995e1b61823c80f10fc14d82f84c9cd5575443b61be54"),
            maps={
                "coco9k": _text(
                    "data/coco9k.map", 387, "c0c1dad8d73734d881d21ec3237788b5f1033ec690f42839a3587752f9b637bb"
                ),
                "inet9k": _text(
                    "data/inet9k.map", 972, "065b8f891b22cc2f4530abc47da3f01c775338a92c361400f7a2668d0a7ecce9"
                ),
            },
        ),
        Entry(
            name="darknet19_448",
            kind="classifier",
            description="ImageNet, 1000 classes, 448 px",
            score="paper: top-1 76.5, top-5 93.3 on ImageNet",
            weights=_weights("darknet19_448.weights", 83_427_120),
            cfg=_DARKNET19_448_CFG,
        ),
        Entry(
            name="darknet19_448.conv.23",
            kind="partial",
            description="the first 23 layers of darknet19_448, to start the training of a detector",
            score="",
            weights=_weights(
                "darknet19_448.conv.23",
                79_327_120,
                sha512="8016f5b7ddc15c5d7dad231592f5351eea65f608ebdb204f545034dde904e119"
                "62f693080dfeb5a4510e7b71bdda151a9121ba0f8a243018d680f01b1efdbd31",
            ),
            cfg=_DARKNET19_448_CFG,
        ),
    )
}


def names() -> list[str]:
    """List the names of all models, in the order of the catalogue."""
    return list(ENTRIES)


def find(name: str) -> Entry | None:
    """Return the model of a name, with or without `.weights`; `None` if the catalogue has no such model."""
    return ENTRIES.get(name.removesuffix(".weights"))


def suggest(name: str) -> str:
    """Return a hint for an unknown name: the closest name, else all names."""
    close = difflib.get_close_matches(name.removesuffix(".weights"), names(), n=1)
    return f"did you mean {close[0]}?" if close else f"the catalogue has {', '.join(names())}"


def weights_folder() -> Path:
    """Return the folder of the catalogue's files in the cache; files that the user puts there are used, too."""
    return cache_folder() / "weights"


def download(entry: Entry, track: Track = silent, urls: Sequence[str] = ()) -> ModelFiles:
    """Download all files of a model that are not in the cache, and return their paths.

    `urls` replace the URLs of the weights. Raises `WeightsError` if all URLs of a file fail or its size is wrong,
    `MachineError` if the cache cannot be written.
    """
    remote = entry.weights.remote
    _ensure_cached(replace(entry.weights, remote=replace(remote, urls=tuple(urls) or remote.urls)), track)
    return download_texts(entry, track)


def download_texts(entry: Entry, track: Track = silent) -> ModelFiles:
    """Download all files except the weights, as `download`."""
    for file in entry.texts:
        _ensure_cached(file, track)
    return _paths(entry)


def _ensure_cached(file: File, track: Track) -> None:
    if file.content and not file.cached_path.exists():
        with replacing(file.cached_path) as draft:
            draft.write_bytes(file.content)
    fetch(file.remote, file.cached_path, track)


def is_cached(entry: Entry) -> bool:
    """Return whether all files of a model are in the cache with the right sizes; hashes are not checked."""
    return all(
        file.cached_path.is_file() and not flaw(file.cached_path, file.remote, hashed=False) for file in entry.files
    )


def verify(entry: Entry) -> list[FileCheck]:
    """Check the size and hashes of each file of a model; without a known hash, the status says so."""
    return [_check_file(file) for file in entry.files]


def _check_file(file: File) -> FileCheck:
    path = file.cached_path
    if not path.exists():
        return FileCheck(path, "missing")
    if reason := flaw(path, file.remote):
        return FileCheck(path, "wrong", reason)
    return FileCheck(path, "ok" if file.remote.hashes else "size ok, hash unverified")


def _paths(entry: Entry) -> ModelFiles:
    names, labels, tree = (file.cached_path if file else None for file in (entry.names, entry.labels, entry.tree))
    maps = {name: file.cached_path for name, file in entry.maps.items()}
    return ModelFiles(entry.weights.cached_path, entry.cfg.cached_path, names, labels, tree, maps)
