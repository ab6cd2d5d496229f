"""`EventFile`: TensorBoard event files, written without torch's `SummaryWriter`.

That writer has a thread of its own, in which a full disk would raise an error that the training loop cannot catch.
"""

import time
from collections.abc import Mapping
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

VERSION = "brain.Event:2"  # TensorBoard requires it at the start of a file


class EventFile:
    """A new event file in `folder`. TensorBoard then ignores entries of older files after step `first_step`.

    All methods raise `OSError` if the file cannot be written.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        path = folder / f"events.out.tfevents.{time.time_ns() // 1000}.yolo9k"
        self._records = RecordWriter(path.open("xb"))
        self._write(Event(file_version=VERSION))
        self._write(Event(step=first_step + 1, session_log=SessionLog(status=SessionLog.START)))

    def add_scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write the values of one step; they are in the file when this returns."""
        points = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self._write(Event(step=step, summary=Summary(value=points)))

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())
        self._records.flush()

    def close(self) -> None:
        """Close the file."""
        self._records.close()
