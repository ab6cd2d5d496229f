"""`EventFile`: TensorBoard event files, written without torch's `SummaryWriter`.

That writer has a thread of its own, in which a full disk would raise an error that the training loop cannot catch.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

FILE_NAME = "events.out.tfevents.{}.yolo9k"
VERSION = "brain.Event:2"  # TensorBoard requires it at the start of a file


class EventFile:
    """A new event file in `folder`, into which entries of older ones are moved.

    `is_kept` tells by step and tags which ones; a resumed run repeats the others, which would be shown twice. All
    methods raise `OSError` if the file cannot be written.
    """

    def __init__(self, folder: Path, is_kept: Callable[[int, Collection[str]], bool]) -> None:
        older = sorted(folder.glob(FILE_NAME.format("*")))
        path = folder / FILE_NAME.format(time.time_ns() // 1000)
        self._records = RecordWriter(path.open("xb"))
        self._write(Event(file_version=VERSION, wall_time=time.time()))
        for (step, tags), event in _scalars(older).items():
            if is_kept(step, tags):
                self._write(event)
        for file in older:
            file.unlink()

    def add_scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write the values of one step; they are in the file when this returns."""
        points = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self._write(Event(step=step, summary=Summary(value=points), wall_time=time.time()))

    def _write(self, event: Event) -> None:
        self._records.write(event.SerializeToString())
        self._records.flush()

    def close(self) -> None:
        """Close the file."""
        self._records.close()


def _scalars(files: Iterable[Path]) -> dict[tuple[int, tuple[str, ...]], Event]:
    """Return the events with values of event files, up to the first damaged one of each, by step and tags.

    An event that is in two files was moved by a process that was then killed.
    """
    events = (Event.FromString(record) for file in files for record in RawEventFileLoader(str(file)).Load())
    return {
        (event.step, tuple(value.tag for value in event.summary.value)): event
        for event in events
        if event.HasField("summary")
    }
