"""Write images with labels as tar shards in the layout of webdataset, for `readers.webdataset` and other readers."""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from PIL import Image

from yolo9k.config import DatasetConfig, updated
from yolo9k.config.datasets import TreeLabels
from yolo9k.datasets.autodetect import SHARDS_CONFIG, image_folder, root_text
from yolo9k.datasets.class_mapping import NAME_LISTS, listed_names
from yolo9k.datasets.load import read_images, settled
from yolo9k.datasets.readers.index import ImageIndex
from yolo9k.datasets.readers.records import read_text
from yolo9k.datasets.readers.tar import BLOCK
from yolo9k.datasets.readers.webdataset import list_shard
from yolo9k.errors import ConfigError, DataError, MachineError
from yolo9k.images import ImageSource, read_image, read_size_wh, resize
from yolo9k.progress import Track, silent

MEGABYTE = 1_000_000
LONGEST_NAME = 60  # characters of an image's own name that are kept: a plain header holds a hundred
QUALITY = 92  # of JPEG
THREADS = 8
TOGETHER = 64  # images that are read at once


@dataclass(frozen=True)
class PackRules:
    """How images are packed.

    `size_mb`: millions of bytes that a shard may have, unless one image has more. `max_images`: so many, chosen at
    random; 0 is all. `resize`: pixels that the shorter side of larger images becomes; 0 leaves the files as they are.
    `seed` of the order in the shards, and of the choice.
    """

    size_mb: float = 500
    max_images: int = 0
    resize: int = 0
    seed: int = 0


@dataclass(frozen=True)
class Packed:
    """What a split was packed into; `unreadable`: images of this call that were left as they are, not resized."""

    config: Path
    shards: tuple[Path, ...]
    images: int
    classes: int
    unreadable: int


class ShardSample(NamedTuple):
    """An image on its way into a shard: its name, the number of its class, and its bytes."""

    name: str
    label: int
    content: bytes
    is_readable: bool = True


def write_shards(config: DatasetConfig, split: str, folder: Path, rules: PackRules, track: Track = silent) -> Packed:
    """Pack a split of images with labels into `SPLIT-000000.tar` and so on; a data set config goes beside them.

    An image becomes `NUMBER-NAME.jpg` and `NUMBER-NAME.cls`: its place in the data set, and the number of its class in
    `classes.txt`. Its place in the shards is drawn, so that neighbours differ; who reads them by name has the images
    in the data set's order. What broke off goes on with the same call.

    Raises `ConfigError` where other shards are in the folder, `DataError` for an image that is not there,
    `MachineError` where a file cannot be written.
    """
    image_set = read_images(updated(config, {"labels": config.classes}), split, track)
    records, classes = image_set.records, tuple(each.name for each in image_set.classes)
    order = np.random.default_rng(rules.seed).permutation(len(records))[: rules.max_images or None]
    plan = {"data": _digest(records, classes), **asdict(rules)}
    job = _Job(folder, split)
    with _writing(folder):
        job.begin(plan, classes)
        finished = job.shards()
        done = sum(len(list_shard(path)) for path in finished)
        samples = iter(track(_samples(records, order[done:], rules.resize), f"Packing {split}", len(order) - done))
        unreadable = job.write(samples, len(finished), int(rules.size_mb * MEGABYTE))
        written = job.finish(config)
    return Packed(written, tuple(job.shards()), len(order), len(classes), unreadable)


def _digest(records: ImageIndex, classes: Sequence[str]) -> str:
    """What tells data sets apart: their classes, and how many images each has."""
    content = json.dumps([classes, records.counts(len(classes)).tolist()])
    return hashlib.blake2b(content.encode(), digest_size=8).hexdigest()


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MachineError(f"{error.filename or folder}: cannot be written: {error.strerror or error}") from error


# --- images


def _samples(records: ImageIndex, numbers: np.ndarray, side: int) -> Iterator[ShardSample]:
    """The images of these numbers, in order, read in threads."""

    def read(number: np.integer) -> ShardSample:
        record = records[int(number)]
        return _sample(int(number), record.source, record.image_label, side)

    with ThreadPoolExecutor(THREADS) as pool:
        for first in range(0, len(numbers), TOGETHER):
            yield from pool.map(read, numbers[first : first + TOGETHER])


def _sample(number: int, source: ImageSource, label: int, side: int) -> ShardSample:
    """An image as it is, or with a shorter side of `side` pixels where it has more."""
    stem, _, suffix = Path(source.name).name.rpartition(".")
    name = f"{number:08d}-{stem.replace('.', '_')[:LONGEST_NAME]}"
    try:
        content = source.read_bytes()
    except OSError as error:
        raise DataError(f"{source}: cannot be read: {error.strerror or error}") from error
    as_it_is = ShardSample(f"{name}.{suffix.lower()}", label, content)
    if not side:
        return as_it_is
    try:
        w, h = read_size_wh(source)
        if min(w, h) <= side:
            return as_it_is
        share = side / min(w, h)
        smaller = resize(read_image(source), (max(side, round(w * share)), max(side, round(h * share))))
    except DataError:
        return as_it_is._replace(is_readable=False)
    return ShardSample(f"{name}.jpg", label, _as_jpeg(smaller))


