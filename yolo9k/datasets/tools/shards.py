"""Write a data set with image-level labels as tar shards in the webdataset layout (read by `readers.webdataset`)."""

import glob
import hashlib
import io
import json
import tarfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from PIL import Image

from yolo9k.config import DatasetConfig, updated
from yolo9k.config.datasets import TreeLabels
from yolo9k.datasets.autodetect import SHARDS_CONFIG, image_folder, portable_root
from yolo9k.datasets.class_mapping import NAME_LISTS, read_class_list
from yolo9k.datasets.load import portable_path, read_images
from yolo9k.datasets.readers.index import ImageIndex
from yolo9k.datasets.readers.records import read_text
from yolo9k.datasets.readers.tar import BLOCK
from yolo9k.datasets.readers.webdataset import list_shard
from yolo9k.errors import ConfigError, DataError, quote
from yolo9k.images import ImageSource, read_bytes, read_size_wh, reading_image
from yolo9k.io import replacing, write_text, writing
from yolo9k.placements import resize
from yolo9k.progress import Track, silent

MEGABYTE = 1_000_000
MAX_STEM = 60  # characters kept of an image's file name: a plain tar header holds 100
JPEG_QUALITY = 92
THREADS = 8
CHUNK = 64  # images that the threads read at once; limits the memory


@dataclass(frozen=True)
class ShardOptions:
    """How images are packed.

    `size_mb`: max shard size in millions of bytes; a single larger image gets its own shard. `max_images`: max images,
    chosen at random; 0: all. `resize`: shrink larger images to this shorter side in pixels; 0: copy the files.
    `seed`: of the order in the shards and of the choice of images.
    """

    size_mb: float = 500
    max_images: int = 0
    resize: int = 0
    seed: int = 0


@dataclass(frozen=True)
class WrittenShards:
    """The result of packing a split.

    `config`: the data set config of all splits. `unreadable`: number of images that this call could not resize and
    copied unchanged.
    """

    config: Path
    shards: tuple[Path, ...]
    images: int
    classes: int
    unreadable: int


class ShardSample(NamedTuple):
    """An image to write: its file name in the shard, its class index and its bytes."""

    name: str
    label: int
    content: bytes
    is_readable: bool = True


def write_shards(
    config: DatasetConfig, split: str, folder: Path, options: ShardOptions, track: Track = silent
) -> WrittenShards:
    """Pack a split with image-level labels into `SPLIT-000000.tar`, ... and write their data set config beside them.

    An image becomes `INDEX-NAME.jpg` and `INDEX-NAME.cls`: its index in the data set, and its class index in
    `classes.txt`. The images are shuffled over the shards; sorted by name they have the data set's order. If packing
    is interrupted, the same call resumes it.

    Raises `ConfigError` if the folder contains other shards, `DataError` for a missing image, `MachineError` if a file
    cannot be written.
    """
    image_set = read_images(updated(config, {"labels": config.classes}), split, track)
    records, classes = image_set.records, tuple(each.name for each in image_set.classes)
    order = np.random.default_rng(options.seed).permutation(len(records))[: options.max_images or None]
    plan = {"data": _digest(records, classes), **asdict(options)}
    writer = _ShardWriter(folder, split)
    existing = set(folder.glob("*"))
    with writing(folder):
        writer.start(plan, classes)
        finished = writer.shards()
        done = sum(len(list_shard(path)) for path in finished)
        samples = track(_read_samples(records, order[done:], options.resize), f"Packing {split}", len(order) - done)
        try:
            unreadable = writer.write(samples, len(finished), int(options.size_mb * MEGABYTE))
        except BaseException:
            writer.remove_useless(existing)
            raise
        written = writer.finish(config)
    return WrittenShards(written, tuple(writer.shards()), len(order), len(classes), unreadable)


def can_resume(folder: Path, split: str) -> bool:
    """Return whether a call of `write_shards` was interrupted that the same call resumes."""
    return _ShardWriter(folder, split).plan.is_file()


def _digest(records: ImageIndex, classes: Sequence[str]) -> str:
    """Return a digest of the classes and their image counts, to recognise the data set when packing is resumed."""
    content = json.dumps([classes, records.counts(len(classes)).tolist()])
    return hashlib.blake2b(content.encode(), digest_size=8).hexdigest()


# --- images


def _read_samples(records: ImageIndex, indices: np.ndarray, side: int) -> Iterator[ShardSample]:
    """Yield the images of these indices in order, read by several threads."""

    def read(index: np.integer) -> ShardSample:
        record = records[int(index)]
        return _read_sample(int(index), record.source, record.image_label, side)

    with ThreadPoolExecutor(THREADS) as pool:
        for first in range(0, len(indices), CHUNK):
            yield from pool.map(read, indices[first : first + CHUNK])


def _read_sample(index: int, source: ImageSource, label: int, side: int) -> ShardSample:
    """Read an image; shrink it to a shorter side of `side` pixels if it is larger (0: never)."""
    stem, _, suffix = Path(source.name).name.rpartition(".")
    name = f"{index:08d}-{stem.replace('.', '_')[:MAX_STEM]}"
    content = read_bytes(source)
    unchanged = ShardSample(f"{name}.{suffix.lower()}", label, content)
    if not side:
        return unchanged
    try:
        w, h = read_size_wh(source)
        if min(w, h) <= side:
            return unchanged
        ratio = side / min(w, h)
        with reading_image(source) as image:
            smaller = resize(image, (max(side, round(w * ratio)), max(side, round(h * ratio))))
    except DataError:
        return unchanged._replace(is_readable=False)
    encoded = io.BytesIO()
    Image.fromarray(smaller).save(encoded, "JPEG", quality=JPEG_QUALITY)
    return ShardSample(f"{name}.jpg", label, encoded.getvalue())


