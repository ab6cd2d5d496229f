import errno
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from yolo9k import cli
from yolo9k.cli.console import write_json
from yolo9k.cli.outputs import check_outputs, open_output
from yolo9k.drawing import FIGURE_FORMATS, save_figure, save_image
from yolo9k.errors import ConfigError, MachineError


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
        overwrite=True,
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


@pytest.mark.parametrize("target", ["link", "link/deep"])
def test_folders_behind_links_that_lead_nowhere(here, target):
    (here / "link").symlink_to("nowhere")
    with pytest.raises(MachineError, match=f"--txt {target}: cannot be written: .*link to nothing"):
        check_outputs(folders={"--txt": target})
    check_outputs({"--json": target})  # a file is written where the link leads


def test_a_file_is_checked_where_its_link_leads(here):
    (here / "link").symlink_to("file/a.json")
    with pytest.raises(MachineError, match=r"--json link: cannot be written: .*file is a file"):
        check_outputs({"--json": "link"})


@pytest.mark.skipif(os.name == "nt", reason="Windows finds out only when it writes")
def test_a_name_that_is_too_long(here):
    with pytest.raises(MachineError, match="cannot be written: File name too long"):
        check_outputs({"--json": "a" * 5000})


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_read_only(here):
    (here / "folder").chmod(0o500)
    with pytest.raises(MachineError, match="--json folder/a: cannot be written: no permission to write folder"):
        check_outputs({"--json": "folder/a"})


@pytest.mark.parametrize(
    ("number", "reason"),
    [(errno.EACCES, "no permission to write folder"), (errno.ENOSPC, "No space left"), (errno.EROFS, "Read-only")],
)
def test_a_file_must_fit_into_the_nearest_existing_folder(here, monkeypatch, number, reason):
    asked = []

    def refuse(dir):
        asked.append(str(dir))
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(MachineError, match=f"--json folder/deep/a: cannot be written: {reason}"):
        check_outputs({"--json": "folder/deep/a"})
    assert asked == ["folder"]


@pytest.mark.skipif(sys.platform != "linux", reason="Linux's devices")
@pytest.mark.parametrize("target", ["/proc/a.json", "/proc/1/deep/a.json", "/dev/full", "/proc/version"])
def test_places_that_take_no_file_also_for_root(here, target):
    with pytest.raises(MachineError, match=f"--json {target}: cannot be written: "):
        check_outputs({"--json": target})


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
def test_pipes_devices_and_standard_output_may_be_written(here):
    os.mkfifo("pipe")
    for target in ("-", "pipe", "/dev/null", "/dev/stdout"):
        check_outputs({"--json": target})


KEPT = {
    "model.pt": b"PK\x03\x04weights",
    "photo.jpg": b"\xff\xd8\xff\xe0a photo",
    "coco.json": b'{"images": [], "annotations": []}',
    "pretty.json": b'{\n  "images": []\n}',
    "indent-1.json": b'{\n "images": [],\n "annotations": []\n}\n',
    "list.json": b'[\n {\n  "file": "a.jpg"\n }\n]\n',
    "own-words.yaml": b"extends: small  # of yolo9k\n",
    "figure.png": b"\x89PNG\r\n\x1a\n made with Matplotlib",
    "other.cfg": b"[net]\nchannels=3\n",
    "labels.txt": b"0 0.5 0.5 0.1 0.1\n",
    "table.csv": b"name,price\n",
}


@pytest.mark.parametrize("option", ["--json", "--results", "--csv", "--plot", "--txt", "--out", "TARGET"])
@pytest.mark.parametrize("name", KEPT)
def test_files_of_others_are_kept_unless_told_otherwise(here, option, name):
    target = here / name
    target.write_bytes(KEPT[name])
    with pytest.raises(ConfigError, match=f"{option} {target}: already exists, .*give --overwrite"):
        check_outputs({option: target})
    with pytest.raises(ConfigError, match="already exists"):
        check_outputs({option: ["new", target]})
    check_outputs({option: target}, overwrite=True)
    target.write_bytes(b"")
    check_outputs({option: target})


