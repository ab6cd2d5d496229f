"""The builder against an independent one (golden `wordtree/case_*.json`), and by hand."""

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
    kinds = ("@", "@i") if case["instance"] else ("@",)
    graph = {
        node: tuple(parent for kind, parent in above if kind in kinds) for node, above in case["hypernyms"].items()
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
    found = {
        node: tree.ids[parent] if parent >= 0 else None for node, parent in zip(tree.ids, tree.parents, strict=True)
    }
    loose = set(case["tie_sensitive_nodes"])
    assert {n: p for n, p in found.items() if n not in loose} == {n: p for n, p in reference.items() if n not in loose}
    assert found == reference  # our rule for ties is theirs, so these agree as well
    assert list(tree.ids) == [node for node, _ in lines]
    assert (len(tree), built.full, built.spliced) == (
        expected["n_nodes"], expected["n_full_without_root"], expected["n_after_splice"],
    )  # fmt: skip
    report = {key: sorted(getattr(built.report, key)) for key in expected["report"]}
    assert report == {key: sorted(value) for key, value in expected["report"].items()}


def test_darknets_own_tree_comes_back(shared):
    case = json.loads(shared("golden", "wordtree", "case_9k.json").read_text())
    tree, theirs = built_case(case).tree, read_tree(shared("golden", "wordtree", "9k.tree"))
    assert set(tree.ids) == set(theirs.ids)

    def parents(made):
        return {n: made.ids[p] if p >= 0 else None for n, p in zip(made.ids, made.parents, strict=True)}

    ours, own = parents(tree), parents(theirs)
    assert sum(ours[node] == own[node] for node in own) / len(own) >= 0.99


def test_labels_that_cannot_be_placed_are_listed():
    graph = {"top": (), "a": ("top",), "b": ("a",), "lonely": ()}
    built = build_tree(["b", "b", "gone", "lonely", "top"], graph, "top")
    report = built.report
    assert (report.duplicate, report.unknown, report.unreachable, report.root) == (
        ("b",), ("gone",), ("lonely",), ("top",),
    )  # fmt: skip
    assert built.tree.ids == ("b",)
    with pytest.raises(DataError, match="none of the 1 labels hangs below top"):
        build_tree(["lonely"], graph, "top")


def test_a_circle_is_harmless():
    graph = {"top": (), "a": ("b", "top"), "b": ("a",), "c": ("b",)}
    assert build_tree(["c", "a"], graph, "top").tree.ids == ("a", "c")
