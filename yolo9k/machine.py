"""The cores and the memory that this process may use."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from yolo9k import processes


def available_cores() -> int:
    """Return the number of cores that this process may use: of several on this machine, its part of them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // processes.local_count())


@dataclass(frozen=True)
class GroupFiles:
    """Where a version of Linux's control groups has the memory of a group: its folder and files (cgroups(7)).

    `cache`: in `memory.stat`, the part of the usage that is given up when memory is needed.
    """

    folder: str
    limit: str
    usage: str
    cache: str


GROUPS_V1 = GroupFiles("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
GROUPS_V2 = GroupFiles("", "memory.max", "memory.current", "inactive_file")


def free_memory(root: Path = Path("/")) -> int | None:
    """Return the bytes of memory that are available to new work, on Linux; `None` elsewhere.

    The least of the machine's and of what the limits of the process's control groups leave, which containers and batch
    systems set; of several processes on this machine, each gets the same part. `root`: of the file system.
    """
    machine = _numbers(root / "proc/meminfo").get("MemAvailable:")
    free = [] if machine is None else [machine * 1024]
    for files, group in _control_groups(root):
        limit, usage = (next(iter(_numbers(group / name)), "") for name in (files.limit, files.usage))
        if limit.isdigit() and usage.isdigit():  # a group without a limit has the text "max" there
            free.append(max(int(limit) - int(usage) + _numbers(group / "memory.stat").get(files.cache, 0), 0))
    return min(free) // processes.local_count() if free else None


def _control_groups(root: Path) -> Iterator[tuple[GroupFiles, Path]]:
    """Yield the folders of the control groups of this process that count memory, and of those around them.

    In a container, the group may be named as outside of it, and is itself at the top: the outermost one is always here.
    """
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, name = f"{line}::".split(":", 2)
        if not controllers or "memory" in controllers.split(","):
            files = GROUPS_V1 if controllers else GROUPS_V2
            top = root / "sys/fs/cgroup" / files.folder
            group = Path(name.rstrip(":").lstrip("/"))
            yield from ((files, top / each) for each in (group, *group.parents))


def _numbers(path: Path) -> dict[str, int]:
    """Return the first words of the lines of a file of the kernel, with the numbers after them (0: none)."""
    words = [line.split() for line in _lines(path)]
    return {first: int(rest[0]) if rest and rest[0].isdigit() else 0 for first, *rest in filter(None, words)}


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