def test_results_of_the_same_option_are_replaced_without_asking(here):
    write_json("a.json", {"a": [1]})
    write_json("list.json", [{"image_id": 1}])
    write_json("empty.json", [])
    save_image("drawn.jpg", np.zeros((9, 9, 3), np.uint8))
    save_image("plots/augmented.png", np.zeros((9, 9, 3), np.uint8))
    plots = [f"plot{suffix}" for suffix in FIGURE_FORMATS]
    for name in [*plots, "plots/curve.png"]:
        figure = Figure()
        figure.subplots().scatter(*np.random.default_rng(0).random((2, 500)), s=np.arange(500))
        save_figure(Path(name), figure)
    (here / "a.txt").write_text("3 0.5 0.5 0.1 0.25 0.98765\n")
    (here / "a.csv").write_text("file,label,score,left,top,right,bottom\n")
    check_outputs({"--json": ["a.json", "list.json", "empty.json"], "--csv": "a.csv", "--txt": "a.txt"})
    check_outputs({"--plot": plots, "--out": "drawn.jpg"}, {"--plots": "plots"})
    with pytest.raises(ConfigError, match=r"--json drawn.jpg: already exists"):
        check_outputs({"--json": "drawn.jpg"})


def test_plots_are_not_written_among_images_of_others(here):
    (here / "folder" / "images.jpg").write_bytes(KEPT["photo.jpg"])
    with pytest.raises(ConfigError, match=r"--plots folder.images.jpg: already exists"):
        check_outputs(folders={"--plots": "folder"})
    check_outputs(folders={"--plots": "folder"}, overwrite=True)


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
@pytest.mark.parametrize("link", ["same", "symbolic", "hard"])
def test_inputs_are_never_overwritten(here, link):
    write_json("input.json", {})  # even what would be a result
    target = {"same": "folder/../input.json", "symbolic": "link", "hard": "link"}[link]
    if link == "symbolic":
        Path("link").symlink_to("input.json")
    elif link == "hard":
        Path("link").hardlink_to("input.json")
    with pytest.raises(ConfigError, match=f"--json {target}: is an input of this command"):
        check_outputs({"--json": target}, inputs=["yolov2", None, "", here / "input.json"], overwrite=True)


def test_files_of_input_folders_are_kept(here):
    """A run folder, or a data set."""
    (here / "folder" / "last.pt").write_bytes(KEPT["model.pt"])
    write_json("folder/scores.json", {})
    with pytest.raises(ConfigError, match=r"--json folder.last.pt: is a file of the input folder"):
        check_outputs({"--json": "folder/last.pt"}, inputs=["folder"], overwrite=True)
    check_outputs({"--json": "folder/scores.json"}, inputs=["folder"])


def test_two_outputs_are_not_the_same(here):
    for files, folders in (
        ({"--json": "a", "--csv": "folder/../a"}, {}), ({"--json": "-", "--csv": "/dev/stdout"}, {}),
        ({"--json": "new"}, {"--out": here / "new"}),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match="choose another file for one of them"):
            check_outputs(files, folders)


def test_an_output_is_replaced_only_when_it_is_complete(here):
    def stop_half_way():
        with open_output("file") as file:
            file.write("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        stop_half_way()
    assert (here / "file").read_text() == "kept"
    with open_output("file") as file:
        file.write("whole \udcff")
    assert (here / "file").read_text() == "whole \\udcff"
    assert sorted(path.name for path in here.iterdir()) == ["file", "folder"]


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_link_stays_a_link(here):
    Path("link").symlink_to("file")
    write_json("link", [1])
    assert Path("link").is_symlink()
    assert json.loads((here / "file").read_text()) == [1]


def test_a_long_name_can_be_written(here):
    write_json("ä" * 120 + ".json", [])
    assert [path.suffix for path in here.glob("ä*")] == [".json"]


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
