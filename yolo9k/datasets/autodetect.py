"""Detect the format of a data set (kind, splits, class names) from its folder or file, and write it as a config.

What is found never depends on the order of the disk: folders are read sorted, without hidden and foreign files. The
split of a file or folder is in its name; if one is called train, those with other names are not used.
"""

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from yolo9k.config import AnyDataset, DatasetConfig, load_dataset_config, updated
from yolo9k.config.kinds import BOX_KINDS, KINDS, KindName
from yolo9k.config.loading import is_tool_file
from yolo9k.datasets.class_mapping import NAME_LISTS, read_class_list
from yolo9k.datasets.layouts.coco import coco_part, find_coco, finds_image
from yolo9k.datasets.layouts.layout import (
    Layout,
    Part,
    Splits,
    assign_splits,
    files_with,
    grouped,
    subfolders,
)
from yolo9k.datasets.layouts.voc import find_voc
from yolo9k.datasets.layouts.yolo import darknet_layout, data_yaml_layout, describes_splits, find_yolo
from yolo9k.datasets.load import data_folder, is_held_out, read_annotations
from yolo9k.datasets.readers.coco import CocoSummary, without_listed
from yolo9k.datasets.readers.darknet_data import DarknetData
from yolo9k.datasets.readers.data_yaml import yolo_names
from yolo9k.datasets.readers.label_files import LabelFinder, refuse_other_labels
from yolo9k.datasets.readers.records import Entry, read_lines, reading_data
from yolo9k.datasets.readers.split_names import SPLIT_OF_WORD, exact_split, split_of
from yolo9k.errors import ConfigError, DataError, quote
from yolo9k.image_formats import is_image_name
from yolo9k.io import expanded, holds_results, is_file, is_folder, is_hidden, visible_files
from yolo9k.progress import Track, silent

DEFAULT_HOLDOUT = 0.2
SHARDS_CONFIG = "shards.yaml"
SEARCHES = 16  # bisection steps for the held-out fraction
FEW = 50  # images; the hashes of so few may split them unevenly

log = logging.getLogger(__name__)


def open_dataset(source: str, track: Track = silent) -> AnyDataset:
    """Open a data set by catalogue name or config path, or a folder or file of a tool, whose format is detected.

    Files are `data.yaml` (Ultralytics), `.data` (Darknet), a COCO `.json`, and a `.txt` list of images. Raises
    `ConfigError` and `DataError`.
    """
    path = expanded(source)
    if is_folder(path) or is_tool_file(path):
        return detect_dataset(path, track=track)
    return load_dataset_config(source)


def open_image_dataset(source: str) -> DatasetConfig:
    """Open a data set with image-level labels by catalogue name or config path, or a folder (see `image_folder`).

    Raises `ConfigError`, also for a joint data set.
    """
    if is_folder(folder := expanded(source)):
        return image_folder(folder)
    config = load_dataset_config(source)
    if not isinstance(config, DatasetConfig):
        raise ConfigError(f"{source}: is a joint data set; use one of its sources with image-level labels")
    return config


def image_folder(folder: Path) -> DatasetConfig:
    """Return the config of a folder of tar shards or class folders; `train`, `valid` and `test` in it are splits.

    Shards written by `yolo9k data make shards` have their own config, which is used. Raises `ConfigError` if it is
    wrong, and for a folder of images with boxes.
    """
    root = _folder_of_data(folder)
    if is_file(root / SHARDS_CONFIG):
        written = open_image_dataset(str(root / SHARDS_CONFIG))
        return updated(written, {"root": portable_root(root)})  # the folder may have been moved
    shards = _find_shards(root)
    if shards:
        return DatasetConfig(kind="shards", root=portable_root(root), splits=shards, name=root.name)
    named = [(SPLIT_OF_WORD.get(path.name.casefold()), path.name) for path in subfolders(root)]
    splits = grouped([(split, name) for split, name in named if split])
    if "train" not in splits:
        splits = {"train": (".",)}
    elif unused := [name for split, name in named if not split]:
        log.info("%s: not used: the folders %s are no split", root.name, ", ".join(unused))
    for entries in splits.values():
        for entry in entries:
            _refuse_boxes(root / str(entry))
    return DatasetConfig(kind="folder", root=portable_root(root), splits=splits, name=root.name)


def _folder_of_data(folder: Path) -> Path:
    """Return the absolute path of a folder. Raises `DataError` for the root of the file system: all the disk."""
    root = folder.resolve()
    if root == root.parent:
        raise DataError(f"{folder}: is the root of the file system, not a data set")
    return root


def _refuse_boxes(folder: Path) -> None:
    """Raise `ConfigError` for the layout of a data set with boxes: `annotations` (VOC, COCO) or `labels` (YOLO)."""
    names = {path.name.lower() for path in subfolders(folder)}
    if "annotations" in names or {"images", "labels"} <= names:
        raise ConfigError(
            f"{folder}: images with boxes, not class folders; `yolo9k data make crops` cuts class folders out of them"
        )


