"""The `yolo9k` command: all subcommands, one-line error messages and exit codes."""

import logging
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from yolo9k import __version__
from yolo9k.cli import anchors, bench, classify, config, data, demo, detect, doctor, evaluate, train, tree, weights
from yolo9k.errors import ConfigError, Yolo9kError
from yolo9k.renamed import with_new_options

UsageError: type[Exception] = typer.BadParameter.__bases__[0]  # of click, which typer bundles under another name
INTERRUPTED = 130  # 128 + SIGINT, as shells count
EXIT_CODES = (
    "Exit codes: 0 success; 1 bug; 2 usage, config or unknown name; 3 missing or wrong data; 4 weights, checkpoints or "
    "downloads; 5 training diverged; 6 machine: disk, memory, device or permissions; 130 Ctrl-C; 143 SIGTERM."
)

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
app.add_typer(data.app, name="data")
app.add_typer(config.app, name="config")
app.add_typer(bench.app, name="bench")
app.command("doctor")(doctor.doctor)


def _show_version(requested: bool) -> None:
    if requested:
        typer.echo(f"yolo9k {__version__}")
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
    _show_log()
    try:
        code = command(
            with_new_options(sys.argv[1:] if arguments is None else arguments), prog_name=name, standalone_mode=False
        )
        if code == INTERRUPTED:  # typer returns it for Ctrl-C
            raise KeyboardInterrupt
    except UsageError as error:
        _report_usage(error)
        code = ConfigError.exit_code
    except Yolo9kError as error:
        _report(str(error))
        code = error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        _report("interrupted")
        code = INTERRUPTED
    sys.exit(code)


def _show_log() -> None:
    """Print what the package logs on standard error: what it chose, and warnings."""
    handler = logging.StreamHandler()
    handler.setFormatter(_LogFormatter())
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    logging.getLogger("yolo9k").setLevel(logging.INFO)


class _LogFormatter(logging.Formatter):
    """Marks warnings as such."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        text = super().format(record)
        return text if record.levelno < logging.WARNING else f"warning: {text}"


def _report_usage(error: Any) -> None:
    if type(error).__name__ == "NoArgsIsHelpError":  # not an error: show the help
        error.show()
        return
    hint = f" (see {error.ctx.command_path} --help)" if error.ctx else ""
    _report(f"{error.format_message()}{hint}")


def _report(message: str) -> None:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)  # noqa: T201  # the only place that prints errors
