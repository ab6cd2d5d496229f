"""The toy data for joint training: boxes say little, images of single things say what kinds there are.

Boxes are labelled *round* or *angular* only. What is a red star or a blue ring is told by images of one thing
each, without boxes. Test images have several things, all labelled by kind, so that the kinds that never had a box
can be scored. `all_boxes` labels the training boxes by kind, and trains on these alone: the upper bound.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from yolo9k.config import DatasetConfig, JointConfig, dump, updated
from yolo9k.config.datasets import SourceConfig, TreeFile, TreeLabels
from yolo9k.demo.toy import COLOURS, SIDE_PX, Scene, ToyClass, draw_scene, label_lines, write_jpeg
from yolo9k.errors import MachineError
from yolo9k.progress import Track, silent

COARSE: Mapping[str, tuple[str, ...]] = {
    "round": ("disc", "ring"),
    "angular": ("triangle", "square", "star", "cross"),
}
KINDS = tuple(
    ToyClass(shape, colour=colour) for shapes in COARSE.values() for shape, colour in product(shapes, COLOURS)
)
SCENES, SINGLES, TESTS = 600, 60, 200  # images with boxes, of each kind alone, to score on
SINGLE_DIAMETERS = (0.18, 0.6)  # up to larger than in scenes, as in images that are taken of one thing
IMAGES_SHARE = 1  # for each image with boxes


@dataclass(frozen=True)
class ToyJoint:
    """Configs of what was written: `joint` to train on, `test` to score on, and its `taxonomy`."""

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
    """Write the taxonomy, images, labels and configs below `folder`.

    `scenes` with boxes, `singles` of each kind, `tests` to score. The same arguments write the same files. Raises
    `MachineError` where the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        taxonomy = folder / "shapes.txt"
        taxonomy.write_text(_taxonomy(), encoding="utf-8")
        named = _names if all_boxes else _coarse_names
        boxes = _write_scenes(folder, "boxes", "train", scenes, named(), [seed, 0], side_px, track)
        test = _write_scenes(folder, "test", "test", tests, _names(), [seed, 1], side_px, track)
        sources = [SourceConfig(dataset=boxes, use="boxes")]
        if not all_boxes:
            images = _write_singles(folder / "singles", singles, [seed, 2], side_px, track)
            sources.append(SourceConfig(dataset=images, use="images", weight=IMAGES_SHARE))
        tree = TreeFile(tree=str(taxonomy.resolve()))
        joint = JointConfig(sources=tuple(sources), labels=tree, name="toy joint")
        test = updated(test, {"labels": TreeLabels(tree=str(taxonomy.resolve()), classes=_names())})
        (folder / "joint.yaml").write_text(dump(joint), encoding="utf-8")
        (folder / "test.yaml").write_text(dump(test), encoding="utf-8")
    except OSError as error:
        raise MachineError(f"{folder}: cannot be written: {error.strerror or error}") from error
    return ToyJoint(joint, test, taxonomy)


def _taxonomy() -> str:
    lines = []
    for coarse, shapes in COARSE.items():
        lines.append(coarse)
        for shape in shapes:
            lines.append(f"  {shape}")
            lines += [f"    {colour} {shape} [{colour}_{shape}]" for colour in COLOURS]
    return "".join(f"{line}\n" for line in lines)


def _names() -> tuple[str, ...]:
    """The name of each of `KINDS`."""
    return tuple(f"{kind.colour} {kind.shape}" for kind in KINDS)


def _coarse_names() -> tuple[str, ...]:
    """What the boxes of each of `KINDS` are called where they say little."""
    above = {shape: coarse for coarse, shapes in COARSE.items() for shape in shapes}
    return tuple(above[kind.shape] for kind in KINDS)


def _write_scenes(
    folder: Path,
    name: str,
    split: str,
    count: int,
    called: Sequence[str],
    seed: list[int],
    side_px: int,
    track: Track,
) -> DatasetConfig:
    """Images of several things of all `KINDS`, whose boxes are `called` so."""
    classes = tuple(dict.fromkeys(called))
    images, labels = (folder / name / part / split for part in ("images", "labels"))
    images.mkdir(parents=True, exist_ok=True)
    labels.mkdir(parents=True, exist_ok=True)
    for number in track(range(count), f"Drawing {name} images", count):
        scene = draw_scene(np.random.default_rng([*seed, number]), side_px, kinds=KINDS)
        write_jpeg(images / f"{split}-{number:04d}.jpg", scene.image)
        lines = label_lines(scene, [classes.index(called[kind]) for kind in _kinds_of(scene)])
        (labels / f"{split}-{number:04d}.txt").write_text(lines, encoding="utf-8")
    root = str((folder / name).resolve())
    return DatasetConfig(
        kind="yolo", root=root, splits={split: (f"images/{split}",)}, labels=classes, name=f"toy {name}"
    )


def _kinds_of(scene: Scene) -> list[int]:
    return [KINDS.index(ToyClass(thing.shape, colour=thing.colour)) for thing in scene.objects]


def _write_singles(folder: Path, count: int, seed: list[int], side_px: int, track: Track) -> DatasetConfig:
    """Images of one thing each, in a folder for each kind."""
    wanted = [(kind, number) for kind in range(len(KINDS)) for number in range(count)]
    for kind, number in track(wanted, "Drawing single things", len(wanted)):
        target = folder / "train" / _names()[kind]
        target.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng([*seed, kind, number])
        scene = draw_scene(rng, side_px, kinds=[KINDS[kind]], most_objects=1, diameters=SINGLE_DIAMETERS)
        write_jpeg(target / f"{number:04d}.jpg", scene.image)
    return DatasetConfig(kind="folder", root=str(folder.resolve()), splits={"train": ("train",)}, name="singles")
