"""`yolo9k tree`: build, draw and check label trees."""

import json
import sys
from pathlib import Path

import pytest

from yolo9k import cli

TEXT = "animal\n  dog (hound)\n    poodle [n02113335]\n    terrier\n  cat\nvehicle\n  car\n"
NOUNS = """00001930 03 n 01 physical_entity 0 000 | x
00002000 03 n 01 animal 0 001 @ 00001930 n 0000 | x
00003000 03 n 01 dog 0 001 @ 00002000 n 0000 | x
00004000 03 n 01 cat 0 001 @ 00002000 n 0000 | x
00005000 03 n 01 idea 0 000 | x
"""


@pytest.fixture
def tree(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.txt").write_text(TEXT)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["yolo9k", "tree", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        return (stopped.value.code or 0, *capsys.readouterr())

    return run


def test_a_taxonomy_becomes_darknet_files(tree, tmp_path):
    code, out, _ = tree("build", "--taxonomy", "mine.txt", "-o", "out/mine")
    assert code == 0
    assert "7 nodes, 4 leaves, 3 levels" in out
    assert (tmp_path / "out" / "mine.tree").read_text().splitlines()[:3] == ["animal -1", "vehicle -1", "dog 0"]
    assert (tmp_path / "out" / "mine.names").read_text().splitlines()[-3:] == ["poodle", "terrier", "car"]
    code, out, _ = tree("show", "out/mine.tree", "--under", "dog")
    assert code == 0
    assert out.splitlines()[:3] == ["dog", "├── poodle n02113335", "└── terrier"]


def test_depth_and_roots(tree):
    _, out, _ = tree("show", "mine.txt", "--depth", 1)
    assert out.splitlines()[:3] == ["mine.txt", "├── animal", "└── vehicle"]


def test_wordnet_ids(tree, tmp_path):
    (tmp_path / "data.noun").write_text(NOUNS)
    (tmp_path / "ids.txt").write_text("n00003000\nn00004000\nn00005000\nn99999999\nn00003000\n")
    code, out, err = tree("build", "--labels", "ids.txt", "--wordnet", ".", "-o", "joint")
    assert code == 0, err
    assert "3 nodes, 2 leaves, 2 levels" in out
    for line in ("duplicate: n00003000", "unknown: n99999999", "unreachable: n00005000"):
        assert line in err
    assert (tmp_path / "joint.names").read_text() == "animal\ndog\ncat\n"


def test_folders_named_after_wordnet_ids_are_labels(tree, tmp_path):
    (tmp_path / "data.noun").write_text(NOUNS)
    for name in ("n00004000", "n00003000", ".hidden"):
        (tmp_path / "imagenet" / name).mkdir(parents=True)
    code, out, err = tree("build", "--labels", "imagenet", "--wordnet", ".", "-o", "joint")
    assert (code, err) == (0, "")
    assert "3 nodes, 2 leaves, 2 levels" in out
    code, _, err = tree("build", "--labels", "imagenet/n00003000", "--wordnet", ".", "-o", "other")
    assert code == 3
    assert "--labels imagenet/n00003000: contains no folders" in err


def test_check_counts_and_warnings(tree):
    code, _, _ = tree("check", "mine.txt", "--json", "facts.json")
    assert code == 0
    facts = json.loads(Path("facts.json").read_text())
    assert facts["counts"] == {
        "nodes": 7, "roots": 2, "leaves": 4, "sibling groups": 4, "largest group": 2, "groups of one": 1,
        "deepest level": 2,
    }  # fmt: skip
    assert facts["warnings"] == ["1 nodes have no siblings, so their conditional probability is always 1: car"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["build"], 2, "give either --taxonomy FILE or --labels FILE"),
        (["build", "--taxonomy", "gone.txt"], 3, "gone.txt: cannot be read"),
        (["build", "--labels", "mine.txt", "--wordnet", "nowhere"], 3, "no data.noun of WordNet 3.0 in nowhere"),
        (["show", "mine.txt", "--under", "wolf"], 3, "'wolf' is not a label of this set"),
        (["build", "--taxonomy", "mine.txt", "-o", "mine.txt/x"], 6, "mine.txt/x.tree: cannot be written"),
        (["check", "gone.tree"], 3, "gone.tree: no such file"),
        (["check", "gone.tree", "--json", "."], 6, "--json .: cannot be written: it is a folder, a file is needed"),
    ],
)
def test_error_messages_are_one_line(tree, arguments, code, message):
    found, _, err = tree(*arguments)
    assert (found, err.count("\n")) == (code, 1)
    assert message in err


