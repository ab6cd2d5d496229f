"""`yolo9k doctor`: whether this machine can train and detect, and what to do where it cannot."""

import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from yolo9k.cli.console import speaker, write_json
from yolo9k.errors import MachineError

GB = 1e9
MIN_DISK, MIN_MEMORY, MIN_SHARED = 5 * GB, 4 * GB, 0.5 * GB
BF16_GAIN = 1.2  # bf16 pays where a matrix product is at least this many times as fast
REINSTALL = "run: pip install --upgrade --force-reinstall"
PACKAGES = {  # package as pip knows it: module
    "torch": "torch",
    "torchvision": "torchvision",
    "numpy": "numpy",
    "opencv-python-headless": "cv2",
    "albumentations": "albumentations",
    "pycocotools": "pycocotools",
}
STYLES = {"ok": "green", "warning": "yellow", "broken": "red"}


@dataclass(frozen=True)
class Check:
    """One line of the report: what was looked at, how it is, what was found and what to do about it."""

    name: str
    status: Literal["ok", "warning", "broken"]
    found: str
    advice: str = ""


def doctor(
    json: Annotated[str, typer.Option(help="Write the findings to this file; - is standard output.")] = "",
) -> None:
    """Check this installation and this machine, and say what to do about what is wrong.

    Example: yolo9k doctor
    """
    checks = list(examine())
    if json:
        write_json(json, [asdict(check) for check in checks])
    say = speaker(json)
    for check in checks:
        advice = f"  -> {check.advice}" if check.advice else ""
        say.print(f"[{STYLES[check.status]}]{check.status:8}[/] {check.name:14} ", end="")
        say.print(f"{check.found}{advice}", markup=False)
    broken = [check.name for check in checks if check.status == "broken"]
    if broken:
        raise MachineError(f"doctor: needed but broken: {', '.join(broken)}")


def examine() -> Iterator[Check]:
    """All checks; one that fails in a way nobody foresaw counts as broken."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # its import must not ask the network
    yield _python()
    for package in PACKAGES:
        yield _guarded(package, partial(_package, package))
    for name, check in CHECKS.items():
        yield _guarded(name, check)


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except Exception as error:  # a broken installation may raise anything, and the report must go on
        text = (str(error).strip() or type(error).__name__).splitlines()[0]
        packages = [name] if name in PACKAGES else ["torch", "torchvision"]
        return Check(name, "broken", text, f"{REINSTALL} {' '.join(packages)}")


def _python() -> Check:
    found = f"{platform.python_version()} at {sys.executable}, {platform.platform()}"
    return Check("python", "ok", found)


def _package(package: str) -> Check:
    import_module(PACKAGES[package])
    try:
        return Check(package, "ok", version(package))
    except PackageNotFoundError:  # another build of it, such as opencv-python
        module = import_module(PACKAGES[package])
        return Check(package, "ok", str(getattr(module, "__version__", "version unknown")))


def _operators() -> Check:
    """Torch and torchvision are compiled for each other: in a wrong pair torchvision loses its operators."""
    import torch
    from torchvision.ops import nms

    kept = nms(torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 1.9]]), torch.tensor([0.9, 0.8]), 0.5)
    if kept.tolist() != [0]:
        raise RuntimeError(f"torchvision::nms gives {kept.tolist()}, not [0]")
    return Check("nms", "ok", "torch and torchvision fit together")


def _coco_masks() -> Check:
    """pycocotools is compiled for numpy's binary interface and fails at its first call with another one."""
    try:
        import numpy as np
        from pycocotools import mask

        overlap = mask.iou(np.array([[0.0, 0, 2, 2]]), np.array([[0.0, 0, 2, 1]]), [0])
    except (ImportError, ValueError) as error:
        advice = f"{REINSTALL} --no-cache-dir pycocotools numpy"
        return Check("coco metric", "broken", str(error).splitlines()[0], advice)
    return Check("coco metric", "ok" if overlap[0, 0] == 0.5 else "broken", "pycocotools and numpy fit together")


def _devices() -> Check:
    import torch

    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        names.append("mps")
    if names:
        return Check("devices", "ok", ", ".join([*names, "cpu"]))
    hint = "NVIDIA: is the driver new enough for this torch?" if shutil.which("nvidia-smi") else ""
    return Check("devices", "warning" if hint else "ok", "cpu only", hint)


def _threads() -> Check:
    import torch

    threads, cores = torch.get_num_threads(), os.cpu_count() or 1
    hint = "OMP_NUM_THREADS may be set lower than it should" if threads * 2 < cores else ""
    return Check("threads", "ok", f"{threads} for torch, {cores} processors", hint)


def _bf16() -> Check:
    """Whether bf16 pays on this processor, by measurement: many can compute it, few are faster with it."""
    import torch

    a = torch.randn(768, 768)
    b = a.bfloat16()
    full, half = _seconds(lambda: a @ a), _seconds(lambda: b @ b)
    word = "fast" if full / half >= BF16_GAIN else "not faster than float32"
    return Check("bf16 on cpu", "ok", f"{word} (a matrix product: {full / half:.1f} times float32)")


def _seconds(work: Callable[[], Any], repeats: int = 5) -> float:
    """The shortest of some runs, after one that warms up."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def _memory() -> Check:
    if sys.platform == "win32" or "SC_PHYS_PAGES" not in os.sysconf_names:
        return Check("memory", "ok", "unknown on this system")
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    hint = "train with a smaller train.batch, or more train.accumulate" if total < MIN_MEMORY else ""
    return Check("memory", "warning" if hint else "ok", f"{total / GB:.1f} GB", hint)


def _shared_memory() -> Check:
    folder = Path("/dev/shm")  # the worker processes of torch put their images there
    if not folder.is_dir():
        return Check("shared memory", "ok", "not limited by this system")
    size = shutil.disk_usage(folder).total
    hint = "workers may die: docker run --shm-size=2g, or data.workers=0" if size < MIN_SHARED else ""
    return Check("shared memory", "warning" if hint else "ok", f"{size / GB:.1f} GB", hint)


def _disk() -> Check:
    free = shutil.disk_usage(Path.cwd()).free
    hint = "checkpoints take up to .6 GB each: make room" if free < MIN_DISK else ""
    return Check("disk", "warning" if hint else "ok", f"{free / GB:.1f} GB free in {Path.cwd()}", hint)


def _data_folder() -> Check:
    from yolo9k.datasets.load import data_folder

    folder = data_folder().absolute()
    if folder.is_dir():
        return Check("data folder", "ok", str(folder))
    return Check("data folder", "warning", f"{folder} is not there", "make it, or set YOLO9K_DATA")


def _cache_folder() -> Check:
    from yolo9k.fetch import cache_folder

    folder = cache_folder()
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    if os.access(nearest, os.W_OK):
        return Check("cache folder", "ok", str(folder))
    return Check("cache folder", "warning", f"{folder} cannot be written", "set YOLO9K_CACHE to a folder that can")


CHECKS: dict[str, Callable[[], Check]] = {
    "nms": _operators,
    "coco metric": _coco_masks,
    "devices": _devices,
    "threads": _threads,
    "bf16 on cpu": _bf16,
    "memory": _memory,
    "shared memory": _shared_memory,
    "disk": _disk,
    "data folder": _data_folder,
    "cache folder": _cache_folder,
}
