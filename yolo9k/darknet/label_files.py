"""Load the label tree, class names and map that a cfg or a `.data` file refers to.

Darknet resolves such paths against the current folder; here the file's own folder and its parent are searched first,
for the longest tail of the path that exists: the file may come from another machine. Nothing outside of these folders
is read; paths that the user gives are free.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from yolo9k.darknet.cfg import Cfg, Section
from yolo9k.errors import WeightsError, Yolo9kError
from yolo9k.io import exists, is_file, read_lines
from yolo9k.wordtree import WordTree, read_map, read_names, read_tree


def load_labels(cfg: Cfg, tree: str | Path | None = None, names: str | Path | None = None) -> WordTree | None:
    """Load the labels of a cfg: its tree, else the class names; `None` if there are neither or the tree is not found.

    `tree`: path of the tree (default: the cfg's `tree=`). `names`: path of the names (default for a tree: its ids).
    Raises `WeightsError` if the number of labels differs from the cfg's classes, or if `tree` is given for a cfg
    without `tree=`; `DataError` if a file cannot be read.
    """
    section = cfg.label_section
    if tree is not None and (section is None or "tree" not in section.values):
        raise WeightsError(f"{cfg.net.source}: the cfg has no tree=, but a tree was given: {tree}")
    if section is None:
        return None
    path: str | Path | None
    if "tree" in section.values:
        path = Path(tree) if tree is not None else _find_option(section, "tree", cfg.folder)
        labels = None if path is None else read_tree(path, names, _ids_file(Path(path)))
    else:
        path = names
        labels = None if path is None else read_names(path)
    if labels is not None and section.name == "region" and len(labels) != section.get("classes", 20):
        raise section.error("classes", f"{len(labels)} labels for {section.get('classes', 20)} classes, in {path}")
    return labels


def load_map(cfg: Cfg, classes: int, map: str | Path | Sequence[int] | None = None) -> tuple[int, ...] | None:
    """Load the map from the classes of a dataset to nodes; `None` if there is none.

    `map`: a path or the nodes themselves (default: the cfg's `map=`). `classes`: number of nodes. Raises
    `WeightsError` if the cfg's map is not found, `DataError` if a map is invalid.
    """
    if map is not None and not isinstance(map, str | Path):
        return tuple(map)
    cfg_map = cfg.region.values.get("map")
    if map is None and cfg_map is None:
        return None
    path = _find_option(cfg.region, "map", cfg.folder) if map is None else Path(map)
    if path is None:
        raise cfg.region.error("map", "file not found; pass the path of the map")
    return read_map(path, classes)


def read_data_file(path: str | Path) -> dict[str, Path]:
    """Read the paths of `names` and `tree` from a Darknet `.data` file (key = value; `option_list.c`).

    They are searched next to the file, in its parent folder and in the current folder. Raises `WeightsError` if the
    file is invalid or a path is not found.
    """
    path = Path(path)
    files: dict[str, Path] = {}
    for line_number, line in enumerate(read_lines(path, WeightsError.at), 1):
        key, equals, value = (part.strip() for part in line.partition("="))
        if not line.strip() or line.lstrip()[0] in "#;":
            continue
        if not equals or not key or not value:
            raise WeightsError(f"{path}:{line_number}: expected key = value")
        if key in ("names", "tree"):
            fail = partial(WeightsError.at, f"{path}:{line_number}: {key} = {value}")
            file = _find_file(value, path.parent, fail)
            if file is None:
                raise fail("file not found")
            files[key] = file
    return files


def unread_files(cfg: Cfg) -> list[str]:
    """Return a warning for each file that the cfg names and training does not read: the data set has its own labels.

    Raises `WeightsError` with the line for a file outside of the cfg's folders; it may be missing.
    """
    named = [(section, key) for section in cfg.layers for key in ("tree", "map") if key in section.values]
    for section, key in named:
        _find_option(section, key, cfg.folder)
    return [str(section.error(key, "not read; the labels are those of the data set")) for section, key in named]


def _find_option(section: Section, key: str, folder: Path) -> Path | None:
    """Return the file that an option of a cfg in `folder` names; `None` if it does not exist."""
    return _find_file(section.values[key], folder, lambda problem: section.error(key, problem))


def _find_file(text: str, folder: Path, fail: Callable[[str], Yolo9kError]) -> Path | None:
    """Find the file that a cfg or `.data` file in `folder` names: in `folder`, its parent, or the current folder.

    The longest tail of the path that exists is meant, with `/` or a backslash. Raises the error of `fail` if the path,
    or a link below these folders, leads to a file elsewhere.
    """
    folders = (folder, folder.parent if folder.name else folder / "..", Path())
    allowed = "must be below the folder of this file, its parent or the current folder; give the path as an option"
    parts = [part for part in text.replace("\\", "/").split("/") if part not in ("", ".")]
    after_parents = max((index + 1 for index, part in enumerate(parts) if part == ".."), default=0)
    for first in range(after_parents, len(parts)):
        for candidate in (base.joinpath(*parts[first:]) for base in folders):
            if is_file(candidate):
                if not any(candidate.resolve().is_relative_to(base.resolve()) for base in folders):
                    raise fail(f"a link to {candidate.resolve()}; {allowed}")
                return candidate
    if is_file(folder / text):  # also an absolute path
        raise fail(allowed)
    return None


def _ids_file(tree: Path) -> Path | None:
    """Return `9k.labels` next to `9k.tree`, if it exists."""
    labels = tree.with_suffix(".labels")
    return labels if exists(labels) else None
