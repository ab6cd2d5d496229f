"""Darknet's text files of labels: `.tree`, `.labels`, `.names` and `.map` (Darknet `tree.c: read_tree`).

A tree has a line `id parent` for each node, the parent a line number from 0 or -1. A map has a node number on
each line: line c is what class c of a data set is called in the tree.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from yolo9k.errors import DataError, MachineError
from yolo9k.wordtree.tree import WordTree

MAX_NODES = 10_000_000
SUFFIXES = (".tree", ".labels", ".names")


def read_tree(path: str | Path, names: str | Path | None = None, labels: str | Path | None = None) -> WordTree:
    """The tree of a `.tree` file; names from a `.names` file, ids from a `.labels` file, else the tree's own.

    Raises `DataError` with file and line for what Darknet would take silently: siblings apart, a parent after its
    child, an id twice, words for numbers, files of different length.
    """
    path = Path(path)
    ids: list[str] = []
    parents: list[int] = []
    for number, line in enumerate(read_lines(path), 1):
        parts = line.split()
        if len(parts) != 2:
            raise DataError(f"{path}:{number}: {_shown(line)}: a node is written: id parent")
        ids.append(parts[0])
        parents.append(_number(parts[1], f"{path}:{number}: parent", least=-1))
    own = ids if labels is None else _same_length(Path(labels), ids, path)
    shown = own if names is None else _same_length(Path(names), ids, path)
    try:
        WordTree.flat(own)  # whose errors are about the ids alone
    except DataError as error:
        raise _with_line(path if labels is None else Path(labels), error) from error
    try:
        return WordTree(tuple(own), tuple(shown), tuple(parents))
    except DataError as error:
        raise _with_line(path, error) from error


def read_names(path: str | Path) -> WordTree:
    """A flat label set from a `.names` file, one name a line. Raises `DataError`."""
    path = Path(path)
    names = read_lines(path)
    try:
        return WordTree.flat(names)
    except DataError as error:
        raise _with_line(path, error) from error


def read_map(path: str | Path, nodes: int) -> tuple[int, ...]:
    """The nodes of a `.map` file, each below `nodes`. Raises `DataError` with the line."""
    path = Path(path)
    lines = enumerate(read_lines(path), 1)
    return tuple(_number(line, f"{path}:{number}: node", least=0, most=nodes - 1) for number, line in lines)


def write_tree(tree: WordTree, base: str | Path) -> list[Path]:
    """Write `base.tree`, `base.labels` (ids) and `base.names`; gives the paths.

    Raises `DataError` for ids with blanks, which Darknet cannot read back, `MachineError` where a file cannot be
    written.
    """
    written = []
    for suffix, text in label_texts(tree, SUFFIXES).items():
        path = Path(f"{base}{suffix}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise MachineError(f"{path}: cannot be written: {error.strerror or error}") from error
        written.append(path)
    return written


def label_texts(tree: WordTree, suffixes: Sequence[str]) -> dict[str, str]:
    """What the files of a label set say, by suffix (some of `SUFFIXES`).

    Raises `DataError` for ids with blanks where there is to be a `.tree`, which Darknet could not read back.
    """
    spaced = next((name for name in tree.ids if len(name.split()) != 1), None)
    if spaced is not None and ".tree" in suffixes:
        raise DataError(f"{spaced!r}: an id with blanks cannot stand in a .tree file; give it an id [in_brackets]")
    lines: dict[str, Iterable[str]] = {
        ".tree": (f"{name} {parent}" for name, parent in zip(tree.ids, tree.parents, strict=True)),
        ".labels": tree.ids,
        ".names": (" ".join(name.split()) for name in tree.names),
    }
    return {suffix: "".join(f"{line}\n" for line in lines[suffix]) for suffix in suffixes}


def read_lines(path: str | Path) -> list[str]:
    """The lines of a text file without blanks at their ends; empty lines at the end of the file do not count.

    Raises `DataError` where it is missing, no text, or has an empty line inside.
    """
    try:
        lines = [line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as text: {getattr(error, 'strerror', None) or error}") from error
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise DataError(f"{path}: is empty")
    if len(lines) > MAX_NODES:
        raise DataError(f"{path}: {len(lines):,} lines are more than {MAX_NODES:,}")
    if "" in lines:
        raise DataError(f"{path}:{lines.index('') + 1}: an empty line; every line stands for one label")
    return lines


def _with_line(path: Path, error: DataError) -> DataError:
    """An error of a label set, which begins with the number of a label, with the place in the file."""
    found = re.match(r"label (\d+)", str(error))
    return DataError(f"{path}:{int(found[1]) + 1}: {error}" if found else f"{path}: {error}")


def _same_length(path: Path, ids: list[str], tree: Path) -> list[str]:
    lines = read_lines(path)
    if len(lines) != len(ids):
        raise DataError(f"{path}: {len(lines)} lines for the {len(ids)} nodes of {tree}")
    return lines


def _number(text: str, place: str, *, least: int, most: int | None = None) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least or (most is not None and value > most):
        allowed = f"{least} or more" if most is None else f"{least} to {most}"
        raise DataError(f"{place} must be a whole number, {allowed}, not {_shown(text)}")
    return value


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}…")
