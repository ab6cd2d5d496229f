"""Which mutants a source has, which tests they get, and a run over a small repository."""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mutation.mutators import mutants, mutated

REPOSITORY = Path(__file__).resolve().parents[2]


def changes(source):
    return [mutant.change for mutant in mutants("a.py", source)]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = a < b", ["a < b -> a <= b"]),
        ("x = a + b", ["a + b -> a - b"]),
        ("x = a and b", ["a and b -> a or b"]),
        ("x = not a", ["not a -> a"]),
        ("x = -a", ["-a -> a"]),
        ("x = 2", ["2 -> 3"]),
        ("x = True", ["True -> False"]),
        ("x = min(a, b)", ["min(a, b) -> max(a, b)"]),
        ("x = a.argmax(b)", ["a.argmax(b) -> a.argmin(b)"]),
        ("x = a.clamp(b)", ["a.clamp(b) -> a"]),
        ("x = np.exp(a)", []),
        ("x = f(a=b)", ["a=b -> nothing"]),
        ("x += a", ["x += a -> x -= a"]),
        ("f(a)", ["f(a) -> pass"]),
        ("x = a if b else c", ["a if b else c -> a if not b else c"]),
        ("def f(a=1):\n    return a", ["1 -> 2", "return a -> return None"]),
        ("while a:\n    break", ["while a -> while not a", "break -> continue"]),
    ],
)
def test_changes(source, expected):
    assert changes(source) == expected


@pytest.mark.parametrize(
    "source",
    [
        '"""Docstring."""',
        'x = "text"',
        'x = f"{a + 1}"',
        "import a",
        "raise E(1 + 2)",
        "x: a[1] = b",
        "def f(a: b[1]) -> c[2]:\n    return None",
        "@d(1)\ndef f(): pass",
        "log.warning(1)",
        "x = zip(a, strict=True)",
        "if TYPE_CHECKING:\n    x = 1",
    ],
)
def test_what_is_left_alone(source):
    assert changes(source) == []


def test_each_mutant_differs_in_its_change():
    source = (REPOSITORY / "yolo9k" / "boxes.py").read_text(encoding="utf-8")
    found = mutants("yolo9k/boxes.py", source)
    texts = [mutated(source, mutant.number) for mutant in found[::4]]
    whole = ast.unparse(ast.parse(source)).splitlines()
    assert len(set(texts)) == len(found[::4]) > 10
    for mutant, text in zip(found[::4], texts, strict=True):
        lines = text.splitlines()
        changed = [line for line in lines if line not in whole] or [line for line in whole if line not in lines]
        assert len(changed) <= 1, mutant.change
    with pytest.raises(ValueError, match="no mutant"):
        mutated(source, len(found))


def test_the_lines_that_a_test_must_run():
    source = "A = 1\ndef f(\n    a=2,\n):\n    if a:\n        return [\n            3\n        ]\n    return a\n"
    lines = {mutant.before: mutant.lines for mutant in mutants("a.py", source)}
    assert lines == {"1": None, "2": (5, 9), "if a": (5, 5), "return [3]": (6, 8), "3": (6, 8), "return a": (9, 9)}


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
SMALL = "def larger(a, b):\n    if a > b:\n        return a\n    return b\n\n\ndef untested():\n    return 7\n"
SMALL_TESTS = (
    "from yolo9k.small import larger\n\n\ndef test_larger():\n    assert (larger(1, 2), larger(3, 2)) == (2, 3)\n"
)


@pytest.fixture
def small(tmp_path):
    """A repository with one module and one test."""
    pytest.importorskip("coverage")
    for name, text in (("yolo9k/__init__.py", ""), ("yolo9k/small.py", SMALL), ("tests/test_small.py", SMALL_TESTS)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "configs").mkdir()
    shutil.copytree(REPOSITORY / "scripts" / "mutation", tmp_path / "scripts" / "mutation")
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    return tmp_path


def run(folder, *arguments):
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(["scripts", *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    command = [sys.executable, "-m", "mutation", "--paths", "yolo9k/small.py", "--jobs", "1", "--warm", "pytest"]
    return subprocess.run([*command, *arguments], cwd=folder, env=environment, capture_output=True, text=True)


@needs_fork
@pytest.mark.slow
def test_a_run_and_one_of_its_survivors(small):
    result = run(small, "--count", "0")
    assert result.returncode == 1, result.stderr
    entries = json.loads((small / ".mutants" / "results.json").read_text())
    assert {entry["change"]: entry["outcome"] for entry in entries} == {
        "if a > b -> if not a > b": "killed",
        "a > b -> a >= b": "survived",  # makes no difference
        "return a -> return None": "killed",
        "return b -> return None": "killed",
        "return 7 -> return None": "untested",
        "7 -> 8": "untested",
    }
    assert "| yolo9k/small.py | 6 | 3 | 50 |" in result.stdout
    assert "survived: yolo9k/small.py:2: a > b -> a >= b" in result.stdout
    assert (small / "yolo9k" / "small.py").read_text() == SMALL
    with (small / "tests" / "test_small.py").open("a") as file:
        file.write("\n\ndef test_untested():\n    from yolo9k.small import untested\n\n    assert untested() == 7\n")
    result = run(small, "--again", ".mutants/results.json", "--min-score", "60")
    assert "| all | 3 | 2 | 67 |" in result.stdout
    assert result.returncode == 0


@needs_fork
def test_wrong_usage(small):
    for arguments in (("--paths", "nowhere"), ("--count", "-1")):
        result = run(small, *arguments)
        assert (result.returncode, result.stdout) == (2, "")
