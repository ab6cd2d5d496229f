import os
import subprocess
import sys

import pytest

from yolo9k import cli
from yolo9k.cli.outputs import check_outputs
from yolo9k.errors import MachineError


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder, which contains a file and a folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("kept")
    (tmp_path / "folder").mkdir()
    return tmp_path


def test_writable_outputs_are_neither_created_nor_changed(here):
    check_outputs(
        files={"--json": "new/deep/a.json", "--csv": here / "file", "--txt": None, "--results": "-", "--plot": ""},
        folders={"--plots": here / "folder", "--out": "new/plots"},
    )
    assert sorted(path.name for path in here.iterdir()) == ["file", "folder"]
    assert (here / "file").read_text() == "kept"


@pytest.mark.parametrize(
    ("files", "folders", "message"),
    [
        ("folder", None, "--x folder: cannot be written: it is a folder, a file is needed"),
        ("file/a.json", None, "--x file/a.json: cannot be written: file is a file, a folder is needed"),
        (None, "file", "--x file: cannot be written: it is a file, a folder is needed"),
        (None, "file/deep/plots", "--x file/deep/plots: cannot be written: file is a file, a folder is needed"),
    ],
)
def test_files_in_the_place_of_folders_and_vice_versa(here, files, folders, message):
    with pytest.raises(MachineError) as raised:
        check_outputs({"--x": files}, {"--x": folders})
    assert str(raised.value).replace(os.sep, "/") == message


@pytest.mark.skipif(os.name == "nt", reason="Windows finds out only when it writes")
def test_a_name_that_is_too_long(here):
    with pytest.raises(MachineError, match="cannot be written: File name too long"):
        check_outputs({"--json": "a" * 5000})


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_read_only(here):
    (here / "folder").chmod(0o500)
    with pytest.raises(MachineError, match="--json folder/a: cannot be written: no permission to write folder"):
        check_outputs({"--json": "folder/a"})


def test_the_nearest_existing_folder_must_be_writable(here, monkeypatch):
    asked = []
    monkeypatch.setattr(os, "access", lambda path, mode: asked.append((str(path), mode)))
    with pytest.raises(MachineError, match="no permission to write folder"):
        check_outputs({"--json": "folder/deep/a"})
    assert asked == [("folder", os.W_OK)]


@pytest.mark.parametrize(
    ("command", "place"),
    [
        (("demo", "--steps", "1", "--out", "file"), "--out file"),
        (("demo", "--steps", "1", "--out", "new", "--json", "folder"), "--json folder"),
        (("bench", "train", "--dataset", "not-looked-at", "--json", "folder"), "--json folder"),
    ],
)
def test_long_commands_check_outputs_first(here, monkeypatch, capsys, command, place):
    monkeypatch.setattr(sys, "argv", ["yolo9k", *command])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 6
    assert capsys.readouterr().err.startswith(f"error: {place}: cannot be written: it is a f")
    assert sorted(path.name for path in here.iterdir()) == ["file", "folder"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGPIPE")
def test_a_closed_pipe_is_not_an_error(tmp_path):
    """As in `yolo9k tree show 9k.tree | head`."""
    taxonomy = tmp_path / "many.txt"
    taxonomy.write_text("".join(f"label {number}\n" for number in range(1500)))
    command = [sys.executable, "-m", "yolo9k", "tree", "show", str(taxonomy)]
    shown = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    shown.stdout.close()
    assert shown.stderr.read() == b""
    assert shown.wait() == 141
