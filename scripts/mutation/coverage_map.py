"""Which tests run which lines: recorded per test file, and again if it or a mutated file changes."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from coverage import CoverageData


@dataclass
class CoverageMap:
    """`seconds`: duration of each test that passes; `tests`: of a file and a line, the tests that run it."""

    seconds: dict[str, float] = field(default_factory=dict)
    tests: dict[str, dict[int, set[str]]] = field(default_factory=dict)

    def of(self, path: str, lines: tuple[int, int] | None) -> set[str]:
        """Return the tests that run one of the lines, from the first to the last; `None`: any line of the file."""
        by_line = self.tests.get(path, {})
        chosen = by_line if lines is None else range(lines[0], lines[1] + 1)
        return {test for line in chosen for test in by_line.get(line, ()) if test in self.seconds}

    def add(self, entry: dict) -> None:
        """Add what one test file contributes."""
        self.seconds |= entry["seconds"]
        for path, by_line in entry["tests"].items():
            for line, names in by_line.items():
                self.tests.setdefault(path, {}).setdefault(int(line), set()).update(names)


def record(copy: Path, sources: Sequence[str], test_files: Sequence[str], cache: Path) -> CoverageMap:
    """Return the coverage map of `test_files` in `copy`, a copy of the repository; new and changed ones are run."""
    conftests = [path.relative_to(copy).as_posix() for path in (copy / "tests").rglob("conftest.py")]
    common = _digest(copy, [*sources, *conftests])
    entries = {name: cache / f"{_digest(copy, [name], common)}.json" for name in test_files}
    stale = [name for name, entry in entries.items() if not entry.exists()]
    if stale:
        print(f"Recording which lines {len(stale)} test files run ...", file=sys.stderr)
        cache.mkdir(parents=True, exist_ok=True)
        found = _run(copy, sources, stale, cache)
        for name in stale:
            entries[name].write_text(json.dumps(found[name]))
    combined = CoverageMap()
    for entry in entries.values():
        combined.add(json.loads(entry.read_text()))
    return combined


def _run(copy: Path, sources: Sequence[str], test_files: Sequence[str], cache: Path) -> dict[str, dict]:
    """Run the test files under coverage; return the entry of each."""
    data_file, outcomes = cache / "coverage.sqlite", cache / "outcomes.json"
    for earlier in (data_file, outcomes):
        earlier.unlink(missing_ok=True)
    environment = {**os.environ, "YOLO9K_RECORD": str(outcomes), "COVERAGE_CORE": "ctrace"}
    command = [sys.executable, "-m", "coverage", "run", f"--data-file={data_file}"]
    command += [f"--include={','.join(str(copy / source) for source in sources)}", "-m", "pytest"]
    command += ["-p", "no:cacheprovider", "-p", "no:randomly", "-p", "mutation.pytest_plugin", *test_files]
    status = subprocess.run(command, cwd=copy, env=environment).returncode
    if status not in (0, 1, 5) or not outcomes.exists():
        raise SystemExit(2)
    seconds = json.loads(outcomes.read_text())
    if status == 1:
        print("warning: tests fail without a mutant; they are left out", file=sys.stderr)
    data = CoverageData(str(data_file))
    data.read()
    entries: dict[str, dict] = {name: {"seconds": {}, "tests": {}} for name in test_files}
    for test, duration in seconds.items():
        entries[test.partition("::")[0]]["seconds"][test] = duration
    for source in sources:
        for line, contexts in data.contexts_by_lineno(str(copy / source)).items():
            for test in filter(None, contexts):
                by_line = entries[test.partition("::")[0]]["tests"].setdefault(source, {})
                by_line.setdefault(line, []).append(test)
    return entries


def _digest(copy: Path, names: Sequence[str], start: str = "") -> str:
    digest = hashlib.sha256(start.encode())
    for name in sorted(names):
        digest.update(f"{name}\0".encode() + (copy / name).read_bytes() + b"\0")
    return digest.hexdigest()[:24]
