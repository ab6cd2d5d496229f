"""`yolo9k tree`: build, draw and check label trees."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from yolo9k.cli import options as opt
from yolo9k.cli.console import err, out, speaker, table, track, write_json
from yolo9k.cli.outputs import check_outputs
from yolo9k.cli.text import safe
from yolo9k.errors import ConfigError, DataError
from yolo9k.io import is_folder, is_hidden, reading

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text
    from rich.tree import Tree

    from yolo9k.wordtree import WordTree
    from yolo9k.wordtree.builder import BuiltTree

app = typer.Typer(no_args_is_help=True, help="Build, draw and check label trees.")

MAX_DRAWN = 2000  # nodes
INDENT = 4  # columns per level
MAX_NAMED = 10  # labels in a list


@app.command()
def build(
    taxonomy: opt.TaxonomyOption = None,
    labels: opt.WordnetLabelsOption = None,
    wordnet: opt.WordnetOption = None,
    root: opt.RootOption = "n00001930",
    output: opt.TreeNameOption = "labels",
    overwrite: opt.OverwriteOption = False,
) -> None:
    """Build a label tree from a taxonomy file, or from WordNet and a list of WordNet ids.

    Example: yolo9k tree build --taxonomy animals.txt -o animals
    Example: yolo9k tree build --labels imagenet.wnids.txt --labels coco.wnids.txt -o joint
    """
    from yolo9k.wordtree.files import SUFFIXES, write_tree
    from yolo9k.wordtree.taxonomy import read_taxonomy

    if (taxonomy is None) == (not labels):
        raise ConfigError("give either --taxonomy FILE or --labels FILE")
    targets = [f"{output}{suffix}" for suffix in SUFFIXES]
    check_outputs(files={"-o": targets}, inputs=(taxonomy, *(labels or ())), overwrite=overwrite)
    if taxonomy is not None:
        tree = read_taxonomy(taxonomy)
    else:
        built = _build_from_wordnet(labels or [], wordnet, root)
        _print_report(built)
        tree = built.tree
    try:
        written = write_tree(tree, output)
    except DataError as error:
        raise DataError(f"{taxonomy or '--labels'}: {error}") from error
    for path in written:
        out.print(f"wrote {path}", markup=False)
    out.print(_size_text(tree), markup=False)


@app.command()
def show(tree: opt.TreeArgument, under: opt.SubtreeOption = "", depth: opt.DepthOption = None) -> None:
    """Draw a label tree.

    Example: yolo9k tree show 9k.tree --under dog --depth 2
    """
    from rich.tree import Tree

    from yolo9k.wordtree.taxonomy import open_tree

    labels = open_tree(tree)
    start = labels.find(under) if under else -1
    drawing = Tree(_node_text(labels, start) if under else str(tree), guide_style="dim")
    levels = min(MAX_DRAWN if depth is None else depth, max(1, out.width // INDENT - 2))
    count = _draw(labels, start, drawing, levels, MAX_DRAWN)
    out.print(drawing)
    if count >= MAX_DRAWN:
        err.print(f"… only the first {MAX_DRAWN} nodes; see --under and --depth")
    elif (depth is None or levels < depth) and count < _count_below(labels, start):
        err.print(f"… only {levels} levels fit into the width; see --under")
    out.print(_size_text(labels), markup=False)


@app.command()
def check(
    tree: opt.TreeArgument,
    dataset: opt.CoveredDatasetsOption = None,
    json: opt.JsonOption = "",
    overwrite: opt.OverwriteOption = False,
) -> None:
    """Check a label tree: counts and warnings, and with --dataset the supervision of each label.

    A label also supervises its ancestors: a box of a dog is a box of an animal.

    Example: yolo9k tree check animals.tree
    Example: yolo9k tree check animals.tree --dataset zoo.yaml --dataset photos.yaml --json coverage.json
    """
    from yolo9k.wordtree.taxonomy import open_tree

    check_outputs(files={"--json": json}, inputs=(tree, *(dataset or ())), overwrite=overwrite)
    labels = open_tree(tree)
    facts = _facts(labels) | (_coverage(tree, labels, dataset) if dataset else {})
    if json:
        write_json(json, facts)
    console = speaker(json)
    console.print(table(str(tree), ["", ""], facts["counts"].items()))
    for warning in facts["warnings"]:
        console.print(f"warning: {warning}", markup=False)
    if dataset:
        _show_coverage(facts, labels, console)


def _coverage(path: Path, labels: "WordTree", names: list[str]) -> dict[str, Any]:
    """Return what the data sets contain, and the ids of the labels by kind of supervision."""
    from yolo9k.datasets.autodetect import open_dataset
    from yolo9k.datasets.tools.coverage import compute_coverage, merge_supervision
    from yolo9k.wordtree.supervision import SUPERVISION_KINDS

    coverages = [
        each for name in names for each in compute_coverage(open_dataset(name, track), str(path), labels, track)
    ]
    kinds = merge_supervision(coverages).kinds(labels)
    ids = {kind: [key for key, own in zip(labels.ids, kinds, strict=True) if own == kind] for kind in SUPERVISION_KINDS}
    return {"datasets": [each.to_dict() for each in coverages], "supervision": ids}


def _show_coverage(facts: dict[str, Any], labels: "WordTree", console: "Console") -> None:
    columns = ["data set", "split", "labels of", "images", "labels", "classes", "nodes", "unmapped"]
    keys = ("name", "split", "labels", "images", "count", "classes", "nodes")
    rows = [(*(each[key] for key in keys), len(each["unmapped"])) for each in facts["datasets"]]
    console.print(table("Data sets", columns, rows))
    for kind, ids in facts["supervision"].items():
        names = [labels.names[labels.find(key)] for key in ids[:MAX_NAMED]]
        listed = f": {_join(names, len(ids))}" if ids else ""
        console.print(f"{kind}: {len(ids)} of {len(labels)} labels{listed}", markup=False)
    for each in facts["datasets"]:
        for name, reason in list(each["unmapped"].items())[:MAX_NAMED]:
            console.print(f"{each['name']}: {name}: {reason}", markup=False)
        if len(each["unmapped"]) > MAX_NAMED:
            console.print(f"{each['name']}: … {len(each['unmapped'])} unmapped classes in total (--json FILE has all)")


def _build_from_wordnet(labels: list[Path], folder: Path | None, root: str) -> "BuiltTree":
    from yolo9k.wordtree.builder import build_tree
    from yolo9k.wordtree.wordnet import read_wordnet

    ids = [key for path in labels for key in _read_ids(path)]
    net = read_wordnet(folder)
    if root not in net.hypernyms:
        raise DataError(f"--root {root}: no noun of WordNet 3.0")
    try:
        return build_tree(ids, net.hypernyms, root, names=net.names)
    except DataError as error:
        raise DataError(f"--labels {', '.join(map(str, labels))}: {error}") from error


def _read_ids(path: Path) -> list[str]:
    """Return the WordNet ids of a text file, or the names of class folders such as ImageNet's."""
    from yolo9k.wordtree.files import read_lines

    if is_folder(path):
        with reading(path):
            names = sorted(entry.name for entry in path.iterdir() if entry.is_dir() and not is_hidden(entry.name))
        if not names:
            raise DataError(f"--labels {path}: contains no folders; they must be named after WordNet ids")
        return names
    return [line.split()[0] for line in read_lines(path)]


