"""What annotation tools export is recognised and read, image by image and box by box (table in docs/datasets.md)."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from layouts import CLASSES, ITEMS, LAYOUTS, OTHER_FORMATS, Export, Layout, image_bytes, read_back

from yolo9k.config import AnyDataset, DatasetConfig
from yolo9k.datasets.autodetect import detect_dataset, open_dataset
from yolo9k.datasets.load import read_annotations
from yolo9k.errors import DataError

TEXT_SUFFIXES = (".txt", ".xml", ".json", ".yaml", ".data", ".names", ".labels")
rows = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=lambda layout: layout.name)


def check(config: AnyDataset, layout: Layout, export: Export) -> None:
    assert isinstance(config, DatasetConfig)
    assert config.kind == layout.kind
    assert read_back(config, export.root) == export.expected
    # VOC names its classes in the objects only: their order is the alphabet's, or that of a list beside them
    order = sorted if layout.kind == "voc" else tuple
    assert order(config.labels) == order(CLASSES)


@rows
def test_an_export_is_recognised_and_read(layout: Layout, tmp_path: Path):
    export = layout.write(tmp_path / "export")
    check(detect_dataset(export.root, holdout=0), layout, export)


@pytest.mark.parametrize(
    "layout", [layout for layout in LAYOUTS.values() if layout.opens], ids=lambda layout: layout.name
)
def test_a_file_of_an_export_is_opened(layout: Layout, tmp_path: Path):
    export = layout.write(tmp_path / "export")
    config = open_dataset(str(export.root / layout.opens))
    assert isinstance(config, DatasetConfig)
    found = read_back(config, export.root)
    if config.holdout:  # without a validation split, a part of train is held out
        found = {"train": {path: boxes for part in found.values() for path, boxes in part.items()}}
    assert found == export.expected
    assert tuple(config.labels) == CLASSES


@pytest.mark.parametrize("write", OTHER_FORMATS, ids=lambda write: write.__name__)
def test_another_format_is_refused(write: Callable[[Export], None], tmp_path: Path):
    export = Export(tmp_path / "export", ITEMS)
    write(export)
    export.lines("classes.txt", CLASSES)
    with pytest.raises(DataError):
        read_annotations(detect_dataset(export.root), "train")


def test_yolo_without_class_names_is_refused(tmp_path: Path):
    export = LAYOUTS["make-sense YOLO"].write(tmp_path / "export")
    (export.root / "classes.txt").unlink()
    with pytest.raises(DataError, match=r"no class names: .*classes\.txt"):
        detect_dataset(export.root)


def test_the_document_has_every_row():
    document = Path(__file__).parents[2] / "docs" / "datasets.md"
    cells = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in document.read_text("utf-8").splitlines()]
    documented = [tuple(row[:4]) for row in cells if row and row[0] in LAYOUTS]
    assert documented == [(row.name, row.kind, row.opens, ", ".join(row.splits)) for row in LAYOUTS.values()]


# --- disturbed exports


def add_foreign_files(root: Path) -> None:
    """Add what Jupyter, macOS, Windows and network storage leave in folders: copies, previews, resource forks."""
    for folder in [root, *(path for path in root.rglob("*") if path.is_dir())]:
        for path in [path for path in folder.iterdir() if path.is_file()][:4]:
            for copy in (f".ipynb_checkpoints/{path.stem}-checkpoint{path.suffix}", f".Trash-1000/files/{path.name}"):
                (folder / copy).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, folder / copy)
            resource = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X"
            for name in (f"._{path.name}", f"__MACOSX/._{path.name}"):
                (folder / name).parent.mkdir(exist_ok=True)
                (folder / name).write_bytes(resource)
            preview = folder / "@eaDir" / path.name / "SYNOPHOTO_THUMB_M.jpg"
            preview.parent.mkdir(parents=True, exist_ok=True)
            preview.write_bytes(image_bytes("preview", ".jpg", (24, 16)))
        for name in ("Thumbs.db", "desktop.ini", ".DS_Store"):
            (folder / name).write_bytes(b"\xd0\xcf\x11\xe0")


def text_files(root: Path) -> Iterator[Path]:
    yield from (path for path in root.rglob("*") if path.is_file() and path.suffix in TEXT_SUFFIXES)


def rewrite(change: Callable[[str], bytes]) -> Callable[[Path], None]:
    """Return a disturbance that rewrites every text file."""

    def disturb(root: Path) -> None:
        for path in text_files(root):
            path.write_bytes(change(path.read_text(encoding="utf-8")))

    return disturb


def to_utf16(text: str) -> bytes:
    return text.replace('encoding="utf-8"', 'encoding="utf-16"').encode("utf-16")


def capitalise_folders(root: Path) -> None:
    """Rename `images` and `labels` to `Images` and `Labels`, and the paths in files with them."""
    for name in ("images", "labels"):
        within_a_path = re.compile(rf"(?<=[/\\]){name}\b|\b{name}(?=[/\\])")
        for path in text_files(root):
            path.write_bytes(within_a_path.sub(name.title(), path.read_text(encoding="utf-8")).encode("utf-8"))
        for folder in sorted((path for path in root.rglob(name) if path.is_dir()), reverse=True):
            folder.rename(folder.with_name(name.title()))


DISTURBANCES: dict[str, Callable[[Path], None]] = {
    "foreign files": add_foreign_files,
    "byte order mark": rewrite(lambda text: text.encode("utf-8-sig")),
    "Windows line ends": rewrite(lambda text: text.replace("\n", "\r\n").encode("utf-8")),
    "UTF-16": rewrite(to_utf16),
    "capital letters": capitalise_folders,
}


@rows
@pytest.mark.parametrize("disturb", DISTURBANCES.values(), ids=DISTURBANCES.keys())
def test_a_disturbed_export_is_read_the_same(layout: Layout, disturb: Callable[[Path], None], tmp_path: Path):
    export = layout.write(tmp_path / "export")
    disturb(export.root)
    if disturb is capitalise_folders:
        for images in export.expected.values():
            for path in list(images):
                images[re.sub(r"(^|/)images/", r"\1Images/", path)] = images.pop(path)
    check(detect_dataset(export.root, holdout=0), layout, export)


@rows
def test_an_export_is_read_after_it_was_moved(layout: Layout, tmp_path: Path):
    export = layout.write(tmp_path / "export")
    export.root = export.root.rename(tmp_path / "moved")
    check(detect_dataset(export.root, holdout=0), layout, export)


class Entries:
    """What `os.scandir` returns, in another order."""

    def __init__(self, entries: list) -> None:
        self.entries = entries

    def __enter__(self) -> Iterator:
        return iter(self.entries)

    def __exit__(self, *_: object) -> None: ...

    def __iter__(self) -> Iterator:
        return iter(self.entries)

    def close(self) -> None: ...


@pytest.fixture
def disk_order(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Set the order in which folders are listed: by name, or reversed."""
    scandir, listdir = os.scandir, os.listdir

    def set_order(reverse: bool) -> None:
        def scan(*args) -> Entries:
            with scandir(*args) as entries:
                return Entries(sorted(entries, key=lambda entry: entry.name, reverse=reverse))

        monkeypatch.setattr(os, "scandir", scan)
        monkeypatch.setattr(os, "listdir", lambda *args: sorted(listdir(*args), reverse=reverse))

    return set_order


@rows
def test_the_order_of_the_disk_changes_nothing(layout: Layout, tmp_path: Path, disk_order: Callable[[bool], None]):
    export = layout.write(tmp_path / "export")
    configs = []
    for reverse in (False, True):
        disk_order(reverse)
        listed = [path.name for path in export.root.iterdir()]
        assert listed == sorted(listed, reverse=reverse)
        configs.append(detect_dataset(export.root))
    assert configs[0] == configs[1]
    check(detect_dataset(export.root, holdout=0), layout, export)
