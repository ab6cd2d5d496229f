"""Building a label tree from a graph of concepts (YOLO9000 section 4, "Hierarchical classification").

The paper describes how labels are inserted; that the root is dropped, that nodes without a label and with one child
disappear, and that lonely leaves move up is deduced from Darknet's `9k.tree`, which comes out so.
"""

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from yolo9k.errors import DataError
from yolo9k.wordtree.tree import WordTree, in_blocks

MAX_PATHS = 100_000  # of one label; WordNet's nouns have at most a few dozen

TOP = ""  # stands for the root, which is no node
Parents = dict[str, str]  # the tree while it is built: every node to its parent


@dataclass(frozen=True)
class Report:
    """Labels that are not in the tree, or were given again; `promoted`: leaves that moved up beside their parent."""

    duplicate: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    unreachable: tuple[str, ...] = ()
    root: tuple[str, ...] = ()
    promoted: tuple[str, ...] = ()


@dataclass(frozen=True)
class Built:
    """A tree, with how many nodes it had before splicing and before promotion, and what was left out."""

    tree: WordTree
    full: int
    spliced: int
    report: Report = field(default_factory=Report)


def build_tree(
    labels: Sequence[str],
    hypernyms: Mapping[str, Sequence[str]],
    root: str,
    *,
    names: Mapping[str, str] | None = None,
    promote: bool = True,
) -> Built:
    """The smallest tree over `labels` that the paper's rule finds in a graph, in Darknet's order of nodes.

    `hypernyms`: every concept's more general ones; `root`: what the tree hangs from, itself left out; `names` of ids.
    Raises `DataError` where no label is left.
    """
    known, report = _sort_out(labels, hypernyms, root)
    paths = {label: sorted(_paths(label, hypernyms, root)) for label in known}
    reachable = [label for label in known if paths[label]]
    if not reachable:
        raise DataError(f"none of the {len(labels)} labels hangs below {root}")
    parents: Parents = {}
    _insert_plain(parents, reachable, paths)
    _insert_cheapest(parents, reachable, paths)
    full = len(parents)
    _splice(parents, set(reachable))
    spliced = len(parents)
    promoted = _promote(parents) if promote else []
    unreachable = tuple(label for label in known if not paths[label])
    tree = _ordered(parents, names or {})
    return Built(tree, full, spliced, Report(**report, unreachable=unreachable, promoted=tuple(sorted(promoted))))


def _sort_out(
    labels: Sequence[str], hypernyms: Mapping[str, Sequence[str]], root: str
) -> tuple[list[str], dict[str, tuple[str, ...]]]:
    """The labels to insert, each once, and those that cannot be."""
    once = list(dict.fromkeys(labels))
    seen: set[str] = set()
    duplicate = [label for label in labels if label in seen or seen.add(label)]  # type: ignore[func-returns-value]
    report = {
        "duplicate": tuple(duplicate),
        "unknown": tuple(label for label in once if label not in hypernyms and label != root),
        "root": tuple(label for label in once if label == root),
    }
    return [label for label in once if label in hypernyms and label != root], report


def _paths(label: str, hypernyms: Mapping[str, Sequence[str]], root: str) -> Iterator[tuple[str, ...]]:
    """All ways up from a label to just below the root; none goes through a concept twice."""
    found = 0
    stack: list[tuple[str, ...]] = [(label,)]
    while stack:
        path = stack.pop()
        for parent in hypernyms.get(path[-1], ()):
            if parent == root:
                found += 1
                if found > MAX_PATHS:
                    raise DataError(f"{label}: more than {MAX_PATHS:,} ways lead up to {root}")
                yield path
            elif parent not in path:
                stack.append((*path, parent))


def _insert(parents: Parents, path: Sequence[str]) -> None:
    """Hang a path into the tree: upwards from the label to the first node that is there."""
    for node, parent in zip(path, [*path[1:], TOP], strict=True):
        if node in parents:
            return
        parents[node] = parent


def _insert_plain(parents: Parents, labels: Sequence[str], paths: Mapping[str, Sequence[tuple[str, ...]]]) -> None:
    """First the labels that have one way up: there is nothing to choose."""
    for label in labels:
        if len(paths[label]) == 1:
            _insert(parents, paths[label][0])


def _insert_cheapest(parents: Parents, labels: Sequence[str], paths: Mapping[str, Sequence[tuple[str, ...]]]) -> None:
    """Then again and again the label and path that add the fewest nodes.

    Ties go to the earlier label, then to the path that sorts first. What a path adds can only shrink as the tree
    grows, so stale entries of the queue are looked at again before they count.
    """
    queue = [
        (_growth(path, parents), order, path)
        for order, label in enumerate(labels)
        if len(paths[label]) > 1
        for path in paths[label]
    ]
    heapq.heapify(queue)
    touching: dict[str, list[tuple[int, tuple[str, ...]]]] = {}
    for _, order, path in queue:
        for node in path:
            touching.setdefault(node, []).append((order, path))
    done: set[str] = set()
    while queue:
        growth, _, path = heapq.heappop(queue)
        if path[0] in done or growth != _growth(path, parents):
            continue
        done.add(path[0])
        _insert(parents, path)
        for node in path[:growth]:  # whoever passes these new nodes has become cheaper
            for order, other in touching.get(node, ()):
                if other[0] not in done:
                    heapq.heappush(queue, (_growth(other, parents), order, other))


def _growth(path: Sequence[str], parents: Parents) -> int:
    """How many nodes of a path are not in the tree before the first that is."""
    for number, node in enumerate(path):
        if node in parents:
            return number
    return len(path)


def _children(parents: Parents) -> dict[str, list[str]]:
    children: dict[str, list[str]] = {}
    for node, parent in parents.items():
        children.setdefault(parent, []).append(node)
    return children


def _splice(parents: Parents, labelled: set[str]) -> None:
    """Take out nodes that are no label and have one child, which then hangs from their parent."""
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
    """A leaf that is the only child moves up beside its parent, unless that is a root; gives what moved.

    A group of one teaches nothing: its probability is always 1.
    """
    children = _children(parents)
    moved: list[str] = []
    waiting = [node for node in parents if node not in children]
    while waiting:
        leaf = waiting.pop()
        parent = parents[leaf]
        if parent == TOP or parents[parent] == TOP or children[parent] != [leaf]:
            continue
        grandparent = parents[parent]
        parents[leaf] = grandparent
        children[grandparent].append(leaf)
        del children[parent]
        moved.append(leaf)
        waiting += [leaf, parent]  # both are leaves now, beside each other
    return list(dict.fromkeys(moved))


def _ordered(parents: Parents, names: Mapping[str, str]) -> WordTree:
    """The nodes as Darknet's `9k.tree` has them: a node's children as one block, then what is below each in turn."""
    children = {node: sorted(below) for node, below in _children(parents).items()}
    ids, places = in_blocks(children, TOP)
    return WordTree(ids, tuple(names.get(node, node) for node in ids), places)
