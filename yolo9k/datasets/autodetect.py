"""Recognising a folder of images and boxes: its kind, its splits and its labels, written as a config."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import yaml

from yolo9k.config import AnyDataset, DatasetConfig, load_dataset_config, updated
from yolo9k.config.datasets import SplitSource
from yolo9k.datasets.class_mapping import NAME_LISTS, listed_names
from yolo9k.datasets.load import data_folder, read_annotations
from yolo9k.datasets.readers.coco import CocoFile
from yolo9k.datasets.readers.records import Entry, read_text
from yolo9k.datasets.readers.voc import ALL, VocFolder, find_annotations
from yolo9k.datasets.readers.yolo import DataYaml, label_file, yolo_names
from yolo9k.errors import ConfigError, DataError
from yolo9k.images import is_image_file
from yolo9k.progress import Track, silent

BoxDatasetKind = Literal["voc", "coco", "yolo"]
Splits = dict[str, tuple[Entry, ...]]

SPLITS = ("train", "val", "test")
SPLIT_WORD = re.compile(r"(?:^|[^a-z])(train|val|test)(?:ing|id|idation)?(?![a-z])")
KIND_WORDS = {
    "voc": "Pascal VOC: one XML file an image",
    "coco": "COCO: one JSON file a split",
    "yolo": "YOLO: one text file an image",
}
DEFAULT_HOLDOUT = 0.2
SHARDS_CONFIG = "shards.yaml"
SEARCHES = 16  # halvings for the share to hold out
FEW = 50  # images, whose hashes may divide badly
DEPTH = 3  # folders below the one named that are looked into
PROBED = 50  # images that are looked at before a folder counts as unlabelled


@dataclass(frozen=True)
class Layout:
    """What a folder was recognised as: entries of its splits below `root`."""

    kind: BoxDatasetKind
    root: Path
    splits: Splits


def open_dataset(source: str, track: Track = silent) -> AnyDataset:
    """A data set by catalogue name or config path, or a folder that is recognised on the spot.

    Raises `ConfigError` and `DataError`.
    """
    if Path(source).expanduser().is_dir():
        return recognise(Path(source).expanduser(), track=track)
    return load_dataset_config(source)


def open_images(source: str) -> DatasetConfig:
    """A data set of images with labels by catalogue name or config path, or a folder as `image_folder` takes it.

    Raises `ConfigError`, also for a joint data set.
    """
    if Path(source).expanduser().is_dir():
        return image_folder(Path(source).expanduser())
    config = load_dataset_config(source)
    if not isinstance(config, DatasetConfig):
        raise ConfigError(f"{source}: a joint data set; name one of its sources, whose images have labels")
    return config


def image_folder(folder: Path) -> DatasetConfig:
    """The config of a folder of tar shards, else of class folders; `train`, `val` and `test` in it are its splits.

    Shards that were packed here have a config beside them. Raises `ConfigError` for that one, and for a folder of
    images with boxes, whose own folders are no classes.
    """
    root = folder.resolve()
    if (root / SHARDS_CONFIG).is_file():
        packed = open_images(str(root / SHARDS_CONFIG))
        return updated(packed, {"root": root_text(root)})  # the folder may have been moved
    shards = _find_shards(root)
    if shards:
        return DatasetConfig(kind="shards", root=root_text(root), splits=shards, name=root.name)
    there = [name for name in SPLITS if (root / name).is_dir()]
    splits: Splits = {name: (name,) for name in there} if "train" in there else {"train": (".",)}
    for entry in splits.values():
        _refuse_boxes(root / str(entry[0]))
    return DatasetConfig(kind="folder", root=root_text(root), splits=splits, name=root.name)


def _refuse_boxes(folder: Path) -> None:
    """Raise `ConfigError` where a folder is laid out for boxes: VOC's and COCO's `annotations`, YOLO's `labels`."""
    names = {path.name.lower() for path in _folders(folder)}
    if "annotations" in names or {"images", "labels"} <= names:
        raise ConfigError(
            f"{folder}: images with boxes, not class folders; `yolo9k data make crops` cuts class folders out of them"
        )


def _find_shards(folder: Path) -> Splits:
    """Splits of the folders of tar files in a folder; of the files in it by their names, where it has no folders."""
    tars = sorted(path.name for path in folder.glob("*.tar"))
    if tars and not _folders(folder):
        return _grouped([(_split_of(name) or "train", name) for name in tars])
    return {name: (name,) for name in SPLITS if any((folder / name).glob("*.tar"))}