def _find_shards(folder: Path) -> Splits:
    """Return splits by folders of tar files; without folders, by the names of the tar files."""
    tars = _tar_names(folder)
    folders = subfolders(folder)
    if tars and not folders:
        return grouped([(split_of(name) or "train", name) for name in tars])
    named = [(exact_split(path.name), path.name) for path in folders if exact_split(path.name)]
    return grouped([(split, name) for split, name in named if split and _tar_names(folder / name)])


def _tar_names(folder: Path) -> list[str]:
    """Return the names of the tar files in a folder, sorted. Raises `DataError` for an unreadable folder."""
    with reading_data(folder):
        return sorted(path.name for path in folder.iterdir() if path.suffix == ".tar" and not is_hidden(path.name))


def detect_dataset(
    source: Path, kind: KindName | None = None, holdout: float = DEFAULT_HOLDOUT, track: Track = silent
) -> DatasetConfig:
    """Detect the format of a data set; without a `val` split, a fraction `holdout` of `train` is held out.

    `source`: its folder, or a file as for `open_dataset`. With few images, the fraction is adjusted so that it holds
    out the intended number. What is found is logged. Raises `DataError` if `source` is missing, or is not a data set
    of `kind` (`None`: of any kind).
    """
    if is_folder(source):
        layout = find_layout(_folder_of_data(source), kind)
    elif is_file(source):
        layout = _file_layout(source.resolve())
    else:
        raise DataError(f"{source}: no such folder")
    name = source.resolve().name if is_folder(source) else source.resolve().parent.name
    config = DatasetConfig(
        kind=layout.kind, root=portable_root(layout.root), splits=layout.splits, name=name,
        extra_columns=layout.extra_columns,
    )  # fmt: skip
    config = updated(config, {"labels": _labels(config, layout, track)})
    notes = [KINDS[layout.kind].description, *layout.notes]
    if holdout and "train" in layout.splits and "val" not in layout.splits:
        names = _image_names(config, layout)
        fraction = _adjusted_holdout(names, holdout)
        config = updated(config, {"holdout": fraction})
        held_out = sum(is_held_out(name, fraction) for name in names)
        notes += [f"val: {held_out:,} of the {len(names):,} train images, held out"] if held_out else []
    with suppress(OSError):  # a folder that only lets its files be opened
        with os.scandir(layout.root) as entries:
            results = sorted(entry.name for entry in entries if entry.is_dir() and holds_results(Path(entry)))
        notes += [f"not used: the results of a YOLO tool in {name}" for name in results]
    log.info("%s: %s", config.name, "; ".join(notes))
    return config


def _adjusted_holdout(names: Sequence[str], requested: float) -> float:
    """Return `requested`; for few images a fraction that holds out that many, at least one; 0 if there is only one.

    Hashes split few images unevenly: of six, a fraction of .2 may hold out none or four.
    """
    total = len(names)
    intended = min(max(1, round(requested * total)), total - 1)
    if intended < 1:
        return 0.0
    fraction, low, high, best = requested, 0.0, 1.0, 0.0
    for _ in range(SEARCHES):
        held_out = sum(is_held_out(name, fraction) for name in names)
        if 0 < held_out < total:
            best = fraction
        if held_out == intended or (best and total > FEW):
            break
        low, high = (fraction, high) if held_out < intended else (low, fraction)
        fraction = round((low + high) / 2, 6)
    return best


def _image_names(config: DatasetConfig, layout: Layout) -> list[str]:
    """Return the names of the training images, by whose hashes some are held out, without reading any."""
    if layout.kind == "coco":
        return [name for file in _coco_files(layout, layout.splits["train"]) for name in file.names if name]
    names: list[str] = []

    def leave(name: str) -> bool:
        names.append(name)
        return False

    with suppress(DataError):  # no image is left
        read_annotations(config, "train", "skip", keep=leave)
    return names


def find_layout(folder: Path, kind: KindName | None = None) -> Layout:
    """Return the first kind that `folder` can be read as; enters a folder that contains only one other.

    Raises `DataError` if it is of no kind.
    """
    inner = subfolders(folder)
    if kind in (None, "yolo") and len(inner) == 1 and not describes_splits(folder) and describes_splits(inner[0]):
        return find_layout(inner[0], kind)  # an archive that was unpacked into a folder of its own
    for name in (kind,) if kind else BOX_FINDERS:
        layout = BOX_FINDERS[name](folder)
        if layout is not None:
            if name == "coco" and kind is None:
                _refuse_few_listed(layout)
            return layout
    if len(inner) == 1:
        return find_layout(inner[0], kind)
    orphan = next(iter(LabelFinder(folder).orphans()), None) if kind in (None, "yolo") else None
    if orphan is not None:
        raise DataError(
            f"{folder}: label files such as {orphan.relative_to(folder)} are of no image there; images and labels must "
            "have the same names, in folders such as images and labels"
        )
    formats = "; ".join(KINDS[name].description for name in ((kind,) if kind else BOX_KINDS))
    raise DataError(
        f"{folder}: no annotated images in a known format ({formats}); "
        "for images in class folders use `yolo9k classify`"
    )


