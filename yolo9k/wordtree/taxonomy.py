"""Read a user's own label tree from a text file of indented lines, or from nested YAML.

A node is written `name`, `name [id]`, `name (alias, alias)`, or all three: `poodle [n02113335] (poodle dog)`. The
default id is the name. `#` begins a comment.

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

from yolo9k.errors import DataError, quote
from yolo9k.io import exists, read_text
from yolo9k.wordtree.files import read_tree
from yolo9k.wordtree.tree import WordTree, darknet_order
from yolo9k.yaml_files import NULL_TAG, PLAIN_TAGS, compose_yaml

TOP = ""  # parent of the roots, not a node
MAX_LEVELS = 200  # of YAML, and WordNet's nouns have 20
MAX_BYTES = 100_000_000
NODE = re.compile(r"(?P<name>[^\[\]()]+?)\s*(\[(?P<id>[^\[\]()]+)\])?\s*(\((?P<aliases>[^()]*)\))?")


class Entry(NamedTuple):
    """A node as text: its depth and its location, `file:line`."""

    depth: int
    text: str
    location: str


class Node(NamedTuple):
    """A parsed node."""

    id: str
    name: str
    aliases: tuple[str, ...]


def open_tree(path: str | Path) -> WordTree:
    """Read a `.tree` file, with the `.names` and `.labels` files next to it if they exist, or else a taxonomy file.

    Raises `DataError` as `read_tree` and `read_taxonomy` do.
    """
    path = Path(path)
    if path.suffix != ".tree":
        return read_taxonomy(path)
    names, labels = (path.with_suffix(suffix) for suffix in (".names", ".labels"))
    return read_tree(path, names if exists(names) else None, labels if exists(labels) else None)


def read_taxonomy(path: str | Path) -> WordTree:
    """Read a taxonomy file: YAML if it ends in `.yaml` or `.yml`, else indented text.

    Raises `DataError` with file and line for a malformed node, an inconsistent indentation, and an id or alias that
    occurs twice.
    """
    path = Path(path)
    text = read_text(path, max_bytes=MAX_BYTES)
    entries = _parse_yaml(text, path) if path.suffix in (".yaml", ".yml") else _parse_lines(text, path)
    return _tree(entries, path)


def _parse_lines(text: str, path: Path) -> Iterator[Entry]:
    """Yield the nodes of indented text: any count of spaces or tabs is a level if all siblings have the same."""
    indents: list[int] = []  # of the last node and its ancestors
    blank = ""  # the character of the first indentation: a space or a tab
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.partition("#")[0].rstrip()
        if not line:
            continue
        indent = len(line) - len(line.lstrip())
        blank = blank or line[:indent][:1]
        if line[:indent].strip(blank):
            raise DataError(
                f"{path}:{number}: {quote(line.strip())}: tabs and spaces are mixed; indent with one of them"
            )
        is_dedented = bool(indents) and indents[-1] > indent
        while indents and indents[-1] > indent:
            indents.pop()
        if not indents or indents[-1] < indent:
            if is_dedented:
                raise DataError(f"{path}:{number}: {quote(line.strip())}: the indentation matches no line above")
            indents.append(indent)
        yield Entry(len(indents) - 1, line.strip(), f"{path}:{number}")


def _parse_yaml(text: str, path: Path) -> Iterator[Entry]:
    """Yield the nodes of nested mappings and lists; names are text, as written."""
    root = compose_yaml(text, path, DataError.at)
    return iter(()) if root is None else _parse_node(root, 0, path)


def _parse_node(node: yaml.Node, depth: int, path: Path) -> Iterator[Entry]:
    """Yield a YAML node and its descendants."""
    location = f"{path}:{node.start_mark.line + 1}"
    if depth > MAX_LEVELS:
        raise DataError(f"{location}: more than {MAX_LEVELS} levels")
    if node.tag not in PLAIN_TAGS:
        raise DataError(f"{location}: the tag {quote(node.tag)} is not supported; use plain YAML")
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise DataError(f"{path}:{key.start_mark.line + 1}: a node must be text")
            yield Entry(depth, key.value, f"{path}:{key.start_mark.line + 1}")
            if value.tag != NULL_TAG:
                yield from _parse_node(value, depth + 1, path)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            if isinstance(item, yaml.SequenceNode):
                raise DataError(f"{path}:{item.start_mark.line + 1}: a list in a list has no name; write name: [...]")
            yield from _parse_node(item, depth, path)
    elif node.value:
        yield Entry(depth, node.value, location)


def _tree(entries: Iterator[Entry], path: Path) -> WordTree:
    children: dict[str, list[str]] = {}
    names: dict[str, str] = {}
    locations: dict[str, str] = {}
    aliases: dict[str, tuple[str, str]] = {}  # node id and location
    ancestors: list[str] = []  # ids from the root to the last node
    for depth, text, location in entries:
        node = _parse_text(text, location)
        if node.id in names:
            raise DataError(
                f"{location}: {quote(node.id)} is already defined at {locations[node.id]}; ids must be unique, add [id]"
            )
        del ancestors[depth:]
        children.setdefault(ancestors[-1] if ancestors else TOP, []).append(node.id)
        ancestors.append(node.id)
        names[node.id], locations[node.id] = node.name, location
        for alias in node.aliases:
            owner, defined_at = aliases.get(alias, (node.id, ""))
            if owner != node.id:
                raise DataError(f"{location}: alias {quote(alias)} already belongs to {quote(owner)} at {defined_at}")
            if alias != node.name:
                aliases[alias] = node.id, location
    if not names:
        raise DataError(f"{path}: contains no nodes")
    ids, parents = darknet_order(children, TOP)
    index = {node: i for i, node in enumerate(ids)}
    alias_nodes = {alias: index[node] for alias, (node, _) in aliases.items()}
    return WordTree(ids, tuple(names[node] for node in ids), parents, alias_nodes)


def _parse_text(text: str, location: str) -> Node:
    match = NODE.fullmatch(text.strip())
    if not match:
        raise DataError(f"{location}: {quote(text.strip())}: a node must be: name [id] (alias, alias)")
    name = match["name"].strip()
    aliases = tuple(alias.strip() for alias in (match["aliases"] or "").split(",") if alias.strip())
    return Node((match["id"] or name).strip(), name, aliases)
