import os
import signal
import subprocess
import sys

import pytest

from yolo9k import __version__, cli
from yolo9k.errors import ConfigError, DataError, DivergedError, MachineError, Stopped, WeightsError
from yolo9k.signals import STOP_SIGNALS


@pytest.fixture
def yolo9k(monkeypatch, capsys):
    """Run the command as the shell does; return its exit code, standard output and standard error."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["yolo9k", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        return (stopped.value.code or 0, *capsys.readouterr())

    return run


def test_version(yolo9k):
    assert yolo9k("--version") == (0, f"yolo9k {__version__}\n", "")


def test_help_lists_the_commands(yolo9k):
    code, out, _ = yolo9k("--help")
    assert code == 0
    names = ("demo", "train", "eval", "detect", "classify", "anchors", "tree", "weights", "data", "config", "bench")
    for name in (*names, "doctor"):
        assert name in out
    assert "Exit codes: 0 success; 1 bug; 2 usage" in " ".join(out.split())


def test_without_a_command_the_help_is_shown(yolo9k):
    code, out, err = yolo9k()
    assert code == 2
    assert "Commands" in out + err
    assert "error:" not in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--bogus"], "error: No such option: --bogus"),
        (["trian"], "error: No such command 'trian'"),
        (["train", "--epochs", "many"], "error: Invalid value for '--epochs'"),
        (["detect"], "error: Missing argument 'IMAGE...'"),
        (["train", "--batch"], "error: Option '--batch' requires an argument"),
    ],
)
def test_wrong_usage_is_one_line(yolo9k, arguments, message):
    code, out, err = yolo9k(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith(message)
    assert err.count("\n") == 1


def test_wrong_usage_points_to_the_help(yolo9k):
    assert yolo9k("train", "--bogus")[2].endswith("(see yolo9k train --help)\n")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("wrong"), 2), (DataError("wrong"), 3), (WeightsError("wrong"), 4), (DivergedError("wrong"), 5),
        (MachineError("wrong"), 6), (Stopped("wrong", 143), 143), (Stopped("wrong", 130), 130),
    ],
)  # fmt: skip
def test_each_error_has_its_code_and_one_line(yolo9k, monkeypatch, error, code):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(cli, "app", fail)
    assert yolo9k() == (code, "", "error: wrong\n")


def test_an_error_with_newlines_is_one_line(yolo9k, monkeypatch):
    def fail(*_, **__):
        raise DataError("a name\nwith a newline")

    monkeypatch.setattr(cli, "app", fail)
    assert yolo9k()[2] == "error: a name with a newline\n"


def test_ctrl_c(yolo9k, monkeypatch):
    from yolo9k.config import catalogue

    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr(catalogue, "config_names", interrupt)
    monkeypatch.setattr("yolo9k.config.config_names", interrupt)
    assert yolo9k("config", "list") == (130, "", "error: interrupted\n")


def test_a_bug_keeps_its_traceback(monkeypatch):
    def fail(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(ZeroDivisionError):
        cli.main()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionError(13, "Permission denied", "there/a.txt"), "there/a.txt: Permission denied"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (MemoryError(), "out of memory; close other programs"),
        (ImportError("libx.so: failed to map segment from shared object"), "out of memory; close other programs"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] can't allocate memory: 9 bytes"), "out of memory; close"),
        (RuntimeError("Could not determine home directory."), "a path begins with ~, but that home folder is unknown"),
    ],
)
def test_a_failure_of_the_machine_is_one_line(yolo9k, monkeypatch, error, message):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(cli, "app", fail)
    code, out, err = yolo9k()
    assert (code, out) == (6, "")
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1


@pytest.mark.parametrize("error", [OSError(9, "Bad file descriptor"), ImportError("no name x"), KeyError("x")])
def test_other_failures_are_bugs(monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(type(error)):
        cli.main()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["detect", "a.jpg", "--json", ""], "--json: its value is empty"),
        (["train", "--weights="], "--weights: its value is empty"),
        (["detect", ""], "an argument is empty"),
    ],
)
def test_empty_values_are_refused(yolo9k, arguments, message):
    assert yolo9k(*arguments) == (2, "", f"error: {message}\n")


@pytest.mark.parametrize("name", ["a/b", "..", ".", "a\nb", "\udcff", " ", "\x1b[31m"])
def test_names_of_runs_are_names_of_folders(yolo9k, name):
    code, _, err = yolo9k("train", "--name", name)
    assert code == 2
    assert err.isprintable() or err.rstrip("\n").isprintable()


def test_a_name_that_is_too_long_is_found_at_once(yolo9k):
    code, _, err = yolo9k("train", "--name", "a" * 300)
    assert (code, err.count("\n")) == (6, 1)
    assert "File name too long" in err


def test_messages_are_one_line_of_limited_length(yolo9k):
    code, _, err = yolo9k("train", "--config", "\x1b[31m[/b]\udcff" + "x" * 5000)
    assert code in (2, 6)
    assert err.rstrip("\n").isprintable()
    assert len(err) < 2100


def test_signals_end_a_command_with_their_number(yolo9k, monkeypatch):
    for number in STOP_SIGNALS:
        monkeypatch.setattr(cli, "app", lambda *_, number=number, **__: signal.raise_signal(number))
        assert yolo9k() == (128 + number, "", "error: interrupted\n")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps the current folder")
def test_a_deleted_current_folder(yolo9k, tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    here.rmdir()
    code, _, err = yolo9k("config", "list")
    monkeypatch.chdir(tmp_path)
    assert (code, err.count("\n")) == (6, 1)
    assert "the current folder cannot be used" in err


CLOSED = """
{yolo9k} --help >&-; echo $? >&2
{yolo9k} --version > /dev/full; echo $? >&2
{yolo9k} config list --bogus 2>&-; echo $? >&2
{yolo9k} config list 2> /dev/full > /dev/null; echo $? >&2
{yolo9k} config show | true; echo ${{PIPESTATUS[0]}} >&2
{yolo9k} data list --json - > /dev/full; echo $? >&2
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Linux's devices")
def test_streams_that_cannot_be_written():
    command = f"{sys.executable} -m yolo9k"
    done = subprocess.run(["bash", "-c", CLOSED.format(yolo9k=command)], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines() == [
        "error: standard output: cannot be written: it is closed", "6",
        "error: standard output: cannot be written: No space left on device", "6",
        "2", "0", "141",
        "error: standard output: cannot be written: No space left on device", "6",
    ]  # fmt: skip


def test_terminals_that_are_not_utf8(tmp_path):
    (tmp_path / "tree.txt").write_text("animal\n  苹果\n  café\n", encoding="utf-8")
    for settings in (
        {"PYTHONIOENCODING": "ascii:strict"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ):
        command = [sys.executable, "-m", "yolo9k", "tree", "show", str(tmp_path / "tree.txt")]
        done = subprocess.run(command, capture_output=True, check=True, env={**os.environ, **settings})
        assert rb"\u82f9\u679c" in done.stdout
        assert rb"caf\xe9" in done.stdout
        assert done.stdout.isascii()
        assert done.stderr == b""


def test_help_loads_nothing_heavy():
    code = (
        "import sys; sys.argv = ['yolo9k', '--help']\n"
        "from yolo9k.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = ('torch', 'pydantic', 'numpy', 'cv2', 'albumentations', 'matplotlib', 'yaml')\n"
        "print(*[name for name in heavy if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Usage" in done.stdout
    assert done.stderr.strip() == ""
