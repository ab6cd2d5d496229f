"""docs/design.md is true: its program runs, and the files it names exist."""

import re
from pathlib import Path

import torch
from toy_data import write_toy

from yolo9k.config import dump

REPOSITORY = Path(__file__).resolve().parent.parent
TEXT = (REPOSITORY / "docs" / "design.md").read_text(encoding="utf-8")


def test_the_training_step_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    toy = write_toy(tmp_path, {"train": 8, "val": 2}, side_px=64)
    Path("cells.yaml").write_text(dump(toy))
    (program,) = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    names = {}
    torch.manual_seed(0)
    exec(program, names)  # the document's own text
    assert names["seen"] == 6
    assert bool(names["loss"].isfinite())


def test_the_files_exist():
    named = set(re.findall(r"`([\w/]+\.py)", TEXT))
    missing = [name for name in named if not any((REPOSITORY / base / name).is_file() for base in ("", "yolo9k"))]
    allowed = {"classification.py"}  # beside the file named before it
    assert set(missing) <= allowed


def test_the_folders_of_the_package_are_in_the_table_of_layers():
    parts = {path.name for path in (REPOSITORY / "yolo9k").iterdir() if not path.name.startswith("__")}
    table = TEXT[TEXT.index("## Layers") : TEXT.index("## Conventions")]
    assert all(f"`{part}`" in table or f"`{part}/`" in table for part in parts - {"py.typed", "configs"})
