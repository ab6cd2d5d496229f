"""The label files of a cfg, and where they are searched."""

import pytest

from yolo9k.darknet.cfg import read_cfg
from yolo9k.darknet.label_files import load_labels, load_map, read_data_file, unread_files
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
    with pytest.raises(WeightsError, match=r"a\.cfg:8: \[region\] classes=3: 2 labels for 3 classes, in "):
        load_labels(cfg(), names=tmp_path / "a.names")


@pytest.mark.parametrize(
    "text", ["\ufeffnames = my names.txt\n", "# x\r\n; y\r\n\r\nnames= my names.txt \r\ntop=5\r\n"]
)
def test_a_data_file_is_parsed_as_in_darknet(tmp_path, text):
    (tmp_path / "my names.txt").write_text("a\n")
    (tmp_path / "a.data").write_bytes(text.encode())
    assert read_data_file(tmp_path / "a.data") == {"names": tmp_path / "my names.txt"}


@pytest.mark.parametrize(
    "path", ["data/9k.map", "./data/9k.map", r"C:\darknet\data\9k.map", r"data\9k.map", "/home/them/data/9k.map",
             "../../data/9k.map", "here/cfg/data/9k.map"],
)  # fmt: skip
def test_a_file_is_found_by_the_longest_tail_of_its_path(cfg, tmp_path, path):
    for folder, node in (("here/data", 2), ("here", 1), ("here/cfg", 0)):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "9k.map").write_text(f"{node}\n")
    assert load_map(cfg(f"map={path}\n"), 3) == (2,)
    (tmp_path / "here" / "data" / "9k.map").unlink()
    assert load_map(cfg(f"map={path}\n"), 3) == (0,)


@pytest.mark.parametrize("option", ["tree", "map"])
@pytest.mark.parametrize("path", ["{tmp}/elsewhere/secret", "../../elsewhere/secret", "link", "linked/secret"])
def test_files_elsewhere_are_refused_with_the_line(cfg, tmp_path, option, path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "secret").write_text("0 -1\n")
    parsed = cfg(f"{option}={path.format(tmp=tmp_path)}\n")
    (tmp_path / "here" / "cfg" / "link").symlink_to(tmp_path / "elsewhere" / "secret")
    (tmp_path / "here" / "cfg" / "linked").symlink_to(tmp_path / "elsewhere")
    for use in (unread_files, load_labels if option == "tree" else lambda cfg: load_map(cfg, 3)):
        with pytest.raises(
            WeightsError, match=rf"a\.cfg:9: \[region\] {option}=.*must be below the folder of this file"
        ):
            use(parsed)


def test_a_data_file_names_no_files_elsewhere(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "secret").write_text("x\n")
    (tmp_path / "a" / "b" / "obj.data").write_text("classes = 1\nnames = ../../secret\n")
    with pytest.raises(WeightsError, match=r"obj\.data:2: names = \.\./\.\./secret: must be below"):
        read_data_file(tmp_path / "a" / "b" / "obj.data")
    (tmp_path / "a" / "obj.names").write_text("x\n")
    (tmp_path / "a" / "b" / "obj.data").write_text("names = D:\\work\\obj.names\n", encoding="utf-16")
    assert read_data_file(tmp_path / "a" / "b" / "obj.data")["names"].resolve() == tmp_path / "a" / "obj.names"


def test_a_missing_file_of_a_cfg_is_no_error_where_it_is_not_read(cfg):
    warnings = unread_files(cfg("tree=none.tree\nmap=none.map\n"))
    assert [warning.split("] ")[1] for warning in warnings] == [
        "tree=none.tree: not read; the labels are those of the data set",
        "map=none.map: not read; the labels are those of the data set",
    ]
