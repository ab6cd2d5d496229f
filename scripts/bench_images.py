#!/usr/bin/env python3
"""Time how long training images take on one core: decoding, reading, augmenting and collating them.

    python scripts/bench_images.py FOLDER [--only 640x480] [--size 416] [--images 32] [--rounds 7]
    python scripts/bench_images.py FOLDER --large    # JPEGs of 4000x3000 made of them: letterboxed whole and reduced

Each round times every row once, in turn. A row is the CPU time of this thread in milliseconds per image, the median of
the rounds. To compare two versions, run the script in turn with the PYTHONPATH of each.
"""

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torchvision.io import decode_jpeg, read_file

from yolo9k.config import load_classifier_config, load_config
from yolo9k.config.classifier import ClassifierAugmentConfig
from yolo9k.config.schema import AugmentConfig
from yolo9k.datasets.loader.batches import collate
from yolo9k.datasets.loader.dataset import TrainingDataset
from yolo9k.datasets.loader.sampler import SampleRequest
from yolo9k.datasets.readers.records import Record
from yolo9k.datasets.transforms.classification import ClassificationTransform
from yolo9k.datasets.transforms.detection import DetectionTransform
from yolo9k.datasets.transforms.transform import Transform
from yolo9k.images import read_image, read_reduced
from yolo9k.inference.resize import FITS
from yolo9k.inference.sources import find_images
from yolo9k.samples import BoxLabels

BATCH = 16
BOXES = 7  # per image, as in COCO
LARGE_WH, LARGE_QUALITY = (4000, 3000), 90
CLASSIFIER_SIZE = 224

Row = Callable[[int], Any]  # does its work once for all images; the argument is the round


def recipes() -> dict[str, Transform]:
    """Return the transforms of the shipped configs, and each other geometry."""
    found: dict[str, Transform] = {}
    for name in ("voc", "small", "yolo9000"):
        data = load_config(name, []).data
        found[name] = DetectionTransform(data.augment, data.resize_mode)
    for geometry in ("fixed", "crop", "none"):
        found[f"geometry {geometry}"] = DetectionTransform(AugmentConfig.model_validate({"geometry": geometry}))
    small = load_classifier_config("small-classifier", [])
    found["small-classifier"] = ClassificationTransform(small.data.augment)
    for geometry in ("darknet", "none"):
        augment = ClassifierAugmentConfig.model_validate({"geometry": geometry})
        found[f"classifier, geometry {geometry}"] = ClassificationTransform(augment)
    return found


def decoders(paths: list[Path]) -> dict[str, Row]:
    """Return the bare decoders of JPEG, and reading here."""
    return {
        "decode: torchvision": lambda _: [decode_jpeg(read_file(str(path))) for path in paths],
        "decode: OpenCV": lambda _: [cv2.imread(str(path)) for path in paths],
        "decode: Pillow": lambda _: [np.asarray(Image.open(path)) for path in paths],
        "read_image": lambda _: [read_image(path) for path in paths],
    }


def training(paths: list[Path], transform: Transform, size: int) -> tuple[Row, Row]:
    """Return the rows of one recipe: read and augment; and collate, too."""
    records = []
    for index, path in enumerate(paths):
        w, h = Image.open(path).size
        corners = np.random.default_rng(index).uniform(0, 0.6, (BOXES, 2)) * (w, h)
        boxes = BoxLabels.of(np.hstack([corners, corners + np.array([0.3 * w, 0.3 * h])]), range(BOXES))
        records.append(Record(path, (w, h), boxes, index))
    dataset = TrainingDataset([records], transform, seed=0)

    def augment(step: int) -> list[Any]:
        return [dataset[SampleRequest(index, step, index, (size, size))] for index in range(len(paths))]

    def batches(step: int) -> list[Any]:
        requests = [SampleRequest(index, step, index, (size, size)) for index in range(len(paths))]
        parts = (requests[first : first + BATCH] for first in range(0, len(requests), BATCH))
        return [collate([dataset[request] for request in part]) for part in parts]

    return augment, batches


def letterboxes(paths: list[Path], size: int) -> dict[str, Row]:
    """Return the rows of large images, as detection prepares them."""
    fit = FITS["area", "letterbox"]((size, size))
    return {
        "read_image": lambda _: [read_image(path) for path in paths],
        "read whole, letterbox": lambda _: [fit.apply(read_image(path)) for path in paths],
        "read reduced, letterbox": lambda _: [fit.apply(*read_reduced(path, fit.needed_wh)) for path in paths],
    }


def write_large(paths: list[Path], folder: Path, count: int) -> list[Path]:
    """Write large JPEGs that show many of the images beside each other."""
    written = []
    for number in range(count):
        canvas = np.zeros((LARGE_WH[1], LARGE_WH[0], 3), np.uint8)
        tiles = iter(range(number, 1 << 20))
        for top in range(0, LARGE_WH[1], 480):
            for left in range(0, LARGE_WH[0], 640):
                tile = cv2.resize(read_image(paths[next(tiles) % len(paths)]), (640, 480))
                canvas[top : top + 480, left : left + 640] = tile[: LARGE_WH[1] - top, : LARGE_WH[0] - left]
        written.append(folder / f"{number}.jpg")
        Image.fromarray(canvas).save(written[-1], quality=LARGE_QUALITY)
    return written


def measure(rows: dict[str, Row], images: int, rounds: int) -> None:
    """Time the rows in turn and print the medians."""
    times: dict[str, list[float]] = defaultdict(list)
    for step in range(-1, rounds):
        for name, run in rows.items():
            start = time.thread_time()
            run(max(step, 0))
            if step >= 0:  # the first round warms up
                times[name].append(1000 * (time.thread_time() - start) / images)
    print(f"| {'row':44} | ms per image | images/s per core |\n|---|---|---|")
    for name, seconds in times.items():
        print(f"| {name:44} | {median(seconds):.2f} | {1000 / median(seconds):,.0f} |")


def main() -> None:
    """Measure the images of a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="JPEG files")
    parser.add_argument("--only", help="only images of this size, such as 640x480")
    parser.add_argument("--size", type=int, default=416, help="input size of detectors")
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--large", action="store_true", help="letterbox large images instead")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    found = [path for path in find_images([options.folder]) if path.suffix.lower() in (".jpg", ".jpeg")]
    paths = [path for path in found if not options.only or "{}x{}".format(*Image.open(path).size) == options.only]
    paths = paths[: options.images]
    if not paths:
        parser.error(f"{options.folder}: no such JPEG files")
    with tempfile.TemporaryDirectory() as temporary:
        if options.large:
            paths = write_large(paths, Path(temporary), 4)
            rows = letterboxes(paths, options.size)
        else:
            rows = decoders(paths)
            for name, transform in recipes().items():
                size = CLASSIFIER_SIZE if isinstance(transform, ClassificationTransform) else options.size
                rows[f"{name}: read, augment"], rows[f"{name}: and collate"] = training(paths, transform, size)
        measure(rows, len(paths), options.rounds)


if __name__ == "__main__":
    main()
