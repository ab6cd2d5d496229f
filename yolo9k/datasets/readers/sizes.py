"""Read absolute boxes against the real image: annotations may be of an image that was resized or turned since.

Sizes are checked before training, those of all images of a small data set and of a sample of a large one; an image
whose size differs later, when it is read, is corrected then by the same rule (`Record.boxes_in`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from yolo9k.datasets.readers.records import BadFile, IssueCollector, Record, read_image_size_wh
from yolo9k.datasets.threads import mapped_in_threads
from yolo9k.progress import Track, silent

SAMPLED = 2000  # headers read before training; if one differs, all are read


def match_sizes(
    records: Sequence[Record], issues: IssueCollector, track: Track = silent, *, all_sizes: bool = False
) -> list[Record]:
    """Return the records with the sizes and boxes of the real images; those of other sizes are counted.

    `all_sizes`: check every image also of a large data set; evaluation and checks need it, training reads them later.
    Raises `BadFile` for an unreadable image and one whose annotated size fits in no way, unless `issues` skips it.
    """
    sample = () if all_sizes or len(records) <= SAMPLED else records[:: len(records) // SAMPLED]
    if sample and all(_same_size(record) for record in sample):
        return list(records)
    with mapped_in_threads(_try_size, records) as sizes:
        return list(_matched(records, track(sizes, "Reading image sizes", len(records)), issues))


def _same_size(record: Record) -> bool:
    return _try_size(record) == record.size_wh


def _try_size(record: Record) -> tuple[int, int] | BadFile:
    try:
        return read_image_size_wh(record.path)
    except BadFile as error:
        return error


def _matched(
    records: Sequence[Record], sizes: Iterable[tuple[int, int] | BadFile], issues: IssueCollector
) -> Iterable[Record]:
    """Yield the records with their real sizes."""
    changed: list[Record] = []
    for record, size_wh in zip(records, sizes, strict=True):
        if size_wh == record.size_wh:
            yield record
            continue
        with issues.reading_file():
            if isinstance(size_wh, BadFile):
                raise size_wh
            boxes = record.boxes_in(size_wh)
            changed.append(record)
            yield replace(record, size_wh=size_wh, boxes=boxes)
    if changed:
        first = changed[0]
        message = (
            f"{len(changed):,} of {len(records):,} images have another size than annotated; their boxes were scaled or "
            f"turned to the real image; first: {first.path.name}, annotated as {first.size_wh[0]}x{first.size_wh[1]}"
        )
        issues.warn("other size", first.path.parent, message)
