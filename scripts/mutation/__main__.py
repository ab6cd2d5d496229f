"""Change the code in one place at a time, and look whether a test fails.

Each mutant differs from the code in one node: another operator, sign, constant, condition, default, min for max, a
removed call or argument, `return None`. It runs in a copy of the repository, with the tests that run its line: those of
its own test module first, and of the others the quickest. Which tests run which lines is recorded once per test file,
in .mutants/; torch is imported once.

    scripts/mutants --count 400
    scripts/mutants --paths yolo9k/anchors.py --count 0
    scripts/mutants --again .mutants/results.json         # the survivors of an earlier run, after tests were added

Exit codes: 0: all mutants were noticed, or as many as --min-score requires; 1: fewer; 2: wrong usage, or tests that
fail without a mutant.
"""

import argparse
import json
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from mutation.coverage_map import CoverageMap, record
from mutation.mutators import Mutant, mutants
from mutation.runner import WARM, Result, Worker, copy_repository, environment

REPOSITORY = Path(__file__).resolve().parents[2]
DEFAULT_PATHS = ("yolo9k/detection", "yolo9k/wordtree", "yolo9k/training", "yolo9k/metrics", "yolo9k/anchors.py")
CACHE = REPOSITORY / ".mutants"
TEST_BUDGET_S = 40.0  # of the tests of one mutant: the quickest that fit

