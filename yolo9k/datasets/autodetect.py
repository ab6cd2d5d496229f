"""Detect the format of a data set (kind, splits, class names) from its folder or file, and write it as a config.

What is found never depends on the order of the disk: folders are read sorted, without hidden and foreign files. The
split of a file or folder is in its name; if one is called train, those with other names are not used.
"""

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from yolo9k.config import AnyDataset, DatasetConfig, load_dataset_config, updated
from yolo9k.config.datasets import SplitSource
from yolo9k.config.kinds import BOX_KINDS, KINDS, KindName
from yolo9k.datasets.class_mapping import NAME_LISTS, read_class_list
from yolo9k.datasets.load import data_folder, is_held_out, read_annotations
from yolo9k.datasets.readers.coco import CocoFile, parse_id
from yolo9k.datasets.readers.darknet_data import DarknetData
from yolo9k.datasets.readers.data_yaml import DataYaml, find_class_list, is_data_yaml, yolo_names
from yolo9k.datasets.readers.label_files import LabelFinder
from yolo9k.datasets.readers.paths import FileFinder, path_parts
from yolo9k.datasets.readers.records import BadFile, Entry, read_lines, reading_data
from yolo9k.datasets.readers.split_names import SPLIT_OF_WORD, SPLITS, split_of, split_of_path
from yolo9k.datasets.readers.voc import ALL, ANNOTATION_FOLDERS, IMAGE_FOLDERS, VocFolder, find_annotations
from yolo9k.datasets.readers.yolo import OWN_IMAGES
from yolo9k.errors import ConfigError, DataError, shorten
from yolo9k.images import is_image_file, is_image_name
from yolo9k.io import is_file, is_folder, is_hidden, visible_files
from yolo9k.progress import Track, silent

Splits = dict[str, tuple[Entry, ...]]

DEFAULT_HOLDOUT = 0.2
SHARDS_CONFIG = "shards.yaml"
SEARCHES = 16  # bisection steps for the held-out fraction
FEW = 50  # images; the hashes of so few may split them unevenly
DEPTH = 3  # levels of subfolders that are searched
PROBED = 50  # images checked for labels per folder
COCO_KEYS = (b'"images"', b'"annotations"', b'"categories"')
HEAD_BYTES = 1 << 12  # of an XML file: its first element

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Part:
    """A part of a data set: an entry of a split, the split that its `name` means (`None`: unknown), its images."""

    entry: Entry
    name: str
    split: str | None
    images: int


@dataclass(frozen=True)
class Layout:
    """The detected format: the kind, the entries of each split relative to `root`, what else its files say.

    `notes`: a line about each split, and about what is not used.
    """

    kind: KindName
    root: Path
    splits: Splits
    notes: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    extra_columns: int | None = None


def open_dataset(source: str, track: Track = silent) -> AnyDataset:
    """Open a data set by catalogue name or config path, or a folder or file of a tool, whose format is detected.

    Files are `data.yaml` (Ultralytics), `.data` (Darknet), a COCO `.json`, and a `.txt` list of images. Raises
    `ConfigError` and `DataError`.
    """
    path = Path(source).expanduser()
    if is_folder(path) or _is_tool_file(path):
        return detect_dataset(path, track=track)
    return load_dataset_config(source)


def _is_tool_file(path: Path) -> bool:
    if path.suffix.lower() in (".yaml", ".yml"):
        return is_file(path) and is_data_yaml(path)
    return path.suffix.lower() in (".data", ".json", ".txt") and is_file(path)


def open_image_dataset(source: str) -> DatasetConfig:
    """Open a data set with image-level labels by catalogue name or config path, or a folder (see `image_folder`).

    Raises `ConfigError`, also for a joint data set.
    """
    if is_folder(Path(source).expanduser()):
        return image_folder(Path(source).expanduser())
    config = load_dataset_config(source)
    if not isinstance(config, DatasetConfig):
        raise ConfigError(f"{source}: is a joint data set; use one of its sources with image-level labels")
    return config


