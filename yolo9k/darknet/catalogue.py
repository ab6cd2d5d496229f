"""The official models of Darknet: what they are, where their files are fetched from, and where they are kept.

Weights come from the author's site or its mirrors, texts (cfg, names, tree, maps) from one commit of Darknet's
repository, so that rows and numbers fit the weights. All lie in `cache_folder()`/weights: the weights under their
own names, the texts in a folder of that commit, laid out as in Darknet, so that a cfg's `tree=data/9k.tree` is
found from the folder above the cfg's.
"""

import difflib
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from yolo9k.errors import MachineError
from yolo9k.fetch import Remote, cache_folder, fetch, flaw
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

WeightsKind = Literal["detector", "classifier", "partial"]
Condition = Literal["missing", "size ok, hash unverified", "ok", "wrong"]


@dataclass(frozen=True)
class File:
    """A file of a model: `path` is its place below the folder of the weights.

    A file with `content` is written, not fetched; its `remote` has no addresses.
    """

    path: str
    remote: Remote
    content: bytes = b""

    @property
    def place(self) -> Path:
        """Where it lies in the cache, or will lie."""
        return weights_folder() / self.path


@dataclass(frozen=True)
class Entry:
    """An official model. `kind` "partial" means weights of the first layers only, to start training from.

    `score` is what is known of its quality, with the source; `maps` go by their names without suffix.
    """

    name: str
    kind: WeightsKind
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
        """All its files but the weights, the cfg first."""
        texts = (self.cfg, self.names, self.labels, self.tree, *self.maps.values())
        return tuple(file for file in texts if file)

    @property
    def files(self) -> tuple[File, ...]:
        """All its files, the weights first."""
        return (self.weights, *self.texts)


@dataclass(frozen=True)
class Files:
    """The paths of a model's files; `maps` go by their names without suffix (`coco9k`)."""

    weights: Path
    cfg: Path
    names: Path | None
    labels: Path | None
    tree: Path | None
    maps: dict[str, Path]


@dataclass(frozen=True)
class Verdict:
    """What `verify` found out about one file; `reason` says what is wrong."""

    path: Path
    condition: Condition
    reason: str = ""


def _weights(name: str, size: int, **hashes: str) -> File:
    # Darknet counts the seen images in 32 or 64 bits: the header has 16 or 20 bytes, and both sorts went round
    return File(name, Remote(tuple(f"{host}/{name}" for host in WEIGHTS_HOSTS), (size, size + 4), hashes))


def _text(path: str, size: int, sha256: str) -> File:
    urls = tuple(f"{host}/{path}" for host in TEXT_HOSTS)
    return File(f"{TEXT_FOLDER}/{path}", Remote(urls, (size,), {"sha256": sha256}))


def _written(path: str, lines: Iterable[str]) -> File:
    content = "".join(f"{line}\n" for line in lines).encode()
    digest = hashlib.sha256(content).hexdigest()
    return File(f"{TEXT_FOLDER}/{path}", Remote((), (len(content),), {"sha256": digest}), content)


_COCO_NAMES = _text("data/coco.names", 625, "634a1132eb33f8091d60f2c346ababe8b905ae08387037aed883953b7329af84")
_VOC_NAMES = _written("data/voc.names", VOC_NAMES)
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
    """The names of all models, in the order of the catalogue."""
    return list(ENTRIES)


def find(name: str) -> Entry | None:
    """The model of that name, which may end in `.weights`; none where the catalogue has no such model."""
    return ENTRIES.get(name.removesuffix(".weights"))


def near(name: str) -> str:
    """A hint for an error about an unknown name: the nearest one, else all."""
    close = difflib.get_close_matches(name.removesuffix(".weights"), names(), n=1)
    return f"did you mean {close[0]}?" if close else f"the catalogue has {', '.join(names())}"


def weights_folder() -> Path:
    """Where the files of the catalogue lie; one put there by hand under its name is used, too."""
    return cache_folder() / "weights"


def download(entry: Entry, track: Track = silent, urls: Sequence[str] = ()) -> Files:
    """Bring all files of a model into the cache and give their paths back; what is there is not fetched again.

    `urls` replace the addresses of the weights. Raises `WeightsError` where a file cannot be had from any of its
    addresses, or has the wrong size; `MachineError` where the cache cannot be written.
    """
    remote = entry.weights.remote
    _bring(replace(entry.weights, remote=replace(remote, urls=tuple(urls) or remote.urls)), track)
    return download_texts(entry, track)


def download_texts(entry: Entry, track: Track = silent) -> Files:
    """`download` for all files but the weights."""
    for file in entry.texts:
        _bring(file, track)
    return _paths(entry)


def _bring(file: File, track: Track) -> None:
    if file.content and not file.place.exists():
        _write(file)
    fetch(file.remote, file.place, track)


def is_cached(entry: Entry) -> bool:
    """Whether all files of a model are in the cache, with the right sizes; hashes are not looked at."""
    return all(file.place.is_file() and not flaw(file.place, file.remote, hashed=False) for file in entry.files)


def verify(entry: Entry) -> list[Verdict]:
    """Check size and hashes of each file of a model; where no hash is known, the verdict says so."""
    return [_judge(file) for file in entry.files]


def _judge(file: File) -> Verdict:
    if not file.place.exists():
        return Verdict(file.place, "missing")
    if reason := flaw(file.place, file.remote):
        return Verdict(file.place, "wrong", reason)
    return Verdict(file.place, "ok" if file.remote.hashes else "size ok, hash unverified")


def _paths(entry: Entry) -> Files:
    def place(file: File | None) -> Path | None:
        return file.place if file else None

    maps = {name: file.place for name, file in entry.maps.items()}
    texts = place(entry.names), place(entry.labels), place(entry.tree)
    return Files(entry.weights.place, entry.cfg.place, *texts, maps)


def _write(file: File) -> None:
    part = file.place.with_name(f"{file.place.name}.part")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(file.content)
        part.replace(file.place)
    except OSError as error:
        raise MachineError(f"{file.place}: cannot be written: {error.strerror or error}") from error
