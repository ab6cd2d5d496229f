"""Run the tests of a mutant in a forked process, which has torch and pytest already, in a copy of the repository."""

import contextlib
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mutation.mutators import Mutant, mutated

WARM = (
    "pytest", "hypothesis", "numpy", "torch", "torchvision", "cv2", "PIL.Image", "pydantic", "yaml", "typer",
    "pycocotools.mask", "albumentations", "rich.progress", "matplotlib.figure",
)  # fmt: skip
MAX_MEMORY = 16 << 30  # bytes of address space, of a mutant that allocates without end
MAX_FILE = 1 << 30  # bytes that a mutant may write into a file
SLOWER = 3  # a mutant is stopped after so many times the duration of its tests ...
START_S = 15  # ... and so many seconds to start


@dataclass(frozen=True)
class Result:
    """What became of a mutant: `killed`, `timeout`, `survived`, or `untested` if no test runs its line."""

    mutant: Mutant
    outcome: str
    seconds: float
    tests: int

    @property
    def is_killed(self) -> bool:
        """Return whether the tests noticed it."""
        return self.outcome in ("killed", "timeout")


def copy_repository(source: Path, target: Path) -> None:
    """Copy the files of the repository that git does not ignore."""
    listing = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=source, check=True, capture_output=True, text=True
    )
    for name in filter(None, listing.stdout.split("\0")):
        if (source / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / name, target / name, follow_symlinks=False)


def environment(copy: Path) -> dict[str, str]:
    """Return the variables with which the copy is the one that is imported."""
    before = os.environ.get("PYTHONPATH", "")
    paths = [str(copy), str(copy / "scripts"), *filter(None, before.split(os.pathsep))]
    return {"PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"}


class Worker:
    """Tests mutants in its own copy of the repository, one after the other."""

    def __init__(self, original: Path, warm: Sequence[str]) -> None:
        self.copy = original.with_name(f"{original.name}-{os.getpid()}")
        shutil.copytree(original, self.copy, symlinks=True)
        os.environ.update(environment(self.copy))
        sys.dont_write_bytecode = True
        sys.path[:] = [str(self.copy), str(self.copy / "scripts"), *(path for path in sys.path if path)]
        for name in warm:
            with contextlib.suppress(ImportError):
                importlib.import_module(name)

    def test(self, mutant: Mutant, batches: Sequence[Sequence[str]], seconds: Sequence[float]) -> Result:
        """Run batches of tests until one fails. `seconds`: their durations without the mutant."""
        path = self.copy / mutant.path
        original, start = path.read_text(), time.monotonic()
        for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*"):  # may look as new as the mutant
            compiled.unlink()
        path.write_text(mutated(original, mutant.number))
        outcome = "survived" if batches else "untested"
        try:
            for batch, duration in zip(batches, seconds, strict=True):
                outcome = self.run(batch, START_S + SLOWER * duration)
                if outcome != "survived":
                    break
        finally:
            path.write_text(original)
        return Result(mutant, outcome, time.monotonic() - start, sum(map(len, batches)))

    def run(self, tests: Sequence[str], limit_s: float) -> str:
        """Run tests in a forked process; return the outcome."""
        chosen, log = self.copy / ".chosen.json", self.copy / ".log.txt"
        chosen.write_text(json.dumps(list(tests)))
        temporary = self.copy.with_name(f"{self.copy.name}-temporary")
        process = os.fork()
        if process == 0:
            _run_child(self.copy, tests, chosen, log, temporary)
        status = _wait(process, limit_s)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process, signal.SIGKILL)  # what the tests started
        shutil.rmtree(temporary, ignore_errors=True)
        if status is None:
            return "timeout"
        return "survived" if status in (0, 5) else "killed"


def _run_child(copy: Path, tests: Sequence[str], chosen: Path, log: Path, temporary: Path) -> None:
    """Run pytest and end the process."""
    import resource  # not on Windows, where the command line says what is needed

    status = 3
    try:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
        resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_FILE, MAX_FILE))
        os.chdir(copy)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.environ["YOLO9K_CHOSEN"] = str(chosen)
        import pytest

        files = list(dict.fromkeys(test.partition("::")[0] for test in tests))
        plugins = ["-p", "mutation.pytest_plugin", "-p", "no:cacheprovider", "-p", "no:randomly"]
        status = pytest.main(["-x", "--tb=line", f"--basetemp={temporary}", *plugins, *files])
    finally:
        os._exit(int(status))


def _wait(process: int, limit_s: float) -> int | None:
    """Return the exit code of a process; `None` if it was stopped at the limit."""
    deadline = time.monotonic() + limit_s
    pause = 0.01
    while time.monotonic() < deadline:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(pause)
        pause = min(0.2, pause * 1.2)
    os.killpg(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return None
