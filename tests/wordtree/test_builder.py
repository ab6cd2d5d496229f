"""Built trees equal those of an independent implementation (golden `wordtree/case_*.json`), and small cases by hand."""

import json

import pytest

from yolo9k.errors import DataError
from yolo9k.wordtree import read_tree
from yolo9k.wordtree.builder import build_tree

CASES = [
    "9k", "ilsvrc1k", "subset300_seed3", "subset60_seed1", "subset60_seed2", "toy_paper", "toy_paper_nopromote",
    "toy_tie",
]  # fmt: skip


def built_case(case):
    relations = ("@", "@i") if case["instance"] else ("@",)
    graph = {
        node: tuple(parent for relation, parent in edges if relation in relations)
        for node, edges in case["hypernyms"].items()
    }
    return build_tree(case["labels"], graph, case["root"], promote=case["promote_only_leaf"])


@pytest.mark.parametrize("name", CASES)
def test_the_reference_cases(shared, name):
    case = json.loads(shared("golden", "wordtree", f"case_{name}.json").read_text())
    expected = case["expected"]
    built = built_case(case)
    tree = built.tree
    lines = [line.split() for line in expected["tree"]]
    reference = {node: lines[int(parent)][0] if int(parent) >= 0 else None for node, parent in lines}
    parents = {
        node: tree.ids[parent] if parent >= 0 else None for node, parent in zip(tree.ids, tree.parents, strict=True)
    }
    tie_sensitive = set(case["tie_sensitive_nodes"])
    assert {n: p for n, p in parents.items() if n not in tie_sensitive} == {
        n: p for n, p in reference.items() if n not in tie_sensitive
    }
    assert parents == reference  # ties are resolved by the same rule
    assert list(tree.ids) == [node for node, _ in lines]
    assert (len(tree), built.nodes_before_splicing, built.nodes_after_splicing) == (
        expected["n_nodes"], expected["n_full_without_root"], expected["n_after_splice"],
    )  # fmt: skip
    report = {key: sorted(getattr(built.report, key)) for key in expected["report"]}
    assert report == {key: sorted(value) for key, value in expected["report"].items()}


def test_the_tree_of_darknet_is_rebuilt(shared):
    case = json.loads(shared("golden", "wordtree", "case_9k.json").read_text())
    tree, theirs = built_case(case).tree, read_tree(shared("golden", "wordtree", "9k.tree"))
    assert set(tree.ids) == set(theirs.ids)

    def parent_ids(any_tree):
        pairs = zip(any_tree.ids, any_tree.parents, strict=True)
        return {node: any_tree.ids[parent] if parent >= 0 else None for node, parent in pairs}

    built, expected = parent_ids(tree), parent_ids(theirs)
    assert sum(built[node] == expected[node] for node in expected) / len(expected) >= 0.99


def test_skipped_labels_are_reported_by_reason():
    graph = {"top": (), "a": ("top",), "b": ("a",), "lonely": ()}
    built = build_tree(["b", "b", "gone", "lonely", "top"], graph, "top")
    report = built.report
    assert (report.duplicate, report.unknown, report.unreachable, report.root) == (
        ("b",), ("gone",), ("lonely",), ("top",),
    )  # fmt: skip
    assert built.tree.ids == ("b",)
    with pytest.raises(DataError, match="none of the 1 labels is a descendant of top"):
        build_tree(["lonely"], graph, "top")


def test_a_cycle_in_the_graph_is_ignored():
    graph = {"top": (), "a": ("b", "top"), "b": ("a",), "c": ("b",)}
    assert build_tree(["c", "a"], graph, "top").tree.ids == ("a", "c")


def test_leaves_without_siblings_are_promoted_and_reported_in_order():
    graph = {"top": (), "p": ("top",), "b": ("p",), "a": ("b",), "q": ("top",), "z": ("q",), "y": ("z",)}
    built = build_tree(list(graph)[1:], graph, "top")
    assert built.report.promoted == ("a", "y")
    parents = [parent if parent < 0 else built.tree.ids[parent] for parent in built.tree.parents]
    assert dict(zip(built.tree.ids, parents, strict=True)) == {"p": -1, "q": -1, "a": "p", "b": "p", "y": "q", "z": "q"}
    assert build_tree(list(graph)[1:], graph, "top", promote=False).report.promoted == ()


def test_the_number_of_paths_is_limited(monkeypatch):
    monkeypatch.setattr("yolo9k.wordtree.builder.MAX_PATHS", 2)
    graph = {"top": (), "a": ("top",), "b": ("top",), "c": ("top",), "x": ("a", "b"), "y": ("a", "b", "c")}
    assert len(build_tree(["x"], graph, "top").tree) == 1
    with pytest.raises(DataError, match="y: more than 2 paths to top"):
        build_tree(["y"], graph, "top")
