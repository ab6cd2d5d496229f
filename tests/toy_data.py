"""Write a toy data set of flat labels to files, for tests that need images with boxes."""

from pathlib import Path

import numpy as np
import yaml

from yolo9k.config import DatasetConfig
from yolo9k.demo.toy import SHAPES, SIDE_PX, draw_scene, label_lines, write_jpeg


def write_toy(folder: Path, splits: dict[str, int], side_px: int = SIDE_PX, seed: int = 0) -> DatasetConfig:
    """Write a data set of kind yolo with `splits` (image counts) below `folder`; equal arguments write equal files."""
    for split_index, (split, count) in enumerate(splits.items()):
        images, labels = folder / "images" / split, folder / "labels" / split
        images.mkdir(parents=True, exist_ok=True)
        labels.mkdir(parents=True, exist_ok=True)
        for i in range(count):
            scene = draw_scene(np.random.default_rng([seed, split_index, i]), side_px)
            write_jpeg(images / f"{split}-{i:04d}.jpg", scene.image)
            lines = label_lines(scene, [list(SHAPES).index(item.shape) for item in scene.objects])
            (labels / f"{split}-{i:04d}.txt").write_text(lines, encoding="utf-8")
    data = {"names": dict(enumerate(SHAPES))} | {split: f"images/{split}" for split in splits}
    (folder / "data.yaml").write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    sources = {split: (f"images/{split}",) for split in splits}
    return DatasetConfig(kind="yolo", root=str(folder.resolve()), splits=sources, labels=tuple(SHAPES), name="toy")
