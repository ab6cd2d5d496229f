"""`yolo9k doctor`: check whether this machine can train and detect, with a hint for each problem."""

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
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from rich.text import Text

from yolo9k.cli.console import speaker, write_json
from yolo9k.cli.options import JsonOption, OverwriteOption
from yolo9k.cli.outputs import check_outputs
from yolo9k.cli.text import one_line
from yolo9k.errors import MachineError

GB = 1e9
MIN_DISK, MIN_MEMORY, MIN_SHARED = 5 * GB, 4 * GB, 0.5 * GB
MIN_BF16_SPEEDUP = 1.2  # of a matrix product, for bf16 to be called fast
REINSTALL = "run: pip install --upgrade --force-reinstall"
PACKAGES = {  # pip package: module
    "torch": "torch",
    "torchvision": "torchvision",
    "numpy": "numpy",
    "opencv-python-headless": "cv2",
    "albumentations": "albumentations",
    "pycocotools": "pycocotools",
}
ENGINES = {  # runtimes of exported files: the extra that installs each, and what it gains
    "onnxruntime": ("onnx", "runs exported ONNX files without torch"),
    "openvino": ("openvino", "fast on Intel and AMD CPUs, in bf16 too"),
}
STYLES = {"ok": "green", "warning": "yellow", "broken": "red"}


@dataclass(frozen=True)
class Check:
    """One line of the report: the result of a check, with details and a hint on how to fix a problem."""

    name: str
    status: Literal["ok", "warning", "broken"]
    detail: str
    hint: str = ""


def doctor(json: JsonOption = "", overwrite: OverwriteOption = False) -> None:
    """Check this installation and machine, and print how to fix problems.

    Example: yolo9k doctor
    """
    check_outputs(files={"--json": json}, overwrite=overwrite)
    checks = list(run_checks())
    if json:
        write_json(json, [asdict(check) for check in checks])
    console = speaker(json)
    for check in checks:
        hint = f"  -> {check.hint}" if check.hint else ""
        line = f" {check.name:14} {check.detail}{hint}"
        console.print(Text.assemble((f"{check.status:8}", STYLES[check.status]), one_line(line)))
    broken = [check.name for check in checks if check.status == "broken"]
    if broken:
        raise MachineError(f"doctor: required but broken: {', '.join(broken)}")