def image_folder(folder: Path) -> DatasetConfig:
    """Return the config of a folder of tar shards or class folders; `train`, `valid` and `test` in it are splits.

    Shards written by `yolo9k data make shards` have their own config, which is used. Raises `ConfigError` if it is
    wrong, and for a folder of images with boxes.
    """
    root = folder.resolve()
    if is_file(root / SHARDS_CONFIG):
        written = open_image_dataset(str(root / SHARDS_CONFIG))
        return updated(written, {"root": portable_root(root)})  # the folder may have been moved
    shards = _find_shards(root)
    if shards:
        return DatasetConfig(kind="shards", root=portable_root(root), splits=shards, name=root.name)
    named = [(SPLIT_OF_WORD.get(path.name.casefold()), path.name) for path in _folders(root)]
    splits = _grouped([(split, name) for split, name in named if split])
    if "train" not in splits:
        splits = {"train": (".",)}
    elif unused := [name for split, name in named if not split]:
        log.info("%s: not used: the folders %s are no split", root.name, ", ".join(unused))
    for entries in splits.values():
        for entry in entries:
            _refuse_boxes(root / str(entry))
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
    tars = sorted(path.name for path in folder.glob("*.tar") if not is_hidden(path.name))
    folders = _folders(folder)
    if tars and not folders:
        return _grouped([(split_of(name) or "train", name) for name in tars])
    named = [(_exact_split(path.name), path.name) for path in folders if any(path.glob("*.tar"))]
    return _grouped([(split, name) for split, name in named if split])


def detect_dataset(
    source: Path, kind: KindName | None = None, holdout: float = DEFAULT_HOLDOUT, track: Track = silent
) -> DatasetConfig:
    """Detect the format of a data set; without a `val` split, a fraction `holdout` of `train` is held out.

    `source`: its folder, or a file as for `open_dataset`. With few images, the fraction is adjusted so that it holds
    out the intended number. What is found is logged. Raises `DataError` if `source` is missing, or is not a data set
    of `kind` (`None`: of any kind).
    """
    if is_folder(source):
        layout = find_layout(source.resolve(), kind)
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
        names = _image_names(config)
        fraction = _adjusted_holdout(names, holdout)
        config = updated(config, {"holdout": fraction})
        held_out = sum(is_held_out(name, fraction) for name in names)
        notes += [f"val: {held_out:,} of the {len(names):,} train images, held out"] if held_out else []
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


def _image_names(config: DatasetConfig) -> list[str]:
    """Return the names of the training images, by whose hashes some are held out, without reading any."""
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
    for name in (kind,) if kind else BOX_FINDERS:
        layout = BOX_FINDERS[name](folder)
        if layout is not None:
            return layout
    inner = _folders(folder)
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


def portable_root(root: Path) -> str:
    """Return a root as written to a config: relative to the data folder if inside it, else absolute."""
    base = data_folder().resolve()
    return root.relative_to(base).as_posix() if base in root.parents else str(root)


# --- splits


def _exact_split(name: str) -> str | None:
    """Return the split that a name means as a whole: `valid`, `train2017`, but not `aeroplane_train`."""
    return SPLIT_OF_WORD.get(re.sub(r"[^a-z]", "", name.casefold()))


def _grouped(pairs: Sequence[tuple[str, Entry]]) -> Splits:
    """Group entries by split, in the order train, val, test."""
    splits = {split: tuple(entry for name, entry in pairs if name == split) for split in SPLITS}
    return {split: entries for split, entries in splits.items() if entries}


def _assign_splits(kind: KindName, root: Path, parts: Sequence[Part], **facts: Any) -> Layout | None:
    """Return the layout of some parts: those of unknown names are train, unless one is called train.

    What is called trainval is used only if nothing is called train.
    """
    if not parts:
        return None
    is_joined = {part.name: "trainval" in part.name.casefold() for part in parts}
    has_train = any(part.split == "train" and not is_joined[part.name] for part in parts)
    named_train = any(part.split == "train" for part in parts)
    used: list[Part] = []
    unused: list[Part] = []
    for part in parts:
        is_used = not named_train if part.split is None else not (has_train and is_joined[part.name])
        (used if is_used else unused).append(part)
    splits = _grouped([(part.split or "train", part.entry) for part in used])
    return Layout(kind, root, splits, _split_notes(used, unused), **facts)


def _split_notes(used: Sequence[Part], unused: Sequence[Part]) -> tuple[str, ...]:
    notes = []
    for split in SPLITS:
        parts = [part for part in used if (part.split or "train") == split]
        if parts:
            notes.append(f"{split}: " + ", ".join(_describe(part) for part in parts))
    if unused:
        notes.append("not used: " + ", ".join(_describe(part) for part in unused))
    return tuple(notes)


