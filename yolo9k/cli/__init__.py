"""The `yolo9k` command: all subcommands, one-line error messages and exit codes."""

import errno
import logging
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Annotated, Any

import typer

from yolo9k import __version__, processes
from yolo9k.cli import (
    anchors,
    bench,
    classify,
    config,
    data,
    demo,
    detect,
    doctor,
    evaluate,
    export,
    train,
    tree,
    weights,
)
from yolo9k.cli.console import LogHandler, err, out
from yolo9k.cli.interrupts import stop_signals
from yolo9k.cli.streams import StreamError, guarded_streams, require_output
from yolo9k.cli.text import one_line
from yolo9k.errors import ConfigError, MachineError, Yolo9kError
from yolo9k.renamed import with_new_options

UsageError: type[Exception] = typer.BadParameter.__bases__[0]  # of click, which typer bundles under another name
INTERRUPTED = 130  # 128 + SIGINT, as shells count
EXIT_CODES = (
    "Exit codes: 0 success; 1 bug; 2 usage, config or unknown name; 3 missing or wrong data; 4 weights, checkpoints or "
    "downloads; 5 training diverged; 6 machine: disk, memory, device or permissions; 129, 130, 143 stopped by SIGHUP, "
    "Ctrl-C, SIGTERM; 141 the reader of the output ended."
)
MACHINE_ERRNOS = frozenset((errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT, errno.EIO))
DIVIDED_COMMANDS = (  # share their work out to the processes of a launcher
    ("train",), ("eval",), ("detect",), ("classify", "train"), ("classify", "eval"), ("classify", "predict"),
)  # fmt: skip
OUT_OF_MEMORY = (  # in messages of torch, OpenCV, C++ and the loader of shared libraries; lower case
    "cannot allocate memory", "can't allocate memory", "out of memory", "insufficient memory", "bad_alloc",
    "unable to mmap", "failed to map segment", "can't start new thread",
)  # fmt: skip

app = typer.Typer(
    name="yolo9k",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo")(demo.demo)
app.command("train")(train.train)
app.command("eval")(evaluate.evaluate)
app.command("detect")(detect.detect)
app.command("anchors")(anchors.anchors)
app.add_typer(classify.app, name="classify")
app.add_typer(tree.app, name="tree")
app.add_typer(weights.app, name="weights")
app.command("export")(export.export)
app.add_typer(data.app, name="data")
app.add_typer(config.app, name="config")
app.add_typer(bench.app, name="bench")
app.command("doctor")(doctor.doctor)


def _show_version(requested: bool) -> None:
    if requested:
        out.print(f"yolo9k {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Train, evaluate and run YOLOv2 and YOLO9000 detectors."""


def main() -> None:
    """Run the `yolo9k` command."""
    run(app, "yolo9k")


def run(command: typer.Typer, name: str, arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit; a user error is printed as one line on standard error, with its exit code."""
    code = exit_code(command, name, sys.argv[1:] if arguments is None else arguments)
    if code and processes.is_launched():
        leave(code)
    sys.exit(code)


def leave(code: int) -> None:
    """End one of several processes at once, with what it has printed: the others wait for it, and NCCL for them."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # closed, or its reader has ended
            stream.flush()
    os._exit(code)


def exit_code(
    command: typer.Typer, name: str, arguments: Sequence[str], on_error: Callable[[Yolo9kError], None] | None = None
) -> Any:
    """Run a command and return its exit code; of several processes only the main one prints.

    `on_error` receives the error that ended it.
    """
    logging.basicConfig(handlers=[LogHandler()], level=logging.WARNING)
    logging.getLogger("yolo9k").setLevel(logging.INFO)
    out.quiet = err.quiet = processes.launched_rank() > 0
    with guarded_streams():
        return _run(command, name, arguments, on_error)


def _run(
    command: typer.Typer, name: str, arguments: Sequence[str], on_error: Callable[[Yolo9kError], None] | None
) -> Any:
    with stop_signals() as stops:
        try:
            require_output()
            _require_folder()
            _refuse_empty(arguments)
            _refuse_several(arguments)
            with processes.joined():
                code = command(with_new_options(arguments), prog_name=name, standalone_mode=False)
            if code == INTERRUPTED:  # typer returns it for Ctrl-C
                raise KeyboardInterrupt
            sys.stdout.flush()
        except UsageError as error:
            _report_usage(error)
            return ConfigError.exit_code
        except Yolo9kError as error:
            if on_error:
                on_error(error)
            if not (isinstance(error, StreamError) and error.is_broken_pipe):
                _report(str(error), is_everywhere=error.is_shared)
            return stops.exit_code if isinstance(error, StreamError) and stops.number else error.exit_code
        except (KeyboardInterrupt, typer.Abort):
            _report("interrupted", is_everywhere=True)
            return stops.exit_code
        except Exception as error:
            if not (reason := _machine_failure(error)):
                raise
            _report(reason)
            return MachineError.exit_code
        return code


def _require_folder() -> None:
    """Raise `MachineError` if the current folder was deleted: libraries that torch loads would end the program."""
    try:
        os.getcwd()  # noqa: PTH109
    except OSError as error:
        raise MachineError(f"the current folder cannot be used: {error.strerror}; change to another one") from error


def _refuse_empty(arguments: Sequence[str]) -> None:
    """Raise `ConfigError` for an empty argument, usually a variable of a script that is not set."""
    for previous, argument in zip(["", *arguments], arguments, strict=False):
        if not argument:
            raise ConfigError(f"{previous}: its value is empty" if previous.startswith("-") else "an argument is empty")
        if argument.startswith("--") and argument.endswith("=") and argument.count("=") == 1:
            raise ConfigError(f"{argument[:-1]}: its value is empty")


def _refuse_several(arguments: Sequence[str]) -> None:
    """Raise `ConfigError` if several processes of a launcher would all do the same."""
    names = [argument for argument in arguments if not argument.startswith("-")]
    is_divided = any(tuple(names[: len(each)]) == each for each in DIVIDED_COMMANDS)
    if processes.launched_count() > 1 and names and not is_divided:
        error = ConfigError(f"{names[0]}: runs in one process; start it without torchrun")
        error.is_shared = True
        raise error


def _machine_failure(error: Exception) -> str:
    """Return what went wrong if the machine is at fault: a file, memory or a limit; an empty text for a bug."""
    text = str(error).lower()
    if isinstance(error, MemoryError) or any(sign in text for sign in OUT_OF_MEMORY):
        return "out of memory; close other programs, or lower the batch size, the image size or data.workers"
    if isinstance(error, RuntimeError) and text.startswith("could not determine home"):  # of `Path.expanduser`
        return "a path begins with ~, but that home folder is unknown; write the whole path"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {error.strerror or error}"
    if isinstance(error, OSError) and error.errno in MACHINE_ERRNOS:
        return error.strerror or str(error)
    return ""


def _report_usage(error: Any) -> None:
    if type(error).__name__ == "NoArgsIsHelpError":  # not an error: show the help
        with suppress(StreamError):
            error.show()
        return
    hint = f" (see {error.ctx.command_path} --help)" if error.ctx else ""
    _report(f"{error.format_message()}{hint}", is_everywhere=True)


def _report(message: str, *, is_everywhere: bool = False) -> None:
    """Print an error; if it `is_everywhere`, in all processes that a launcher has started, the main one prints it."""
    if rank := processes.launched_rank():
        if is_everywhere:
            return
        message = f"process {rank}: {message}"
    with suppress(StreamError):  # there is no other place to say it
        sys.stderr.write(f"error: {one_line(' '.join(message.split()))}\n")
