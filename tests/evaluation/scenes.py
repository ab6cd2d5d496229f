"""Hypothesis strategies for label trees, records and detections."""

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
    pending = list(range(len(parents)))
    while pending and len(parents) < MAX_NODES:
        parent = pending.pop(draw(st.integers(0, len(pending) - 1)))
        children = draw(st.integers(0, 3))
        pending += range(len(parents), len(parents) + children)
        parents += [parent] * children
    ids = tuple(f"n{node}" for node in range(len(parents)))
    return WordTree(ids, ids, tuple(parents))


def square(cell: int) -> tuple[float, ...]:
    """Return one of 16 squares that do not touch, as xyxy."""
    x, y = 25 * (cell % 4), 25 * (cell // 4)
    return (x, y, x + 20.0, y + 20.0)


def record(index: int, cells, labels, ignore=None) -> Record:
    return Record(Path(f"{index}.png"), SIZE_WH, BoxLabels.of([square(c) for c in cells], labels, ignore), str(index))


def detections(cells, labels, scores) -> Detections:
    xyxy = np.array([square(cell) for cell in cells], np.float32).reshape(-1, 4)
    order = np.argsort(-np.asarray(scores, np.float32), kind="stable")
    return Detections(xyxy, np.asarray(scores, np.float32), np.asarray(labels, np.int64))[order]


@st.composite
def records(draw, tree: WordTree, min_boxes: int = 0) -> list[Record]:
    """Draw a few images; the first one has at least `min_boxes` boxes that are not ignored."""
    made = []
    for index in range(draw(st.integers(1, 3))):
        first = min_boxes if index == 0 else 0
        cells = draw(st.lists(st.integers(0, 15), min_size=first, max_size=6, unique=True))
        labels = [draw(st.integers(0, len(tree) - 1)) for _ in cells]
        ignore = [position >= first and draw(st.integers(0, 4)) == 0 for position in range(len(cells))]
        made.append(record(index, cells, labels, ignore))
    return made


@st.composite
def random_detections(draw, tree: WordTree, images: int) -> list[Detections]:
    """Draw detections of the same squares with one label each; a square may have several."""
    made = []
    for _ in range(images):
        cells = draw(st.lists(st.integers(0, 15), max_size=8))
        labels = [draw(st.integers(0, len(tree) - 1)) for _ in cells]
        scores = [draw(st.integers(1, 20)) / 20 for _ in cells]
        made.append(detections(cells, labels, scores))
    return made