def _describe(part: Part) -> str:
    return f"{part.images:,} image{'' if part.images == 1 else 's'} in {part.name}"


def _folders(folder: Path) -> list[Path]:
    """Return the visible subfolders, sorted. Raises `DataError` for an unreadable folder."""
    with reading_data(folder):
        return sorted(path for path in folder.iterdir() if not is_hidden(path.name) and path.is_dir())


def _levels(folder: Path) -> Iterator[list[Path]]:
    """Yield the folder, its subfolders, and theirs, at most `DEPTH` levels."""
    level = [folder]
    for _ in range(DEPTH):
        yield level
        level = [subfolder for path in level for subfolder in _folders(path)]


def _files(folder: Path, *suffixes: str) -> list[Path]:
    """Return the visible files of a folder with one of the suffixes, in any case, sorted."""
    with reading_data(folder):
        paths = [path for path in folder.iterdir() if path.suffix.lower() in suffixes and not is_hidden(path.name)]
    return sorted(path for path in paths if is_file(path))


# --- Pascal VOC


def _find_voc(folder: Path) -> Layout | None:
    """Return the layout of all folders with XML files of this format."""
    parts: list[Part] = []
    pending, seen = [folder], set[Path]()
    while pending:
        place = pending.pop(0)
        if place.resolve() in seen:  # a link back
            continue
        seen.add(place.resolve())
        with reading_data(place):
            annotations = find_annotations(place)
            has_voc = _are_voc(annotations.values())
        subfolders = _folders(place)
        if has_voc:
            parts += _voc_parts(place, folder)
            if place not in {path.parent for path in annotations.values()}:
                own = (*ANNOTATION_FOLDERS, *IMAGE_FOLDERS)
                subfolders = [path for path in subfolders if path.name.casefold() not in own]
        pending += subfolders
    return _assign_splits("voc", folder, parts)


def _are_voc(paths: Iterable[Path]) -> bool:
    """Return whether XML files have this format; other XML files may lie anywhere."""
    probed = (path.read_bytes()[:HEAD_BYTES] for path in islice(paths, PROBED) if is_file(path))
    return any(b"<annotation" in head.replace(b"\0", b"") for head in probed)  # also in UTF-16


def _voc_parts(folder: Path, root: Path) -> Iterator[Part]:
    """Yield the parts of one VOC folder: its image lists, else its subfolders by split, else all of it."""
    below = folder.relative_to(root).as_posix()
    prefix = "" if below == "." else f"{below}/"
    voc = VocFolder.open(folder)
    lists = {name: len(voc.split(name)) for name in voc.lists() if _exact_split(name)}
    lists = {name: count for name, count in lists.items() if count}
    if lists:
        has_train = any(_exact_split(name) == "train" and name != "trainval" for name in lists)
        for name, count in lists.items():
            split = _exact_split(name)
            if (name == "trainval" and has_train) or (split == "val" and "trainval" in lists and not has_train):
                continue  # the same images
            yield Part(f"{prefix}{name}", f"{prefix}{name}", split, count)
        return
    subfolders: dict[Path, int] = {}
    for path in voc.annotations.values():
        subfolders[path.parent] = subfolders.get(path.parent, 0) + 1
    if any(split_of_path(path.relative_to(folder).as_posix()) for path in subfolders):
        for path, count in subfolders.items():
            name = path.relative_to(root).as_posix()
            yield Part(f"{name}/{ALL}", name, split_of_path(name), count)
        return
    yield Part(f"{prefix}{ALL}", f"{prefix}{ALL}", split_of_path(below), len(voc.annotations))


# --- COCO


def _find_coco(folder: Path) -> Layout | None:
    files = [path for level in _levels(folder) for place in level for path in _files(place, ".json")]
    instances = [path for path in files if path.name.startswith("instances_")]  # beside captions and keypoints
    opened = [file for path in instances or files if (file := _open_coco(path)) is not None]
    if not any(file.annotations for file in opened):
        return None
    return _assign_splits("coco", folder, [_coco_part(file, folder) for file in opened])