def run_checks() -> Iterator[Check]:
    """Run all checks; one that raises an error is reported as broken."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # its import must not access the network
    python = f"{platform.python_version()} at {sys.executable}, {platform.platform()}"
    yield Check("python", "ok", python)
    for package in PACKAGES:
        yield _run_check(package, partial(_package, package))
    for name, check in CHECKS.items():
        yield _run_check(name, check)


def _run_check(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except Exception as error:  # a broken installation may raise anything, and the other checks must run
        text = (str(error).strip() or type(error).__name__).splitlines()[0]
        packages = [name] if name in PACKAGES else ["torch", "torchvision"]
        return Check(name, "broken", text, f"{REINSTALL} {' '.join(packages)}")


def _package(package: str) -> Check:
    import_module(PACKAGES[package])
    try:
        return Check(package, "ok", version(package))
    except PackageNotFoundError:  # installed by another distribution, such as opencv-python
        module = import_module(PACKAGES[package])
        return Check(package, "ok", str(getattr(module, "__version__", "version unknown")))


def _operators() -> Check:
    """Check the compiled operators of torchvision, which are missing if it was built for another torch."""
    import torch
    from torchvision.ops import nms

    kept = nms(torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 1.9]]), torch.tensor([0.9, 0.8]), 0.5)
    if kept.tolist() != [0]:
        raise RuntimeError(f"torchvision::nms returned {kept.tolist()}, not [0]")
    return Check("nms", "ok", "torch and torchvision are compatible")


def _coco_masks() -> Check:
    """Check pycocotools, whose first call fails if it was compiled for another numpy."""
    try:
        import numpy as np
        from pycocotools import mask

        overlap = mask.iou(np.array([[0.0, 0, 2, 2]]), np.array([[0.0, 0, 2, 1]]), [0])
    except (ImportError, ValueError) as error:
        hint = f"{REINSTALL} --no-cache-dir pycocotools numpy"
        return Check("coco metric", "broken", str(error).splitlines()[0], hint)
    return Check("coco metric", "ok" if overlap[0, 0] == 0.5 else "broken", "pycocotools and numpy are compatible")


def _devices() -> Check:
    import torch

    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        names.append("mps")
    if names:
        return Check("devices", "ok", ", ".join([*names, "cpu"]))
    hint = (
        "NVIDIA GPU not usable: update the driver, or install a torch built for its CUDA version"
        if shutil.which("nvidia-smi")
        else ""
    )
    return Check("devices", "warning" if hint else "ok", "cpu only", hint)


def _engines() -> Check:
    """Tell which runtimes of exported files are installed."""
    found = [f"{name} {version(name)}" for name in ENGINES if find_spec(name)]
    missing = [f"{name}: {gain}" for name, (extra, gain) in ENGINES.items() if not find_spec(name)]
    extras = ",".join(extra for name, (extra, _) in ENGINES.items() if not find_spec(name))
    hint = f"optional: pip install 'yolo9k[{extras}]' ({'; '.join(missing)})" if missing else ""
    return Check("engines", "ok", ", ".join(["torch", *found]), hint)


def _threads() -> Check:
    import torch

    threads, cores = torch.get_num_threads(), os.cpu_count() or 1
    hint = "OMP_NUM_THREADS may be set too low" if threads * 2 < cores else ""
    return Check("threads", "ok", f"{threads} used by torch, {cores} CPU cores", hint)


def _bf16() -> Check:
    """Measure whether bf16 is faster than float32: many CPUs can compute it, few are faster."""
    import torch

    a = torch.randn(768, 768)
    b = a.bfloat16()
    full, half = _seconds(lambda: a @ a), _seconds(lambda: b @ b)
    text = "fast" if full / half >= MIN_BF16_SPEEDUP else "not faster than float32"
    return Check("bf16 on cpu", "ok", f"{text} (matrix product: {full / half:.1f}x the speed of float32)")


def _seconds(work: Callable[[], Any], repeats: int = 5) -> float:
    """Return the shortest time of several runs, after a warm-up run."""
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
    hint = "reduce train.batch, or increase train.accumulate" if total < MIN_MEMORY else ""
    return Check("memory", "warning" if hint else "ok", f"{total / GB:.1f} GB", hint)


def _shared_memory() -> Check:
    folder = Path("/dev/shm")  # data loader workers pass their images through it
    if not folder.is_dir():
        return Check("shared memory", "ok", "not limited on this system")
    size = shutil.disk_usage(folder).total
    hint = "data loader workers may crash: use docker run --shm-size=2g, or data.workers=0" if size < MIN_SHARED else ""
    return Check("shared memory", "warning" if hint else "ok", f"{size / GB:.1f} GB", hint)


def _disk() -> Check:
    free = shutil.disk_usage(Path.cwd()).free
    hint = "checkpoints take up to 0.6 GB each: free some space" if free < MIN_DISK else ""
    return Check("disk", "warning" if hint else "ok", f"{free / GB:.1f} GB free in {Path.cwd()}", hint)


def _data_folder() -> Check:
    from yolo9k.datasets.load import data_folder

    folder = data_folder().absolute()
    if folder.is_dir():
        return Check("data folder", "ok", str(folder))
    return Check("data folder", "warning", f"{folder} does not exist", "create it, or set YOLO9K_DATA")


def _cache_folder() -> Check:
    from yolo9k.fetch import cache_folder

    folder = cache_folder()
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    if os.access(nearest, os.W_OK):
        return Check("cache folder", "ok", str(folder))
    return Check("cache folder", "warning", f"{folder} is not writable", "set YOLO9K_CACHE to a writable folder")


CHECKS: dict[str, Callable[[], Check]] = {
    "nms": _operators,
    "coco metric": _coco_masks,
    "devices": _devices,
    "engines": _engines,
    "threads": _threads,
    "bf16 on cpu": _bf16,
    "memory": _memory,
    "shared memory": _shared_memory,
    "disk": _disk,
    "data folder": _data_folder,
    "cache folder": _cache_folder,
}
