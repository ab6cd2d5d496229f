"""The label files that a cfg means, and where they are looked for."""

import pytest

from yolo9k.darknet.cfg import read_cfg
from yolo9k.darknet.label_files import find_labels, find_map, read_data_file
from yolo9k.errors import DataError, WeightsError

CFG = "[net]\nwidth=8\nheight=8\nchannels=3\n[conv]\nfilters=8\n[region]\nclasses=3\n"


@pytest.fixture
def cfg(tmp_path, monkeypatch):
    """`cfg(options)` is that of a detector in the folder `here/cfg`, read from another folder."""
    folder = tmp_path / "here" / "cfg"
    folder.mkdir(parents=True)
    (tmp_path / "started").mkdir()
    monkeypatch.chdir(tmp_path / "started")

    def make(options=""):
        (folder / "a.cfg").write_text(CFG + options)
        return read_cfg(folder / "a.cfg")

    return make


@pytest.mark.parametrize("place", ["here/cfg/data", "here/cfg", "here/data", "here", "started/data", "started"])
def test_a_map_is_found_where_people_keep_it(cfg, tmp_path, place):
    (tmp_path / place).mkdir(exist_ok=True)
    (tmp_path / place / "a.map").write_text("2\n0\n")
    assert find_map(cfg("map = data/a.map\n"), 3) == (2, 0)


def test_a_map_that_is_given_comes_first(cfg, tmp_path):
    read = cfg("map=data/a.map\n")
    with pytest.raises(WeightsError, match=r"a\.cfg:9: \[region\] map: data/a\.map is not here; say where the map is"):
        find_map(read, 3)
    (tmp_path / "b.map").write_text("1\n")
    assert find_map(read, 3, tmp_path / "b.map") == (1,)
    assert find_map(read, 3, [2, 2]) == (2, 2)
    assert find_map(cfg(), 3) is None


def test_a_node_that_the_network_does_not_have_is_refused(cfg, tmp_path):
    (tmp_path / "b.map").write_text("1\n3\n")
    with pytest.raises(DataError, match=r"b\.map:2: node must be a whole number, 0 to 2, not '3'"):
        find_map(cfg(), 3, tmp_path / "b.map")


def test_names_are_as_many_as_classes(cfg, tmp_path):
    (tmp_path / "a.names").write_text("a\nb\nc\n\n")
    assert find_labels(cfg(), names=tmp_path / "a.names").names == ("a", "b", "c")
    assert find_labels(cfg()) is None
    (tmp_path / "a.names").write_text("a\nb\n")
    with pytest.raises(WeightsError, match=r"a\.cfg:8: \[region\] classes: 3, but there are 2 labels"):
        find_labels(cfg(), names=tmp_path / "a.names")


@pytest.mark.parametrize(
    "written", ["\ufeffnames = my names.txt\n", "# x\r\n; y\r\n\r\nnames= my names.txt \r\ntop=5\r\n"]
)
def test_a_data_file_is_read_as_darknet_does(tmp_path, written):
    (tmp_path / "my names.txt").write_text("a\n")
    (tmp_path / "a.data").write_bytes(written.encode())
    assert read_data_file(tmp_path / "a.data") == {"names": tmp_path / "my names.txt"}