def _open_coco(path: Path) -> CocoFile | None:
    """Open a COCO file; `None` if it is not one, or is one of captions. Raises `BadFile` if it is a broken one."""
    try:
        file = CocoFile.open(path)
    except BadFile:
        with reading_data(path):
            content = path.read_bytes()
        if all(key in content for key in COCO_KEYS):
            raise
        return None
    has_boxes = any("bbox" in entry or "segmentation" in entry for entry in file.annotations)
    return file if has_boxes or not file.annotations else None


def _coco_part(file: CocoFile, root: Path) -> Part:
    """Return the annotation file, with its image folder if the reader would search for every image."""
    annotations = file.path.relative_to(root).as_posix()
    split = split_of(file.path.stem) or split_of_path(file.path.parent.relative_to(root).as_posix())
    return Part(_coco_entry(file, root), annotations, split, len(file.images))


def _coco_entry(file: CocoFile, root: Path) -> Entry:
    annotations = file.path.relative_to(root).as_posix()
    name = str(file.images[0].get("file_name")) if file.images else ""
    folders = file.image_folders(root)
    if not name or is_file(folders[0] / name):
        return annotations
    try:
        image = FileFinder(root).find(name, folders, file.path)
    except BadFile:
        return annotations
    depth = len(path_parts(name))
    if not image.as_posix().endswith("/" + name) or len(image.relative_to(root).parts) <= depth:
        return annotations
    return SplitSource(annotations=annotations, images=image.parents[depth - 1].relative_to(root).as_posix())


def _finds_image(file: CocoFile, root: Path) -> bool:
    """Return whether the first image of a file is below `root`; the file may be in a folder beside the images."""
    name = str(file.images[0].get("file_name")) if file.images else ""
    try:
        return bool(FileFinder(root).find(name, file.image_folders(root), file.path))
    except BadFile:
        return False


# --- YOLO


def _find_yolo(folder: Path) -> Layout | None:
    """Return the layout by `data.yaml`, else Darknet's `.data`, else image lists, else folders with label files."""
    tables = [path for path in _files(folder, ".yaml", ".yml") if is_data_yaml(path)]
    for path in sorted(tables, key=lambda path: (path.stem not in ("data", "dataset"), path.name)):
        layout = _data_yaml_layout(path, folder)
        if layout is not None:
            return layout
    for place in (folder, folder / "data", folder / "cfg"):
        for path in _files(place, ".data") if is_folder(place) else ():
            return _darknet_layout(path, folder)
    return _assign_splits("yolo", folder, _image_lists(folder) or _labelled_folders(folder))


def _data_yaml_layout(path: Path, root: Path) -> Layout | None:
    """Return the layout that a `data.yaml` describes; `None` if it names no split."""
    content = DataYaml.open(path)
    for split, text in content.missing.items():
        if split != "test":
            raise DataError(f"{path}: {split}: {shorten(text)} does not exist, also not by its tail below {root}")
        log.warning("%s: %s: %s does not exist; the split cannot be used", path, split, shorten(text))
    parts = [
        Part(_below(place, root), _below(place, root), split, _count_images(place))
        for split, places in content.splits.items()
        for place in places
    ]
    return _assign_splits("yolo", root, parts, labels=content.names, extra_columns=content.extra_columns)


def _darknet_layout(path: Path, root: Path) -> Layout:
    """Return the layout that a Darknet `.data` file describes. Raises `DataError` if it names no images."""
    content = DarknetData.open(path, root)
    parts = [Part(_below(place, root), _below(place, root), split, _count_images(place))
             for split, place in content.splits.items()]  # fmt: skip
    layout = _assign_splits("yolo", root, parts, labels=content.names)
    if layout is None:
        raise DataError(f"{path}: names no list of images: train = or valid =")
    return layout


def _count_images(place: Path) -> int:
    if is_folder(place):
        with reading_data(place):
            return sum(1 for path in visible_files(place) if is_image_file(path))
    return len(read_lines(place)) if is_file(place) else 0


