"""Find the shipped configs by name, with or without `.yaml`."""

from functools import cache
from pathlib import Path

from yolo9k.io import exists, expanded, is_file, is_folder

SUFFIXES = (".yaml", ".yml")


@cache
def folder() -> Path:
    """Return the folder of the shipped configs: in the installed package, or beside it in a source checkout."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def _names(base: Path) -> list[str]:
    return sorted(path.relative_to(base).with_suffix("").as_posix() for path in base.rglob("*.yaml"))


def config_names() -> list[str]:
    """Return the names of the shipped training configs."""
    return [name for name in _names(folder()) if not name.startswith("datasets/")]


def dataset_names() -> list[str]:
    """Return the names of the shipped data set configs."""
    return _names(folder() / "datasets")


def find(name: str, *, dataset: bool = False) -> Path | None:
    """Return the file that `name` means: an existing path, else a catalogue entry, else `None`."""
    path = expanded(name)
    if exists(path) and not is_folder(path):
        return path
    base = folder() / "datasets" if dataset else folder()
    stem = name.removesuffix(".yaml").removesuffix(".yml")
    entry = base / f"{stem}.yaml"
    # a name must not leave the catalogue
    return entry if is_file(entry) and base.resolve() in entry.resolve().parents else None
