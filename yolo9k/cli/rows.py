"""Detections of many images as a table, JSON, CSV and YOLO's text files."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from yolo9k.cli.console import table
from yolo9k.errors import MachineError

if TYPE_CHECKING:
    import numpy as np

    from yolo9k.samples import Detections
    from yolo9k.wordtree import WordTree

MAX_SHOWN = 40  # rows of the table on the screen
SIDES = ("left", "top", "right", "bottom")
SHOWN_ABOVE = 3  # labels of a way on the screen


Way = list[tuple[str, float]]  # the labels from the root to a label, and their probabilities


def way_to(labels: "WordTree", label: int, path: "np.ndarray") -> Way:
    """The way to a label; `path` (D,): the probability of each node on it, by depth."""
    nodes = labels.path(label)[::-1]
    return [(labels.names[node], float(probability)) for node, probability in zip(nodes, path, strict=False)]


def short_way(way: Way) -> str:
    """The last labels of a way, for the screen."""
    more = ["…"] if len(way) > SHOWN_ABOVE else []
    return " > ".join([*more, *(f"{name} {probability:.2f}" for name, probability in way[-SHOWN_ABOVE:])])


def plain_way(way: Way) -> list[dict[str, Any]]:
    """A way, ready for JSON."""
    return [{"label": name, "probability": round(probability, 6)} for name, probability in way]


@dataclass(frozen=True)
class Rows:
    """What was found in each of the images, with labels of a set that may be a tree."""

    images: list[Path]
    found: "list[Detections]"
    labels: "WordTree"

    def _each(self) -> "Iterator[tuple[Path, Detections, int]]":
        for path, detections in zip(self.images, self.found, strict=True):
            for row in range(len(detections)):
                yield path, detections, row

    @property
    def _in_tree(self) -> bool:
        return any(detections.path is not None for detections in self.found)

    def _way(self, detections: "Detections", row: int) -> Way:
        if detections.path is None:
            return []
        return way_to(self.labels, int(detections.label[row]), detections.path[row])

    def show(self, console: Console) -> None:
        """Print a table of the first rows, and how many there are."""
        rows = list(self._each())
        shown = [
            (str(path), found.name(int(found.label[row])), *_numbers(found, row), *self._short_way(found, row))
            for path, found, row in rows[:MAX_SHOWN]
        ]
        ways = ["probabilities on the way"] if self._in_tree else []
        if rows:
            console.print(table("", ["image", "label", "score", *SIDES, *ways], shown))
        if len(rows) > MAX_SHOWN:
            console.print(f"… and {len(rows) - MAX_SHOWN} more (--json, --csv and --txt write all)")
        console.print(f"{len(rows)} detections in {len(self.images)} images")

    def _short_way(self, found: "Detections", row: int) -> list[str]:
        way = self._way(found, row)
        return [short_way(way)] if way or self._in_tree else []

    def to_dict(self) -> dict[str, Any]:
        """All rows, plain and as COCO results with the numbers of the images."""
        images = [
            {"file": str(path), "detections": [self._plain(detections, row) for row in range(len(detections))]}
            for path, detections in zip(self.images, self.found, strict=True)
        ]
        coco = [entry for number, detections in enumerate(self.found, 1) for entry in detections.to_coco(number)]
        numbers = {str(path): number for number, path in enumerate(self.images, 1)}
        return {"images": images, "coco_results": coco, "coco_image_ids": numbers}

    def _plain(self, found: "Detections", row: int) -> dict[str, Any]:
        label = int(found.label[row])
        plain = {
            "label": found.name(label),
            "score": round(float(found.score[row]), 6),
            "xyxy": [round(float(side), 3) for side in found.xyxy[row]],
        }
        if found.path is not None:
            plain["id"] = self.labels.ids[label]
            plain["path"] = plain_way(self._way(found, row))
        return plain

    def write_csv(self, target: Path) -> None:
        """Write all rows. Raises `MachineError`."""
        ways = ["id", "path"] if self._in_tree else []
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(["file", "label", "score", *SIDES, *ways])
                for path, found, row in self._each():
                    label = int(found.label[row])
                    way = " > ".join(f"{name} {value:.4f}" for name, value in self._way(found, row))
                    more = [self.labels.ids[label], way] if ways else []  # names may be those of several labels
                    writer.writerow([path, found.name(label), *_numbers(found, row), *more])
        except OSError as error:
            raise MachineError(f"{target}: cannot be written: {error.strerror or error}") from error

    def write_txt(self, folder: Path) -> None:
        """Write a file for each image: label, centre, size, score, relative to it. Raises `MachineError`."""
        from yolo9k.boxes import xyxy_to_cxcywh
        from yolo9k.images import read_size_wh

        names = unique_names(self.images)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for path, name, found in zip(self.images, names, self.found, strict=True):
                relative = xyxy_to_cxcywh(found.xyxy / (read_size_wh(path) * 2))
                lines = [
                    " ".join([str(int(label)), *(f"{value:.6f}" for value in box), f"{score:.5f}"])
                    for label, box, score in zip(found.label, relative, found.score, strict=True)
                ]
                (folder / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))
        except OSError as error:
            raise MachineError(f"{folder}: cannot be written: {error.strerror or error}") from error


def _numbers(found: "Detections", row: int) -> list[float]:
    """The score and the sides of a row, rounded."""
    return [round(float(found.score[row]), 4), *(round(float(side), 1) for side in found.xyxy[row])]


def unique_names(images: list[Path]) -> list[str]:
    """What to call the files of each image, without suffix: its own name, with a number where that is taken."""
    taken: dict[str, None] = {}
    for path in images:
        numbered = (f"{path.stem}-{number}" for number in count(2))
        taken[next(name for name in chain([path.stem], numbered) if name not in taken)] = None
    return list(taken)
