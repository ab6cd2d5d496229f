"""The label files that a cfg names: `tree=` and `map=`, whose paths Darknet takes from where it was started."""

from collections.abc import Sequence
from pathlib import Path

from yolo9k.darknet.cfg import Cfg
from yolo9k.errors import WeightsError
from yolo9k.wordtree import WordTree, read_map, read_names, read_tree


def find_labels(cfg: Cfg, tree: str | Path | None = None, names: str | Path | None = None) -> WordTree | None:
    """The labels of a cfg: its tree, else names; none where there are neither, or the tree is not here.

    `tree` and `names` are files given by the user, which must be there; names of a tree that nobody gives are its
    ids. Raises `WeightsError` where their number is not the cfg's, or a tree is given that the cfg has no use for,
    `DataError` for what cannot be read.
    """
    section = cfg.classes
    if tree is not None and (section is None or "tree" not in section.values):
        raise WeightsError(f"{cfg.net.source}: has no tree= that {tree} could be")
    if section is None:
        return None
    if "tree" in section.values:
        path = Path(tree) if tree is not None else _find(section.values["tree"], cfg.folder)
        labels = None if path is None else read_tree(path, names, _ids_beside(path))
    else:
        labels = None if names is None else read_names(names)
    if labels is not None and section.name == "region" and len(labels) != section.get("classes", 20):
        raise section.error("classes", f"{section.get('classes', 20)}, but there are {len(labels)} labels")
    return labels


def find_map(cfg: Cfg, classes: int, map: str | Path | Sequence[int] | None = None) -> tuple[int, ...] | None:
    """The nodes that the classes of a data set mean: given as a file or numbers, else the cfg's `map=`, if any.

    Raises `WeightsError` where the cfg names a file that is not here, `DataError` for a wrong one.
    """
    if map is not None and not isinstance(map, str | Path):
        return tuple(map)
    written = cfg.region.values.get("map")
    if map is None and written is None:
        return None
    path = _find(str(written), cfg.folder) if map is None else Path(map)
    if path is None:
        raise cfg.region.error("map", f"{written} is not here; say where the map is")
    return read_map(path, classes)


def _find(written: str, folder: Path) -> Path | None:
    """The file that a text file means: from its own folder, from the one above (`cfg/`, `data/`), from here."""
    folders = (folder, folder.parent, Path())
    candidates = [folder / name for folder in folders for name in (written, Path(written).name)]
    return next((path for path in candidates if _is_file(path)), None)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _ids_beside(tree: Path) -> Path | None:
    """`9k.labels` beside `9k.tree`, where it is there."""
    labels = tree.with_suffix(".labels")
    return labels if labels.is_file() else None


def read_data_file(path: str | Path) -> dict[str, Path]:
    """The `names` and `tree` that a Darknet `.data` file (key = value) names, as far as they are found.

    They are looked for beside the file, in the folder above, and from here. Raises `WeightsError` for what is no such
    file or names one that is not here.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    found: dict[str, Path] = {}
    for number, line in enumerate(lines, 1):
        key, equals, value = (part.strip() for part in line.partition("="))
        if not line.strip() or line.lstrip()[0] in "#;":
            continue
        if not equals or not key or not value:
            raise WeightsError(f"{path}:{number}: expected key = value")
        if key in ("names", "tree"):
            place = _find(value, path.parent)
            if place is None:
                raise WeightsError(f"{path}:{number}: {key} = {value}: is not here")
            found[key] = place
    return found