def _refuse_few_listed(layout: Layout) -> None:
    """Raise `DataError` if COCO files list few of the images in their folder, and others have YOLO label files.

    A file that the user names, or a config, may list few: it selects them.
    """
    files = _coco_files(layout, [entry for part in layout.splits.values() for entry in part])
    names = [name for file in files for name in file.names]
    with reading_data(layout.root):
        images = [path for path in visible_files(layout.root) if is_image_name(path.name)]
    unlisted = without_listed(images, names)
    if len(unlisted) > len(names):
        problem = f"of {len(images):,} images are in no COCO file such as {files[0].path.name}"
        refuse_other_labels(unlisted, layout.root, layout.root, problem)


def portable_root(root: Path) -> str:
    """Return a root as written to a config: relative to the data folder if inside it, else absolute."""
    base = data_folder().resolve()
    return root.relative_to(base).as_posix() if base in root.parents else str(root)


BOX_FINDERS: Mapping[KindName, Callable[[Path], Layout | None]] = {
    "voc": find_voc,
    "coco": find_coco,
    "yolo": find_yolo,
}


# --- a file that stands for its data set


def _file_layout(path: Path) -> Layout:
    """Return the layout that one file describes; its folder is the root. Raises `DataError`."""
    root, suffix = path.parent, path.suffix.lower()
    if suffix == ".json":
        file = CocoSummary.of(path)
        root = next((place for place in (root, root.parent) if finds_image(file, place)), root)
        return _required(assign_splits("coco", root, [coco_part(file, root)]), path)
    if suffix == ".data":
        roots = (root, root.parent)  # Darknet's own lies in `data` or `cfg`, and its paths begin above
        return darknet_layout(path, next((place for place in roots if DarknetData.fits(path, place)), root))
    if suffix == ".txt":
        part = Part(path.name, path.name, split_of(path.stem), len(read_lines(path)))
        return _required(assign_splits("yolo", root, [part]), path)
    return _required(data_yaml_layout(path, root, root.parent), path)  # it may be in `cfg`, with `path: ..`


def _required(layout: Layout | None, path: Path) -> Layout:
    if layout is None:
        raise DataError(f"{path}: names no images of a split train, val or test")
    return layout


# --- labels


def _labels(config: DatasetConfig, layout: Layout, track: Track) -> tuple[str, ...]:
    """Return the class names in the data; in the order of a class list beside them if it has the same names."""
    if layout.kind == "yolo":
        return layout.labels or yolo_names(layout.root)
    if layout.kind == "coco":
        return _coco_labels(layout)
    listed = read_class_list((*files_with(layout.root, ".names"), *(layout.root / name for name in NAME_LISTS)))
    names = read_annotations(config, next(iter(config.splits)), "skip", track, silently=True).labels.names
    return listed if set(listed) == set(names) else names


def _coco_labels(layout: Layout) -> tuple[str, ...]:
    """Return the categories of all files by id, without the supercategory that Roboflow writes with id 0."""
    files = _coco_files(layout, [entry for part in layout.splits.values() for entry in part])
    names = sorted({(category, name) for file in files for category, name in file.categories.items()})
    used = {category for file in files for category in file.used}
    chosen = [name for category, name in names if category != 0 or 0 in used or len(names) == 1]
    return tuple(dict.fromkeys(chosen))


def _coco_files(layout: Layout, entries: Iterable[Entry]) -> list[CocoSummary]:
    paths = [entry if isinstance(entry, str) else entry.annotations for entry in entries]
    return [CocoSummary.of(layout.root / path) for path in paths]


# --- the file


def to_yaml(config: DatasetConfig, counts: Mapping[str, str]) -> str:
    """Return the config as commented YAML; `counts`: a description of each split."""
    values = config.model_dump(mode="json")
    lines = [
        f"# {quote(config.name)}, detected by `yolo9k data make config`.",
        f"# {KINDS[config.kind].description}.",
        *(f"# {split}: {text}" for split, text in counts.items()),
        _block("kind", values["kind"]),
        "# relative to $YOLO9K_DATA (default: data/), or absolute",
        _block("root", values["root"]),
        _block("splits", values["splits"]),
    ]
    if config.extra_columns is not None:
        lines += ["# numbers after the box in each line, which are not used", f"extra_columns: {config.extra_columns}"]
    if config.holdout:
        lines += [
            "# this fraction of train is held out as val, by a hash of the file name",
            _block("holdout", values["holdout"]),
        ]
    lines += ["# in the order of the label indices: do not change it once a model is trained"]
    return "\n".join([*lines, _block("labels", values["labels"])]) + "\n"


def _block(key: str, value: Any) -> str:
    return yaml.safe_dump({key: value}, sort_keys=False, default_flow_style=False, allow_unicode=True).strip()
