"""Reading Darknet's `.tree`, `.names`, `.labels` and `.map` files, and errors with file and line."""

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yolo9k.errors import DataError
from yolo9k.wordtree import read_map, read_names, read_tree
from yolo9k.wordtree.taxonomy import read_taxonomy

TREE = "animal -1\nthing -1\ncat 0\ndog 0\npoodle 3\n"


@pytest.fixture
def file(tmp_path):
    def write(name, text):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def error_of(reader, *arguments) -> str:
    with pytest.raises(DataError) as caught:
        reader(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_tree_is_read_with_its_own_ids(file):
    tree = read_tree(file("a.tree", TREE))
    assert tree.ids == tree.names == ("animal", "thing", "cat", "dog", "poodle")
    assert tree.parents == (-1, -1, 0, 0, 3)


def test_names_and_ids_are_read_from_separate_files(file):
    names = file(
        "a.names", "Animal\nThing\nCat\nDog\nDog\n\n \n"
    )  # duplicate names and empty lines at the end are allowed
    labels = file("a.labels", "n1\r\nn2\r\nn3\r\nn4\r\nn5\r\n")
    tree = read_tree(file("a.tree", TREE), names, labels)
    assert tree.names == ("Animal", "Thing", "Cat", "Dog", "Dog")
    assert tree.ids == ("n1", "n2", "n3", "n4", "n5")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "a.tree: is empty"),
        ("\n\n", "a.tree: is empty"),
        (b"\xff\xfe\x00", "a.tree: not a text file: byte 2 (0x00, line 1) is not UTF-16"),
        ("a -1\nb\n", "a.tree:2: 'b': a line must be: id parent"),
        ("a -1\nb 0 1\n", "a.tree:2: 'b 0 1': a line must be: id parent"),
        ("a -1\n\nb 0\n", "a.tree:2: empty line"),
        ("a -1\nb x\n", "a.tree:2: parent must be an integer, -1 or more, not 'x'"),
        ("a -1\nb 0.5\n", "a.tree:2: parent must be an integer, -1 or more, not '0.5'"),
        ("a -1\nb -2\n", "a.tree:2: parent must be an integer, -1 or more, not '-2'"),
        (f"a -1\nb {'9' * 5000}\n", f"a.tree:2: parent must be an integer, -1 or more, not '{'9' * 40}…{'9' * 40}'"),
        ("a 0\n", "a.tree:1: label 0 (a): the first node must be a root"),
        ("a -1\nb 1\n", "a.tree:2: label 1 (b): parent 1 must come before its child"),
        ("a -1\nb 7\n", "a.tree:2: label 1 (b): parent 7 must come before its child"),
        ("a -1\nb 0\nc 1\nd 0\n", "a.tree:4: label 3 (d): siblings must be consecutive"),
        ("a -1\nb 0\nc -1\n", "a.tree:3: label 2 (c): siblings must be consecutive"),
        ("a -1\nb 0\na 0\n", "a.tree:3: label 2: 'a' was already label 0 (line 1)"),
    ],
)
def test_errors_in_a_tree_name_the_line(file, text, expected):
    path = file("a.tree", text)
    message = error_of(read_tree, path)
    assert message.startswith(str(path))
    assert expected in message


def test_files_of_different_lengths_and_duplicate_ids(file):
    tree = file("a.tree", TREE)
    assert "short.names: 2 lines for the 5 nodes of " in error_of(read_tree, tree, file("short.names", "a\nb\n"))
    assert "long.labels: 6 lines for" in error_of(read_tree, tree, None, file("long.labels", "a\n" * 6))
    twice = file("twice.labels", "n1\nn2\nn3\nn2\nn5\n")
    assert "twice.labels:4: label 3: 'n2' was already label 1 (line 2)" in error_of(read_tree, tree, None, twice)


def test_missing_files(tmp_path):
    for reader in (read_tree, read_names, lambda path: read_map(path, 3)):
        assert error_of(reader, tmp_path / "none") == f"{tmp_path / 'none'}: no such file"
        assert error_of(reader, tmp_path) == f"{tmp_path}: is a folder; a file is needed"


def test_names_are_a_flat_label_set(file):
    names = read_names(file("a.names", " person\ntraffic light \n\n"))
    assert names.ids == ("person", "traffic light")
    assert names.is_flat


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a\nb\na\n", "a.names:3: label 2: 'a' was already label 0 (line 1)"), ("a\n\nb\n", "a.names:2: empty line"),
     ("", "a.names: is empty")],
)  # fmt: skip
def test_errors_in_names_name_the_line(file, text, expected):
    assert expected in error_of(read_names, file("a.names", text))


def test_a_map_has_the_node_of_each_class(file):
    assert read_map(file("a.map", "4\n0\n 2 \n4\n"), 5) == (4, 0, 2, 4)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1\n5\n", "a.map:2: node must be an integer, 0 to 4, not '5'"),
        ("-1\n", "a.map:1: node must be an integer, 0 to 4, not '-1'"),
        ("1\ncat\n", "a.map:2: node must be an integer, 0 to 4, not 'cat'"),
        ("1\n\n2\n", "a.map:2: empty line"),
        ("", "a.map: is empty"),
    ],
)
def test_errors_in_a_map_name_the_line(file, text, expected):
    assert expected in error_of(read_map, file("a.map", text), 5)


def test_read_the_tree_of_yolo9000(shared):
    folder = shared("golden", "wordtree")
    digest = hashlib.sha256((folder / "9k.tree").read_bytes()).hexdigest()
    assert digest == "124b05033e928707069995e1b61823c80f10fc14d82f84c9cd5575443b61be54"
    tree = read_tree(folder / "9k.tree", folder / "9k.names", folder / "9k.labels")
    assert len(tree) == 9418
    assert len(tree.group_start) - 1 == 1846
    assert sum(parent == -1 for parent in tree.parents) == 4
    assert (tree.child_group < 0).sum() == 7573
    assert tree.depth.max() == 16
    sizes = tree.group_start[1:] - tree.group_start[:-1]
    assert (sizes.max(), (sizes == 1).sum()) == (149, 46)
    coco, inet = read_map(folder / "coco9k.map", 9418), read_map(folder / "inet9k.map", 9418)
    assert (len(set(coco)), len(set(inet))) == (80, 200)
    inner = tree.child_group >= 0
    assert (inner[list(coco)].sum(), inner[list(inet)].sum()) == (44, 71)
    assert len(read_names(folder / "coco.names")) == 80


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends(file, encoding, end):
    names = ("straße", "a\x0bb", "c\u2028d", "犬")  # only line ends divide names
    assert read_names(file("a.names", end.join(names).encode(encoding))).names == names


def test_named_pipes_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "a.tree")
    for reader in (read_tree, read_names, lambda path: read_map(path, 3), read_taxonomy):
        assert error_of(reader, tmp_path / "a.tree") == f"{tmp_path / 'a.tree'}: is a named pipe; a file is needed"


@pytest.mark.parametrize("name", ["\x1b[31mred", "x" * 50_000, "a\x00b"])
def test_names_are_harmless_in_messages(file, name):
    message = error_of(read_names, file("a.names", f"{name}\n{name}\n"))
    assert message.isprintable()
    assert len(message) < 500


@given(st.lists(st.text(), min_size=1))
def test_any_text_is_a_label_file_or_an_error_of_one_line(lines):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "labels"
        path.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
        for reader in (read_tree, read_names, lambda path: read_map(path, 3), read_taxonomy):
            with contextlib.suppress(DataError):
                reader(path)
