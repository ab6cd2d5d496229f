import io
import json

import pytest
from rich.console import Console

from yolo9k.cli import console
from yolo9k.cli.console import table, track, write_json
from yolo9k.errors import MachineError


def text_of(made):
    target = Console(file=io.StringIO(), width=100)
    target.print(made)
    return target.file.getvalue()


def test_tables_round_numbers_and_ignore_markup():
    lines = text_of(table("Scores", ["label", "AP"], [("[red]cat", 0.12345), ("dog", 7)])).splitlines()
    assert lines[0].strip() == "Scores"
    assert lines[2].split() == ["[red]cat", "0.123"]
    assert lines[3].split() == ["dog", "7"]


def test_json_to_a_file_creates_its_folder(tmp_path):
    write_json(str(tmp_path / "new" / "a.json"), {"ä": (1, 2.5), 3: [float("nan"), float("inf"), -float("inf"), None]})
    text = (tmp_path / "new" / "a.json").read_text(encoding="utf-8")
    assert "ä" in text
    assert json.loads(text, parse_constant=pytest.fail) == {"ä": [1, 2.5], "3": [None] * 4}


def test_json_to_standard_output(capsys):
    write_json("-", [1])
    assert json.loads(capsys.readouterr().out) == [1]


def test_json_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(MachineError, match=r"file/a.json: cannot be written: "):
        write_json(str(tmp_path / "file" / "a.json"), {})


@pytest.mark.parametrize("terminal", [True, False])
def test_tracking_yields_the_same_items(monkeypatch, terminal):
    text = io.StringIO()
    monkeypatch.setattr(console, "err", Console(file=text, force_terminal=terminal, width=80))
    assert list(track(range(3), "Reading")) == [0, 1, 2]
    assert list(track((i for i in range(3)), "Reading", 3)) == [0, 1, 2]
    assert ("Reading" in text.getvalue()) == terminal
