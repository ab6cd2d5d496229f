"""Several processes that do one piece of work together, started by torch's launcher (`torchrun`).

Every process runs the same program; the one with rank 0 is the main process, which alone prints and writes the files of
a run. Functions that exchange something must be called by all processes in the same order. With one process they do
nothing and need no torch.

An error in one process must end all of them, or the others would wait for it for ever: `together`, `from_main` and
`collect` raise it in every process.
"""

import os
import socket
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import zip_longest
from types import ModuleType
from typing import Any, TypeVar

from yolo9k.errors import ConfigError, MachineError, Yolo9kError

T = TypeVar("T")

MISSING: Any = object()

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")  # torch's launcher sets them
CPP_LOG_LEVEL = "ERROR"  # torch's warnings are about parameters without gradient, which cost little here
MEETING_TIMEOUT = timedelta(minutes=10)  # for all processes to start
TIMEOUT = timedelta(hours=2)  # for the slowest process to read its data
POLL_S = 0.05
LOST = ("gloo", "nccl", "closed by peer", "reset by peer")  # in messages of torch; lower case


class LostProcessError(MachineError):
    """Another process of the group has ended, or cannot be reached."""

    is_shared = True


# --- the group


def is_launched() -> bool:
    """Return whether a launcher has started this process, by the variables that it sets."""
    return all(os.environ.get(name, "").isdecimal() for name in ("RANK", "WORLD_SIZE"))


def launched_rank() -> int:
    """Return the rank that the launcher has given, before or after `joined`; 0 without a launcher."""
    return _number("RANK") if is_launched() else 0


def launched_count() -> int:
    """Return the number of processes that the launcher has started, before or after `joined`; 1 without a launcher."""
    return _number("WORLD_SIZE") if is_launched() else 1


def launch_id() -> str:
    """Return what all processes of a launch have in common, and its restarts; empty without a launcher."""
    run_id = os.environ.get("TORCHELASTIC_RUN_ID", "none")  # torchrun's default for a single machine
    if not is_launched():
        return ""
    return run_id if run_id != "none" else f"{socket.gethostname()} {os.getppid()}"


def new_launch_id() -> str:
    """Return a new id for `launch_id`."""
    return uuid.uuid4().hex


def restarts() -> int:
    """Return how often the launcher has started the processes again, after one of the group was killed.

    Launchers of several machines count only what happens on theirs: this is the maximum, which all processes exchange.
    """
    return maximum([int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))])[0] if is_launched() else 0


@contextmanager
def joined() -> Iterator[None]:
    """Join the group of the processes that the launcher has started, for the block.

    Without a launcher, and if the program has already joined one, do nothing.

    Tensors on GPUs are exchanged by NCCL, all others by Gloo. After an error the process should end soon: only then do
    the others notice. Raises `ConfigError` for incomplete variables of the launcher, `MachineError` if the processes do
    not reach each other.
    """
    if not is_launched() or is_joined():
        yield
        return
    if missing := [name for name in VARIABLES if name not in os.environ]:
        raise ConfigError(f"{', '.join(missing)}: not set, but RANK is; start several processes with torchrun")
    _number("LOCAL_RANK")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", CPP_LOG_LEVEL)
    import torch
    from torch.distributed.rendezvous import rendezvous

    distributed = torch.distributed
    has_nccl = torch.cuda.is_available() and distributed.is_nccl_available()
    backend = "cpu:gloo,cuda:nccl" if has_nccl else "gloo"
    try:
        store, own_rank, size = next(rendezvous("env://", timeout=MEETING_TIMEOUT))
        store = distributed.PrefixStore(_meet(store, own_rank, size), store)
        distributed.init_process_group(backend, store=store, rank=own_rank, world_size=size, timeout=TIMEOUT)
    except (RuntimeError, ValueError) as error:
        address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise MachineError(f"cannot join the {_number('WORLD_SIZE')} processes at {address}: {error}") from error
    if "LOCAL_WORLD_SIZE" not in os.environ:
        hosts = gather(socket.gethostname())
        os.environ["LOCAL_WORLD_SIZE"] = str(hosts.count(socket.gethostname()))
    yield
    distributed.destroy_process_group()  # not after an error: NCCL would wait for the other processes


def _meet(store: Any, own_rank: int, size: int) -> str:
    """Return a name of this start of the group, the same in all processes and unlike that of any earlier start.

    Launchers keep their store when they start processes again, so what the old ones have left there must not be taken
    for the new ones': each process writes a new name, the main one answers with all of them until all have seen it.
    """
    own, deadline = uuid.uuid4().hex, time.monotonic() + MEETING_TIMEOUT.total_seconds()
    store.set(f"name {own_rank}", own)
    while time.monotonic() < deadline:
        if own_rank == 0:
            store.set("names", ",".join(_read(store, f"name {each}") for each in range(size)))
            if all(_read(store, f"seen {each}") == own for each in range(1, size)):
                return own
        else:
            names = _read(store, "names").split(",")
            if len(names) == size and names[own_rank] == own:
                store.set(f"seen {own_rank}", names[0])
                return names[0]
        time.sleep(POLL_S)
    raise RuntimeError(f"not all of the {size} processes have started within {MEETING_TIMEOUT}")


