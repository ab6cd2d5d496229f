"""Read and write Darknet's label files: `.tree`, `.labels`, `.names` and `.map` (Darknet `tree.c: read_tree`).

A `.tree` file has a line `id parent` for each node; the parent is a 0-based line index, or -1 for roots. A `.map` file
has the node index of each class of a data set: line c is class c.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from yolo9k.errors import DataError, quote
from yolo9k.io import exists, unreachable, write_text
from yolo9k.io import read_lines as io_lines
from yolo9k.wordtree.tree import WordTree

INTEGER = re.compile(r"-?[0-9]{1,18}")
MAX_NODES = 1_000_000  # WordNet has 82,115 nouns
MAX_BYTES = 1 << 27
SUFFIXES = (".tree", ".labels", ".names")


def read_tree(path: str | Path, names: str | Path | None = None, labels: str | Path | None = None) -> WordTree:
    """Read a `.tree` file; names come from a `.names` file, ids from a `.labels` file (default: the ids in the tree).

    Raises `DataError` with file and line for errors that Darknet accepts silently: siblings that are not consecutive,
    a parent after its child, a duplicate id, a parent that is not an integer, files of different lengths.
    """
    path = Path(path)
    tree_ids: list[str] = []
    parents: list[int] = []
    for number, line in enumerate(read_lines(path), 1):
        parts = line.split()
        if len(parts) != 2:
            raise DataError(f"{path}:{number}: {quote(line)}: a line must be: id parent")
        tree_ids.append(parts[0])
        parents.append(_parse_int(parts[1], f"{path}:{number}: parent", minimum=-1))
    ids = tree_ids if labels is None else _read_same_length(Path(labels), len(tree_ids), path)
    node_names = ids if names is None else _read_same_length(Path(names), len(tree_ids), path)
    try:
        WordTree.flat(ids)  # checks the ids alone, so that an error names the file of the ids
    except DataError as error:
        raise _with_line(path if labels is None else Path(labels), error) from error
    try:
        return WordTree(tuple(ids), tuple(node_names), tuple(parents))
    except DataError as error:
        raise _with_line(path, error) from error


def read_names(path: str | Path) -> WordTree:
    """Read a flat label set from a `.names` file with one name per line. Raises `DataError` with file and line."""
    path = Path(path)
    names = read_lines(path)
    try:
        return WordTree.flat(names)
    except DataError as error:
        raise _with_line(path, error) from error


def read_map(path: str | Path, nodes: int) -> tuple[int, ...]:
    """Read the node of each class from a `.map` file.

    `nodes`: count of nodes of the tree. Raises `DataError` with file and line.
    """
    path = Path(path)
    lines = enumerate(read_lines(path), 1)
    return tuple(_parse_int(line, f"{path}:{number}: node", minimum=0, maximum=nodes - 1) for number, line in lines)


def write_tree(tree: WordTree, base: str | Path) -> list[Path]:
    """Write `base.tree`, `base.labels` (ids) and `base.names`; return the paths.

    Raises `DataError` for ids with spaces, which Darknet cannot read, `MachineError` if a file cannot be written.
    """
    texts = {Path(f"{base}{suffix}"): text for suffix, text in label_texts(tree, SUFFIXES).items()}
    for path, text in texts.items():
        write_text(path, text)
    return list(texts)


def label_texts(tree: WordTree, suffixes: Sequence[str]) -> dict[str, str]:
    """Return the content of the files of a label set, by suffix (some of `SUFFIXES`).

    Raises `DataError` for ids with spaces if `.tree` is requested, because Darknet cannot read them.
    """
    spaced = next((name for name in tree.ids if len(name.split()) != 1), None)
    if spaced is not None and ".tree" in suffixes:
        raise DataError(
            f"{quote(spaced)}: an id in a .tree file must not contain spaces; give the node an id [in_brackets]"
        )
    lines: dict[str, Iterable[str]] = {
        ".tree": (f"{name} {parent}" for name, parent in zip(tree.ids, tree.parents, strict=True)),
        ".labels": tree.ids,
        ".names": (" ".join(name.split()) for name in tree.names),
    }
    return {suffix: "".join(f"{line}\n" for line in lines[suffix]) for suffix in suffixes}


def read_lines(path: str | Path) -> list[str]:
    """Return the stripped lines of a text file, as `io.read_lines`, without empty lines at the end of the file.

    Raises `DataError` if the file is missing, not text, empty or too long, or contains an empty line.
    """
    path = Path(path)
    if not exists(path):
        raise DataError(f"{path}: {unreachable(path) or 'no such file'}")
    lines = [line.strip() for line in io_lines(path, max_bytes=MAX_BYTES)]
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise DataError(f"{path}: is empty")
    if len(lines) > MAX_NODES:
        raise DataError(f"{path}: {len(lines):,} lines; at most {MAX_NODES:,} are allowed")
    if "" in lines:
        raise DataError(f"{path}:{lines.index('') + 1}: empty line; each line must be one label")
    return lines


def _with_line(path: Path, error: DataError) -> DataError:
    """Add the file and line to an error of `WordTree`, which begins with the index of a label."""
    message = re.sub(r"was already label (\d+)", lambda found: f"{found[0]} (line {int(found[1]) + 1})", str(error))
    match = re.match(r"label (\d+)", message)
    return DataError(f"{path}:{int(match[1]) + 1}: {message}" if match else f"{path}: {message}")


def _read_same_length(path: Path, count: int, tree: Path) -> list[str]:
    lines = read_lines(path)
    if len(lines) != count:
        raise DataError(f"{path}: {len(lines)} lines for the {count} nodes of {tree}")
    return lines


def _parse_int(text: str, location: str, *, minimum: int, maximum: int | None = None) -> int:
    value = int(text) if INTEGER.fullmatch(text) else minimum - 1
    if value < minimum or (maximum is not None and value > maximum):
        allowed = f"{minimum} or more" if maximum is None else f"{minimum} to {maximum}"
        raise DataError(f"{location} must be an integer, {allowed}, not {quote(text)}")
    return value
