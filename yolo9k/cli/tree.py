"""`yolo9k tree`: build label trees, draw them, check them."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from yolo9k.cli.console import err, out, speaker, table, track, write_json
from yolo9k.cli.outputs import JsonOption, check_outputs
from yolo9k.errors import ConfigError, DataError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.tree import Tree

    from yolo9k.wordtree import WordTree
    from yolo9k.wordtree.builder import Built

app = typer.Typer(no_args_is_help=True, help="Build, draw and check label trees.")

MAX_DRAWN = 2000  # nodes; more is no image
MAX_NAMED = 10

TreeArgument = Annotated[
    Path, typer.Argument(metavar="TREE", help="A .tree file (with .names beside it), or a taxonomy (text, YAML).")
]


@app.command()
def build(
    taxonomy: Annotated[Path | None, typer.Option(help="A taxonomy of your own: indented text or YAML.")] = None,
    labels: Annotated[
        list[Path] | None,
        typer.Option(
            help="A file of WordNet ids (n02084071), one a line, or a folder of folders called so, like ImageNet's; "
            "repeat it to join several."
        ),
    ] = None,
    wordnet: Annotated[
        Path | None, typer.Option(help="The folder of WordNet 3.0's data.noun, if it is not in a usual place.")
    ] = None,
    root: Annotated[str, typer.Option(help="The concept that the tree hangs from, itself left out.")] = "n00001930",
    output: Annotated[
        str, typer.Option("--output", "-o", help="Where to: writes NAME.tree, NAME.labels, NAME.names.")
    ] = "labels",
) -> None:
    """Build a label tree from a taxonomy file, or from WordNet and a list of its ids.

    Example: yolo9k tree build --taxonomy animals.txt -o animals
    Example: yolo9k tree build --labels imagenet.wnids.txt --labels coco.wnids.txt -o joint
    """
    from yolo9k.wordtree.files import write_tree
    from yolo9k.wordtree.taxonomy import read_taxonomy

    if (taxonomy is None) == (not labels):
        raise ConfigError("name either --taxonomy FILE or --labels FILE")
    if taxonomy is not None:
        tree = read_taxonomy(taxonomy)
    else:
        built = _from_wordnet(labels or [], wordnet, root)
        _print_report(built)
        tree = built.tree
    for path in write_tree(tree, output):
        out.print(f"wrote {path}", markup=False)
    out.print(_in_numbers(tree), markup=False)


@app.command()
def show(
    tree: TreeArgument,
    under: Annotated[str, typer.Option(help="Only this node (id, name or alias) and what is below.")] = "",
    depth: Annotated[int | None, typer.Option(min=0, help="Levels to draw.")] = None,
) -> None:
    """Draw a label tree.

    Example: yolo9k tree show 9k.tree --under dog --depth 2
    """
    from rich.tree import Tree

    from yolo9k.wordtree.taxonomy import open_tree

    labels = open_tree(tree)
    start = labels.find(under) if under else -1
    drawn = Tree(_text(labels, start) if under else str(tree), guide_style="dim")
    count = _draw(labels, start, drawn, MAX_DRAWN if depth is None else depth, MAX_DRAWN)
    out.print(drawn)
    if count >= MAX_DRAWN:
        err.print(f"… only the first {MAX_DRAWN} nodes; see --under and --depth")
    out.print(_in_numbers(labels), markup=False)


@app.command()
def check(
    tree: TreeArgument,
    dataset: Annotated[
        list[str] | None,
        typer.Option(help="Also tell which labels have boxes or image labels in this data set; repeat it for more."),
    ] = None,
    json: JsonOption = "",
) -> None:
    """Check a label tree, and describe it in numbers; and what data sets say about its labels.

    A box of a label counts for what is above it, too: who boxes dogs has boxed animals.

    Example: yolo9k tree check animals.tree
    Example: yolo9k tree check animals.tree --dataset zoo.yaml --dataset photos.yaml --json coverage.json
    """
    from yolo9k.wordtree.taxonomy import open_tree

    check_outputs(files={"--json": json})
    labels = open_tree(tree)
    facts = _facts(labels) | (_coverage(tree, labels, dataset) if dataset else {})
    if json:
        write_json(json, facts)
    say = speaker(json)
    say.print(table(str(tree), ["", ""], facts["numbers"].items()))
    for remark in facts["warnings"]:
        say.print(f"remark: {remark}", markup=False)
    if dataset:
        _show_coverage(facts, labels, say)


def _coverage(path: Path, labels: "WordTree", names: list[str]) -> dict[str, Any]:
    """What the data sets hold, and the ids of the labels that have boxes, only image labels, or neither."""
    from yolo9k.datasets.autodetect import open_dataset
    from yolo9k.datasets.tools.coverage import cover, supervision_of
    from yolo9k.wordtree.supervision import SUPERVISION_KINDS

    found = [each for name in names for each in cover(open_dataset(name, track), str(path), labels, track)]
    supervision = supervision_of(found).kinds(labels)
    ids = {
        kind: [key for key, own in zip(labels.ids, supervision, strict=True) if own == kind]
        for kind in SUPERVISION_KINDS
    }
    return {"datasets": [each.to_dict() for each in found], "labels": ids}


def _show_coverage(facts: dict[str, Any], labels: "WordTree", say: "Console") -> None:
    columns = ["data set", "split", "labels of", "images", "labels", "classes", "nodes", "no node"]
    keys = ("name", "split", "labels", "images", "count", "classes", "nodes")
    rows = [(*(each[key] for key in keys), len(each["unmapped"])) for each in facts["datasets"]]
    say.print(table("Data sets", columns, rows))
    for kind, ids in facts["labels"].items():
        names = [labels.names[labels.find(key)] for key in ids[:MAX_NAMED]]
        listed = f": {_some(names, len(ids))}" if ids else ""
        say.print(f"{kind}: {len(ids)} of {len(labels)} labels{listed}", markup=False)
    for each in facts["datasets"]:
        for name, reason in list(each["unmapped"].items())[:MAX_NAMED]:
            say.print(f"{each['name']}: {name}: {reason}", markup=False)
        if len(each["unmapped"]) > MAX_NAMED:
            say.print(f"{each['name']}: … {len(each['unmapped'])} classes without a node in all (--json FILE has them)")


def _from_wordnet(labels: list[Path], folder: Path | None, root: str) -> "Built":
    from yolo9k.wordtree.builder import build_tree
    from yolo9k.wordtree.wordnet import read_wordnet

    wanted = [key for path in labels for key in _ids(path)]
    net = read_wordnet(folder)
    if root not in net.hypernyms:
        raise DataError(f"--root {root}: no noun of WordNet 3.0")
    return build_tree(wanted, net.hypernyms, root, names=net.names)


def _ids(path: Path) -> list[str]:
    """The WordNet ids of a text file, or of a folder of class folders such as ImageNet's."""
    from yolo9k.wordtree.files import read_lines

    if path.is_dir():
        found = sorted(entry.name for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
        if not found:
            raise DataError(f"--labels {path}: has no folders in it, which WordNet ids could be the names of")
        return found
    return [line.split()[0] for line in read_lines(path)]


def _print_report(built: "Built") -> None:
    """What is not in the tree, which is listed and never guessed."""
    for what in ("duplicate", "unknown", "unreachable", "root"):
        found = getattr(built.report, what)
        if found:
            more = f" and {len(found) - MAX_NAMED} more" if len(found) > MAX_NAMED else ""
            err.print(f"{what}: {', '.join(found[:MAX_NAMED])}{more}", markup=False)
    out.print(f"{built.full} concepts, {built.spliced} after those without a choice were taken out", markup=False)


def _draw(labels: "WordTree", node: int, drawn: "Tree", depth: int, most: int) -> int:
    """Draw what is below a node; gives how many nodes that were."""
    count = 0
    if depth <= 0:
        return count
    for child in labels.children(node):
        if count >= most:
            break
        branch = drawn.add(_text(labels, child))
        count += 1 + _draw(labels, child, branch, depth - 1, most - count - 1)
    return count


def _text(labels: "WordTree", node: int) -> Any:
    from rich.text import Text

    name, key = labels.names[node], labels.ids[node]
    return Text(name) if name == key else Text.assemble(name, (f" {key}", "dim"))


def _facts(labels: "WordTree") -> dict[str, Any]:
    sizes = [int(size) for size in labels.group_start[1:] - labels.group_start[:-1]]
    lonely = [labels.ids[int(start)] for start, size in zip(labels.group_start, sizes, strict=False) if size == 1]
    same = [name for name, count in Counter(labels.names).items() if count > 1]
    numbers = {
        "nodes": len(labels),
        "roots": sizes[0],
        "leaves": int(labels.leaves.sum()),
        "sibling groups": len(sizes),
        "largest group": max(sizes),
        "groups of one": len(lonely),
        "deepest level": int(labels.depth.max()),
    }
    warnings = []
    if lonely:
        warnings.append(f"{len(lonely)} nodes have no sibling, so nothing is learnt there: {_some(lonely)}")
    if same:
        warnings.append(f"{len(same)} names belong to several nodes, which are then told apart by id: {_some(same)}")
    return {"numbers": numbers, "warnings": warnings}


def _some(names: list[str], total: int | None = None) -> str:
    """The first of some names, which are those of `total` things where that is given."""
    return ", ".join(names[:MAX_NAMED]) + (", …" if (total or len(names)) > MAX_NAMED else "")


def _in_numbers(labels: "WordTree") -> str:
    leaves = int(labels.leaves.sum())
    return f"{len(labels)} nodes, {leaves} of them leaves, {int(labels.depth.max()) + 1} levels"
