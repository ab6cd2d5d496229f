"""The scripts: the virtual environment, and that they are executable."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="the scripts require bash")


@pytest.fixture
def checkout(tmp_path):
    """A copy of the scripts with a .venv whose Python only records its arguments in the file `calls`."""
    shutil.copytree(REPOSITORY / "scripts", tmp_path / "scripts")
    (tmp_path / "pyproject.toml").write_text("one")
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "$@" >>calls\n')
    python.chmod(0o755)
    return tmp_path


def prepare(checkout, extras):
    """Run `prepare`; returns all installations so far."""
    script = f'set -eu; . scripts/environment.sh; prepare "{extras}"'
    subprocess.run(["bash", "-c", script], cwd=checkout, check=True)
    return (checkout / "calls").read_text().splitlines()


def test_installs_again_only_if_something_changed(checkout):
    assert prepare(checkout, "")[-1].endswith("--editable .")
    assert len(prepare(checkout, "")) == 1
    assert prepare(checkout, "[dev]")[-1].endswith("--editable .[dev]")
    assert len(prepare(checkout, "")) == 2  # [dev] includes what the demo requires
    (checkout / "pyproject.toml").write_text("two")
    assert len(prepare(checkout, "[dev]")) == 3


def test_a_failed_installation_is_repeated(checkout):
    python = checkout / ".venv" / "bin" / "python"
    python.write_text('#!/bin/sh\necho "$@" >>calls\nexit 1\n')
    for count in (1, 2):
        with pytest.raises(subprocess.CalledProcessError):
            prepare(checkout, "")
        assert len((checkout / "calls").read_text().splitlines()) == count


def test_a_missing_python_is_an_error(tmp_path):
    script = f". {(REPOSITORY / 'scripts/environment.sh').as_posix()}; find_python"
    bash = shutil.which("bash")
    environment = {**os.environ, "PATH": str(tmp_path)}
    result = subprocess.run([bash, "-c", script], env=environment, capture_output=True, text=True)
    assert result.returncode == 1
    assert "No Python 3.10 or newer found" in result.stderr


@pytest.mark.parametrize(
    "name", ["scripts/demo", "scripts/test", "scripts/ablation", "scripts/norms", "scripts/mutants", ".ci/run"]
)
def test_scripts_are_executable(name):
    assert os.access(REPOSITORY / name, os.X_OK)
    subprocess.run(["bash", "-n", REPOSITORY / name], check=True)
