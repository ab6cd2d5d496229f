import subprocess
import sys

import pytest

from yolo9k import __version__, cli
from yolo9k.errors import ConfigError, DataError, DivergedError, MachineError, Stopped, WeightsError


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