def _print_report(built: "BuiltTree") -> None:
    """Print the labels that are not in the tree, by reason, and the node counts."""
    for reason in ("duplicate", "unknown", "unreachable", "root"):
        labels = getattr(built.report, reason)
        if labels:
            more = f" and {len(labels) - MAX_NAMED} more" if len(labels) > MAX_NAMED else ""
            err.print(f"{reason}: {', '.join(labels[:MAX_NAMED])}{more}", markup=False)
    before, after = built.nodes_before_splicing, built.nodes_after_splicing
    out.print(f"{before} concepts, {after} after removing those with a single child", markup=False)


def _draw(labels: "WordTree", node: int, drawing: "Tree", depth: int, max_nodes: int) -> int:
    """Draw the descendants of a node, at most `depth` levels; return how many were drawn."""
    pending = [(drawing, child, 1) for child in reversed(labels.children(node)) if depth > 0]
    count = 0
    while pending and count < max_nodes:
        above, child, level = pending.pop()
        branch = above.add(_node_text(labels, child))
        count += 1
        if level < depth:
            pending += [(branch, below, level + 1) for below in reversed(labels.children(child))]
    return count


def _count_below(labels: "WordTree", node: int) -> int:
    """Return the number of descendants of a node (-1: of all nodes)."""
    return len(labels) if node < 0 else int(labels.spans[node, 1] - labels.spans[node, 0]) - 1


def _node_text(labels: "WordTree", node: int) -> "Text":
    from rich.text import Text

    name, key = safe(labels.names[node]), safe(labels.ids[node])  # a name with a line end would look like two nodes
    return Text(name) if name == key else Text.assemble(name, (f" {key}", "dim"))


def _facts(labels: "WordTree") -> dict[str, Any]:
    """Return counts and warnings."""
    sizes = [int(size) for size in labels.group_start[1:] - labels.group_start[:-1]]
    single = [labels.ids[int(start)] for start, size in zip(labels.group_start, sizes, strict=False) if size == 1]
    shared = [name for name, count in Counter(labels.names).items() if count > 1]
    counts = {
        "nodes": len(labels),
        "roots": sizes[0],
        "leaves": int(labels.leaves.sum()),
        "sibling groups": len(sizes),
        "largest group": max(sizes),
        "groups of one": len(single),
        "deepest level": int(labels.depth.max()),
    }
    warnings = []
    if single:
        warnings.append(
            f"{len(single)} nodes have no siblings, so their conditional probability is always 1: {_join(single)}"
        )
    if shared:
        warnings.append(f"{len(shared)} names belong to several nodes, only ids tell them apart: {_join(shared)}")
    return {"counts": counts, "warnings": warnings}


def _join(names: list[str], total: int | None = None) -> str:
    """Return the first names, and an ellipsis if there are more (`total`: how many there are, if not all are given)."""
    return ", ".join(names[:MAX_NAMED]) + (", …" if (total or len(names)) > MAX_NAMED else "")


def _size_text(labels: "WordTree") -> str:
    return f"{len(labels)} nodes, {int(labels.leaves.sum())} leaves, {int(labels.depth.max()) + 1} levels"
