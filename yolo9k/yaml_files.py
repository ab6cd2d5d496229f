"""Load YAML files: names stay as they are written, only plain values are made, size and nesting are bounded.

YAML 1.1 reads `no` as false, `12:30` as 750, `007` as 7 and `2020-01-01` as a date. Here, as in YAML 1.2, only `true`
and `false` are booleans, and only numbers in the usual notation are numbers; below some keys everything is text.
"""

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import yaml

from yolo9k.errors import ConfigError, quote
from yolo9k.io import Failure, read_text, reading

MAX_BYTES = 1 << 22  # 4 MiB: the names of the 28,269 nodes of YOLO9000's tree have a quarter of it
MAX_VALUES = 1_000_000  # after aliases are expanded: each could multiply those of the one before it
MAX_LEVELS = 100  # of nesting
TEXT_KEYS = frozenset(("labels", "names", "classes", "name", "root", "path", "splits", "tree", "map"))
SCALAR_TEXT_KEYS = frozenset(("extends", "dataset", "split", "device", "backbone"))  # text unless nested or null
INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
FLOAT = re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)(e[-+]?[0-9]+)?|[-+]?\.inf|\.nan", re.IGNORECASE)
SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
BOOLEANS = {"true": True, "false": False}
PREFIX = "tag:yaml.org,2002:"
NULL_TAG = f"{PREFIX}null"
PLAIN_TAGS = frozenset(
    PREFIX + name for name in ("str", "int", "float", "bool", "null", "timestamp", "merge", "value", "seq", "map")
)


def load_yaml(path: Path, fail: Failure = ConfigError.at, text_keys: Collection[str] = TEXT_KEYS) -> Any:
    """Load a YAML file; values and keys below the keys `text_keys` are text, as written.

    Raises the error of `fail` with the line if the file cannot be read, is not YAML, is nested too deeply or too
    large, has a key twice or a tag that is not plain.
    """
    return parse_yaml(read_text(path, fail, MAX_BYTES), path, fail, text_keys)


def parse_yaml(
    text: str,
    path: object,
    fail: Failure = ConfigError.at,
    text_keys: Collection[str] = TEXT_KEYS,
    *,
    under: Sequence[str] = (),
) -> Any:
    """Parse YAML, as `load_yaml` does; `path` names the source in errors, `under` the keys that the text is below."""
    root = compose_yaml(text, path, fail)
    if root is None:
        return None
    builder = _Builder(path, fail, text_keys)
    is_text = any(key in text_keys for key in under) or (bool(under) and builder.is_text(under[-1], root))
    with reading(path, fail):
        return builder.build(root, as_text=is_text)


def is_plain_text(text: str) -> bool:
    """Return whether unquoted text is read as text everywhere: it is no number, boolean or null."""
    return not (INTEGER.fullmatch(text) or FLOAT.fullmatch(text) or text.lower() in BOOLEANS)


def compose_yaml(text: str, path: object, fail: Failure = ConfigError.at) -> yaml.Node | None:
    """Return the root node of YAML, `None` if there is none; raises the error of `fail` if it is not YAML."""
    has_bytes = SURROGATE_ESCAPE.search(text)  # libyaml refuses the bytes of file names that are no text
    loader = yaml.SafeLoader if has_bytes else getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    with reading(path, fail):
        try:
            return yaml.compose(text, Loader=loader)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
            raise fail(f"{path}:{mark.line + 1}" if mark else path, f"not YAML: {problem}") from error


class _Builder:
    """Makes the values of YAML nodes, at most `MAX_VALUES`."""

    def __init__(self, path: object, fail: Failure, text_keys: Collection[str]) -> None:
        self.path, self.fail, self.text_keys = path, fail, text_keys
        self.count = 0
        self.open: set[int] = set()  # nodes around the current one: an alias to one of these never ends

    def build(self, node: yaml.Node, *, as_text: bool) -> Any:
        """Return the value of a node: a mapping, a list, text, a number, a boolean or `None`."""
        self.count += 1
        if self.count > MAX_VALUES:
            raise self.error(node, f"more than {MAX_VALUES:,} values")
        if node.tag not in PLAIN_TAGS:
            raise self.error(node, f"the tag {quote(node.tag.removeprefix(PREFIX))} is not supported; use plain YAML")
        if isinstance(node, yaml.ScalarNode):
            return node.value if as_text else self.scalar(node)
        if id(node) in self.open:
            raise self.error(node, "an alias contains itself")
        if len(self.open) >= MAX_LEVELS:
            raise self.error(node, f"nested more than {MAX_LEVELS} levels deep")
        self.open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self.mapping(node, as_text=as_text)
            return [self.build(item, as_text=as_text) for item in node.value]
        finally:
            self.open.remove(id(node))

    def is_text(self, key: object, node: yaml.Node) -> bool:
        """Return whether the value of a key is text, with all below it."""
        is_scalar = isinstance(node, yaml.ScalarNode) and node.tag != NULL_TAG
        return key in self.text_keys or (key in SCALAR_TEXT_KEYS and is_scalar)

    def mapping(self, node: yaml.MappingNode, *, as_text: bool) -> dict[Any, Any]:
        """Return a mapping; a key that occurs twice is an error, one that is merged in (`<<`) gives way."""
        values: dict[Any, Any] = {}
        merged: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == f"{PREFIX}merge" and not as_text:
                merged |= self.merged(value_node)
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                raise self.error(key_node, "a key must be text")
            key = self.build(key_node, as_text=as_text)
            if key in values:
                raise self.error(key_node, f"the key {quote(key_node.value)} occurs twice")
            values[key] = self.build(value_node, as_text=as_text or self.is_text(key, value_node))
        return merged | values

    def merged(self, node: yaml.Node) -> dict[Any, Any]:
        """Return the values that `<<` merges: those of one mapping, or of a list of them, the first of which wins."""
        parts = self.build(node, as_text=False)
        merged: dict[Any, Any] = {}
        for part in reversed(parts if isinstance(parts, list) else [parts]):
            if not isinstance(part, dict):
                raise self.error(node, "`<<` merges mappings only")
            merged |= part
        return merged

    def scalar(self, node: yaml.ScalarNode) -> Any:
        """Return a value by YAML 1.2's core rules; quoted scalars are text."""
        text, kind = node.value, node.tag.removeprefix(PREFIX)
        if kind == "null":
            return None
        if kind == "bool":
            return BOOLEANS.get(text.lower(), text)
        try:
            if kind == "int" and INTEGER.fullmatch(text):
                return int(text)
            if kind == "float" and FLOAT.fullmatch(text):
                return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        except ValueError as error:  # thousands of digits
            raise self.error(node, f"{text[:20]}… is too long for a number") from error
        return text

    def error(self, node: yaml.Node, message: str) -> Exception:
        """Return the error about a node, with its line."""
        return self.fail(f"{self.path}:{node.start_mark.line + 1}", message)
