"""A toy data set of flat labels, written as real files, for tests that need images with boxes."""

from pathlib import Path

import numpy as np
import yaml

from yolo9k.config import DatasetConfig
from yolo9k.demo.toy import SHAPES, SIDE_PX, draw_scene, label_lines, write_jpeg


def write_toy(folder: Path, splits: dict[str, int], side_px: int = SIDE_PX, seed: int = 0) -> DatasetConfig:
    """Write `splits` (images by split) of kind yolo below `folder`; the same arguments write the same files."""
    for number, (split, count) in enumerate(splits.items()):
        images, labels = folder / "images" / split, folder / "labels" / split
        images.mkdir(parents=True, exist_ok=True)
        labels.mkdir(parents=True, exist_ok=True)
        for i in range(count):
            scene = draw_scene(np.random.default_rng([seed, number, i]), side_px)
            write_jpeg(images / f"{split}-{i:04d}.jpg", scene.image)
            lines = label_lines(scene, [list(SHAPES).index(thing.shape) for thing in scene.objects])
            (labels / f"{split}-{i:04d}.txt").write_text(lines, encoding="utf-8")
    listing = {"names": dict(enumerate(SHAPES))} | {split: f"images/{split}" for split in splits}
    (folder / "data.yaml").write_text(yaml.safe_dump(listing, sort_keys=False), encoding="utf-8")
    places = {split: (f"images/{split}",) for split in splits}
    return DatasetConfig(kind="yolo", root=str(folder.resolve()), splits=places, labels=tuple(SHAPES), name="toy")
