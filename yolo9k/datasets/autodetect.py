"""Detect the format of a data set folder (kind, splits, class names) and write it as a config."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from yolo9k.config import AnyDataset, DatasetConfig, load_dataset_config, updated
from yolo9k.config.datasets import SplitSource
from yolo9k.config.kinds import BOX_KINDS, KINDS, KindName
from yolo9k.datasets.class_mapping import NAME_LISTS, read_class_list
from yolo9k.datasets.load import data_folder, read_annotations
from yolo9k.datasets.readers.coco import CocoFile
from yolo9k.datasets.readers.records import Entry, read_text
from yolo9k.datasets.readers.voc import ALL, VocFolder, find_annotations
from yolo9k.datasets.readers.yolo import DataYaml, label_file, yolo_names
from yolo9k.errors import ConfigError, DataError
from yolo9k.images import is_image_file
from yolo9k.progress import Track, silent

Splits = dict[str, tuple[Entry, ...]]

SPLITS = ("train", "val", "test")
SPLIT_WORD = re.compile(r"(?:^|[^a-z])(train|val|test)(?:ing|id|idation)?(?![a-z])")
DEFAULT_HOLDOUT = 0.2
SHARDS_CONFIG = "shards.yaml"
SEARCHES = 16  # bisection steps for the held-out fraction
FEW = 50  # images; the hashes of so few may split them unevenly
DEPTH = 3  # levels of subfolders that are searched
PROBED = 50  # images checked for labels per folder


@dataclass(frozen=True)
class Layout:
    """The detected format of a folder: the kind, and the entries of each split relative to `root`."""

    kind: KindName
    root: Path
    splits: Splits


def open_dataset(source: str, track: Track = silent) -> AnyDataset:
    """Open a data set by catalogue name or config path, or a folder whose format is detected.

    Raises `ConfigError` and `DataError`.
    """
    if Path(source).expanduser().is_dir():
        return detect_dataset(Path(source).expanduser(), track=track)
    return load_dataset_config(source)


def open_image_dataset(source: str) -> DatasetConfig:
    """Open a data set with image-level labels by catalogue name or config path, or a folder (see `image_folder`).

    Raises `ConfigError`, also for a joint data set.
    """
    if Path(source).expanduser().is_dir():
        return image_folder(Path(source).expanduser())
    config = load_dataset_config(source)
    if not isinstance(config, DatasetConfig):
        raise ConfigError(f"{source}: is a joint data set; use one of its sources with image-level labels")
    return config


def image_folder(folder: Path) -> DatasetConfig:
    """Return the config of a folder of tar shards or class folders; `train`, `val` and `test` in it are splits.

    Shards written by `yolo9k data make shards` have their own config, which is used. Raises `ConfigError` if it is
    wrong, and for a folder of images with boxes.
    """
    root = folder.resolve()
    if (root / SHARDS_CONFIG).is_file():
        written = open_image_dataset(str(root / SHARDS_CONFIG))
        return updated(written, {"root": portable_root(root)})  # the folder may have been moved
    shards = _find_shards(root)
    if shards:
        return DatasetConfig(kind="shards", root=portable_root(root), splits=shards, name=root.name)
    existing = [name for name in SPLITS if (root / name).is_dir()]
    splits: Splits = {name: (name,) for name in existing} if "train" in existing else {"train": (".",)}
    for entry in splits.values():
        _refuse_boxes(root / str(entry[0]))
    return DatasetConfig(kind="folder", root=portable_root(root), splits=splits, name=root.name)


def _refuse_boxes(folder: Path) -> None:
    """Raise `ConfigError` for the layout of a data set with boxes: `annotations` (VOC, COCO) or `labels` (YOLO)."""
    names = {path.name.lower() for path in _folders(folder)}
    if "annotations" in names or {"images", "labels"} <= names:
        raise ConfigError(
            f"{folder}: images with boxes, not class folders; `yolo9k data make crops` cuts class folders out of them"
        )


def _find_shards(folder: Path) -> Splits:
    """Return splits by folders of tar files; without folders, by the names of the tar files."""
    tars = sorted(path.name for path in folder.glob("*.tar"))
    if tars and not _folders(folder):
        return _grouped([(_split_of(name) or "train", name) for name in tars])
    return {name: (name,) for name in SPLITS if any((folder / name).glob("*.tar"))}


def detect_dataset(
    folder: Path, kind: KindName | None = None, holdout: float = DEFAULT_HOLDOUT, track: Track = silent
) -> DatasetConfig:
    """Detect the format of a data set folder; without a `val` split, a fraction `holdout` of `train` is held out.

    With few images, the fraction is adjusted so that it holds out the intended number. Raises `DataError` if the folder
    is missing, or is not a data set of `kind` (`None`: of any kind).
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    layout = find_layout(folder.resolve(), kind)
    config = DatasetConfig(
        kind=layout.kind, root=portable_root(layout.root), splits=layout.splits, name=folder.resolve().name
    )
    config = updated(config, {"labels": _labels(config, layout, track)})
    if holdout and "train" in layout.splits and "val" not in layout.splits:
        config = updated(config, {"holdout": _adjusted_holdout(config, holdout)})
    return config


