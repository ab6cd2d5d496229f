import io
import json
import logging
import sys

import pytest
from rich.text import Text
from rich.tree import Tree

from yolo9k import __version__
from yolo9k.cli import console
from yolo9k.cli.console import LogHandler, Output, print_document, table, track, write_json
from yolo9k.errors import MachineError

HOSTILE = "\x1b[31m[red]:smile:\x9b2J\r\u202e[/b]\n[link=http://x]"
SHOWN = r"\x1b[31m[red]:smile:\x9b2J\r\u202e[/b]\n[link=http://x]"


def text_of(made):
    target = Output(file=io.StringIO(), width=100)
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
    assert json.loads(text, parse_constant=pytest.fail) == {"yolo9k": __version__, "ä": [1, 2.5], "3": [None] * 4}


def test_json_to_standard_output(capsys):
    write_json("-", [1])
    assert json.loads(capsys.readouterr().out) == [1]


def test_json_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(MachineError, match=r"file/a.json: cannot be written: "):
        write_json(str(tmp_path / "file" / "a.json"), {})


@pytest.mark.parametrize("terminal", [True, False])
def test_no_way_of_printing_lets_escape_sequences_through(monkeypatch, capsys, terminal):
    made = Output(file=io.StringIO(), force_terminal=terminal, color_system=None, width=150)
    monkeypatch.setattr(console, "err", made)
    made.print(HOSTILE)
    made.print(table(HOSTILE, [HOSTILE], [[HOSTILE]]))
    made.print(Tree(Text(HOSTILE.replace("\n", ""))))
    LogHandler().emit(logging.makeLogRecord({"msg": "%s", "args": (HOSTILE,), "levelno": logging.WARNING}))
    list(track([1], HOSTILE))
    text = made.file.getvalue()
    assert text.count(SHOWN) >= 3
    for unsafe in ("\x1b[31m", "\x9b", "\u202e"):
        assert unsafe not in text


@pytest.mark.parametrize("terminal", [True, False])
def test_documents_are_exact_in_files_and_safe_on_terminals(monkeypatch, capsys, terminal):
    monkeypatch.setattr(console, "out", Output(file=io.StringIO(), force_terminal=terminal))
    print_document("a: \u202e1\n")
    assert capsys.readouterr().out == ("a: \\u202e1\n" if terminal else "a: \u202e1\n")


def test_json_keeps_all_characters_and_is_safe_on_a_terminal(capsys):
    for name in (HOSTILE, "\udcff", "\U000e0041", "\x7f"):
        write_json("-", [name])
        text = capsys.readouterr().out
        assert json.loads(text) == [name]
        assert text.replace("\n", "").isprintable()


def test_json_in_an_encoding_without_the_characters(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    write_json("-", ["é苹👩"])
    stream.flush()
    assert json.loads(stream.buffer.getvalue().decode("ascii")) == ["é苹👩"]


@pytest.mark.parametrize("terminal", [True, False])
def test_tracking_yields_the_same_items(monkeypatch, terminal):
    text = io.StringIO()
    monkeypatch.setattr(console, "err", Output(file=text, force_terminal=terminal, width=80))
    assert list(track(range(3), "Reading")) == [0, 1, 2]
    assert list(track((i for i in range(3)), "Reading", 3)) == [0, 1, 2]
    assert ("Reading" in text.getvalue()) == terminal