def _read(store: Any, key: str) -> str:
    """Return the text of a key; empty without one."""
    return str(store.get(key).decode()) if store.check([key]) else ""


def _number(variable: str) -> int:
    value = os.environ[variable]
    if not value.isdecimal():
        raise ConfigError(f"{variable}: must be a number, not {value!r}; start several processes with torchrun")
    return int(value)


def _group() -> ModuleType | None:
    """Return `torch.distributed` if this process has joined a group."""
    if "torch" not in sys.modules:
        return None
    distributed: ModuleType = sys.modules["torch"].distributed
    return distributed if distributed.is_available() and distributed.is_initialized() else None


def is_joined() -> bool:
    """Return whether this process belongs to a group, which may be of one process."""
    return _group() is not None


def count() -> int:
    """Return the number of processes of the group; 1 without a group."""
    group = _group()
    return group.get_world_size() if group else 1


def rank() -> int:
    """Return the number of this process in the group, from 0."""
    group = _group()
    return group.get_rank() if group else 0


def is_main() -> bool:
    """Return whether this is the process that prints and writes."""
    return rank() == 0


def local_rank() -> int:
    """Return the number of this process among those of its machine, from 0."""
    return _number("LOCAL_RANK") if is_joined() else 0


def local_count() -> int:
    """Return the number of processes of the group on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE") or count()) if is_joined() else 1


# --- shares


def share(items: Sequence[T], index: int | None = None, parts: int | None = None) -> Sequence[T]:
    """Return the part of a sequence for process `index` of `parts` (default: this one of the group).

    That is every `parts`-th item, so sizes differ by at most one; with fewer items than processes some are empty.
    """
    index, parts = rank() if index is None else index, count() if parts is None else parts
    return items[index::parts]


def merge(parts: Sequence[Sequence[T]]) -> list[T]:
    """Return the items of all parts of `share` in their order, up to the first item that a part lacks."""
    merged: list[T] = []
    for row in zip_longest(*parts, fillvalue=MISSING):
        for item in row:
            if item is MISSING:
                return merged
            merged.append(item)
    return merged


# --- exchange


def gather(value: T) -> list[T]:
    """Return the values of all processes, by rank. Raises `LostProcessError`."""
    if (group := _group()) is None:
        return [value]
    values: list[Any] = [None] * group.get_world_size()
    with explain_lost_process():
        group.all_gather_object(values, value)
    return values


def maximum(values: Sequence[int]) -> list[int]:
    """Return the maximum over all processes of each value. Raises `LostProcessError`. Never waits for a GPU."""
    if (group := _group()) is None:
        return list(values)
    import torch

    tensor = torch.tensor(values, dtype=torch.int64)
    with explain_lost_process():
        group.all_reduce(tensor, group.ReduceOp.MAX)
    return [int(each) for each in tensor]


def together(work: Callable[[], T]) -> T:
    """Do some work in every process and return its result; an error in one of them is raised in all.

    If several fail, all raise the error of the lowest rank.
    """
    if _group() is None:
        return work()
    result: T | None = None
    own: Exception | None = None
    try:
        result = work()
    except Exception as error:
        own = error
    if maximum([own is not None])[0]:
        errors = gather(_portable(own))
        first = next(index for index, each in enumerate(errors) if each is not None)
        raise _shared(own if own is not None and first == rank() else errors[first]) from own  # type: ignore[arg-type]
    return result  # type: ignore[return-value]


def collect(work: Callable[[], Sequence[T]]) -> list[T]:
    """Do a part of some work in every process, on its `share`; return the merged results, in every process.

    If a process ends its work early, the results end before the first one that is missing. Errors as for `together`.
    """
    return merge(gather(together(work)))


def from_main(work: Callable[[], T]) -> T:
    """Do some work in the main process; return its result, or raise its error, in every process."""
    if (group := _group()) is None:
        return work()
    outcome: list[Any] = [None, None]  # result, error
    own: Exception | None = None
    if is_main():
        try:
            outcome[0] = work()
        except Exception as error:
            own = error
            outcome[1] = _portable(error)
    with explain_lost_process():
        group.broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise _shared(own or outcome[1])
    return outcome[0]


def _portable(error: Exception | None) -> Exception | None:
    """Return the error as other processes raise it: a bug without its traceback would only confuse."""
    if error is None or isinstance(error, Yolo9kError | Interruption):
        return error
    return LostProcessError(f"process {rank()} failed: {type(error).__name__}")


def _shared(error: Exception) -> Exception:
    """Mark an error that every process raises, so that the main process alone reports it."""
    if isinstance(error, Yolo9kError):
        error.is_shared = True
    return error


class Interruption(Exception):
    """Base class of exceptions that end some work early and are no errors; `together` passes them on."""


@contextmanager
def explain_lost_process() -> Iterator[None]:
    """Turn torch's errors about another process that has ended into `LostProcessError`."""
    try:
        yield
    except RuntimeError as error:
        group = _group()
        if group is None or not (isinstance(error, group.DistError) or any(s in str(error).lower() for s in LOST)):
            raise
        raise LostProcessError("another process has ended; unless it was killed, its own message says why") from error
