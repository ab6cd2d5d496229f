"""The label files of a cfg, and where they are searched."""

import pytest

from yolo9k.darknet.cfg import read_cfg
from yolo9k.darknet.label_files import load_labels, load_map, read_data_file
from yolo9k.errors import DataError, WeightsError

CFG = "[net]\nwidth=8\nheight=8\nchannels=3\n[conv]\nfilters=8\n[region]\nclasses=3\n"


@pytest.fixture
def cfg(tmp_path, monkeypatch):
    """`cfg(options)` parses a detector's cfg in the folder `here/cfg`; the current folder is `started`."""
    folder = tmp_path / "here" / "cfg"
    folder.mkdir(parents=True)
    (tmp_path / "started").mkdir()
    monkeypatch.chdir(tmp_path / "started")

    def make(options=""):
        (folder / "a.cfg").write_text(CFG + options)
        return read_cfg(folder / "a.cfg")

    return make


@pytest.mark.parametrize("folder", ["here/cfg/data", "here/cfg", "here/data", "here", "started/data", "started"])
def test_a_map_is_searched_in_the_usual_folders(cfg, tmp_path, folder):
    (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / folder / "a.map").write_text("2\n0\n")
    assert load_map(cfg("map = data/a.map\n"), 3) == (2, 0)


def test_a_given_map_takes_precedence(cfg, tmp_path):
    parsed = cfg("map=data/a.map\n")
    with pytest.raises(
        WeightsError, match=r"a\.cfg:9: \[region\] map=data/a\.map: file not found; pass the path of the map"
    ):
        load_map(parsed, 3)
    (tmp_path / "b.map").write_text("1\n")
    assert load_map(parsed, 3, tmp_path / "b.map") == (1,)
    assert load_map(parsed, 3, [2, 2]) == (2, 2)
    assert load_map(cfg(), 3) is None


def test_a_node_outside_the_network_is_refused(cfg, tmp_path):
    (tmp_path / "b.map").write_text("1\n3\n")
    with pytest.raises(DataError, match=r"b\.map:2: node must be an integer, 0 to 2, not '3'"):
        load_map(cfg(), 3, tmp_path / "b.map")


def test_the_number_of_names_must_equal_the_classes(cfg, tmp_path):
    (tmp_path / "a.names").write_text("a\nb\nc\n\n")
    assert load_labels(cfg(), names=tmp_path / "a.names").names == ("a", "b", "c")
    assert load_labels(cfg()) is None
    (tmp_path / "a.names").write_text("a\nb\n")
    with pytest.raises(WeightsError, match=r"a\.cfg:8: \[region\] classes=3: 2 labels for 3 classes"):
        load_labels(cfg(), names=tmp_path / "a.names")


@pytest.mark.parametrize(
    "text", ["\ufeffnames = my names.txt\n", "# x\r\n; y\r\n\r\nnames= my names.txt \r\ntop=5\r\n"]
)
def test_a_data_file_is_parsed_as_in_darknet(tmp_path, text):
    (tmp_path / "my names.txt").write_text("a\n")
    (tmp_path / "a.data").write_bytes(text.encode())
    assert read_data_file(tmp_path / "a.data") == {"names": tmp_path / "my names.txt"}
