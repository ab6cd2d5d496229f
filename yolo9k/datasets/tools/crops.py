"""Cut single-object images out of the boxes of a data set: class folders with image-level labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from yolo9k.boxes import area, clip, intersection, range_chunks
from yolo9k.config import DatasetConfig
from yolo9k.datasets.readers.records import Annotations, Record
from yolo9k.drawing import save_image
from yolo9k.errors import DataError, quote
from yolo9k.images import read_image
from yolo9k.io import is_folder_name
from yolo9k.progress import Track, silent
from yolo9k.wordtree import WordTree

MAX_STEM = 50  # characters kept of an image's file name: at most 200 of the 255 bytes of a name
NUM_LONGEST, BLOCK = 256, 16  # boxes of an image that are compared with all others, and how many at a time


@dataclass(frozen=True)
class CropOptions:
    """Which boxes are cropped, and how.

    `margin`: fraction of the box's width and height added on each side. `per_class`: max crops per label, chosen at
    random with `seed`; 0: all. `min_side`: min length of the shorter side in pixels. `max_covered`: max fraction of a
    box that another box may cover. `in_place`: keep the image size and fill everything outside the crop with the
    image's median colour, so that objects keep their scale; otherwise only the crop is written.
    """

    margin: float = 0.2
    per_class: int = 0
    min_side: float = 8.0
    max_covered: float = 0.3
    in_place: bool = False
    seed: int = 0


def write_crops(
    annotations: Annotations, folder: Path, options: CropOptions, track: Track = silent
) -> tuple[DatasetConfig, dict[str, int]]:
    """Write the crops into one folder per label; return the config that reads them and the count of each folder.

    Raises `DataError` if no box fits the options, a label's name cannot be a folder's, or an image cannot be read,
    `MachineError` if a file cannot be written.
    """
    chosen = _choose_boxes(annotations.records, options)
    if not chosen:
        images = len(annotations.records)
        raise DataError(f"{folder}: no box of {images} images fits the options; relax min_side or max_covered")
    used = {int(annotations.records[index].boxes.label[box]) for index, box in chosen}
    names = _folder_names(annotations.labels, sorted(used))
    counts: dict[str, int] = {}
    by_record: dict[int, list[int]] = {}
    for index, box in chosen:
        by_record.setdefault(index, []).append(box)
    for index, boxes in track(by_record.items(), "Cutting crops", len(by_record)):
        record = annotations.records[index]
        image = read_image(record.path)
        for box in boxes:
            name = names[int(record.boxes.label[box])]
            counts[name] = counts.get(name, 0) + 1
            target = folder / name / f"{record.path.stem[:MAX_STEM]}-{index}-{box}.jpg"
            save_image(target, _crop(image, record.boxes.xyxy[box], options))
    config = DatasetConfig(kind="folder", root=str(folder.resolve()), splits={"train": (".",)}, name=folder.name)
    return config, counts


def _folder_names(labels: WordTree, used: Sequence[int]) -> dict[int, str]:
    """Return the folder of each label that is used: its name, or its id if several have this name; `_` replaces `/`.

    Raises `DataError` for a name that no visible folder can have (`..`), and for two labels with one folder.
    """
    label_of: dict[str, int] = {}
    for label in used:
        name = labels.names[label]
        folder = (name if len(labels.find_all(name)) == 1 else labels.ids[label]).replace("/", "_")
        if not is_folder_name(folder):
            raise DataError(f"label {label}: {quote(name)} cannot be the name of a folder of crops; rename the class")
        if folder in label_of:
            both = f"labels {label_of[folder]} and {label}"
            raise DataError(f"{both}: their crops would be in one folder, {quote(folder)}; rename one of them")
        label_of[folder] = label
    return {label: folder for folder, label in label_of.items()}


def _choose_boxes(records: Sequence[Record], options: CropOptions) -> list[tuple[int, int]]:
    """Return (image index, box index) of each box to crop, sorted."""
    by_label: dict[int, list[tuple[int, int]]] = {}
    for index, record in enumerate(records):
        for box in _usable_boxes(record, options):
            by_label.setdefault(int(record.boxes.label[box]), []).append((index, box))
    rng = np.random.default_rng(options.seed)
    chosen: list[tuple[int, int]] = []
    for _, boxes in sorted(by_label.items()):
        order = rng.permutation(len(boxes))[: options.per_class or len(boxes)]
        chosen += [boxes[i] for i in order]
    return sorted(chosen)


def _usable_boxes(record: Record, options: CropOptions) -> list[int]:
    """Return the indices of the boxes that are large enough, not ignored and not covered too much."""
    xyxy = record.boxes.xyxy
    sides = (xyxy[:, 2:] - xyxy[:, :2]).min(axis=1, initial=np.inf)
    chosen = np.flatnonzero((sides >= options.min_side) & ~record.boxes.ignore)
    return chosen[~is_covered(xyxy, chosen, options.max_covered)].tolist()


def is_covered(xyxy: np.ndarray, chosen: np.ndarray, max_covered: float) -> np.ndarray:
    """Return whether another box covers more than `max_covered` of each chosen one: (N, 4), (M,) indices, to (M,).

    The longest boxes, which cover most, are compared with all. Boxes that these leave open are compared with those
    that begin near enough to reach them, along the axis on which these are fewer.
    """
    sides = (xyxy[:, 2:].astype(float) - xyxy[:, :2]).max(axis=1, initial=0)
    by_side = np.argsort(-sides, kind="stable")
    covered, still_open = np.zeros(len(chosen), bool), np.arange(len(chosen))
    for start in range(0, min(NUM_LONGEST, len(xyxy)), BLOCK):
        block, first = by_side[start : start + BLOCK], np.zeros(len(still_open), np.int64)
        covered[still_open] = _covered_by(xyxy, chosen[still_open], block, first, first + len(block), max_covered)
        still_open = np.flatnonzero(~covered)
    others = by_side[NUM_LONGEST:]
    if len(others) and len(still_open):
        boxes, reach = chosen[still_open], sides[others[0]] * 1.001  # more, for rounding
        ranges = [_near(xyxy, boxes, others, axis, reach) for axis in (0, 1)]
        covered[still_open] = _covered_by(xyxy, boxes, *min(ranges, key=lambda each: each[2].sum()), max_covered)
    return covered


def _near(
    xyxy: np.ndarray, boxes: np.ndarray, others: np.ndarray, axis: int, reach: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return `others` sorted along an axis, and for each box the first and the count of those that may reach it."""
    others = others[np.argsort(xyxy[others, axis], kind="stable")]
    begin = xyxy[others, axis].astype(float)
    first = np.searchsorted(begin, xyxy[boxes, axis] - reach)
    return others, first, np.searchsorted(begin, xyxy[boxes, axis + 2]) - first