def recognise(
    folder: Path, kind: BoxDatasetKind | None = None, holdout: float = DEFAULT_HOLDOUT, track: Track = silent
) -> DatasetConfig:
    """A config for the data set in `folder`; where it has no `val`, a share of `train` becomes that.

    The share is `holdout`, or one near it that holds out as many as that should, where the images are few.

    Raises `DataError` where the folder is missing, or holds nothing of that kind (none named: of any kind).
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    layout = find_layout(folder.resolve(), kind)
    config = DatasetConfig(
        kind=layout.kind, root=root_text(layout.root), splits=layout.splits, name=folder.resolve().name
    )
    config = updated(config, {"labels": _labels(config, layout, track)})
    if holdout and "train" in layout.splits and "val" not in layout.splits:
        config = updated(config, {"holdout": _holdout_that_fits(config, holdout)})
    return config


def _holdout_that_fits(config: DatasetConfig, wanted: float) -> float:
    """The share `wanted`; of a few images the one that makes that many `val`, at least one; 0 where none is to spare.

    Hashes divide a few images badly: of six, a share of .2 may take none or four.
    """
    total = _count(config, "train", 0.0)
    aim = min(max(1, round(wanted * total)), total - 1)
    if aim < 1:
        return 0.0
    share, low, high, fitting = wanted, 0.0, 1.0, 0.0
    for _ in range(SEARCHES):
        held = _count(config, "val", share)
        if 0 < held < total:
            fitting = share
        if held == aim or (fitting and total > FEW):
            break
        low, high = (share, high) if held < aim else (low, share)
        share = round((low + high) / 2, 6)
    return fitting


def _count(config: DatasetConfig, split: str, holdout: float) -> int:
    """How many images a split has with that share held out."""
    try:
        return len(read_annotations(updated(config, {"holdout": holdout}), split, "skip").records)
    except DataError:
        return 0


def find_layout(folder: Path, kind: BoxDatasetKind | None = None) -> Layout:
    """The first kind that `folder` can be read as; looks into a folder that holds nothing but one other.

    Raises `DataError` where it is of no kind.
    """
    for name in (kind,) if kind else FINDERS:
        splits = FINDERS[name](folder)
        if splits:
            return Layout(name, folder, splits)
    inner = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__"))]
    if len(inner) == 1:
        return find_layout(inner[0], kind)
    wanted = KIND_WORDS[kind] if kind else "; ".join(KIND_WORDS.values())
    raise DataError(
        f"{folder}: holds no labelled images of a kind that is known ({wanted}); images in class folders are for "
        "`yolo9k classify`"
    )


def root_text(root: Path) -> str:
    """How a config names a root: from the data folder, where it lies in that."""
    base = data_folder().resolve()
    return root.relative_to(base).as_posix() if base in root.parents else str(root)


def _split_of(text: str) -> str | None:
    """The split that a folder or file name speaks of; `valid` and `validation` are `val`."""
    found = SPLIT_WORD.findall(text.lower())
    return found[-1] if found else None


def _grouped(found: Sequence[tuple[str, Entry]]) -> Splits:
    """Entries by split, in the usual order."""
    splits = {split: tuple(entry for name, entry in found if name == split) for split in SPLITS}
    return {split: entries for split, entries in splits.items() if entries}


# --- Pascal VOC


def _find_voc(folder: Path) -> Splits:
    """Splits of one VOC folder, or of all that lie on the first level that has some."""
    level = [folder]
    for _ in range(DEPTH):
        having = [place for place in level if find_annotations(place)]
        if having:
            return _grouped([pair for place in having for pair in _voc_entries(place, folder)])
        level = [path for place in level for path in _folders(place)]
    return {}


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__")))


def _voc_entries(place: Path, root: Path) -> Iterator[tuple[str, str]]:
    """(split, entry) of one VOC folder; trainval counts only where train and val are not told apart."""
    below = place.relative_to(root).as_posix()
    prefix = "" if below == "." else f"{below}/"
    voc = VocFolder.open(place)
    lists = {name for name in (*SPLITS, "trainval") if name in voc.lists() and voc.split(name)}
    if not lists & {"train", "trainval"}:
        yield _split_of(below) or "train", f"{prefix}{ALL}"
        return
    if "train" not in lists:
        yield "train", f"{prefix}trainval"
    for split in SPLITS:
        if split in lists and not (split == "val" and "train" not in lists):
            yield split, f"{prefix}{split}"


# --- COCO


def _find_coco(folder: Path) -> Splits:
    files = [path for depth in ("", "*/", "*/*/") for path in sorted(folder.glob(f"{depth}*.json"))]
    instances = [path for path in files if path.name.startswith("instances_")]  # beside captions and keypoints
    found = [(path, file) for path in instances or files if (file := _open_coco(path)) is not None]
    return _grouped([(_coco_split(path, folder), _coco_entry(file, folder)) for path, file in found])


def _open_coco(path: Path) -> CocoFile | None:
    """The file if it is one with boxes."""
    try:
        file = CocoFile.open(path)
    except DataError:
        return None
    return file if any("bbox" in entry for entry in file.annotations) else None


def _coco_split(path: Path, root: Path) -> str:
    folder = path.parent.relative_to(root).as_posix()
    return _split_of(path.stem) or _split_of(folder) or "train"


def _coco_entry(file: CocoFile, root: Path) -> Entry:
    """The annotation file; with its image folder where the reader would not guess it."""
    annotations = file.path.relative_to(root).as_posix()
    name = str(file.images[0].get("file_name")) if file.images else ""
    if not name or (file.image_folder(root) / name).is_file():
        return annotations
    found = next((path for path in root.rglob(Path(name).name) if path.as_posix().endswith(name)), None)
    if found is None:
        return annotations
    folder = found.parents[len(Path(name).parts) - 1]
    return SplitSource(annotations=annotations, images=folder.relative_to(root).as_posix())


# --- YOLO


def _find_yolo(folder: Path) -> Splits:
    """Splits that `data.yaml` names, else lists, else folders whose images have label files."""
    for path in sorted(folder.glob("*.y*ml")):
        splits = _yaml_splits(path, folder)
        if splits:
            return splits
    lists = [(split, f"{split}.txt") for split in SPLITS if _lists_images(folder / f"{split}.txt")]
    return _grouped(lists) if lists else _grouped(_labelled_folders(folder))


def _yaml_splits(path: Path, root: Path) -> Splits:
    try:
        content = DataYaml.open(path)
    except DataError:
        return {}
    found = [(split, place) for split, places in content.splits.items() for place in places]
    return _grouped([(split, _below(place, root)) for split, place in found])


def _below(place: Path, root: Path) -> str:
    place = place.resolve()
    return place.relative_to(root).as_posix() if place.is_relative_to(root) else str(place)


def _lists_images(path: Path) -> bool:
    lines = read_text(path).splitlines() if path.is_file() else []
    return bool(lines) and is_image_file(Path(lines[0].strip()))


def _labelled_folders(folder: Path) -> list[tuple[str, str]]:
    """(split, folder) of every folder whose own images have label files."""
    level, found = [folder], []
    for _ in range(DEPTH):
        having = [place for place in level if _is_labelled(place)]
        found += [(_split_of(_below(place, folder)) or "train", _below(place, folder)) for place in having]
        level = [path for place in level if place not in having for path in _folders(place)]
    return found


def _is_labelled(folder: Path) -> bool:
    images = islice((path for path in folder.iterdir() if is_image_file(path)), PROBED)
    return any(label_file(path).is_file() for path in images)


FINDERS: Mapping[BoxDatasetKind, Callable[[Path], Splits]] = {"voc": _find_voc, "coco": _find_coco, "yolo": _find_yolo}


# --- labels


def _labels(config: DatasetConfig, layout: Layout, track: Track) -> tuple[str, ...]:
    """The names in the data; in the order of a list of names beside them where it has the same ones."""
    listed = listed_names((*sorted(layout.root.glob("*.names")), *(layout.root / name for name in NAME_LISTS)))
    if layout.kind == "yolo":
        return _yolo_labels(layout, listed)
    if layout.kind == "coco":
        return _coco_labels(layout)
    found = read_annotations(config, next(iter(config.splits)), "skip", track).labels.names
    return listed if set(listed) == set(found) else found


def _coco_labels(layout: Layout) -> tuple[str, ...]:
    """Categories of all files by number, without the group that Roboflow writes as number 0."""
    files = [CocoFile.open(layout.root / path) for path in _coco_paths(layout.splits)]
    names = {category: name for file in files for category, name in file.categories.items()}
    used = {entry.get("category_id") for file in files for entry in file.annotations}
    if 0 in names and 0 not in used and len(names) > 1:
        del names[0]
    return tuple(dict.fromkeys(name for _, name in sorted(names.items())))


def _coco_paths(splits: Splits) -> list[str]:
    entries = [entry for part in splits.values() for entry in part]
    return [entry if isinstance(entry, str) else entry.annotations for entry in entries]


def _yolo_labels(layout: Layout, listed: tuple[str, ...]) -> tuple[str, ...]:
    """Names from the YAML file that names the splits, else from a list. Raises `DataError` without any."""
    for path in sorted(layout.root.glob("*.y*ml")):
        if _yaml_splits(path, layout.root):
            return DataYaml.open(path).names
    return listed or yolo_names(layout.root)


# --- the file


def to_yaml(config: DatasetConfig, counts: Mapping[str, str]) -> str:
    """The config as commented YAML; `counts` says in words what each split holds."""
    values = config.model_dump(mode="json")
    lines = [
        f"# {config.name}, recognised by `yolo9k data make config`.",
        f"# {KIND_WORDS[config.kind]}.",
        *(f"# {split}: {text}" for split, text in counts.items()),
        _block("kind", values["kind"]),
        "# a relative root begins at $YOLO9K_DATA (without it: data/)",
        _block("root", values["root"]),
        _block("splits", values["splits"]),
    ]
    if config.holdout:
        lines += [
            "# about this share of train becomes val: where the hash of a file's name is below it",
            _block("holdout", values["holdout"]),
        ]
    lines += ["# their order numbers the labels: leave it alone once a model is trained"]
    return "\n".join([*lines, _block("labels", values["labels"])]) + "\n"


def _block(key: str, value: Any) -> str:
    return yaml.safe_dump({key: value}, sort_keys=False, default_flow_style=False, allow_unicode=True).strip()
