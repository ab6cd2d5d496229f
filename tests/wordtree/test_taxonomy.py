"""Taxonomy files as indented text and YAML, and errors with file and line."""

import pytest

from yolo9k.errors import DataError
from yolo9k.wordtree.files import write_tree
from yolo9k.wordtree.taxonomy import open_tree, read_taxonomy

TEXT = """# labels of the detector
animal
  dog (hound, doggy)
    poodle [n02113335] (poodle dog)
    terrier   # all of them

  cat
vehicle
  car
"""
YAML = """
animal:
  dog (hound, doggy):
    - poodle [n02113335] (poodle dog)
    - terrier
  cat:
vehicle: car
"""


@pytest.mark.parametrize(("name", "text"), [("mine.txt", TEXT), ("mine.yaml", YAML), ("bom.txt", "\ufeff" + TEXT)])
def test_text_and_yaml_have_the_same_tree(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    tree = read_taxonomy(tmp_path / name)
    assert tree.ids == ("animal", "vehicle", "dog", "cat", "n02113335", "terrier", "car")
    assert tree.names[4] == "poodle"
    assert tree.parents == (-1, -1, 0, 0, 2, 2, 1)
    assert tree.find("hound") == tree.find("dog") == 2
    assert tree.find("poodle dog") == tree.find("poodle") == tree.find("n02113335") == 4


def test_lists_and_mappings_can_be_mixed(tmp_path):
    (tmp_path / "a.yml").write_text("- shape:\n  - round: [disc, ring]\n  - angular\n- 7\n")
    tree = read_taxonomy(tmp_path / "a.yml")
    assert tree.ids == ("shape", "7", "round", "angular", "disc", "ring")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "a\n  b\na\n", "a.txt:3: 'a' is already defined at .*a.txt:1"),
        ("a.txt", "a\n    b\n  c\n", "a.txt:3: 'c': the indentation matches no line above"),
        ("a.txt", "  a\nb\n", "a.txt:2: 'b': the indentation matches no line above"),
        ("a.txt", "a\n  b\n\tc\n", "a.txt:3: 'c': tabs and spaces are mixed; indent with one of them"),
        ("a.txt", "a\n\tb\n\t  c\n", "a.txt:3: 'c': tabs and spaces are mixed"),
        ("a.txt", "a [x\n", "a.txt:1: 'a .x': a node must be: name .id. .alias, alias."),
        ("a.txt", "a (x)\nb (x)\n", "a.txt:2: alias 'x' already belongs to 'a' at .*a.txt:1"),
        ("a.txt", "# nothing\n\n", "a.txt: contains no nodes"),
        ("a.yaml", "", "a.yaml: contains no nodes"),
        ("a.yaml", "a: [b\n", "a.yaml:2: not YAML"),
        ("a.yaml", "a:\n  b:\n  b:\n", "a.yaml:3: 'b' is already defined at .*a.yaml:2"),
        ("a.yaml", "a: [b,\n  [c, d]]\n", "a.yaml:2: a list in a list has no name"),
        ("a.yaml", "? [a]\n: b\n", "a.yaml:1: a node must be text"),
        ("a.yaml", "".join(f"{{a{i}: " for i in range(250)) + "}" * 250, "a.yaml:1: more than 200 levels"),
    ],
)
def test_errors_name_the_line(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        read_taxonomy(tmp_path / name)


def test_indentation_with_tabs(tmp_path):
    (tmp_path / "a.txt").write_text("a\n\tb\n\t\tc\n\td\ne\n")
    assert read_taxonomy(tmp_path / "a.txt").parents == (-1, -1, 0, 0, 2)


def test_an_alias_equal_to_the_name_is_allowed(tmp_path):
    (tmp_path / "a.txt").write_text("dog [n1] (dog, hound)\n")
    assert read_taxonomy(tmp_path / "a.txt").find("dog") == 0


def test_a_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"gone\.txt: cannot be read: No such file"):
        read_taxonomy(tmp_path / "gone.txt")


def test_a_tree_file_is_opened_with_the_files_next_to_it(tmp_path):
    (tmp_path / "mine.txt").write_text(TEXT)
    taxonomy = open_tree(tmp_path / "mine.txt")
    assert taxonomy == read_taxonomy(tmp_path / "mine.txt")
    write_tree(taxonomy, tmp_path / "mine")
    opened = open_tree(str(tmp_path / "mine.tree"))
    assert (opened.ids, opened.names, opened.parents) == (taxonomy.ids, taxonomy.names, taxonomy.parents)
    (tmp_path / "mine.names").unlink()
    assert open_tree(tmp_path / "mine.tree").names == taxonomy.ids


def test_yaml_names_are_text_as_written(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("no: [yes, 12:30, 007, 1e3, ~, 0x1f, 2020-01-01, 1_000]\non:\n")
    names = ("no", "on", "yes", "12:30", "007", "1e3", "~", "0x1f", "2020-01-01", "1_000")
    assert read_taxonomy(path).names == names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 3000 + "]" * 3000, r"a\.yaml:1: not YAML: exceeded maximum nesting depth"),
        ("\n".join(" " * level + f"n{level}:" for level in range(900)), "more than 200 levels"),
        ("a: &a [b]\nc: *a", r"a\.yaml:1: 'b' is already defined"),
        ("a: !!python/name:os.system x", "the tag 'tag:yaml.org,2002:python/name:os.system' is not supported"),
    ],
)
def test_hostile_yaml(tmp_path, text, message):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_taxonomy(path)


def test_a_tree_of_2000_levels(tmp_path):
    path = tmp_path / "deep.txt"
    path.write_text("".join(f"{' ' * level}n{level}\n" for level in range(2000)))
    tree = read_taxonomy(path)
    assert tree.depth.max() == 1999
    assert open_tree(next(iter(write_tree(tree, tmp_path / "deep")))).parents == tree.parents
