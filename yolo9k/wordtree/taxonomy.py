"""A label tree of one's own from a text file: indented lines, or nested YAML.

A node is written `name`, `name [id]`, `name (alias, alias)`, or all three: `poodle [n02113335] (poodle dog)`. The id
is the name where none is given. `#` begins a comment.

    animal                          animal:
      dog (hound)                     dog (hound): [poodle, terrier]
        poodle                        cat:
        terrier
      cat
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

from yolo9k.errors import DataError
from yolo9k.wordtree.files import read_tree
from yolo9k.wordtree.tree import WordTree, in_blocks

TOP = ""
DEEPEST = 200  # levels; WordNet's nouns have 20
LONGEST = 100_000_000  # characters
NODE = re.compile(r"(?P<name>[^\[\]()]+?)\s*(\[(?P<id>[^\[\]()]+)\])?\s*(\((?P<aliases>[^()]*)\))?")


class Written(NamedTuple):
    """A node as a file has it: how deep, its text, and where it stands."""

    depth: int
    text: str
    place: str


class Node(NamedTuple):
    """A node as it is meant."""

    id: str
    name: str
    aliases: tuple[str, ...]


def open_tree(path: str | Path) -> WordTree:
    """The tree of a file: a `.tree` with the `.names` and `.labels` of the same name beside it, or else a taxonomy.

    Raises `DataError` as `read_tree` and `read_taxonomy` do.
    """
    path = Path(path)
    if path.suffix != ".tree":
        return read_taxonomy(path)
    names, labels = (path.with_suffix(suffix) for suffix in (".names", ".labels"))
    return read_tree(path, names if names.is_file() else None, labels if labels.is_file() else None)


def read_taxonomy(path: str | Path) -> WordTree:
    """The tree of a taxonomy file; `.yaml` and `.yml` are YAML, everything else indented text.

    Raises `DataError` with file and line for a node that is written wrongly, indented to no level, or there twice.
    """
    path = Path(path)
    try:
        if path.stat().st_size > LONGEST:
            raise DataError(f"{path}: {path.stat().st_size:,} bytes are too many for a taxonomy")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    written = _from_yaml(text, path) if path.suffix in (".yaml", ".yml") else _from_lines(text, path)
    return _tree(written, path)


def _from_lines(text: str, path: Path) -> Iterator[Written]:
    """Nodes of an indented text; any number of blanks, or of tabs, is a level, as long as siblings have the same."""
    levels: list[int] = []
    blank = ""  # what the file indents with, where it has done so
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.partition("#")[0].rstrip()
        if not line:
            continue
        indent = len(line) - len(line.lstrip())
        blank = blank or line[:indent][:1]
        if line[:indent].strip(blank):
            raise DataError(f"{path}:{number}: {line.strip()!r}: tabs and blanks are mixed; indent with one of them")
        came_back = bool(levels) and levels[-1] > indent
        while levels and levels[-1] > indent:
            levels.pop()
        if not levels or levels[-1] < indent:
            if came_back:
                raise DataError(f"{path}:{number}: {line.strip()!r}: is indented as no line above it")
            levels.append(indent)
        yield Written(len(levels) - 1, line.strip(), f"{path}:{number}")


def _from_yaml(text: str, path: Path) -> Iterator[Written]:
    """Nodes of nested mappings and lists. Nothing is constructed from the file: it is only looked at."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        raise DataError(f"{place}: not YAML: {getattr(error, 'problem', None) or error}") from error
    except RecursionError as error:
        raise DataError(f"{path}: nested too deeply") from error
    return iter(()) if root is None else _below(root, 0, path)


def _below(node: yaml.Node, depth: int, path: Path) -> Iterator[Written]:
    place = f"{path}:{node.start_mark.line + 1}"
    if depth > DEEPEST:
        raise DataError(f"{place}: more than {DEEPEST} levels")
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise DataError(f"{path}:{key.start_mark.line + 1}: a node is written as text")
            yield Written(depth, key.value, f"{path}:{key.start_mark.line + 1}")
            yield from _below(value, depth + 1, path)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            if isinstance(item, yaml.SequenceNode):
                raise DataError(f"{path}:{item.start_mark.line + 1}: a list right in a list has no name; name: [...]")
            yield from _below(item, depth, path)
    elif node.tag != "tag:yaml.org,2002:null":
        yield Written(depth, node.value, place)


def _tree(written: Iterator[Written], path: Path) -> WordTree:
    children: dict[str, list[str]] = {}
    names: dict[str, str] = {}
    places: dict[str, str] = {}
    aliases: dict[str, tuple[str, str]] = {}
    line_up: list[str] = []  # the ids from the top down to the last node
    for depth, text, place in written:
        node = _node(text, place)
        if node.id in names:
            raise DataError(f"{place}: {node.id!r} is there already, at {places[node.id]}; ids must differ ([id])")
        del line_up[depth:]
        children.setdefault(line_up[-1] if line_up else TOP, []).append(node.id)
        line_up.append(node.id)
        names[node.id], places[node.id] = node.name, place
        for alias in node.aliases:
            if alias in aliases and aliases[alias][0] != node.id:
                raise DataError(f"{place}: the alias {alias!r} belongs to {aliases[alias][0]!r} at {aliases[alias][1]}")
            if alias != node.name:
                aliases[alias] = node.id, place
    if not names:
        raise DataError(f"{path}: a taxonomy without a node")
    ids, parents = in_blocks(children, TOP)
    number = {node: place for place, node in enumerate(ids)}
    return WordTree(
        ids, tuple(names[node] for node in ids), parents, {alias: number[node] for alias, (node, _) in aliases.items()}
    )


def _node(text: str, place: str) -> Node:
    found = NODE.fullmatch(text.strip())
    if not found:
        raise DataError(f"{place}: {text.strip()[:60]!r}: a node is written: name [id] (alias, alias)")
    name = found["name"].strip()
    aliases = tuple(alias.strip() for alias in (found["aliases"] or "").split(",") if alias.strip())
    return Node((found["id"] or name).strip(), name, aliases)