def test_check_reports_the_supervision_of_labels(tree, zoo):
    (zoo / "kinds" / "wolf").mkdir()
    (zoo / "kinds" / "wolf" / "1.png").touch()
    code, out, err = tree("check", zoo / "zoo.txt", "--dataset", zoo / "joint.yaml", "--json", "facts.json")
    assert code == 0, err
    facts = json.loads(Path("facts.json").read_text())
    assert facts["supervision"] == {
        "box": ["animal", "vehicle", "dog", "car"], "image-level": ["n1", "terrier"], "none": ["cat", "bus"],
    }  # fmt: skip
    boxes, images = facts["datasets"]
    assert boxes == {
        "name": "boxes", "split": "train", "labels": "boxes", "images": 4, "count": 8, "classes": 2, "nodes": 2,
        "unmapped": {},
    }  # fmt: skip
    assert (images["labels"], images["count"], images["unmapped"]) == ("images", 6, {"wolf": "no node"})
    for line in (
        "box: 4 of 8 labels: animal, vehicle, dog, car",
        "image-level: 2 of 8 labels: poodle, terrier",
        "none: 2 of 8 labels: cat, bus",
        "kinds: wolf: no node",
    ):
        assert line in out


def test_check_joins_data_sets(tree, zoo):
    (zoo / "kinds.yaml").write_text(f"kind: folder\nroot: {zoo}\nsplits: {{train: [kinds]}}\n")
    arguments = ("--dataset", zoo / "boxes.yaml", "--dataset", zoo / "kinds.yaml", "--json", "-")
    code, out, _ = tree("check", zoo / "zoo.txt", *arguments)
    assert code == 0
    assert [each["name"] for each in json.loads(out)["datasets"]] == ["boxes", "kinds"]
    assert json.loads(out)["supervision"]["image-level"] == ["n1", "terrier"]


def test_check_lists_the_first_of_many(tree, tmp_path):
    (tmp_path / "many.txt").write_text("".join(f"label{i}\n" for i in range(30)))
    for number in range(25):
        (tmp_path / "many" / f"class{number:02d}").mkdir(parents=True)
        (tmp_path / "many" / f"class{number:02d}" / "1.png").touch()
    (tmp_path / "many.yaml").write_text(f"kind: folder\nroot: {tmp_path}\nsplits: {{train: [many]}}\n")
    code, out, _ = tree("check", "many.txt", "--dataset", "many.yaml")
    assert code == 0
    assert f"none: 30 of 30 labels: {', '.join(f'label{i}' for i in range(10))}, …" in out
    assert "many: class09: no node" in out
    assert "class10" not in out
    assert "many: … 25 unmapped classes in total" in out


def test_check_with_an_unknown_data_set(tree, zoo):
    code, _, err = tree("check", zoo / "zoo.txt", "--dataset", "nowhere")
    assert (code, err.count("\n")) == (2, 1)
    assert "nowhere: no such data set" in err


def test_deep_trees_are_drawn_as_far_as_they_fit(tree, tmp_path):
    path = tmp_path / "deep.txt"
    path.write_text("".join(f"{' ' * level}n{level}\n" for level in range(2000)))
    code, text, message = tree("show", str(path))
    assert code == 0
    assert "levels fit into the width; see --under" in message
    assert "2000 nodes, 1 leaves, 2000 levels" in text
    assert tree("check", str(path))[0] == 0
    assert tree("build", "--taxonomy", str(path), "-o", str(tmp_path / "deep"))[0] == 0


def test_each_node_is_drawn_on_one_line(tree, tmp_path):
    (tmp_path / "odd.yaml").write_text('"a\\nb":\n  "c\\e": [cat, "x\\ry"]\n')
    code, text, _ = tree("show", "odd.yaml")
    assert code == 0
    assert [line.split("── ")[-1] for line in text.splitlines()[1:-1]] == ["a\\nb", "c\\x1b", "cat", "x\\ry"]


def test_errors_of_writing_a_tree_name_its_source(tree, tmp_path):
    (tmp_path / "spaced.txt").write_text("polar bear\n")
    assert (
        "spaced.txt: 'polar bear': an id in a .tree file must not contain spaces"
        in tree("build", "--taxonomy", "spaced.txt", "-o", "out")[2]
    )


def test_a_names_file_that_is_no_file_is_not_ignored(tree, tmp_path):
    (tmp_path / "a.tree").write_text("cat -1\n")
    (tmp_path / "a.names").mkdir()
    assert "a.names: is a folder; a file is needed" in tree("show", "a.tree")[2]