def _adjusted_holdout(config: DatasetConfig, requested: float) -> float:
    """Return `requested`; for few images a fraction that holds out that many, at least one; 0 if there is only one.

    Hashes split few images unevenly: of six, a fraction of .2 may hold out none or four.
    """
    total = _count(config, "train", 0.0)
    intended = min(max(1, round(requested * total)), total - 1)
    if intended < 1:
        return 0.0
    fraction, low, high, best = requested, 0.0, 1.0, 0.0
    for _ in range(SEARCHES):
        held_out = _count(config, "val", fraction)
        if 0 < held_out < total:
            best = fraction
        if held_out == intended or (best and total > FEW):
            break
        low, high = (fraction, high) if held_out < intended else (low, fraction)
        fraction = round((low + high) / 2, 6)
    return best


def _count(config: DatasetConfig, split: str, holdout: float) -> int:
    """Return the number of images of a split with this held-out fraction."""
    try:
        return len(read_annotations(updated(config, {"holdout": holdout}), split, "skip").records)
    except DataError:
        return 0


def find_layout(folder: Path, kind: KindName | None = None) -> Layout:
    """Return the first kind that `folder` can be read as; enters a folder that contains only one other.

    Raises `DataError` if it is of no kind.
    """
    for name in (kind,) if kind else BOX_FINDERS:
        splits = BOX_FINDERS[name](folder)
        if splits:
            return Layout(name, folder, splits)
    inner = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__"))]
    if len(inner) == 1:
        return find_layout(inner[0], kind)
    formats = "; ".join(KINDS[name].description for name in ((kind,) if kind else BOX_KINDS))
    raise DataError(
        f"{folder}: no annotated images in a known format ({formats}); "
        "for images in class folders use `yolo9k classify`"
    )


def portable_root(root: Path) -> str:
    """Return a root as written to a config: relative to the data folder if inside it, else absolute."""
    base = data_folder().resolve()
    return root.relative_to(base).as_posix() if base in root.parents else str(root)


def _split_of(text: str) -> str | None:
    """Return the split in a folder or file name; `valid` and `validation` mean `val`."""
    words = SPLIT_WORD.findall(text.lower())
    return words[-1] if words else None


def _grouped(pairs: Sequence[tuple[str, Entry]]) -> Splits:
    """Group entries by split, in the order train, val, test."""
    splits = {split: tuple(entry for name, entry in pairs if name == split) for split in SPLITS}
    return {split: entries for split, entries in splits.items() if entries}


# --- Pascal VOC


def _find_voc(folder: Path) -> Splits:
    """Return the splits of a VOC folder, or of all VOC folders on the first level that has any."""
    level = [folder]
    for _ in range(DEPTH):
        annotated = [path for path in level if find_annotations(path)]
        if annotated:
            return _grouped([pair for path in annotated for pair in _voc_entries(path, folder)])
        level = [subfolder for path in level for subfolder in _folders(path)]
    return {}


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__")))


def _voc_entries(folder: Path, root: Path) -> Iterator[tuple[str, str]]:
    """Yield (split, entry) of one VOC folder; trainval is used only without a train list."""
    below = folder.relative_to(root).as_posix()
    prefix = "" if below == "." else f"{below}/"
    voc = VocFolder.open(folder)
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
    opened = [(path, file) for path in instances or files if (file := _open_coco(path)) is not None]
    return _grouped([(_coco_split(path, folder), _coco_entry(file, folder)) for path, file in opened])


def _open_coco(path: Path) -> CocoFile | None:
    """Open a COCO file; `None` if it is not one, or has no boxes."""
    try:
        file = CocoFile.open(path)
    except DataError:
        return None
    return file if any("bbox" in entry for entry in file.annotations) else None


def _coco_split(path: Path, root: Path) -> str:
    folder = path.parent.relative_to(root).as_posix()
    return _split_of(path.stem) or _split_of(folder) or "train"


