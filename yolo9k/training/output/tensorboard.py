"""TensorBoard's event files, written at once: its own writer has a thread that fails on its own."""

import time
from collections.abc import Mapping
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

VERSION = "brain.Event:2"  # what TensorBoard looks for at the start of a file


class EventFile:
    """A new event file in `folder`; entries of earlier files after step `first` no longer count.

    All methods raise `OSError` where the disk refuses.
    """

    def __init__(self, folder: Path, first: int) -> None:
        path = folder / f"events.out.tfevents.{time.time_ns() // 1000}.yolo9k"
        self._records = RecordWriter(path.open("xb"))
        self._write(Event(file_version=VERSION))
        self._write(Event(step=first + 1, session_log=SessionLog(status=SessionLog.START)))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers of one step."""
        points = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self._write(Event(step=step, summary=Summary(value=points)))

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())
        self._records.flush()

    def close(self) -> None:
        """No more entries."""
        self._records.close()