def _below(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _image_lists(folder: Path) -> list[Part]:
    """Return the image lists of a folder; if one has just the name of a split (`train.txt`), only such ones."""
    lists = [path for path in _files(folder, ".txt") if _lists_images(path)]
    exact = [path for path in lists if _exact_split(path.stem)]
    if len(exact) < len(lists) and exact:
        log.info("not used: %s", ", ".join(path.name for path in lists if path not in exact))
    return [Part(path.name, path.name, split_of(path.stem), len(read_lines(path))) for path in exact or lists]


def _lists_images(path: Path) -> bool:
    """Return whether the first line of a text file names an image."""
    try:
        lines = read_lines(path)
    except BadFile:
        return False
    parts = path_parts(lines[0]) if lines else []
    return bool(parts) and is_image_name(parts[-1])


def _labelled_folders(folder: Path) -> list[Part]:
    """Return every folder whose own images have label files; of nested ones the outer, if they mean the same split."""
    finder = LabelFinder(folder)
    images: dict[Path, list[Path]] = {}
    with reading_data(folder):
        for path in visible_files(folder):
            if is_image_file(path):
                images.setdefault(path.parent, []).append(path)
    labelled = [place for place, own in images.items() if any(finder.find(path) for path in own[:PROBED])]
    splits = {place: split_of_path(_below(place, folder)) for place in images}
    parts: list[Part] = []
    covered: list[Path] = []
    for place in sorted(labelled, key=lambda place: (len(place.parts), place)):
        if any(place.is_relative_to(outer) for outer in covered):
            continue
        inner = [other for other in images if other.is_relative_to(place)]
        name = _below(place, folder)
        if all(splits[other] == splits[place] for other in inner):
            covered.append(place)
            parts.append(Part(name, name, splits[place], sum(len(images[other]) for other in inner)))
        else:
            entry = OWN_IMAGES if name == "." else f"{name}/{OWN_IMAGES}"
            parts.append(Part(entry, name, splits[place], len(images[place])))
    seen = [*covered, *labelled]
    without = {place: len(own) for place, own in images.items() if not any(place.is_relative_to(p) for p in seen)}
    if parts and without:
        names = ", ".join(_describe(Part("", _below(place, folder), None, count)) for place, count in without.items())
        log.info("not used, since they have no label files: %s", names)
    return sorted(parts, key=lambda part: part.name)


BOX_FINDERS: Mapping[KindName, Callable[[Path], Layout | None]] = {
    "voc": _find_voc,
    "coco": _find_coco,
    "yolo": _find_yolo,
}


# --- a file that stands for its data set


def _file_layout(path: Path) -> Layout:
    """Return the layout that one file describes; its folder is the root. Raises `DataError`."""
    root, suffix = path.parent, path.suffix.lower()
    if suffix == ".json":
        file = CocoFile.open(path)
        root = next((place for place in (root, root.parent) if _finds_image(file, place)), root)
        return _required(_assign_splits("coco", root, [_coco_part(file, root)]), path)
    if suffix == ".data":
        roots = (root, root.parent)  # Darknet's own lies in `data` or `cfg`, and its paths begin above
        return _darknet_layout(path, next((place for place in roots if DarknetData.fits(path, place)), root))
    if suffix == ".txt":
        part = Part(path.name, path.name, split_of(path.stem), len(read_lines(path)))
        return _required(_assign_splits("yolo", root, [part]), path)
    return _required(_data_yaml_layout(path, root), path)


def _required(layout: Layout | None, path: Path) -> Layout:
    if layout is None:
        raise DataError(f"{path}: names no images of a split train, val or test")
    return layout


# --- labels


def _labels(config: DatasetConfig, layout: Layout, track: Track) -> tuple[str, ...]:
    """Return the class names in the data; in the order of a class list beside them if it has the same names."""
    if layout.kind == "yolo":
        return layout.labels or find_class_list(layout.root) or yolo_names(layout.root)
    if layout.kind == "coco":
        return _coco_labels(layout)
    listed = read_class_list((*_files(layout.root, ".names"), *(layout.root / name for name in NAME_LISTS)))
    names = read_annotations(config, next(iter(config.splits)), "skip", track, silently=True).labels.names
    return listed if set(listed) == set(names) else names


def _coco_labels(layout: Layout) -> tuple[str, ...]:
    """Return the categories of all files by id, without the supercategory that Roboflow writes with id 0."""
    entries = [entry for part in layout.splits.values() for entry in part]
    paths = [entry if isinstance(entry, str) else entry.annotations for entry in entries]
    files = [CocoFile.open(layout.root / path) for path in paths]
    names = {category: name for file in files for category, name in file.categories.items()}
    used = {parse_id(entry.get("category_id")) for file in files for entry in file.annotations}
    if 0 in names and 0 not in used and len(names) > 1:
        del names[0]
    return tuple(dict.fromkeys(name for _, name in sorted(names.items())))


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
