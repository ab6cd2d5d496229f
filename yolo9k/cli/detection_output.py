"""Write the detections of many images: a table on the screen, JSON, CSV and YOLO text files."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from yolo9k.cli.console import table
from yolo9k.cli.label_paths import LabelPath, label_path, path_text, path_to_json, short_path_text
from yolo9k.cli.outputs import open_output
from yolo9k.io import write_text

if TYPE_CHECKING:
    from yolo9k.samples import Detections
    from yolo9k.wordtree import WordTree

MAX_ROWS = 40  # of the table on the screen
SIDES = ("left", "top", "right", "bottom")


@dataclass(frozen=True)
class DetectionOutput:
    """The detections of each image; `labels` may be a tree."""

    images: list[Path]
    detections: "list[Detections]"
    labels: "WordTree"

    @property
    def _has_paths(self) -> bool:
        return any(each.path is not None for each in self.detections)

    def _rows(self) -> "Iterator[tuple[Path, Detections, int]]":
        """Yield the image, its detections and the index of one of them, for each detection."""
        for image, detections in zip(self.images, self.detections, strict=True):
            for index in range(len(detections)):
                yield image, detections, index

    def _path(self, detections: "Detections", index: int) -> LabelPath:
        if detections.path is None:
            return []
        return label_path(self.labels, int(detections.label[index]), detections.path[index])

    def show(self, console: Console) -> None:
        """Print a table of the first detections, and their total count."""
        rows = list(self._rows())
        has_paths = self._has_paths
        cells = [
            (
                str(image), detections.name(int(detections.label[index])), *_score_and_sides(detections, index),
                *([short_path_text(self._path(detections, index))] if has_paths else []),
            )
            for image, detections, index in rows[:MAX_ROWS]
        ]  # fmt: skip
        if rows:
            columns = ["image", "label", "score", *SIDES, *(["path probabilities"] if has_paths else [])]
            console.print(table("", columns, cells))
        if len(rows) > MAX_ROWS:
            console.print(f"… and {len(rows) - MAX_ROWS} more (--json, --csv and --txt write all)")
        console.print(f"{len(rows)} detections in {len(self.images)} images")

    def to_dict(self) -> dict[str, Any]:
        """Return all detections as JSON values: by image, and as COCO results with the image ids they use."""
        images = [
            {"file": str(image), "detections": [self._detection(detections, i) for i in range(len(detections))]}
            for image, detections in zip(self.images, self.detections, strict=True)
        ]
        coco = [entry for image_id, each in enumerate(self.detections, 1) for entry in each.to_coco(image_id)]
        image_ids = {str(image): image_id for image_id, image in enumerate(self.images, 1)}
        return {"images": images, "coco_results": coco, "coco_image_ids": image_ids}

    def _detection(self, detections: "Detections", index: int) -> dict[str, Any]:
        label = int(detections.label[index])
        values = {
            "label": detections.name(label),
            "score": round(float(detections.score[index]), 6),
            "xyxy": [round(float(side), 3) for side in detections.xyxy[index]],
        }
        if detections.path is not None:
            values["id"] = self.labels.ids[label]
            values["path"] = path_to_json(self._path(detections, index))
        return values

    def write_csv(self, path: Path) -> None:
        """Write one line per detection. Raises `MachineError`."""
        has_paths = self._has_paths
        with open_output(path) as file:
            writer = csv.writer(file)
            writer.writerow(["file", "label", "score", *SIDES, *(["id", "path"] if has_paths else [])])
            for image, detections, index in self._rows():
                label = int(detections.label[index])
                text = path_text(self._path(detections, index), digits=4)
                extra = [self.labels.ids[label], text] if has_paths else []  # several labels may share a name
                writer.writerow([image, detections.name(label), *_score_and_sides(detections, index), *extra])

    def write_txt(self, targets: Mapping[Path, Path]) -> None:
        """Write the file of each image: class, centre, size and score, relative to the image. Raises `MachineError`."""
        from yolo9k.boxes import xyxy_to_cxcywh
        from yolo9k.images import read_size_wh

        for image, detections in zip(self.images, self.detections, strict=True):
            relative = xyxy_to_cxcywh(detections.xyxy / (read_size_wh(image) * 2))
            lines = [
                " ".join([str(int(label)), *(f"{value:.6f}" for value in box), f"{score:.5f}"])
                for label, box, score in zip(detections.label, relative, detections.score, strict=True)
            ]
            write_text(targets[image], "".join(f"{line}\n" for line in lines), sync=False)


def _score_and_sides(detections: "Detections", index: int) -> list[float]:
    """Return the score and the sides of a box, rounded."""
    sides = (round(float(side), 1) for side in detections.xyxy[index])
    return [round(float(detections.score[index]), 4), *sides]


def unique_files(images: Sequence[Path], folder: Path, suffix: str) -> dict[Path, Path]:
    """Return a different file in `folder` for each image: named as the image, with -2, -3, ... if that is taken."""
    taken: dict[str, Path] = {}
    for path in images:
        numbered = (f"{path.stem}-{number}" for number in count(2))
        taken[next(name for name in chain([path.stem], numbered) if name not in taken)] = path
    return {path: folder / f"{name}{suffix}" for name, path in taken.items()}