def _as_jpeg(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


# --- shards


@dataclass(frozen=True)
class _Job:
    """The files of one split in a folder: its shards, and a plan while they are not finished."""

    folder: Path
    split: str

    @property
    def plan(self) -> Path:
        return self.folder / f"{self.split}.unfinished.json"

    def shard(self, number: int) -> Path:
        return self.folder / f"{self.split}-{number:06d}.tar"

    def shards(self) -> list[Path]:
        """The finished shards, from the first on."""
        found: list[Path] = []
        while (path := self.shard(len(found))).is_file():
            found.append(path)
        return found

    def begin(self, plan: Mapping[str, Any], classes: Sequence[str]) -> None:
        """Write down what is going to be done. Raises `ConfigError` where something else was done or begun here."""
        if self.plan.is_file():
            return self._check_plan(plan)
        if self.shards():
            raise ConfigError(f"{self.folder}: holds shards of the split {self.split!r} already; name another folder")
        names = self.folder / NAME_LISTS[0]
        if names.is_file() and listed_names([names]) != tuple(classes):
            raise ConfigError(f"{names}: other classes than those to be packed; name another folder")
        odd = next((name for name in classes if not name.isprintable() or name != name.strip()), None)
        if odd is not None:
            raise DataError(f"{odd!r}: a class whose name cannot stand in a list of names")
        self.folder.mkdir(parents=True, exist_ok=True)
        _write_text(names, "".join(f"{name}\n" for name in classes))
        _write_text(self.plan, json.dumps(plan))

    def _check_plan(self, plan: Mapping[str, Any]) -> None:
        try:
            begun = json.loads(read_text(self.plan))
            other = next((key for key in plan if begun.get(key) != plan[key]), None)
        except (ValueError, AttributeError) as error:
            raise DataError(f"{self.plan}: not the plan of a packing; remove it and the shards beside it") from error
        if other is not None:
            what = "other images" if other == "data" else f"{other} {begun.get(other)}, not {plan[other]}"
            raise ConfigError(
                f"{self.plan}: packing was begun with {what}; give the same to go on, or name another folder"
            )

    def write(self, images: Iterator[ShardSample], number: int, size: int) -> int:
        """Write shards of about `size` bytes from `number` on; gives how many images could not be read."""
        unreadable: list[str] = []
        noted = _noted(images, unreadable)
        image = next(noted, None)
        while image is not None:
            image = _write_shard(self.shard(number), image, noted, size)
            number += 1
        return len(unreadable)

    def finish(self, source: DatasetConfig) -> Path:
        """Write the data set config, with the splits that were packed before; the plan is done."""
        path, root = self.folder / SHARDS_CONFIG, self.folder.resolve()
        splits = image_folder(root).model_dump(mode="json")["splits"] if path.is_file() else {}
        splits |= {self.split: [self._pattern()]}
        values: dict[str, Any] = {"kind": "shards", "name": root.name, "root": root_text(root), "splits": splits}
        if isinstance(source.labels, TreeLabels):
            values["labels"] = _labels(source.labels)
        head = f"# {source.name or source.root} in tar shards, written by `yolo9k data make shards`.\n"
        classes = f"# The classes stand in {NAME_LISTS[0]}, in the order of their numbers.\n"
        _write_text(path, head + classes + yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
        self.plan.unlink()
        return path

    def _pattern(self) -> str:
        last = len(self.shards()) - 1
        return self.shard(0).name if not last else f"{self.split}-{{000000..{last:06d}}}.tar"


def _noted(images: Iterator[ShardSample], unreadable: list[str]) -> Iterator[ShardSample]:
    for image in images:
        if not image.is_readable:
            unreadable.append(image.name)
        yield image


def _labels(labels: TreeLabels) -> dict[str, Any]:
    """What is said of labels in a tree, but for the classes, which stand in their list."""
    paths = {"tree": settled(labels.tree), "map": settled(labels.map), "classes": ()}
    return updated(labels, paths).model_dump(mode="json", exclude_defaults=True)


def _write_shard(
    path: Path, image: ShardSample | None, further: Iterator[ShardSample], size: int
) -> ShardSample | None:
    """Write an image and as many further ones as there is room for; gives the first that is left."""
    temporary = path.with_name(f"{path.name}.part")
    written = 0
    with temporary.open("wb") as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT, encoding="utf-8") as tar:
            while image is not None and (not written or written + len(image.content) <= size):
                _add(tar, image.name, image.content)
                _add(tar, f"{image.name.partition('.')[0]}.cls", str(image.label).encode())
                written += len(image.content) + 4 * BLOCK  # two headers, a label, what fills the last block
                image = next(further, None)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    return image


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)  # of no owner and no time: the same images make the same file
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


def _write_text(path: Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}.part")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
