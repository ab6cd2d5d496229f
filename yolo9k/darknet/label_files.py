"""Load the label tree, class names and map that a cfg or a `.data` file refers to.

Darknet resolves such paths against the current folder; here the file's own folder and its parent are searched first.
"""

from collections.abc import Sequence
from pathlib import Path

from yolo9k.darknet.cfg import Cfg
from yolo9k.errors import WeightsError
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
    if "tree" in section.values:
        path = Path(tree) if tree is not None else _find_file(section.values["tree"], cfg.folder)
        labels = None if path is None else read_tree(path, names, _ids_file(path))
    else:
        labels = None if names is None else read_names(names)
    if labels is not None and section.name == "region" and len(labels) != section.get("classes", 20):
        raise section.error("classes", f"{len(labels)} labels for {section.get('classes', 20)} classes")
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
    path = _find_file(str(cfg_map), cfg.folder) if map is None else Path(map)
    if path is None:
        raise cfg.region.error("map", "file not found; pass the path of the map")
    return read_map(path, classes)


def read_data_file(path: str | Path) -> dict[str, Path]:
    """Read the paths of `names` and `tree` from a Darknet `.data` file (key = value; `option_list.c`).

    They are searched next to the file, in its parent folder and in the current folder. Raises `WeightsError` if the
    file is invalid or a path is not found.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    files: dict[str, Path] = {}
    for line_number, line in enumerate(lines, 1):
        key, equals, value = (part.strip() for part in line.partition("="))
        if not line.strip() or line.lstrip()[0] in "#;":
            continue
        if not equals or not key or not value:
            raise WeightsError(f"{path}:{line_number}: expected key = value")
        if key in ("names", "tree"):
            file = _find_file(value, path.parent)
            if file is None:
                raise WeightsError(f"{path}:{line_number}: {key} = {value}: file not found")
            files[key] = file
    return files


def _find_file(path: str, folder: Path) -> Path | None:
    """Find a file that a cfg or `.data` file in `folder` refers to: in `folder`, its parent, or the current folder."""
    folders = (folder, folder.parent, Path())
    candidates = [base / name for base in folders for name in (path, Path(path).name)]
    return next((candidate for candidate in candidates if _is_file(candidate)), None)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # not a valid file name
        return False


def _ids_file(tree: Path) -> Path | None:
    """Return `9k.labels` next to `9k.tree`, if it exists."""
    labels = tree.with_suffix(".labels")
    return labels if labels.is_file() else None
