"""Build a label tree from a graph of concepts such as WordNet (YOLO9000 section 4, "Hierarchical classification").

The paper describes how labels are inserted. The other steps are deduced from Darknet's `9k.tree`: remove the root,
splice unlabelled nodes with one child, promote leaves without siblings, order the nodes.
"""

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from yolo9k.errors import DataError
from yolo9k.wordtree.tree import WordTree, darknet_order

MAX_PATHS = 100_000  # per label; WordNet's nouns have at most a few dozen

TOP = ""  # parent of the roots, not a node
Parents = dict[str, str]  # the tree under construction: the parent of each node


@dataclass(frozen=True)
class BuildReport:
    """Labels that were skipped, by reason, and the leaves that were `promoted` to siblings of their parent.

    `duplicate`: given more than once; `unknown`: not in the graph; `unreachable`: without a path to the root; `root`:
    the root itself.
    """

    duplicate: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    unreachable: tuple[str, ...] = ()
    root: tuple[str, ...] = ()
    promoted: tuple[str, ...] = ()


@dataclass(frozen=True)
class BuiltTree:
    """A tree, its node counts before and after splicing, and a report on the labels."""

    tree: WordTree
    nodes_before_splicing: int
    nodes_after_splicing: int
    report: BuildReport = field(default_factory=BuildReport)


def build_tree(
    labels: Sequence[str],
    hypernyms: Mapping[str, Sequence[str]],
    root: str,
    *,
    names: Mapping[str, str] | None = None,
    promote: bool = True,
) -> BuiltTree:
    """Build the tree of `labels`, adding as few nodes as the paper's greedy rule does, in Darknet's order of nodes.

    `hypernyms`: the more general concepts of each concept; `root`: ancestor of all nodes, not part of the tree;
    `names`: display names by id (default: the ids); `promote`: make a leaf without siblings a sibling of its parent.
    Raises `DataError` if no label has a path to the root.
    """
    known, report = _check_labels(labels, hypernyms, root)
    paths = {label: sorted(_paths(label, hypernyms, root)) for label in known}
    reachable = [label for label in known if paths[label]]
    if not reachable:
        raise DataError(f"none of the {len(labels)} labels is a descendant of {root}")
    parents: Parents = {}
    for label in reachable:  # first the labels with a single path to the root: they leave no choice
        if len(paths[label]) == 1:
            _insert(parents, paths[label][0])
    _insert_cheapest(parents, reachable, paths)
    nodes_before_splicing = len(parents)
    _splice(parents, set(reachable))
    nodes_after_splicing = len(parents)
    promoted = _promote(parents) if promote else []
    unreachable = tuple(label for label in known if not paths[label])
    build_report = BuildReport(**report, unreachable=unreachable, promoted=tuple(sorted(promoted)))
    return BuiltTree(_ordered(parents, names or {}), nodes_before_splicing, nodes_after_splicing, build_report)


def _check_labels(
    labels: Sequence[str], hypernyms: Mapping[str, Sequence[str]], root: str
) -> tuple[list[str], dict[str, tuple[str, ...]]]:
    """Return the labels to insert, without duplicates, and the skipped ones by reason."""
    unique = list(dict.fromkeys(labels))
    seen: set[str] = set()
    duplicate = [label for label in labels if label in seen or seen.add(label)]  # type: ignore[func-returns-value]
    report = {
        "duplicate": tuple(duplicate),
        "unknown": tuple(label for label in unique if label not in hypernyms and label != root),
        "root": tuple(label for label in unique if label == root),
    }
    return [label for label in unique if label in hypernyms and label != root], report


def _paths(label: str, hypernyms: Mapping[str, Sequence[str]], root: str) -> Iterator[tuple[str, ...]]:
    """Yield all paths from a label up to, but not including, the root; no path contains a concept twice."""
    count = 0
    stack: list[tuple[str, ...]] = [(label,)]
    while stack:
        path = stack.pop()
        for parent in hypernyms.get(path[-1], ()):
            if parent == root:
                count += 1
                if count > MAX_PATHS:
                    raise DataError(f"{label}: more than {MAX_PATHS:,} paths to {root}")
                yield path
            elif parent not in path:
                stack.append((*path, parent))


def _insert(parents: Parents, path: Sequence[str]) -> None:
    """Add the nodes of a path to the tree, from the label up to the first node that is already in it."""
    for node, parent in zip(path, [*path[1:], TOP], strict=True):
        if node in parents:
            return
        parents[node] = parent


def _insert_cheapest(parents: Parents, labels: Sequence[str], paths: Mapping[str, Sequence[tuple[str, ...]]]) -> None:
    """Insert the other labels, repeatedly choosing the label and path that add the fewest nodes.

    If equal, the earlier label is chosen, then the path that sorts first. The count of nodes that a path adds can only
    decrease as the tree grows; it is checked again when a path is taken from the queue.
    """
    queue = [
        (_count_new(path, parents), order, path)
        for order, label in enumerate(labels)
        if len(paths[label]) > 1
        for path in paths[label]
    ]
    heapq.heapify(queue)
    paths_through: dict[str, list[tuple[int, tuple[str, ...]]]] = {}
    for _, order, path in queue:
        for node in path:
            paths_through.setdefault(node, []).append((order, path))
    done: set[str] = set()
    while queue:
        new_nodes, _, path = heapq.heappop(queue)
        if path[0] in done or new_nodes != _count_new(path, parents):
            continue
        done.add(path[0])
        _insert(parents, path)
        for node in path[:new_nodes]:  # paths through these nodes now add fewer
            for order, other in paths_through.get(node, ()):
                if other[0] not in done:
                    heapq.heappush(queue, (_count_new(other, parents), order, other))


def _count_new(path: Sequence[str], parents: Parents) -> int:
    """Return how many nodes a path would add to the tree."""
    for index, node in enumerate(path):
        if node in parents:
            return index
    return len(path)


def _children(parents: Parents) -> dict[str, list[str]]:
    children: dict[str, list[str]] = {}
    for node, parent in parents.items():
        children.setdefault(parent, []).append(node)
    return children


def _splice(parents: Parents, labelled: set[str]) -> None:
    """Replace each node that is not a label and has a single child by that child."""
    children = _children(parents)
    for node in list(parents):
        if node in labelled or len(children.get(node, ())) != 1:
            continue
        (child,) = children.pop(node)
        parent = parents.pop(node)
        parents[child] = parent
        siblings = children[parent]
        siblings[siblings.index(node)] = child


def _promote(parents: Parents) -> list[str]:
    """Make each leaf without siblings a sibling of its parent, unless that is a root; return the moved leaves.

    In a group of one, the conditional probability is always 1, so nothing is learnt.
    """
    children = _children(parents)
    promoted: list[str] = []
    queue = [node for node in parents if node not in children]
    while queue:
        leaf = queue.pop()
        parent = parents[leaf]
        if parent == TOP or parents[parent] == TOP or children[parent] != [leaf]:
            continue
        grandparent = parents[parent]
        parents[leaf] = grandparent
        children[grandparent].append(leaf)
        del children[parent]
        promoted.append(leaf)
        queue += [leaf, parent]  # both are leaves now, and siblings
    return list(dict.fromkeys(promoted))


def _ordered(parents: Parents, names: Mapping[str, str]) -> WordTree:
    """Return the tree in the order of Darknet's `9k.tree`, siblings sorted by id."""
    children = {node: sorted(group) for node, group in _children(parents).items()}
    ids, parent_indices = darknet_order(children, TOP)
    return WordTree(ids, tuple(names.get(node, node) for node in ids), parent_indices)
