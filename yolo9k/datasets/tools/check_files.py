"""Check the splits of a data set as a whole: no boxes to train on, a single image, identical splits."""

from collections.abc import Iterator, Mapping, Sequence

from yolo9k.config import DatasetConfig
from yolo9k.datasets.load import dataset_root
from yolo9k.datasets.readers.records import Annotations, Issue, Record


def check_files(config: DatasetConfig, read: Mapping[str, Annotations]) -> Iterator[Issue]:
    """Yield warnings about the images of the splits that were `read`."""
    root = str(dataset_root(config))
    images = {name: {record.path for record in part.records} for name, part in read.items()}
    if len(set().union(*images.values())) == 1:
        yield Issue("single image", root, "there is only one image: a detector will memorise it")
    for name in images.keys() - {"train"} if "train" in images else ():
        if images[name] == images["train"]:
            message = f"{name} has the same images as train: its scores do not measure generalisation"
            yield Issue("same images", root, message)


def check_boxes(config: DatasetConfig, read: Mapping[str, Annotations]) -> Iterator[Issue]:
    """Yield an error if the training images that were `read` have no box, which training and anchors refuse."""
    records = read["train"].records if "train" in read else ()
    if records and (problem := missing_boxes(records, "training images")):
        yield Issue("no box", str(dataset_root(config)), f"{problem}; a detector needs boxes")


def missing_boxes(records: Sequence[Record], images: str) -> str:
    """Return why there is nothing to learn or score in images with boxes; an empty text if a box counts.

    `images`: what they are called.
    """
    if not all(record.boxes.ignore.all() for record in records):
        return ""
    ignored = sum(len(record.boxes) for record in records)
    but = f" but {ignored:,} that are ignored (difficult, crowd, or of classes that the mapping excludes)"
    return f"no box in {len(records):,} {images}{but if ignored else ''}"
