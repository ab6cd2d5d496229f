"""Set values in a YAML file and keep every other byte, including comments."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from yolo9k.errors import ConfigError
from yolo9k.io import check_regular, reading, replacing
from yolo9k.yaml_files import MAX_BYTES, parse_yaml


def write_values(path: Path, section: str, values: Mapping[str, Any]) -> None:
    """Set keys in a section of a YAML file; the file is replaced atomically.

    Raises `ConfigError` if the layout cannot be edited safely, `MachineError` if the file cannot be written.
    """
    check_regular(path, ConfigError.at, MAX_BYTES)
    with reading(path, ConfigError.at):
        text = path.read_bytes().decode("utf-8")  # not `read_text`: line ends must stay
    try:
        for key, value in values.items():
            text = set_value(text, section, key, value)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    with replacing(path) as draft:
        draft.write_bytes(text.encode("utf-8"))  # bytes keep the line ends


def set_value(text: str, section: str, key: str, value: Any) -> str:
    """Return YAML `text` with `section.key` set to `value` (numbers, text or lists of them).

    The parser locates the old value; the result is parsed again and must differ only there. Raises `ConfigError` if it
    does not, or if the old value contains comments.
    """
    before = _parse(text)
    if not isinstance(before, dict) or not isinstance(before.get(section) or {}, dict):
        raise ConfigError(f"{section} must be a mapping of keys to values: set {section}.{key} by hand")
    flow = _flow(value)
    changed = _edited(text, section, key, flow)
    if _parse(changed) != {**before, section: {**(before.get(section) or {}), key: value}}:
        raise ConfigError(f"this layout cannot be edited safely: set {section}.{key} to {flow} by hand")
    return changed


Entry = tuple[yaml.Node, yaml.Node]


def _edited(text: str, section: str, key: str, flow: str) -> str:
    root = yaml.compose(text, yaml.SafeLoader)
    inner = _find(root, section)
    if inner is None:
        return _insert(text, root, f"{section}: {{{key}: {flow}}}")
    if isinstance(inner[1], yaml.ScalarNode) or not inner[1].value:  # null or {}
        return _replace(text, inner, f"{{{key}: {flow}}}")
    old = _find(inner[1], key)
    return _replace(text, old, flow) if old else _insert(text, inner[1], f"{key}: {flow}")


def _parse(text: str) -> Any:
    """Return the values of YAML text; `None` if it is not YAML, {} if it is empty."""
    try:
        values = parse_yaml(text, "text")
    except ConfigError:
        return None
    return {} if values is None else values


def _flow(value: Any) -> str:
    """Return a value as YAML on one line."""
    return yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("...\n").strip()


def _find(mapping: yaml.Node | None, key: str) -> Entry | None:
    """Return the key and value nodes of an entry; of duplicate keys the last, as the parser does."""
    entries = mapping.value if isinstance(mapping, yaml.MappingNode) else []
    return next((entry for entry in reversed(entries) if entry[0].value == key), None)


def _replace(text: str, entry: Entry, flow: str) -> str:
    """Replace the value of an entry; the new one goes right after the colon, before any comment."""
    key, value = entry
    start, end = value.start_mark.index, _end(value)
    if start < key.end_mark.index:
        raise ConfigError(f"{key.value} is an alias (*): edit it by hand")
    if "#" in text[start:end]:
        raise ConfigError(f"there are comments inside the value of {key.value}: edit it by hand")
    colon = text.index(":", key.end_mark.index) + 1
    between = text[colon:start]
    tail = between.rstrip() if "\n" in between else ""
    return f"{text[:colon]} {flow}{tail}{text[end:]}"


def _insert(text: str, mapping: Any, entry: str) -> str:
    """Append an entry to a mapping."""
    newline = "\r\n" if "\r\n" in text else "\n"
    if mapping is None:
        return f"{text}{newline if text and not text.endswith(newline) else ''}{entry}{newline}"
    if mapping.flow_style:
        end = _end(mapping.value[-1][1]) if mapping.value else mapping.start_mark.index + 1
        return f"{text[:end]}{', ' if mapping.value else ''}{entry}{text[end:]}"
    end = _end(mapping.value[-1][1])
    line_end = text.find(newline, end)
    line_end = len(text) if line_end < 0 else line_end
    indent = " " * mapping.start_mark.column
    return f"{text[:line_end]}{newline}{indent}{entry}{text[line_end:]}"


def _end(node: yaml.Node) -> int:
    """Return where the text of a node ends; the end mark of a block lies behind the comments that follow it."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(last[1] if isinstance(last, tuple) else last)
    return node.end_mark.index
