"""Random label trees and images with boxes, as hypothesis draws them."""

from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from yolo9k.datasets.readers.records import Record
from yolo9k.samples import BoxLabels, Detections
from yolo9k.wordtree import WordTree

SIZE_WH = (100, 100)
MAX_NODES = 20


@st.composite
def trees(draw) -> WordTree:
    parents = [-1] * draw(st.integers(1, 3))
    waiting = list(range(len(parents)))
    while waiting and len(parents) < MAX_NODES:
        parent = waiting.pop(draw(st.integers(0, len(waiting) - 1)))
        children = draw(st.integers(0, 3))
        waiting += range(len(parents), len(parents) + children)
        parents += [parent] * children
    ids = tuple(f"n{node}" for node in range(len(parents)))
    return WordTree(ids, ids, tuple(parents))


def square(cell: int) -> tuple[float, ...]:
    """One of 16 squares that do not touch."""
    x, y = 25 * (cell % 4), 25 * (cell // 4)
    return (x, y, x + 20.0, y + 20.0)


def record(number: int, cells, labels, ignore=None) -> Record:
    return Record(Path(f"{number}.png"), SIZE_WH, BoxLabels.of([square(c) for c in cells], labels, ignore), str(number))


def detections(cells, labels, scores) -> Detections:
    xyxy = np.array([square(cell) for cell in cells], np.float32).reshape(-1, 4)
    order = np.argsort(-np.asarray(scores, np.float32), kind="stable")
    return Detections(xyxy, np.asarray(scores, np.float32), np.asarray(labels, np.int64))[order]


@st.composite
def records(draw, tree: WordTree, least: int = 0) -> list[Record]:
    """A few images, with `least` boxes or more that count in the first."""
    made = []
    for number in range(draw(st.integers(1, 3))):
        first = least if number == 0 else 0
        cells = draw(st.lists(st.integers(0, 15), min_size=first, max_size=6, unique=True))
        labels = [draw(st.integers(0, len(tree) - 1)) for _ in cells]
        ignore = [place >= first and draw(st.integers(0, 4)) == 0 for place in range(len(cells))]
        made.append(record(number, cells, labels, ignore))
    return made


@st.composite
def found(draw, tree: WordTree, images: int) -> list[Detections]:
    """Detections of the same squares, one label each, several for a square at times."""
    made = []
    for _ in range(images):
        cells = draw(st.lists(st.integers(0, 15), max_size=8))
        labels = [draw(st.integers(0, len(tree) - 1)) for _ in cells]
        scores = [draw(st.integers(1, 20)) / 20 for _ in cells]
        made.append(detections(cells, labels, scores))
    return made