# --- shards


@dataclass(frozen=True)
class _ShardWriter:
    """The files of one split in a folder: its shards, and the plan file until all shards are written."""

    folder: Path
    split: str

    @property
    def plan(self) -> Path:
        return self.folder / f"{self.split}.unfinished.json"

    def shard(self, index: int) -> Path:
        return self.folder / f"{self.split}-{index:06d}.tar"

    def shards(self) -> list[Path]:
        """Return the finished shards in order."""
        paths: list[Path] = []
        while (path := self.shard(len(paths))).is_file():
            paths.append(path)
        return paths

    def start(self, plan: Mapping[str, Any], classes: Sequence[str]) -> None:
        """Write the plan and the class names, or check those of an interrupted call and remove its unfinished files.

        Raises `ConfigError` if the folder contains other classes, finished shards or another plan of this split.
        """
        if self.plan.is_file():
            self._check_plan(plan)
            for draft in self.folder.glob(f"{glob.escape(self.split)}-??????.tar*.part"):
                draft.unlink()
            return
        if self.shards():
            raise ConfigError(f"{self.folder}: already contains shards of split {self.split!r}; choose another folder")
        names = self.folder / NAME_LISTS[0]
        if names.is_file() and read_class_list([names]) != tuple(classes):
            raise ConfigError(f"{names}: lists other classes than the data set; choose another folder")
        invalid = next((name for name in classes if not name.isprintable() or name != name.strip()), None)
        if invalid is not None:
            raise DataError(f"class {invalid!r}: the name must be printable, without blanks at its ends")
        write_text(names, "".join(f"{name}\n" for name in classes))
        write_text(self.plan, json.dumps(plan))

    def remove_useless(self, existing: Collection[Path]) -> None:
        """Remove the files that were not `existing` before the call, if no shard was finished that could be resumed."""
        if self.shards():
            return
        for path in {self.plan, self.folder / NAME_LISTS[0]} - set(existing):
            path.unlink(missing_ok=True)
        with suppress(OSError):  # it has other files
            self.folder.rmdir()

    def _check_plan(self, plan: Mapping[str, Any]) -> None:
        try:
            started = json.loads(read_text(self.plan))
            changed = next((key for key in plan if started.get(key) != plan[key]), None)
        except (ValueError, AttributeError) as error:
            raise DataError(f"{self.plan}: not a valid plan file; remove it and the shards beside it") from error
        if changed is not None:
            what = "other images" if changed == "data" else f"{changed} {started.get(changed)}, not {plan[changed]}"
            raise ConfigError(
                f"{self.plan}: packing was started with {what}; use the same to resume, or choose another folder"
            )

    def write(self, samples: Iterable[ShardSample], index: int, max_bytes: int) -> int:
        """Write shards of at most `max_bytes` from `index` on; return the number of unreadable images."""
        unreadable: list[str] = []
        counted = _note_unreadable(samples, unreadable)
        sample = next(counted, None)
        while sample is not None:
            sample = _write_shard(self.shard(index), sample, counted, max_bytes)
            index += 1
        return len(unreadable)

    def finish(self, source: DatasetConfig) -> Path:
        """Write the data set config, including splits packed earlier, and remove the plan."""
        path, root = self.folder / SHARDS_CONFIG, self.folder.resolve()
        splits = image_folder(root).model_dump(mode="json")["splits"] if path.is_file() else {}
        splits |= {self.split: [self._pattern()]}
        values: dict[str, Any] = {"kind": "shards", "name": root.name, "root": portable_root(root), "splits": splits}
        if isinstance(source.labels, TreeLabels):
            values["labels"] = _label_values(source.labels)
        head = f"# {quote(source.name or source.root)} in tar shards, written by `yolo9k data make shards`.\n"
        classes = f"# The classes are in {NAME_LISTS[0]}, in the order of their indices.\n"
        write_text(path, head + classes + yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
        self.plan.unlink()
        return path

    def _pattern(self) -> str:
        last = len(self.shards()) - 1
        return self.shard(0).name if not last else f"{self.split}-{{000000..{last:06d}}}.tar"


def _note_unreadable(samples: Iterable[ShardSample], unreadable: list[str]) -> Iterator[ShardSample]:
    """Pass the samples on and append the names of unreadable ones to `unreadable`."""
    for sample in samples:
        if not sample.is_readable:
            unreadable.append(sample.name)
        yield sample


def _label_values(labels: TreeLabels) -> dict[str, Any]:
    """Return the `labels` section of the config, with absolute paths; the classes are in their own file."""
    paths = {"tree": portable_path(labels.tree), "map": portable_path(labels.map), "classes": ()}
    return updated(labels, paths).model_dump(mode="json", exclude_defaults=True)


def _write_shard(
    path: Path, sample: ShardSample | None, following: Iterator[ShardSample], max_bytes: int
) -> ShardSample | None:
    """Write a sample and as many of the following ones as fit; return the first that does not."""
    size = 0
    with (
        replacing(path) as draft,
        tarfile.open(draft, mode="w", format=tarfile.PAX_FORMAT, encoding="utf-8") as tar,
    ):
        while sample is not None and (not size or size + len(sample.content) <= max_bytes):
            _add(tar, sample.name, sample.content)
            _add(tar, f"{sample.name.partition('.')[0]}.cls", str(sample.label).encode())
            size += len(sample.content) + 4 * BLOCK  # two headers, a label, and padding of the image's last block
            sample = next(following, None)
    return sample


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)  # no owner and no time: equal images make equal files
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))
