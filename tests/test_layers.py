"""The direction of imports: what is built on what, read from the source without running it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import yolo9k

PACKAGE = Path(yolo9k.__file__).parent

LAYERS = {
    "errors": 0,
    "io": 0,
    "yaml_files": 0,
    "renamed": 0,
    "progress": 0,
    "processes": 1,
    "signals": 0,
    "boxes": 1,
    "samples": 1,
    "anchors": 1,
    "anchor_plots": 1,
    "images": 1,
    "image_formats": 1,
    "placements": 1,
    "hardware": 1,
    "machine": 1,
    "drawing": 1,
    "fetch": 1,
    "pixel_formats": 1,
    "fonts": 1,
    "config": 1,
    "wordtree": 1,
    "datasets": 2,
    "detection": 2,
    "metrics": 2,
    "models": 2,
    "darknet": 3,
    "checkpoint": 3,
    "exported": 3,
    "build": 4,
    "resolve": 4,
    "pretrained": 4,
    "inspection": 4,
    "inference": 5,
    "evaluation": 6,
    "export": 6,
    "training": 6,
    "bench": 7,
    "demo": 7,
    "cli": 8,
    "__main__": 9,
}
NEIGHBOURS = {  # imports inside one layer that are wanted
    "io": {"errors"},
    "yaml_files": {"errors", "io"},
    "anchors": {"boxes"},
    "samples": {"boxes"},
    "anchor_plots": {"anchors", "drawing"},
    "drawing": {"fonts"},
    "hardware": {"machine", "processes"},
    "machine": {"processes"},
    "images": {"image_formats", "pixel_formats"},
    "placements": {"pixel_formats"},
    "training": {"evaluation"},
    "pretrained": {"build"},
}
HEAVY = ("torch", "torchvision", "pydantic", "numpy", "cv2", "albumentations", "matplotlib", "pycocotools")


def part_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_modules(path):
    """Names of modules that a file imports anywhere, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def parts_imported(path):
    """The parts of the package that a file imports; names that `yolo9k` itself offers are none."""
    names = (name.split(".") for name in imported_modules(path))
    return {name[1] for name in names if name[0] == "yolo9k" and len(name) > 1} & set(LAYERS)


SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.name != "__init__.py")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path):
    part = part_of(path)
    assert part in LAYERS, f"{part}: a new part needs its layer here and in docs/design.md"
    for other in parts_imported(path) - {part} - NEIGHBOURS.get(part, set()):
        assert LAYERS[other] < LAYERS[part], f"{path.name} ({part}) imports {other}, which is not below it"


def test_only_commands_print():
    for path in SOURCES:
        calls = (node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))
        names = {node.func.id for node in calls if isinstance(node.func, ast.Name)}
        is_program = part_of(path) == "cli" or path.stem == "detect_example"  # the latter is copied beside exports
        assert is_program or "print" not in names, path


def test_one_module_knows_albumentations():
    users = [path for path in SOURCES if part_of(path) != "cli" and "albumentations" in imported_modules(path)]
    assert len(users) <= 1, users


def imported_files(name, seen):
    """The modules of the package that importing `name` imports, except those imported for type checking or late."""
    path = PACKAGE.parent.joinpath(*name.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    if name in seen or not path.is_file():
        return seen
    seen.add(name)
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module.startswith("yolo9k"):
            for other in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names)):
                imported_files(other, seen)
    return seen


def test_inference_needs_no_training_loss():
    modules = imported_files("yolo9k.inference.engines.torch_engine", set())
    assert "yolo9k.detection.class_decoder" in modules
    assert not modules & {"yolo9k.detection.loss", "yolo9k.detection.assign"}


LATE = {"screen"}  # imported by a command when it runs
COMMAND_FILES = [path for path in sorted((PACKAGE / "cli").rglob("*.py")) if path.stem not in LATE]


def module_name(path):
    return ".".join(("yolo9k", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")


@pytest.mark.parametrize("path", COMMAND_FILES, ids=module_name)
def test_each_command_file_starts_without_heavy_imports(path):
    name = module_name(path)
    code = f"import sys, {name}; print(*[m for m in {HEAVY} if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []
