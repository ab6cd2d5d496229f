"""Write the toy dataset for joint training: boxes for coarse classes, image-level labels for fine ones.

Boxes are labelled *round* or *angular*. Fine classes such as *red star* or *blue ring* have only image-level labels,
of images with a single object. Test images have several objects, all with boxes and fine labels, so that the weakly
supervised classes can be evaluated. With `all_boxes`, the training boxes have fine labels and are the only source:
the upper bound.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from yolo9k.config import DatasetConfig, JointConfig, dump, updated
from yolo9k.config.datasets import SourceConfig, TreeFile, TreeLabels
from yolo9k.demo.toy import COLOURS, SIDE_PX, ToyClass, draw_scene, label_lines, write_jpeg
from yolo9k.io import writing
from yolo9k.progress import Track, silent

COARSE_CLASSES: Mapping[str, tuple[str, ...]] = {
    "round": ("disc", "ring"),
    "angular": ("triangle", "square", "star", "cross"),
}
FINE_CLASSES = tuple(
    ToyClass(shape, colour=colour) for shapes in COARSE_CLASSES.values() for shape, colour in product(shapes, COLOURS)
)
SCENES, SINGLES, TESTS = 600, 60, 200  # images with boxes, single-object images per fine class, test images
SINGLE_DIAMETERS = (0.18, 0.6)  # larger than in scenes, as in photographs of a single object
SINGLES_WEIGHT = 1  # sampling weight of the single-object images; images with boxes have 1


@dataclass(frozen=True)
class ToyJoint:
    """The dataset as written: the configs `joint` for training and `test` for evaluation, and the file `taxonomy`."""

    joint: JointConfig
    test: DatasetConfig
    taxonomy: Path


def write_toy_joint(
    folder: Path,
    *,
    scenes: int = SCENES,
    singles: int = SINGLES,
    tests: int = TESTS,
    all_boxes: bool = False,
    side_px: int = SIDE_PX,
    seed: int = 0,
    track: Track = silent,
) -> ToyJoint:
    """Write the taxonomy, images, labels and configs below `folder`; the same arguments write the same files.

    `scenes`: images with boxes. `singles`: single-object images per fine class. `tests`: test images. `all_boxes`: the
    boxes have fine labels, and there are no single-object images. Raises `MachineError` if the folder cannot be
    written.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        taxonomy = folder / "shapes.txt"
        taxonomy.write_text(_taxonomy(), encoding="utf-8")
        box_names = _fine_names() if all_boxes else _coarse_names()
        boxes = _write_scenes(folder, "boxes", "train", scenes, box_names, [seed, 0], side_px, track)
        test = _write_scenes(folder, "test", "test", tests, _fine_names(), [seed, 1], side_px, track)
        sources = [SourceConfig(dataset=boxes, use="boxes")]
        if not all_boxes:
            images = _write_singles(folder / "singles", singles, [seed, 2], side_px, track)
            sources.append(SourceConfig(dataset=images, use="images", weight=SINGLES_WEIGHT))
        tree = TreeFile(tree=str(taxonomy.resolve()))
        joint = JointConfig(sources=tuple(sources), labels=tree, name="toy joint")
        test = updated(test, {"labels": TreeLabels(tree=str(taxonomy.resolve()), classes=_fine_names())})
        (folder / "joint.yaml").write_text(dump(joint), encoding="utf-8")
        (folder / "test.yaml").write_text(dump(test), encoding="utf-8")
    return ToyJoint(joint, test, taxonomy)


def _taxonomy() -> str:
    """Return the label tree as indented text: coarse class, shape, fine class."""
    lines = []
    for coarse, shapes in COARSE_CLASSES.items():
        lines.append(coarse)
        for shape in shapes:
            lines.append(f"  {shape}")
            lines += [f"    {colour} {shape} [{colour}_{shape}]" for colour in COLOURS]
    return "".join(f"{line}\n" for line in lines)


def _fine_names() -> tuple[str, ...]:
    """Return the names of `FINE_CLASSES`."""
    return tuple(f"{fine.colour} {fine.shape}" for fine in FINE_CLASSES)


def _coarse_names() -> tuple[str, ...]:
    """Return the name of the coarse class of each of `FINE_CLASSES`."""
    coarse_of = {shape: coarse for coarse, shapes in COARSE_CLASSES.items() for shape in shapes}
    return tuple(coarse_of[fine.shape] for fine in FINE_CLASSES)


def _write_scenes(
    folder: Path,
    name: str,
    split: str,
    count: int,
    box_names: Sequence[str],
    seed: list[int],
    side_px: int,
    track: Track,
) -> DatasetConfig:
    """Write images of several objects with boxes; `box_names`: the label of each of `FINE_CLASSES`."""
    classes = tuple(dict.fromkeys(box_names))
    images, labels = (folder / name / part / split for part in ("images", "labels"))
    images.mkdir(parents=True, exist_ok=True)
    labels.mkdir(parents=True, exist_ok=True)
    for i in track(range(count), f"Drawing {name} images", count):
        scene = draw_scene(np.random.default_rng([*seed, i]), side_px, classes=FINE_CLASSES)
        write_jpeg(images / f"{split}-{i:04d}.jpg", scene.image)
        fine = [FINE_CLASSES.index(ToyClass(item.shape, colour=item.colour)) for item in scene.objects]
        lines = label_lines(scene, [classes.index(box_names[index]) for index in fine])
        (labels / f"{split}-{i:04d}.txt").write_text(lines, encoding="utf-8")
    root = str((folder / name).resolve())
    return DatasetConfig(
        kind="yolo", root=root, splits={split: (f"images/{split}",)}, labels=classes, name=f"toy {name}"
    )


def _write_singles(folder: Path, count: int, seed: list[int], side_px: int, track: Track) -> DatasetConfig:
    """Write single-object images, in one folder per fine class."""
    images = [(index, i) for index in range(len(FINE_CLASSES)) for i in range(count)]
    for index, i in track(images, "Drawing single objects", len(images)):
        target = folder / "train" / _fine_names()[index]
        target.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng([*seed, index, i])
        scene = draw_scene(rng, side_px, classes=[FINE_CLASSES[index]], max_objects=1, diameters=SINGLE_DIAMETERS)
        write_jpeg(target / f"{i:04d}.jpg", scene.image)
    return DatasetConfig(kind="folder", root=str(folder.resolve()), splits={"train": ("train",)}, name="singles")