def _coco_entry(file: CocoFile, root: Path) -> Entry:
    """Return the annotation file, with its image folder if the reader would not find it."""
    annotations = file.path.relative_to(root).as_posix()
    name = str(file.images[0].get("file_name")) if file.images else ""
    if not name or (file.image_folder(root) / name).is_file():
        return annotations
    image = next((path for path in root.rglob(Path(name).name) if path.as_posix().endswith(name)), None)
    if image is None:
        return annotations
    folder = image.parents[len(Path(name).parts) - 1]
    return SplitSource(annotations=annotations, images=folder.relative_to(root).as_posix())


# --- YOLO


def _find_yolo(folder: Path) -> Splits:
    """Return the splits of `data.yaml`, else of image lists, else of folders whose images have label files."""
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
    return _grouped([(split, _below(path, root)) for split, paths in content.splits.items() for path in paths])


def _below(path: Path, root: Path) -> str:
    path = path.resolve()
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _lists_images(path: Path) -> bool:
    lines = read_text(path).splitlines() if path.is_file() else []
    return bool(lines) and is_image_file(Path(lines[0].strip()))


def _labelled_folders(folder: Path) -> list[tuple[str, str]]:
    """Return (split, folder) of every folder whose own images have label files."""
    level, found = [folder], []
    for _ in range(DEPTH):
        labelled = [path for path in level if _is_labelled(path)]
        found += [(_split_of(_below(path, folder)) or "train", _below(path, folder)) for path in labelled]
        level = [subfolder for path in level if path not in labelled for subfolder in _folders(path)]
    return found


def _is_labelled(folder: Path) -> bool:
    images = islice((path for path in folder.iterdir() if is_image_file(path)), PROBED)
    return any(label_file(path).is_file() for path in images)


BOX_FINDERS: Mapping[KindName, Callable[[Path], Splits]] = {"voc": _find_voc, "coco": _find_coco, "yolo": _find_yolo}


# --- labels


def _labels(config: DatasetConfig, layout: Layout, track: Track) -> tuple[str, ...]:
    """Return the class names in the data; in the order of a class list beside them if it has the same names."""
    listed = read_class_list((*sorted(layout.root.glob("*.names")), *(layout.root / name for name in NAME_LISTS)))
    if layout.kind == "yolo":
        return _yolo_labels(layout, listed)
    if layout.kind == "coco":
        return _coco_labels(layout)
    names = read_annotations(config, next(iter(config.splits)), "skip", track).labels.names
    return listed if set(listed) == set(names) else names


def _coco_labels(layout: Layout) -> tuple[str, ...]:
    """Return the categories of all files by id, without the supercategory that Roboflow writes with id 0."""
    entries = [entry for part in layout.splits.values() for entry in part]
    paths = [entry if isinstance(entry, str) else entry.annotations for entry in entries]
    files = [CocoFile.open(layout.root / path) for path in paths]
    names = {category: name for file in files for category, name in file.categories.items()}
    used = {entry.get("category_id") for file in files for entry in file.annotations}
    if 0 in names and 0 not in used and len(names) > 1:
        del names[0]
    return tuple(dict.fromkeys(name for _, name in sorted(names.items())))


def _yolo_labels(layout: Layout, listed: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names in the YAML file with the splits, else in a class list. Raises `DataError` without any."""
    for path in sorted(layout.root.glob("*.y*ml")):
        if _yaml_splits(path, layout.root):
            return DataYaml.open(path).names
    return listed or yolo_names(layout.root)


# --- the file


def to_yaml(config: DatasetConfig, counts: Mapping[str, str]) -> str:
    """Return the config as commented YAML; `counts`: a description of each split."""
    values = config.model_dump(mode="json")
    lines = [
        f"# {config.name}, detected by `yolo9k data make config`.",
        f"# {KINDS[config.kind].description}.",
        *(f"# {split}: {text}" for split, text in counts.items()),
        _block("kind", values["kind"]),
        "# relative to $YOLO9K_DATA (default: data/), or absolute",
        _block("root", values["root"]),
        _block("splits", values["splits"]),
    ]
    if config.holdout:
        lines += [
            "# this fraction of train is held out as val, by a hash of the file name",
            _block("holdout", values["holdout"]),
        ]
    lines += ["# in the order of the label indices: do not change it once a model is trained"]
    return "\n".join([*lines, _block("labels", values["labels"])]) + "\n"


def _block(key: str, value: Any) -> str:
    return yaml.safe_dump({key: value}, sort_keys=False, default_flow_style=False, allow_unicode=True).strip()