def _covered_by(
    xyxy: np.ndarray, boxes: np.ndarray, others: np.ndarray, first: np.ndarray, count: np.ndarray, max_covered: float
) -> np.ndarray:
    """Return whether one of `others[first : first + count]`, except itself, covers too much of each box, (M,) bool."""
    covered = np.zeros(len(boxes), bool)
    x1, y1, x2, y2 = np.ascontiguousarray(xyxy.T)
    for row, position in range_chunks(first, count):
        i, j = boxes[row], others[position]
        meets = (x1[j] < x2[i]) & (x2[j] > x1[i]) & (y1[j] < y2[i]) & (y2[j] > y1[i]) & (i != j)
        row, i, j = row[meets], i[meets], j[meets]
        fraction = intersection(xyxy[i], xyxy[j]) / np.maximum(area(xyxy[i]), 1e-6)
        covered[row[fraction > max_covered]] = True
    return covered


def _crop(image: np.ndarray, xyxy: np.ndarray, options: CropOptions) -> np.ndarray:
    """Crop the box with its margin, alone or in place."""
    w, h = (xyxy[2:] - xyxy[:2]) * options.margin
    crop_xyxy = clip((xyxy + np.array([-w, -h, w, h]))[None], (image.shape[1], image.shape[0]))[0]
    x1, y1, x2, y2 = *map(int, crop_xyxy[:2]), *map(int, np.ceil(crop_xyxy[2:]))
    if not options.in_place:
        return image[y1:y2, x1:x2]
    filled = np.empty_like(image)
    filled[:] = np.median(image, axis=(0, 1))
    filled[y1:y2, x1:x2] = image[y1:y2, x1:x2]
    return filled