_worker: Worker | None = None  # of a process of the pool


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        "scripts/mutants", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--paths", nargs="+", default=DEFAULT_PATHS, help=f"files or folders ({' '.join(DEFAULT_PATHS)})"
    )
    parser.add_argument("--count", type=int, default=200, help="size of the random sample; 0: all mutants (200)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sample (0)")
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 1) // 2), help="mutants at a time")
    parser.add_argument("--tests", nargs="+", default=["tests"], help="test files or folders (tests)")
    parser.add_argument("--test-seconds", type=float, default=TEST_BUDGET_S, help="tests per mutant, in seconds (40)")
    parser.add_argument("--min-score", type=float, default=100, help="required percentage of noticed mutants (100)")
    parser.add_argument("--again", type=Path, help="results of an earlier run; only its survivors are tested")
    parser.add_argument("--out", type=Path, default=CACHE / "results.json", help="results as JSON")
    parser.add_argument("--warm", nargs="*", default=WARM, help="modules that are imported only once")
    parser.add_argument("--list", action="store_true", help="only list the mutants")
    options = parser.parse_args(arguments)
    missing = [name for name in (*options.paths, *options.tests) if not (REPOSITORY / name).exists()]
    if missing:
        parser.error(f"{missing[0]}: no such file or folder in {REPOSITORY}")
    if options.count < 0 or options.jobs < 1:
        parser.error("--count must be at least 0, and --jobs at least 1")
    if not hasattr(os, "fork"):
        parser.error("needs a system with fork: Linux or macOS")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Test a sample of mutants, print the results, and return the exit code."""
    options = parse(arguments)
    sources, test_files = _python_files(options.paths), _python_files(options.tests, "test_*.py")
    chosen = again(options.again) if options.again else sample(sources, options.count, options.seed)
    if options.list:
        print("\n".join(f"{mutant.path}:{mutant.line}: {mutant.change}" for mutant in chosen))
        return 0
    with tempfile.TemporaryDirectory(prefix="mutants-") as temporary:
        copy = Path(temporary) / REPOSITORY.name
        copy_repository(REPOSITORY, copy)
        os.environ.update(environment(copy) | {"PYTHONDONTWRITEBYTECODE": "", "OMP_NUM_THREADS": "1"})
        os.environ.setdefault("YOLO9K_SHARED", str(REPOSITORY.parent / "shared"))
        coverage_map = record(copy, sorted({mutant.path for mutant in chosen} | set(sources)), test_files, CACHE)
        results = list(run(copy, chosen, coverage_map, options))
    return report(results, options.out, options.min_score)


def sample(sources: Sequence[str], count: int, seed: int) -> list[Mutant]:
    """Return a random sample of the mutants of the sources, in the order of their places; all if `count` is 0."""
    found = [mutant for source in sources for mutant in mutants(source, (REPOSITORY / source).read_text())]
    chosen = random.Random(seed).sample(found, count) if 0 < count < len(found) else found
    print(f"{len(chosen):,} of {len(found):,} mutants of {len(sources)} files", file=sys.stderr)
    return sorted(chosen, key=lambda mutant: (mutant.path, mutant.number))


def again(path: Path) -> list[Mutant]:
    """Return the survivors in the results of an earlier run, as they are in the code of today."""
    earlier = [entry for entry in json.loads(path.read_text()) if entry["outcome"] in ("survived", "untested")]
    found = {name: mutants(name, (REPOSITORY / name).read_text()) for name in {entry["path"] for entry in earlier}}
    chosen = []
    for entry in earlier:
        same = [mutant for mutant in found[entry["path"]] if mutant.change == entry["change"]]
        if same:  # the nearest, if the code has moved
            chosen.append(min(same, key=lambda mutant: abs(mutant.line - entry["line"])))
    return chosen


def run(
    copy: Path, chosen: Sequence[Mutant], coverage_map: CoverageMap, options: argparse.Namespace
) -> Iterator[Result]:
    """Yield the results of mutants, after a control without one; print the progress."""
    context = multiprocessing.get_context("fork")
    plans = [batches(mutant, coverage_map, options.test_seconds) for mutant in chosen]
    with ProcessPoolExecutor(options.jobs, context, _start, (copy, options.warm)) as pool:
        own = sorted({test for plan in plans for test in (plan[0] if plan else [])})
        if own and pool.submit(_control, own, coverage_map.seconds).result() != "survived":
            print("the tests fail in the copy without a mutant", file=sys.stderr)
            raise SystemExit(2)
        start = time.monotonic()
        calls = [
            pool.submit(_test, mutant, plan, [sum(coverage_map.seconds[test] for test in batch) for batch in plan])
            for mutant, plan in zip(chosen, plans, strict=True)
        ]
        counts: Counter[str] = Counter()
        for done, call in enumerate(as_completed(calls), start=1):
            result = call.result()
            counts[result.outcome] += 1
            if not result.is_killed:
                print(
                    f"{result.outcome}: {result.mutant.path}:{result.mutant.line}: {result.mutant.change}", flush=True
                )
            left_min = (time.monotonic() - start) / done * (len(calls) - done) / 60
            if done % 10 == 0:
                said = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
                print(f"{done}/{len(calls)}: {said}; {left_min:.0f} min left", file=sys.stderr, flush=True)
            yield result


def batches(mutant: Mutant, coverage_map: CoverageMap, budget_s: float) -> list[list[str]]:
    """Return the tests for a mutant: of the test module named after its module, then others; the quickest that fit."""
    seconds = coverage_map.seconds
    own_name, own, others, total_s = f"test_{Path(mutant.path).stem}", [], [], 0.0
    for test in sorted(coverage_map.of(mutant.path, mutant.lines), key=lambda test: (seconds[test], test)):
        is_own = Path(test.partition("::")[0]).stem == own_name
        total_s += 0 if is_own else seconds[test]
        if is_own:
            own.append(test)
        elif total_s <= budget_s:
            others.append(test)
    return [batch for batch in (own, others) if batch]


def report(results: Sequence[Result], out: Path, min_score: float) -> int:
    """Print the results by module and write them as JSON; return the exit code."""
    ordered = sorted(results, key=lambda result: (result.mutant.path, result.mutant.number))
    entries = [
        {"path": r.mutant.path, "line": r.mutant.line, "change": r.mutant.change, "outcome": r.outcome,
         "tests": r.tests, "seconds": round(r.seconds, 2)} for r in ordered
    ]  # fmt: skip
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(entries, indent=1) + "\n")
    modules = sorted({result.mutant.path for result in ordered})
    print("\n| module | mutants | noticed | percent |\n| --- | ---: | ---: | ---: |")
    for module in modules:
        print(_row(module, [result for result in ordered if result.mutant.path == module]))
    print(_row("all", ordered))
    killed = sum(result.is_killed for result in ordered)
    return 0 if killed * 100 >= min_score * len(ordered) else 1


def _row(name: str, results: Sequence[Result]) -> str:
    killed = sum(result.is_killed for result in results)
    return f"| {name} | {len(results)} | {killed} | {100 * killed / max(1, len(results)):.0f} |"


def _python_files(paths: Sequence[str], pattern: str = "*.py") -> list[str]:
    found = [file for name in paths for file in sorted((REPOSITORY / name).rglob(pattern))]
    found += [REPOSITORY / name for name in paths if name.endswith(".py")]
    return [file.relative_to(REPOSITORY).as_posix() for file in found]


def _start(copy: Path, warm: Sequence[str]) -> None:
    global _worker
    _worker = Worker(copy, warm)


def _control(tests: Sequence[str], seconds: dict[str, float]) -> str:
    assert _worker is not None
    return _worker.run(tests, 120 + 10 * sum(seconds[test] for test in tests))


def _test(mutant: Mutant, plan: Sequence[Sequence[str]], seconds: Sequence[float]) -> Result:
    assert _worker is not None
    return _worker.test(mutant, plan, seconds)


if __name__ == "__main__":
    if shutil.which("git") is None:
        raise SystemExit("scripts/mutants needs git")
    sys.exit(main())
