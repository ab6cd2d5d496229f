#!/usr/bin/env python3
"""Time how long a large data set takes to read: YOLO and COCO annotations, and class folders.

    python scripts/bench_reading.py [--scale 1.0] [--only yolo|coco|folders]

Scale 1: 95,000 YOLO images, 118,287 COCO images (as train2017), 1,000,000 images in class folders. The images are links
to one JPEG. To compare two versions, run the script in turn with the PYTHONPATH of each.
"""

import argparse
import json
import logging
import os
import random
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from yolo9k.config import DatasetConfig
from yolo9k.datasets.load import read_annotations, read_images

CLASSES = tuple(f"class {index}" for index in range(80))
BOXES_PER_IMAGE = 7
LINKS = 30_000  # of one file; file systems limit them


def link_images(paths: list[Path]) -> None:
    """Write images of 640x480 that are links to a few files."""
    for index, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        if index % LINKS == 0:
            cv2.imwrite(str(path), np.zeros((480, 640, 3), np.uint8))
        else:
            os.link(paths[index - index % LINKS], path)


def write_yolo(root: Path, scale: float, rng: random.Random) -> DatasetConfig:
    """Write label files with `BOXES_PER_IMAGE` boxes each."""
    count = round(95_000 * scale)
    link_images([root / f"images/{index:06d}.jpg" for index in range(count)])
    (root / "labels").mkdir()
    for index in range(count):
        boxes = (
            [rng.randrange(80), *(round(rng.uniform(0.1, 0.8), 6) for _ in range(4))] for _ in range(BOXES_PER_IMAGE)
        )
        (root / f"labels/{index:06d}.txt").write_text("".join(" ".join(map(str, box)) + "\n" for box in boxes))
    return DatasetConfig(kind="yolo", root=str(root), splits={"train": ("images",)}, labels=CLASSES)


def write_coco(root: Path, scale: float, rng: random.Random) -> DatasetConfig:
    """Write one annotation file with outlines."""
    count = round(118_287 * scale)
    names = [f"{index:012d}.jpg" for index in range(count)]
    link_images([root / "train2017" / name for name in names])
    images = [{"id": index, "file_name": name, "width": 640, "height": 480} for index, name in enumerate(names)]
    annotations = []
    for index in range(round(860_001 * scale)):
        x, y, w, h = rng.uniform(0, 400), rng.uniform(0, 300), rng.uniform(5, 200), rng.uniform(5, 150)
        outline = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        annotations.append({
            "id": index, "image_id": rng.randrange(count), "category_id": rng.randrange(80), "iscrowd": 0,
            "bbox": [x, y, w, h], "area": w * h, "segmentation": outline,
        })  # fmt: skip
    categories = [{"id": index, "name": name} for index, name in enumerate(CLASSES)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "train.json").write_text(json.dumps(content))
    splits = {"train": ({"images": "train2017", "annotations": "train.json"},)}
    return DatasetConfig.model_validate({"kind": "coco", "root": str(root), "splits": splits})


def write_folders(root: Path, scale: float, rng: random.Random) -> DatasetConfig:
    """Write 1,000 class folders."""
    per_class = round(1000 * scale)
    link_images(
        [root / f"train/class{label:04d}/{index:05d}.jpg" for label in range(1000) for index in range(per_class)]
    )
    time.sleep(3)  # the index of a folder that has just changed is not trusted
    return DatasetConfig(kind="folder", root=str(root), splits={"train": ("train",)})


def main() -> None:
    """Write each data set, read it and print the time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--only", choices=["yolo", "coco", "folders"])
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    kinds = {"yolo": write_yolo, "coco": write_coco, "folders": write_folders}
    for kind, write in kinds.items():
        if options.only not in (None, kind):
            continue
        with tempfile.TemporaryDirectory() as temporary:
            os.environ["YOLO9K_CACHE"] = str(Path(temporary) / "cache")
            config = write(Path(temporary) / kind, options.scale, random.Random(0))
            for attempt in ("first", "again") if kind == "folders" else ("first",):
                start = time.perf_counter()
                read = read_images(config, "train") if kind == "folders" else read_annotations(config, "train")
                seconds = time.perf_counter() - start
                print(f"{kind}: {len(read.records):,} images, {attempt} time {seconds:.2f} s", flush=True)


if __name__ == "__main__":
    main()
