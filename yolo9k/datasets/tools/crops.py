"""Images of single things cut from the boxes of a data set: image labels out of box labels (kind `folder`)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from yolo9k.boxes import area, clip, intersection
from yolo9k.config import DatasetConfig
from yolo9k.datasets.readers.records import Annotations, Record
from yolo9k.drawing import save_image
from yolo9k.errors import DataError
from yolo9k.images import read_image
from yolo9k.progress import Track, silent
from yolo9k.wordtree import WordTree


@dataclass(frozen=True)
class CropRules:
    """Which boxes are cut out, and how.

    `margin`: how much of its width and height is added to a box on each side. `per_class`: at most so many of each
    label, chosen at random; 0 is all. `min_side`: pixels of the shorter side. `max_covered`: share of a box that other
    boxes may lie over. `in_place`: the image keeps its size and all around the box has its median colour, so
    that things keep their scale, on what is behind most of them; else the crop alone is written.
    """

    margin: float = 0.2
    per_class: int = 0
    min_side: float = 8.0
    max_covered: float = 0.3
    in_place: bool = False
    seed: int = 0


def write_crops(
    annotations: Annotations, folder: Path, rules: CropRules, track: Track = silent
) -> tuple[DatasetConfig, dict[str, int]]:
    """Write the crops into a folder for each label; gives the config that reads them, and how many of each there are.

    Raises `DataError` where no box passes the rules, and for a bad image, `MachineError` where a file cannot be
    written.
    """
    chosen = _chosen(annotations.records, rules)
    if not chosen:
        raise DataError(f"{folder}: no box of {len(annotations.records)} images may be cut out; loosen the rules")
    counts: dict[str, int] = {}
    by_record: dict[int, list[int]] = {}
    for index, box in chosen:
        by_record.setdefault(index, []).append(box)
    for index, boxes in track(by_record.items(), "Cutting out", len(by_record)):
        record = annotations.records[index]
        image = read_image(record.path)
        for box in boxes:
            name = _folder_name(annotations.labels, int(record.boxes.label[box]))
            counts[name] = counts.get(name, 0) + 1
            target = folder / name / f"{record.path.stem}-{index}-{box}.jpg"
            save_image(target, _cut(image, record.boxes.xyxy[box], rules))
    config = DatasetConfig(kind="folder", root=str(folder.resolve()), splits={"train": (".",)}, name=folder.name)
    return config, counts


def _folder_name(labels: WordTree, label: int) -> str:
    """The label's name, or its id where the name is that of several labels."""
    name = labels.names[label]
    return (name if len(labels.candidates(name)) == 1 else labels.ids[label]).replace("/", "_")


def _chosen(records: Sequence[Record], rules: CropRules) -> list[tuple[int, int]]:
    """(image, box) of each box to cut out, in order."""
    by_label: dict[int, list[tuple[int, int]]] = {}
    for number, record in enumerate(records):
        for box in _usable(record, rules):
            by_label.setdefault(int(record.boxes.label[box]), []).append((number, box))
    rng = np.random.default_rng(rules.seed)
    chosen: list[tuple[int, int]] = []
    for _, found in sorted(by_label.items()):
        most = rules.per_class or len(found)
        places = rng.permutation(len(found))[:most]
        chosen += [found[place] for place in places]
    return sorted(chosen)


def _usable(record: Record, rules: CropRules) -> Iterator[int]:
    """The boxes that are large and free enough."""
    xyxy = record.boxes.xyxy
    covered = intersection(xyxy[:, None], xyxy[None]) / np.maximum(area(xyxy), 1e-6)[:, None]
    np.fill_diagonal(covered, 0)
    sides = (xyxy[:, 2:] - xyxy[:, :2]).min(axis=1, initial=np.inf)
    for box in range(len(xyxy)):
        is_free = covered[box].max(initial=0) <= rules.max_covered
        if is_free and sides[box] >= rules.min_side and not record.boxes.ignore[box]:
            yield box


def _cut(image: np.ndarray, xyxy: np.ndarray, rules: CropRules) -> np.ndarray:
    """The box with its margin, alone or where it was in the image."""
    w, h = (xyxy[2:] - xyxy[:2]) * rules.margin
    grown = clip((xyxy + np.array([-w, -h, w, h]))[None], (image.shape[1], image.shape[0]))[0]
    x1, y1, x2, y2 = int(grown[0]), int(grown[1]), int(np.ceil(grown[2])), int(np.ceil(grown[3]))
    if not rules.in_place:
        return image[y1:y2, x1:x2]
    alone = np.empty_like(image)
    alone[:] = np.median(image, axis=(0, 1))
    alone[y1:y2, x1:x2] = image[y1:y2, x1:x2]
    return alone
